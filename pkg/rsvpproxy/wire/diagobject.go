package wire

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Diagnostic is the DIAGNOSTIC object (RFC 2745 section 3.3).
type Diagnostic struct {
	MaxHops        uint8 // 0: no limit
	Hops           uint8 // RSVP hops so far
	More           bool  // MF: more fragments of the reply come
	RequestID      uint32
	PathMTU        uint16 // bytes
	FragmentOffset uint16 // bytes into the complete reply
	LastHop        netip.Addr
	Sender         Filter // where the request goes
	Requester      Filter // where the reply goes; SrcPort is its UDP port
}

func (d Diagnostic) header() (Class, uint8) { return ClassDiagnostic, addrCType(d.LastHop) }

func (d Diagnostic) size() int {
	return 12 + addrSize(d.LastHop) + 2*objectHeader + senderTemplate{&d.Sender}.size() + filterSpec{&d.Requester}.size()
}

func (d Diagnostic) appendBody(b []byte) []byte {
	var more uint8
	if d.More {
		more = 1
	}
	b = append(b, d.MaxHops, d.Hops, 0, more)
	b = binary.BigEndian.AppendUint32(b, d.RequestID)
	b = binary.BigEndian.AppendUint16(b, d.PathMTU)
	b = binary.BigEndian.AppendUint16(b, d.FragmentOffset)
	b = appendAddr(b, d.LastHop)
	return appendObject(appendObject(b, senderTemplate{&d.Sender}), filterSpec{&d.Requester})
}

func decodeDiagnostic(ctype uint8, body []byte) (*Diagnostic, error) {
	n := 4
	switch ctype {
	case ctypeIPv4:
	case ctypeIPv6:
		n = 16
	default:
		return nil, unknownCType(ClassDiagnostic, ctype)
	}
	if len(body) < 12+n {
		return nil, badSize(ClassDiagnostic, ctype, body)
	}
	d := &Diagnostic{
		MaxHops: body[0], Hops: body[1], More: body[3]&1 != 0,
		RequestID: binary.BigEndian.Uint32(body[4:]),
		PathMTU:   binary.BigEndian.Uint16(body[8:]), FragmentOffset: binary.BigEndian.Uint16(body[10:]),
	}
	d.LastHop, _ = netip.AddrFromSlice(body[12 : 12+n]) // 4 or 16 bytes: cannot fail
	seen := 0
	err := walk(body[12+n:], func(class Class, ctype uint8, body []byte) error {
		var err *Error
		switch {
		case class == ClassSenderTemplate && seen == 0:
			d.Sender, err = acceptEvery.filter(class, ctype, body)
		case class == ClassFilterSpec && seen == 1:
			d.Requester, err = decodeFilter(class, ctype, body)
		default:
			return malformed(KindIllegalClass, class, "inside DIAGNOSTIC")
		}
		seen++
		return errorOf(err)
	})
	if err == nil && seen < 2 {
		err = malformed(KindMissing, ClassDiagnostic, "without SENDER_TEMPLATE or FILTER_SPEC")
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// acceptEvery: what is only reported may be of any format.
const acceptEvery = AcceptGPI | AcceptAggregate | AcceptGenericAggregate

func (d *Diagnostic) check(t MsgType, v4 bool) *Error {
	for _, a := range []netip.Addr{d.LastHop, d.Sender.Src, d.Requester.Src} {
		if why := badAddr(a); why != "" {
			return malformed(KindAddress, ClassDiagnostic, "%s", why)
		}
		if a.Is4() != v4 {
			return malformed(KindAddress, ClassDiagnostic, "%v is not of the session's family", a)
		}
	}
	if d.More && t == DiagRequest {
		return malformed(KindOrder, ClassDiagnostic, "MF in a DREQ") // RFC 2745 section 3.3
	}
	return nil
}

// ClassCType names objects in a DIAG_SELECT.
type ClassCType struct {
	Class Class
	CType uint8 // 0: any
}

// diagSelect is the DIAG_SELECT object (RFC 2745 section 3.4).
type diagSelect []ClassCType

func (s diagSelect) header() (Class, uint8) { return ClassDiagSelect, ctypeOnly }
func (s diagSelect) size() int              { return (2*len(s) + 3) &^ 3 }

func (s diagSelect) appendBody(b []byte) []byte {
	for _, p := range s {
		b = append(b, uint8(p.Class), p.CType)
	}
	return append(b, make([]byte, s.size()-2*len(s))...)
}

func decodeDiagSelect(ctype uint8, body []byte) (diagSelect, error) {
	switch {
	case ctype != ctypeOnly:
		return nil, unknownCType(ClassDiagSelect, ctype)
	case len(body) == 0 || len(body)%4 != 0:
		return nil, badSize(ClassDiagSelect, ctype, body)
	}
	var s diagSelect
	for i := 0; i < len(body); i += 2 {
		p := ClassCType{Class(body[i]), body[i+1]}
		if i == len(body)-2 && p == (ClassCType{}) {
			break // the number of pairs is odd
		}
		s = append(s, p)
	}
	return s, nil
}

// Route is the ROUTE object (RFC 2745 section 3.5): the way back of a reply.
type Route struct {
	Pointer uint8 // index into Nodes
	Nodes   []netip.Addr
	v6      bool // C-Type of an empty list
}

// NewRoute returns the empty ROUTE that asks for a reply hop by hop.
func NewRoute(v6 bool) *Route { return &Route{v6: v6} }

func (r Route) six() bool {
	if len(r.Nodes) > 0 {
		return !r.Nodes[0].Is4()
	}
	return r.v6
}

func (r Route) header() (Class, uint8) {
	if r.six() {
		return ClassRoute, ctypeIPv6
	}
	return ClassRoute, ctypeIPv4
}

func (r Route) size() int {
	if r.six() {
		return 4 + 16*len(r.Nodes)
	}
	return 4 + 4*len(r.Nodes)
}

func (r Route) appendBody(b []byte) []byte {
	b = append(b, 0, 0, 0, r.Pointer)
	for _, a := range r.Nodes {
		b = appendAddr(b, a)
	}
	return b
}

func decodeRoute(ctype uint8, body []byte) (*Route, error) {
	n := 4
	switch ctype {
	case ctypeIPv4:
	case ctypeIPv6:
		n = 16
	default:
		return nil, unknownCType(ClassRoute, ctype)
	}
	if len(body) < 4 || (len(body)-4)%n != 0 {
		return nil, badSize(ClassRoute, ctype, body)
	}
	r := &Route{Pointer: body[3], v6: ctype == ctypeIPv6}
	for b := body[4:]; len(b) > 0; b = b[n:] {
		a, _ := netip.AddrFromSlice(b[:n]) // 4 or 16 bytes: cannot fail
		r.Nodes = append(r.Nodes, a)
	}
	return r, nil
}

func (r *Route) check(v4 bool) *Error {
	for _, a := range r.Nodes {
		if why := badAddr(a); why != "" {
			return malformed(KindAddress, ClassRoute, "%s", why)
		}
		if a.Is4() != v4 {
			return malformed(KindAddress, ClassRoute, "%v is not of the session's family", a)
		}
	}
	switch {
	case r.six() == v4:
		return malformed(KindAddress, ClassRoute, "not of the session's family")
	case int(r.Pointer) > len(r.Nodes):
		return malformed(KindOrder, ClassRoute, "pointer %d into %d nodes", r.Pointer, len(r.Nodes))
	}
	return nil
}

// NTP32 is the middle 32 bits of the NTP timestamp of t: seconds and their
// 65536th parts (RFC 2745 section 3.6).
func NTP32(t time.Time) uint32 {
	const ntpUnix = 2208988800 // seconds from 1900 to 1970
	sec, frac := uint64(t.Unix()+ntpUnix), uint64(t.Nanosecond())<<16/1e9
	return uint32(sec<<16 | frac)
}

// NTP32Time is the time that a timestamp of [NTP32] stands for: it repeats every
// 18 hours, and of these times the one nearest to now is meant.
func NTP32Time(v uint32, now time.Time) time.Time {
	ticks := int32(v - NTP32(now)) // of 1/65536 s, wraps as the timestamp does
	return now.Add(time.Duration(int64(ticks) * 1e9 >> 16))
}
