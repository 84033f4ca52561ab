package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// maxRanges bounds the holes that are followed in front of the box. What does
// not fit is forwarded but not counted as seen; the source sends it again.
const maxRanges = 16

// ranges is a small ordered set of disjoint byte ranges.
type ranges struct {
	n int
	r [maxRanges]packet.SACKBlock
	// latest is the range that grew last: RFC 2018 section 4 wants it first
	// in a SACK option.
	latest packet.Seq
}

// add joins [l, r) to the set; false if there is no room for another range.
func (s *ranges) add(l, r packet.Seq) bool {
	i := 0
	for i < s.n && s.r[i].Right.Before(l) {
		i++
	}
	j := i
	for j < s.n && s.r[j].Left.AtMost(r) {
		l, r = packet.MinSeq(l, s.r[j].Left), packet.MaxSeq(r, s.r[j].Right)
		j++
	}
	if i == j {
		if s.n == maxRanges {
			return false
		}
		copy(s.r[i+1:s.n+1], s.r[i:s.n])
		s.n++
	} else {
		copy(s.r[i+1:], s.r[j:s.n])
		s.n -= j - i - 1
	}
	s.r[i] = packet.SACKBlock{Left: l, Right: r}
	s.latest = l
	return true
}

// advance removes what lies at or below at and returns how far the bytes from
// at on are contiguous.
func (s *ranges) advance(at packet.Seq) packet.Seq {
	k := 0
	for k < s.n && s.r[k].Left.AtMost(at) {
		at = packet.MaxSeq(at, s.r[k].Right)
		k++
	}
	if k > 0 {
		copy(s.r[:], s.r[k:s.n])
		s.n -= k
	}
	return at
}

// sack writes up to len(dst) blocks, the latest first.
func (s *ranges) sack(dst []packet.SACKBlock) int {
	n := 0
	for pass := range 2 {
		for i := range s.n {
			if n < len(dst) && (s.r[i].Left == s.latest) == (pass == 0) {
				dst[n] = s.r[i]
				n++
			}
		}
	}
	return n
}
