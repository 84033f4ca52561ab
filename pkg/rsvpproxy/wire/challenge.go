package wire

import "encoding/binary"

const challengeSize = 16 // bytes: reserved, key, cookie

// Challenge is the CHALLENGE object (RFC 2747 section 4.3).
type Challenge struct {
	Reserved uint16 // zero; kept, since a response returns the object unchanged
	KeyID    uint64 // 48 bits
	Cookie   [8]byte
}

func (c Challenge) header() (Class, uint8) { return ClassChallenge, ctypeOnly }
func (c Challenge) size() int              { return challengeSize }

func (c Challenge) appendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(c.Reserved)<<48|c.KeyID&MaxKeyID)
	return append(b, c.Cookie[:]...)
}

func decodeChallenge(ctype uint8, body []byte) (Challenge, error) {
	switch {
	case ctype != ctypeOnly:
		return Challenge{}, unknownCType(ClassChallenge, ctype)
	case len(body) != challengeSize:
		return Challenge{}, badSize(ClassChallenge, ctype, body)
	}
	first := binary.BigEndian.Uint64(body)
	return Challenge{Reserved: uint16(first >> 48), KeyID: first & MaxKeyID, Cookie: [8]byte(body[8:])}, nil
}
