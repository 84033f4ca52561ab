package wire

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
)

// SessionEPolice is the E_Police flag: the sender host cannot police, the first
// node that can shall do so and clear the flag (RFC 2205 Appendix A.1).
const SessionEPolice = 0x01

// Session is the SESSION object (RFC 2205 Appendix A.1, RFC 2207 section 3.1,
// RFC 3175 section 3.3, RFC 4860 section 2.1). It is comparable; use
// [Session.Key] to look sessions up.
type Session struct {
	Dst      netip.Addr // unicast or multicast destination of the data
	Protocol uint8      // IP protocol of the data; not in aggregates
	Flags    uint8
	DstPort  uint16 // 0: none; FormatGPI and FormatGenericAggregate: virtual, a number to tell sessions apart

	Format   Format
	DSCP     uint8    // FormatAggregate
	PHB      uint16   // FormatGenericAggregate: PHB identification code of RFC 3140
	Extended [16]byte // FormatGenericAggregate: extended vDstPort; for IPv4 its first four bytes
}

// Key returns s without the flags, which do not belong to its identity.
func (s Session) Key() Session {
	s.Flags = 0
	return s
}

// Compare orders sessions.
func (s Session) Compare(o Session) int {
	return cmp.Or(
		s.Dst.Compare(o.Dst), cmp.Compare(s.Protocol, o.Protocol), cmp.Compare(s.DstPort, o.DstPort),
		cmp.Compare(s.Format, o.Format), cmp.Compare(s.DSCP, o.DSCP), cmp.Compare(s.PHB, o.PHB), bytes.Compare(s.Extended[:], o.Extended[:]),
	)
}

// String is for people.
func (s Session) String() string {
	switch s.Format {
	case FormatPorts:
		return fmt.Sprintf("%v/%d/%d", s.Dst, s.Protocol, s.DstPort)
	case FormatAggregate:
		return fmt.Sprintf("%v/dscp %d", s.Dst, s.DSCP)
	case FormatGenericAggregate:
		return fmt.Sprintf("%v/phb %#04x/%d/%x", s.Dst, s.PHB, s.DstPort, s.Extended[:addrSize(s.Dst)])
	default:
		return fmt.Sprintf("%v/%d/%v %d", s.Dst, s.Protocol, s.Format, s.DstPort)
	}
}

func (s Session) header() (Class, uint8) {
	return ClassSession, ctypeOf(sessionCTypes[:], s.Format, s.Dst)
}

func (s Session) size() int {
	n := addrSize(s.Dst)
	if s.Format == FormatGenericAggregate {
		return n + 8 + n
	}
	return n + 4
}

func (s Session) appendBody(b []byte) []byte {
	b = appendAddr(b, s.Dst)
	switch s.Format {
	case FormatAggregate:
		return append(b, 0, s.Flags, 0, s.DSCP)
	case FormatGenericAggregate:
		b = binary.BigEndian.AppendUint16(append(b, 0, s.Flags), s.PHB)
		b = binary.BigEndian.AppendUint16(append(b, 0, 0), s.DstPort)
		return append(b, s.Extended[:addrSize(s.Dst)]...)
	default:
		b = append(b, s.Protocol, s.Flags)
		return binary.BigEndian.AppendUint16(b, s.DstPort)
	}
}

func decodeSession(ctype uint8, body []byte) (Session, *Error) {
	return Formats(0).session(ctype, body)
}

// session decodes a SESSION of one of the formats. Reserved fields are ignored.
func (fs Formats) session(ctype uint8, body []byte) (Session, *Error) {
	format, addr, ok := fs.formatOf(sessionCTypes[:], ctype)
	if !ok {
		return Session{}, unknownCType(ClassSession, ctype)
	}
	return sessionBody(ClassSession, ctype, addr, format, body)
}

// sessionBody: class and ctype name the object in an error, addr says how long
// its addresses are.
func sessionBody(c Class, ctype, addr uint8, format Format, body []byte) (Session, *Error) {
	extra := 4
	if format == FormatGenericAggregate {
		extra = 8 + 4
		if addr == ctypeIPv6 {
			extra = 8 + 16
		}
	}
	dst, rest, err := decodeAddr(c, addr, body, extra)
	if err != nil {
		err.CType = ctype
		return Session{}, err
	}
	s := Session{Dst: dst, Flags: rest[1], Format: format}
	switch format {
	case FormatAggregate:
		s.DSCP = rest[3]
	case FormatGenericAggregate:
		s.PHB = binary.BigEndian.Uint16(rest[2:])
		s.DstPort = binary.BigEndian.Uint16(rest[6:])
		copy(s.Extended[:], rest[8:])
	default:
		s.Protocol, s.DstPort = rest[0], binary.BigEndian.Uint16(rest[2:])
	}
	return s, nil
}

// check holds the session to Appendix A.1: DestAddress and Protocol Id must be
// non-zero, and to the rules of its format.
func (s Session) check() *Error {
	aggregate := s.Format == FormatAggregate || s.Format == FormatGenericAggregate
	switch {
	case !s.Dst.IsValid() || s.Dst.Unmap().IsUnspecified():
		return malformed(KindAddress, ClassSession, "destination address is zero")
	case s.Format > FormatGenericAggregate:
		return malformed(KindFormat, ClassSession, "no such format")
	case s.Protocol == 0 && !aggregate:
		return malformed(KindProtocol, ClassSession, "protocol is zero")
	case s.Format == FormatGPI && s.Protocol != ProtoESP && s.Protocol != ProtoAH:
		return malformed(KindFormat, ClassSession, "protocol %d has no SPI (RFC 2207 section 4.1)", s.Protocol)
	case s.Format == FormatGPI && s.DstPort == 0:
		// So that it never merges with a session of ports (RFC 2207 section 4.1).
		return malformed(KindFormat, ClassSession, "virtual destination port is zero")
	case s.Format == FormatAggregate && s.DSCP > 63:
		return malformed(KindFormat, ClassSession, "DSCP %d", s.DSCP)
	}
	return nil
}
