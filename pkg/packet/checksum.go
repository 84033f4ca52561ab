package packet

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds b to a running one's complement sum (RFC 1071). The sum is kept
// unfolded in 64 bits, so partial sums can be added up; b may have an odd
// length only if it is the last part.
func Sum(sum uint64, b []byte) uint64 {
	for len(b) >= 32 {
		// Four words at a time; carries are added back at the end of each
		// round, which the compiler turns into add-with-carry.
		var c uint64
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b), 0)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b[8:]), c)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b[16:]), c)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b[24:]), c)
		sum, c = bits.Add64(sum, 0, c)
		sum += c
		b = b[32:]
	}
	for len(b) >= 8 {
		var c uint64
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b), 0)
		sum, c = bits.Add64(sum, 0, c)
		sum += c
		b = b[8:]
	}
	for len(b) >= 2 {
		sum = addCarry(sum, uint64(binary.BigEndian.Uint16(b)))
		b = b[2:]
	}
	if len(b) == 1 {
		sum = addCarry(sum, uint64(b[0])<<8)
	}
	return sum
}

func addCarry(a, b uint64) uint64 {
	s, c := bits.Add64(a, b, 0)
	return s + c
}

// Fold reduces an unfolded sum to the checksum field's value (complemented).
func Fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum)
}

// Checksum is the Internet checksum of b.
func Checksum(b []byte) uint16 { return Fold(Sum(0, b)) }

// Update16 returns the checksum field after a covered 16-bit word changed from
// old to now: RFC 1624 section 3, equation 3, which is right also for the zero
// that the equation of RFC 1141 gets wrong.
func Update16(check, old, now uint16) uint16 {
	return Fold(uint64(^check) + uint64(^old) + uint64(now))
}

// Update32 is Update16 for a covered 32-bit word.
func Update32(check uint16, old, now uint32) uint16 {
	return Fold(uint64(^check) + uint64(uint16(^(old >> 16))) + uint64(uint16(^old)) +
		uint64(now>>16) + uint64(now&0xffff))
}
