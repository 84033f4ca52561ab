package packet

// Seq is a TCP sequence number. Its only comparisons are those of RFC 9293
// section 3.4, modulo 2^32: a plain < on sequence numbers is wrong once per
// 4 GiB, so the type has methods and is never compared as a number.
type Seq uint32

// Add returns s advanced by n bytes; n may be negative.
func (s Seq) Add(n int) Seq { return s + Seq(uint32(n)) }

// Diff returns how far s is ahead of o, in bytes; negative if it is behind.
func (s Seq) Diff(o Seq) int { return int(int32(uint32(s) - uint32(o))) }

// Before tells whether s comes before o.
func (s Seq) Before(o Seq) bool { return s.Diff(o) < 0 }

// AtMost tells whether s is o or comes before it.
func (s Seq) AtMost(o Seq) bool { return s.Diff(o) <= 0 }

// After tells whether s comes after o.
func (s Seq) After(o Seq) bool { return s.Diff(o) > 0 }

// AtLeast tells whether s is o or comes after it.
func (s Seq) AtLeast(o Seq) bool { return s.Diff(o) >= 0 }

// InWindow tells whether s lies in [start, start+size).
func (s Seq) InWindow(start Seq, size uint32) bool { return uint32(s)-uint32(start) < size }

// MaxSeq returns the later of two sequence numbers.
func MaxSeq(a, b Seq) Seq {
	if a.Before(b) {
		return b
	}
	return a
}

// MinSeq returns the earlier of two sequence numbers.
func MinSeq(a, b Seq) Seq {
	if a.After(b) {
		return b
	}
	return a
}
