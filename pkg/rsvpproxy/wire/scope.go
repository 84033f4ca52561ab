package wire

import (
	"net/netip"
	"slices"
)

// scope is the SCOPE object (RFC 2205 Appendix A.6): sender addresses of one
// family in ascending order.
type scope []netip.Addr

func (s scope) header() (Class, uint8) { return ClassScope, addrCType(s[0]) }
func (s scope) size() int              { return len(s) * addrSize(s[0]) }

func (s scope) appendBody(b []byte) []byte {
	for _, a := range s {
		b = appendAddr(b, a)
	}
	return b
}

// decodeScope accepts any order: that a peer sorts badly is no reason to lose
// its reservation.
func decodeScope(ctype uint8, body []byte) (scope, *Error) {
	n := 4
	switch ctype {
	case ctypeIPv4:
	case ctypeIPv6:
		n = 16
	default:
		return nil, unknownCType(ClassScope, ctype)
	}
	if len(body) == 0 || len(body)%n != 0 {
		return nil, badSize(ClassScope, ctype, body)
	}
	s := make(scope, 0, len(body)/n)
	for ; len(body) > 0; body = body[n:] {
		a, _ := netip.AddrFromSlice(body[:n]) // 4 or 16 bytes: cannot fail
		s = append(s, a)
	}
	return sortScope(s), nil
}

// sortScope sorts addresses as Appendix A.6 wants them, each once.
func sortScope(s scope) scope {
	slices.SortFunc(s, netip.Addr.Compare)
	return slices.Compact(s)
}
