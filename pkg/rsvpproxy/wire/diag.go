package wire

// Diag is a diagnostic message: DREQ or DREP (RFC 2745). It changes no state.
type Diag struct {
	Type       MsgType // DiagRequest or DiagReply
	Flags      uint8
	SendTTL    uint8
	Integrity  *Object // on a secured interface, as in all messages (RFC 2747)
	Session    Session
	Hop        Hop // next hop; its LIH tells the interface the request comes in by
	Diagnostic Diagnostic
	Select     []ClassCType // what to report; nil: the default
	Route      *Route       // nil: the reply goes straight to the requester
	Responses  []DiagResponse
}

// diagOrder: the objects must come in this sequence (RFC 2745 section 3).
var diagOrder = map[Class]int{
	ClassIntegrity: 1, ClassSession: 2, ClassHop: 3, ClassDiagnostic: 4,
	ClassDiagSelect: 5, ClassRoute: 6, ClassDiagResponse: 7,
}

// ParseDiag reads a DREQ or DREP. Nothing about it is ever answered by an error
// message. Sessions of all formats are understood.
func ParseDiag(b []byte) (*Diag, error) {
	t, err := HeaderType(b)
	if err != nil {
		return nil, err
	}
	if t != DiagRequest && t != DiagReply {
		return nil, malformed(KindType, 0, "message type %d", t)
	}
	p := diagParser{d: &Diag{Type: t, Flags: b[0] & 0x0f, SendTTL: b[4]}}
	if err := walk(b[commonHeader:], p.object); err != nil {
		return nil, unanswered(err)
	}
	for _, c := range []Class{ClassSession, ClassHop, ClassDiagnostic} {
		if p.seen&(1<<diagOrder[c]) == 0 {
			return nil, malformed(KindMissing, c, "%v message without it", t)
		}
	}
	if err := p.d.check(); err != nil {
		return nil, err
	}
	return p.d, nil
}

type diagParser struct {
	d    *Diag
	last int
	seen uint
	any  bool
}

func (p *diagParser) object(class Class, ctype uint8, body []byte) error {
	if class == ClassNull {
		return nil
	}
	order, ok := diagOrder[class]
	switch {
	case !ok && !class.known() && class>>7 == 1:
		p.any = true
		return nil // ignored
	case !ok:
		return malformed(KindIllegalClass, class, "in a %v message", p.d.Type)
	case order < p.last || class == ClassIntegrity && p.any:
		return malformed(KindOrder, class, "out of sequence")
	case p.seen&(1<<order) != 0 && class != ClassDiagResponse:
		return malformed(KindDuplicate, class, "second one")
	}
	p.last, p.seen, p.any = order, p.seen|1<<order, true
	return p.decode(class, ctype, body)
}

func (p *diagParser) decode(class Class, ctype uint8, body []byte) error {
	d := p.d
	switch class {
	case ClassIntegrity:
		d.Integrity = clone(class, ctype, body)
	case ClassSession:
		s, err := acceptEvery.session(ctype, body)
		d.Session = s
		return errorOf(err)
	case ClassHop:
		h, err := decodeHop(ctype, body)
		if err != nil {
			return err
		}
		d.Hop = *h
	case ClassDiagnostic:
		g, err := decodeDiagnostic(ctype, body)
		if err != nil {
			return err
		}
		d.Diagnostic = *g
	case ClassDiagSelect:
		s, err := decodeDiagSelect(ctype, body)
		d.Select = s
		return err
	case ClassRoute:
		r, err := decodeRoute(ctype, body)
		d.Route = r
		return err
	case ClassDiagResponse:
		r, err := decodeDiagResponse(ctype, body)
		if err != nil {
			return err
		}
		d.Responses = append(d.Responses, *r)
	default: // not in diagOrder
	}
	return nil
}

func (d *Diag) check() error {
	if d.Type != DiagRequest && d.Type != DiagReply {
		return malformed(KindType, 0, "message type %d", d.Type)
	}
	if err := d.Integrity.is(ClassIntegrity); err != nil {
		return err
	}
	if d.Integrity != nil && len(d.Integrity.Body)%4 != 0 {
		return badSize(ClassIntegrity, d.Integrity.CType, d.Integrity.Body)
	}
	if err := d.Session.check(); err != nil {
		return err
	}
	v4 := d.Session.Dst.Is4()
	if !d.Hop.Addr.IsValid() || d.Hop.Addr.Is4() != v4 {
		return malformed(KindAddress, ClassHop, "%v is not of the session's family", d.Hop.Addr)
	}
	if err := d.Diagnostic.check(d.Type, v4); err != nil {
		return err
	}
	if err := d.Diagnostic.Sender.check(d.Session, ClassSenderTemplate); err != nil {
		return err
	}
	if d.Diagnostic.Requester.Format != FormatPorts {
		return malformed(KindFormat, ClassDiagnostic, "requester of format %v", d.Diagnostic.Requester.Format)
	}
	if d.Route != nil {
		if err := d.Route.check(v4); err != nil {
			return err
		}
	}
	for i := range d.Responses {
		if err := d.Responses[i].check(v4); err != nil {
			return err
		}
	}
	return nil
}

// objects are the objects in their sequence.
func (d *Diag) objects() (os []object) {
	if d.Integrity != nil {
		os = append(os, *d.Integrity)
	}
	os = append(os, d.Session, d.Hop, d.Diagnostic)
	if len(d.Select) > 0 {
		os = append(os, diagSelect(d.Select))
	}
	if d.Route != nil {
		os = append(os, *d.Route)
	}
	for _, r := range d.Responses {
		os = append(os, r)
	}
	return os
}

// Length returns how many bytes Append adds: what is to be compared with
// Diagnostic.PathMTU.
func (d *Diag) Length() int {
	n := commonHeader
	for _, o := range d.objects() {
		n += objectHeader + o.size()
	}
	return n
}

// Append appends the encoded message to b, with length and checksum. It refuses
// what ParseDiag would refuse.
func (d *Diag) Append(b []byte) ([]byte, error) {
	if err := d.check(); err != nil {
		return b, err
	}
	if n := d.Length(); n > MaxMessage {
		return b, malformed(KindTooLong, 0, "%d bytes", n)
	}
	start := len(b)
	b = appendCommon(b, d.Type, d.Flags, d.SendTTL)
	for _, o := range d.objects() {
		b = appendObject(b, o)
	}
	return closeMessage(b, start)
}
