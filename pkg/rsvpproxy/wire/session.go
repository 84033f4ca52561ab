package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// SessionEPolice is the E_Police flag: the sender host cannot police, the first
// node that can shall do so and clear the flag (RFC 2205 Appendix A.1).
const SessionEPolice = 0x01

// Session is the SESSION object (RFC 2205 Appendix A.1). It is comparable; use
// [Session.Key] to look sessions up.
type Session struct {
	Dst      netip.Addr // unicast or multicast destination of the data
	Protocol uint8      // IP protocol of the data
	Flags    uint8
	DstPort  uint16 // 0: none
}

// Key returns s without the flags, which do not belong to its identity.
func (s Session) Key() Session {
	s.Flags = 0
	return s
}

// String is for people.
func (s Session) String() string {
	return fmt.Sprintf("%v/%d/%d", s.Dst, s.Protocol, s.DstPort)
}

func (s Session) header() (Class, uint8) { return ClassSession, addrCType(s.Dst) }
func (s Session) size() int              { return addrSize(s.Dst) + 4 }

func (s Session) appendBody(b []byte) []byte {
	b = appendAddr(b, s.Dst)
	b = append(b, s.Protocol, s.Flags)
	return binary.BigEndian.AppendUint16(b, s.DstPort)
}

func decodeSession(ctype uint8, body []byte) (Session, *Error) {
	dst, rest, err := decodeAddr(ClassSession, ctype, body, 4)
	if err != nil {
		return Session{}, err
	}
	return Session{Dst: dst, Protocol: rest[0], Flags: rest[1], DstPort: binary.BigEndian.Uint16(rest[2:])}, nil
}

// check holds the session to Appendix A.1: DestAddress and Protocol Id must be
// non-zero.
func (s Session) check() *Error {
	switch {
	case !s.Dst.IsValid() || s.Dst.Unmap().IsUnspecified():
		return malformed(KindAddress, ClassSession, "destination address is zero")
	case s.Protocol == 0:
		return malformed(KindProtocol, ClassSession, "protocol is zero")
	}
	return nil
}
