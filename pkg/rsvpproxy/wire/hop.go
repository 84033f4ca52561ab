package wire

import (
	"encoding/binary"
	"net/netip"
)

// Hop is the RSVP_HOP object (RFC 2205 Appendix A.2).
type Hop struct {
	Addr netip.Addr // interface through which the last RSVP hop sent the message
	LIH  uint32     // logical interface handle: opaque, echoed to who made it
}

func (h Hop) header() (Class, uint8) { return ClassHop, addrCType(h.Addr) }
func (h Hop) size() int              { return addrSize(h.Addr) + 4 }

func (h Hop) appendBody(b []byte) []byte {
	return binary.BigEndian.AppendUint32(appendAddr(b, h.Addr), h.LIH)
}

func decodeHop(ctype uint8, body []byte) (*Hop, *Error) {
	a, rest, err := decodeAddr(ClassHop, ctype, body, 4)
	if err != nil {
		return nil, err
	}
	return &Hop{Addr: a, LIH: binary.BigEndian.Uint32(rest)}, nil
}

func hopAddr(ctype uint8, body []byte) (netip.Addr, error) {
	a, _, err := decodeAddr(ClassHop, ctype, body, 4)
	return a, errorOf(err)
}
