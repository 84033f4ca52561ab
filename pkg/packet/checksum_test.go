package packet

import (
	"math/rand/v2"
	"testing"
)

// naive is RFC 1071 section 1 word for word.
func naive(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		if sum += w; sum > 0xffff {
			sum = sum&0xffff + 1
		}
	}
	return ^uint16(sum)
}

func TestChecksumAgainstNaive(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 5000 {
		b := make([]byte, rng.IntN(300))
		switch rng.IntN(4) {
		case 0:
			for i := range b {
				b[i] = 0xff
			}
		default:
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
		}
		if got, want := Checksum(b), naive(b); got != want {
			t.Fatalf("%x: %04x, want %04x", b, got, want)
		}
		// Partial sums add up if the cut is even.
		if k := rng.IntN(len(b)/2+1) * 2; Fold(Sum(Sum(0, b[:k]), b[k:])) != naive(b) {
			t.Fatalf("%x cut at %d", b, k)
		}
	}
}

// The example of RFC 1071 section 3.
func TestRFC1071_3_Example(t *testing.T) {
	if got := Checksum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}); got != ^uint16(0xddf2) {
		t.Errorf("%04x", got)
	}
}

// The example of RFC 1624 section 4, where the equation of RFC 1141 gives
// 0xffff.
func TestRFC1624_4_Example(t *testing.T) {
	if got := Update16(0xdd2f, 0x5555, 0x3285); got != 0x0000 {
		t.Errorf("%04x, want 0000", got)
	}
}

func TestUpdateAgainstFull(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	words := func() uint16 { return []uint16{0, 0xffff, uint16(rng.Uint32())}[rng.IntN(3)] }
	for range 20000 {
		b := make([]byte, 16)
		for i := 0; i < 16; i += 2 {
			w := words()
			b[i], b[i+1] = byte(w>>8), byte(w)
		}
		b[15] |= 1 // all zero is the one case that no header is
		old := Checksum(b)
		o16 := uint16(b[0])<<8 | uint16(b[1])
		n16 := words()
		b[0], b[1] = byte(n16>>8), byte(n16)
		mid := Update16(old, o16, n16)
		if want := Checksum(b); mid != want {
			t.Fatalf("Update16(%04x, %04x, %04x) = %04x, want %04x", old, o16, n16, mid, want)
		}
		o32 := uint32(b[4])<<24 | uint32(b[5])<<16 | uint32(b[6])<<8 | uint32(b[7])
		n32 := uint32(words())<<16 | uint32(words())
		b[4], b[5], b[6], b[7] = byte(n32>>24), byte(n32>>16), byte(n32>>8), byte(n32)
		if got, want := Update32(mid, o32, n32), Checksum(b); got != want {
			t.Fatalf("Update32(%04x, %08x, %08x) = %04x, want %04x", mid, o32, n32, got, want)
		}
	}
}

func BenchmarkChecksum(b *testing.B) {
	buf := make([]byte, 1460)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		Checksum(buf)
	}
}
