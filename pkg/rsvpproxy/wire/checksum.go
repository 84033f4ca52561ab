package wire

import "encoding/binary"

// sum is the one's complement sum of b in 16-bit words. The RSVP checksum covers
// the message and no pseudo header, for IPv6 neither (RFC 2205 section 3.1.1).
func sum(b []byte) uint16 {
	var s uint64
	for ; len(b) >= 2; b = b[2:] {
		s += uint64(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// checksum is what belongs into the field of a message in which it is zero.
func checksum(b []byte) uint16 {
	if c := ^sum(b); c != 0 {
		return c
	}
	return 0xffff // zero would say "not sent"; both are the same number
}

// verify says whether the checksum of a message is right, or was not sent.
func verify(b []byte) bool {
	return binary.BigEndian.Uint16(b[2:]) == 0 || sum(b) == 0xffff
}
