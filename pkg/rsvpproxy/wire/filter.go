package wire

import (
	"encoding/binary"
	"net/netip"
)

// Filter is a FILTER_SPEC or a SENDER_TEMPLATE, which have the same contents
// (RFC 2205 Appendix A.9, A.10). It is comparable.
type Filter struct {
	Src     netip.Addr
	SrcPort uint16 // 0: none
}

// String is for people.
func (f Filter) String() string {
	return netip.AddrPortFrom(f.Src, f.SrcPort).String()
}

func (f Filter) size() int { return addrSize(f.Src) + 4 }

func (f Filter) appendBody(b []byte) []byte {
	b = append(appendAddr(b, f.Src), 0, 0)
	return binary.BigEndian.AppendUint16(b, f.SrcPort)
}

func decodeFilter(c Class, ctype uint8, body []byte) (Filter, *Error) {
	src, rest, err := decodeAddr(c, ctype, body, 4)
	if err != nil {
		return Filter{}, err
	}
	return Filter{Src: src, SrcPort: binary.BigEndian.Uint16(rest[2:])}, nil
}

// check holds a filter to the rules of its session: an address (Appendix A.9)
// of the same family, and no SrcPort without a DstPort (section 3.2, rule 2).
func (f Filter) check(s Session, c Class) *Error {
	if why := badAddr(f.Src); why != "" {
		return malformed(KindAddress, c, "source: %s", why)
	}
	if f.Src.Is4() != s.Dst.Is4() {
		return malformed(KindAddress, c, "source %v is not of the session's family", f.Src)
	}
	if s.DstPort == 0 && f.SrcPort != 0 {
		return malformed(KindSourcePort, c, "source port %d in a session without destination port", f.SrcPort)
	}
	return nil
}

// filterSpec is a Filter in the role of a FILTER_SPEC object.
type filterSpec struct{ Filter }

func (f filterSpec) header() (Class, uint8) { return ClassFilterSpec, addrCType(f.Src) }

// senderTemplate is a Filter in the role of a SENDER_TEMPLATE object.
type senderTemplate struct{ Filter }

func (f senderTemplate) header() (Class, uint8) { return ClassSenderTemplate, addrCType(f.Src) }
