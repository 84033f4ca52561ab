package wire

import (
	"encoding/binary"
	"net/netip"
)

// Bits of DiagResponse.Error (RFC 2745 section 3.6).
const (
	DiagNoPath       = 0x01 // no PATH state
	DiagTooBig       = 0x02 // packet too big
	DiagRouteTooLong = 0x04 // ROUTE object too big
)

// DiagResponse is the DIAG_RESPONSE object (RFC 2745 section 3.6): what one
// node reports.
type DiagResponse struct {
	Arrival  uint32     // of the request, see [NTP32]
	In       netip.Addr // interface that messages of the sender arrive on; zero address: unknown
	Out      netip.Addr // interface the request arrived on
	Previous netip.Addr // where Path messages come from
	TTL      uint8      // D-TTL: IP hops from the RSVP node downstream
	Merged   bool       // M: the reservation is merged with others
	Error    uint8      // DiagNoPath and so on, three bits
	K        uint8      // refresh timer multiple, four bits
	Timer    uint16     // refresh timer, seconds
	// Objects are the TUNNEL object, if any, and the objects reported, whole.
	Objects []Object
}

func (r DiagResponse) header() (Class, uint8) { return ClassDiagResponse, addrCType(r.In) }

func (r DiagResponse) size() int {
	n := 8 + 3*addrSize(r.In)
	for _, o := range r.Objects {
		n += objectHeader + o.size()
	}
	return n
}

func (r DiagResponse) appendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, r.Arrival)
	b = appendAddr(appendAddr(appendAddr(b, r.In), r.Out), r.Previous)
	flags := r.Error&7<<4 | r.K&15
	if r.Merged {
		flags |= 0x80
	}
	b = binary.BigEndian.AppendUint16(append(b, r.TTL, flags), r.Timer)
	for _, o := range r.Objects {
		b = appendObject(b, o)
	}
	return b
}

func decodeDiagResponse(ctype uint8, body []byte) (*DiagResponse, error) {
	n := 4
	switch ctype {
	case ctypeIPv4:
	case ctypeIPv6:
		n = 16
	default:
		return nil, unknownCType(ClassDiagResponse, ctype)
	}
	if len(body) < 8+3*n {
		return nil, badSize(ClassDiagResponse, ctype, body)
	}
	r := &DiagResponse{Arrival: binary.BigEndian.Uint32(body)}
	body = body[4:]
	for _, a := range []*netip.Addr{&r.In, &r.Out, &r.Previous} {
		*a, _ = netip.AddrFromSlice(body[:n]) // 4 or 16 bytes: cannot fail
		body = body[n:]
	}
	r.TTL, r.Merged, r.Error, r.K = body[0], body[1]&0x80 != 0, body[1]>>4&7, body[1]&15
	r.Timer = binary.BigEndian.Uint16(body[2:])
	err := walk(body[4:], func(class Class, ctype uint8, body []byte) error {
		r.Objects = append(r.Objects, *clone(class, ctype, body))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (r *DiagResponse) check(v4 bool) *Error {
	for _, a := range []netip.Addr{r.In, r.Out, r.Previous} {
		if !a.IsValid() || a.Is4() != v4 {
			return malformed(KindAddress, ClassDiagResponse, "%v is not of the session's family", a)
		}
	}
	for _, o := range r.Objects {
		if len(o.Body)%4 != 0 || len(o.Body) > MaxMessage {
			return malformed(KindObjectLength, o.Class, "%d bytes in DIAG_RESPONSE", len(o.Body))
		}
	}
	if r.Error > 7 || r.K > 15 {
		return malformed(KindFormat, ClassDiagResponse, "error %#x, K %d", r.Error, r.K)
	}
	return nil
}
