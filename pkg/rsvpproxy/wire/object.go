package wire

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

const objectHeader = 4 // bytes: length, Class-Num, C-Type (RFC 2205 section 3.1.2)

// C-Types of the classes that hold an address, and of the others.
const (
	ctypeIPv4    = 1
	ctypeIPv6    = 2
	ctypeOnly    = 1 // TIME_VALUES, STYLE
	ctypeIntServ = 2 // FLOWSPEC, SENDER_TSPEC, ADSPEC of RFC 2210
)

// object is what Append writes: every object type knows its header, the size of
// its body in bytes and how to append that body.
type object interface {
	header() (Class, uint8)
	size() int
	appendBody(b []byte) []byte
}

func appendObject(b []byte, o object) []byte {
	class, ctype := o.header()
	b = binary.BigEndian.AppendUint16(b, uint16(objectHeader+o.size()))
	b = append(b, uint8(class), ctype)
	return o.appendBody(b)
}

func (o Object) header() (Class, uint8)     { return o.Class, o.CType }
func (o Object) size() int                  { return len(o.Body) }
func (o Object) appendBody(b []byte) []byte { return append(b, o.Body...) }

func clone(c Class, ctype uint8, body []byte) *Object {
	return &Object{Class: c, CType: ctype, Body: slices.Clone(body)}
}

func addrCType(a netip.Addr) uint8 {
	if a.Is4() {
		return ctypeIPv4
	}
	return ctypeIPv6
}

func addrSize(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 16
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		v := a.As4()
		return append(b, v[:]...)
	}
	v := a.As16()
	return append(b, v[:]...)
}

// decodeAddr splits a body that consists of an address, IPv4 or IPv6 as the
// C-Type says, and of extra more bytes.
func decodeAddr(c Class, ctype uint8, body []byte, extra int) (netip.Addr, []byte, *Error) {
	var n int
	switch ctype {
	case ctypeIPv4:
		n = 4
	case ctypeIPv6:
		n = 16
	default:
		return netip.Addr{}, nil, unknownCType(c, ctype)
	}
	if len(body) != n+extra {
		return netip.Addr{}, nil, badSize(c, ctype, body)
	}
	a, _ := netip.AddrFromSlice(body[:n]) // 4 or 16 bytes: cannot fail
	return a, body[n:], nil
}

func badSize(c Class, ctype uint8, body []byte) *Error {
	e := malformed(KindObjectLength, c, "%d bytes of contents", len(body))
	e.CType = ctype
	return e
}

// badAddr says what makes a an impossible address of a host or router.
func badAddr(a netip.Addr) string {
	switch u := a.Unmap(); {
	case !u.IsValid():
		return "no address"
	case u.IsUnspecified():
		return "address is zero"
	case u.IsMulticast():
		return "multicast address"
	}
	return ""
}
