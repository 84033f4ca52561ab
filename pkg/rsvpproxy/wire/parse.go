package wire

import (
	"encoding/binary"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

const (
	version      = 1
	commonHeader = 8 // bytes (RFC 2205 section 3.1.1)
)

// Parse reads one RSVP message: b is the whole payload of the IP packet. What
// the message keeps is copied out of b.
//
// An error is always an *[Error]. If its Respond is set, the message is to be
// answered, and comes along as far as it was understood: with SESSION, HOP and,
// where they were readable, the sender descriptor or the style and flow
// descriptors. Otherwise the message is nil.
func Parse(b []byte) (*Message, error) { return Options{}.Parse(b) }

// Parse is [Parse] with more that is understood. A Bundle is no message of its
// own: see [SplitBundle].
func (o Options) Parse(b []byte) (*Message, error) {
	if err := o.checkHeader(b); err != nil {
		return nil, err
	}
	p := parser{opt: o, m: &Message{Type: MsgType(b[1]), Flags: b[0] & 0x0f, SendTTL: b[4]}}
	if err := p.objects(b[commonHeader:]); err != nil {
		return nil, err
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	p.m = p.first(p.m)
	if p.refused != nil {
		if p.refused.Respond = p.answerable(); !p.refused.Respond {
			return nil, p.refused
		}
		return p.m, p.refused
	}
	return p.m, nil
}

func (o Options) checkHeader(b []byte) error {
	t, err := HeaderType(b)
	if err == nil && !t.Known() && t != Notify && (!o.RefreshReduction || !t.objectless()) {
		err = malformed(KindType, 0, "message type %d", b[1])
	}
	return err
}

// HeaderType returns the type of a message whose common header is sound:
// version, length and checksum. Which parser it goes to depends on the type.
func HeaderType(b []byte) (MsgType, error) {
	switch {
	case len(b) < commonHeader:
		return 0, malformed(KindShort, 0, "%d bytes", len(b))
	case b[0]>>4 != version:
		return 0, malformed(KindVersion, 0, "version %d", b[0]>>4)
	case int(binary.BigEndian.Uint16(b[6:])) != len(b):
		return 0, malformed(KindLength, 0, "length field %d, message %d bytes", binary.BigEndian.Uint16(b[6:]), len(b))
	case !verify(b):
		return 0, malformed(KindChecksum, 0, "checksum %#04x", binary.BigEndian.Uint16(b[2:]))
	}
	return MsgType(b[1]), nil
}

// parser collects a message. A fault that RFC 2205 wants answered does not end
// the parsing, since the answer needs the rest of the message.
type parser struct {
	opt     Options
	m       *Message
	seen    classes
	any     bool   // an object that is not NULL was seen
	refused *Error // first fault that is to be answered
	session bool   // SESSION was understood

	beyondIDs bool // an object was seen that MESSAGE_ID must not follow

	head *Message // of a Notify about several sessions: the first

	flow flow
}

func (p *parser) refuse(err *Error) {
	if p.refused == nil {
		p.refused = err
	}
}

// answerable: only Path and Resv are answered, and only with a SESSION to name
// and a HOP to send to. Errors never cause errors, tears cause none either.
func (p *parser) answerable() bool {
	return (p.m.Type == Path || p.m.Type == Resv) && p.session && p.m.Hop != nil
}

func (p *parser) objects(b []byte) error {
	return walk(b, p.object)
}

// object takes in one object. An error is the message's end; a nil error may
// come with p.refused.
func (p *parser) object(class Class, ctype uint8, body []byte) error {
	if class == ClassNull {
		return nil // anywhere, contents ignored (RFC 2205 section 3.1.2)
	}
	first := !p.any
	p.any = true
	if p.opt.RefreshReduction && class.refreshReduction() {
		return p.reduction(class, ctype, body)
	}
	p.beyondIDs = p.beyondIDs || class != ClassIntegrity
	if class == ClassSOI && p.opt.Formats.has(FormatGenericAggregate) {
		return p.soi(ctype, body)
	}
	if class == ClassNodeChar {
		p.nodeChar(body)
		return nil
	}
	if !class.known() {
		p.unknown(class, ctype, body)
		return nil
	}
	if class == ClassIntegrity && !first {
		return malformed(KindOrder, class, "not directly behind the common header")
	}
	if class == ClassSession && p.m.Type == Notify && p.seen.has(ClassSession) {
		if err := p.nextSession(); err != nil {
			return err
		}
	}
	inList := class == ClassFlowSpec || class == ClassFilterSpec
	if r := rules[p.m.Type]; !(r.required | r.optional).has(class) {
		return malformed(KindIllegalClass, class, "in a %v message", p.m.Type)
	}
	if inList != p.seen.has(ClassStyle) {
		// STYLE and the flow descriptor list end the message (section 3.1.4).
		return malformed(KindOrder, class, "STYLE comes after all but the flow descriptors")
	}
	if p.seen.has(class) && !repeatable.has(class) {
		return malformed(KindDuplicate, class, "second one")
	}
	p.seen |= set(class)
	if err := p.decode(class, ctype, body); err != nil {
		if !err.Respond {
			return err
		}
		p.refuse(err)
	}
	return nil
}

// unknown follows RFC 2205 section 3.10, rule 1.
func (p *parser) unknown(class Class, ctype uint8, body []byte) {
	switch class >> 6 {
	case 0b11:
		o := *clone(class, ctype, body)
		if f := p.flow.last; f != nil {
			f.Unknown = append(f.Unknown, o)
		} else {
			p.m.Unknown = append(p.m.Unknown, o)
		}
	case 0b10: // neither forwarded nor answered
	default:
		p.refuse(unknownClass(class, ctype))
	}
}

func (p *parser) decode(class Class, ctype uint8, body []byte) (err *Error) {
	m := p.m
	switch class {
	case ClassSession:
		m.Session, err = p.opt.Formats.session(ctype, body)
		p.session = err == nil
	case ClassHop:
		m.Hop, err = decodeHop(ctype, body)
	case ClassIntegrity:
		m.Integrity = clone(class, ctype, body)
	case ClassTimeValues:
		m.TimeValues, err = decodeTimeValues(ctype, body)
	case ClassErrorSpec:
		m.ErrorSpec, err = decodeErrorSpec(ctype, body)
	case ClassScope:
		m.Scope, err = decodeScope(ctype, body)
	case ClassStyle:
		m.Style, err = decodeStyle(ctype, body)
		if m.Type == ResvErr && err != nil && err.Kind == KindUnknownStyle && err.Respond {
			err = nil // found by another node: passed on
		}
	case ClassPolicyData:
		m.Policy = append(m.Policy, *clone(class, ctype, body))
	case ClassResvConfirm:
		m.ResvConfirm, err = decodeResvConfirm(ctype, body)
	case ClassSenderTemplate:
		var f Filter
		if f, err = p.opt.Formats.filter(class, ctype, body); err == nil {
			m.SenderTemplate = &f
		}
	case ClassSenderTSpec:
		err = p.tspec(ctype, body)
	case ClassAdSpec:
		err = p.adspec(ctype, body)
	case ClassFlowSpec:
		err = p.flowSpec(ctype, body)
	case ClassFilterSpec:
		err = p.filterSpec(ctype, body)
	default: // NULL and unknown classes do not get here
	}
	return err
}

// tspec and adspec: a PathTear's are ignored (RFC 2205 section 3.1.5), a
// PathErr's came from the message in error and are only passed on.
func (p *parser) tspec(ctype uint8, body []byte) *Error {
	if p.m.Type == PathTear {
		return nil
	}
	t, more, fault := intserv.TSpec{}, false, unknownCType(ClassSenderTSpec, ctype)
	if ctype == ctypeIntServ {
		fault = nil
		var err error
		if t, more, err = decodeSenderTSpec(body); err != nil {
			fault = trafficControl(ClassSenderTSpec, TCBadTSpec, err)
		}
	}
	if fault == nil {
		p.m.SenderTSpec = &t
	}
	if fault != nil || more {
		p.m.RawTSpec = clone(ClassSenderTSpec, ctype, body)
	}
	if p.m.Type == PathErr {
		return nil
	}
	return fault
}

func (p *parser) adspec(ctype uint8, body []byte) *Error {
	if p.m.Type == PathTear {
		return nil
	}
	fault := unknownCType(ClassAdSpec, ctype)
	if ctype == ctypeIntServ {
		a, err := decodeAdSpec(body)
		if err == nil {
			p.m.AdSpec = a
			return nil
		}
		fault = trafficControl(ClassAdSpec, TCBadAdSpec, err)
	}
	p.m.RawAdSpec = clone(ClassAdSpec, ctype, body)
	if p.m.Type == PathErr {
		return nil
	}
	return fault
}

// finish checks the message as a whole. What was refused in a way that is to be
// answered may have left gaps, which are then no faults of their own.
func (p *parser) finish() error {
	if err := p.endFlows(); err != nil {
		return err
	}
	if err := checkClasses(p.m.Type, p.seen); err != nil {
		return err
	}
	if p.m.Type.objectless() && p.refused == nil {
		if err := p.m.finishReduction(); err != nil {
			return err
		}
	}
	if !p.session {
		return p.refusedOrNil()
	}
	if err := p.m.check(); err != nil {
		return err
	}
	if p.refused == nil && p.seen.has(ClassStyle) {
		if err := p.m.checkFlows(); err != nil {
			return err
		}
	}
	return nil
}

// refusedOrNil returns the fault, now not to be answered, as a plain error.
func (p *parser) refusedOrNil() error {
	if p.refused == nil {
		return nil
	}
	p.refused.Respond = false
	return p.refused
}
