package wire

import (
	"encoding/binary"
	"slices"
)

// The Handshake Flag of INTEGRITY: its sender answers Integrity Challenges. The
// figure of RFC 2747 section 2.1 counts bits from the left, which makes it
// 0x80; what is in use sends 0x01.
const (
	HandshakeFlag       = 0x01
	HandshakeFlagFigure = 0x80
)

// MaxKeyID is the largest Key Identifier: it has 48 bits.
const MaxKeyID = 1<<48 - 1

const integrityFixed = 16 // bytes before the digest: flags, reserved, key, sequence number

// Integrity is the INTEGRITY object (RFC 2747 section 2.1).
type Integrity struct {
	Flags    uint8
	KeyID    uint64 // 48 bits
	Sequence uint64
	Digest   []byte // a multiple of four bytes
}

// Handshake says whether the sender answers Integrity Challenges, in either of
// the two places of the flag.
func (i Integrity) Handshake() bool { return i.Flags&(HandshakeFlag|HandshakeFlagFigure) != 0 }

// Object returns i as an object.
func (i Integrity) Object() Object {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, integrityFixed+len(i.Digest)), i.KeyID&MaxKeyID)
	b[0] = i.Flags
	b = binary.BigEndian.AppendUint64(b, i.Sequence)
	return Object{Class: ClassIntegrity, CType: ctypeOnly, Body: append(b, i.Digest...)}
}

// ParseIntegrity reads an INTEGRITY object. The digest is copied.
func ParseIntegrity(o Object) (Integrity, error) {
	if o.Class != ClassIntegrity {
		return Integrity{}, malformed(KindIllegalClass, o.Class, "no INTEGRITY")
	}
	i, err := viewIntegrity(o.CType, o.Body)
	if err != nil {
		return Integrity{}, err
	}
	i.Digest = slices.Clone(i.Digest)
	return i, nil
}

// viewIntegrity leaves the digest where it is.
func viewIntegrity(ctype uint8, body []byte) (Integrity, error) {
	switch {
	case ctype != ctypeOnly:
		return Integrity{}, unknownCType(ClassIntegrity, ctype)
	case len(body) <= integrityFixed || len(body)%4 != 0:
		return Integrity{}, badSize(ClassIntegrity, ctype, body)
	}
	return Integrity{
		Flags:    body[0],
		KeyID:    binary.BigEndian.Uint64(body) & MaxKeyID,
		Sequence: binary.BigEndian.Uint64(body[8:]),
		Digest:   body[integrityFixed:],
	}, nil
}
