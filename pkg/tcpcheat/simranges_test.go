package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// simRanges is a range set without the bound of the engine's: a receiver
// remembers all that fits in its buffer.
type simRanges struct {
	r      []packet.SACKBlock
	latest packet.Seq
}

func (s *simRanges) add(l, r packet.Seq) {
	i := 0
	for i < len(s.r) && s.r[i].Right.Before(l) {
		i++
	}
	j := i
	for j < len(s.r) && s.r[j].Left.AtMost(r) {
		l, r = packet.MinSeq(l, s.r[j].Left), packet.MaxSeq(r, s.r[j].Right)
		j++
	}
	s.r = append(s.r[:i:i], append([]packet.SACKBlock{{Left: l, Right: r}}, s.r[j:]...)...)
	s.latest = l
}

func (s *simRanges) advance(at packet.Seq) packet.Seq {
	for len(s.r) > 0 && s.r[0].Left.AtMost(at) {
		at = packet.MaxSeq(at, s.r[0].Right)
		s.r = s.r[1:]
	}
	return at
}

func (s *simRanges) sack(dst []packet.SACKBlock) int {
	n := 0
	for pass := range 2 {
		for _, b := range s.r {
			if n < len(dst) && (b.Left == s.latest) == (pass == 0) {
				dst[n] = b
				n++
			}
		}
	}
	return n
}
