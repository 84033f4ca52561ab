package wire

import "encoding/binary"

// Bare returns a copy of an encoded message that was understood, without the
// objects that concern a single transmission of it: INTEGRITY (RFC 2747) and the
// identifiers and acknowledgments of RFC 2961. Its Send_TTL is ttl, and its
// checksum is zero, which means none (RFC 2205 section 3.1.1).
func Bare(msg []byte, ttl uint8) []byte {
	b := make([]byte, 0, len(msg))
	b = append(b, msg[:commonHeader]...)
	for rest := msg[commonHeader:]; len(rest) > 0; {
		class, _, body, err := nextObject(rest)
		if err != nil { // not understood by us: as it is
			b = append(b, rest...)
			break
		}
		n := objectHeader + len(body)
		if class != ClassIntegrity && !class.refreshReduction() {
			b = append(b, rest[:n]...)
		}
		rest = rest[n:]
	}
	b[2], b[3], b[4] = 0, 0, ttl
	binary.BigEndian.PutUint16(b[6:], uint16(len(b)))
	return b
}
