package tcpcheat

import (
	"slices"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// maxStretches bounds the stretches of data that one flow's filler follows
// beyond holes: at 5% loss as many as a second of 5000 packets leaves.
const maxStretches = 128

// hole is what is known of the missing bytes in front of a stretch.
type hole struct {
	since instant    // known, or last given a chance by real data that passed
	next  instant    // not filled again before
	at    packet.Seq // this round has come so far; only while begun
	begun bool
	tries uint8 // rounds so far
}

// stretch is contiguous data, and the hole in front of it.
type stretch struct {
	left, right packet.Seq
	gap         hole
}

// stretches is an ordered set of them. It grows as holes come, to a limit: then
// the topmost hole is joined to its neighbours, which only delays its filling.
type stretches struct {
	s      []stretch
	joined uint64
}

// add joins [l, r) to the set. A hole that this makes is known since then; one
// that it splits keeps its clock on both sides.
func (q *stretches) add(l, r packet.Seq, since instant) {
	s := q.s
	i := len(s)
	for i > 0 && s[i-1].right.AtLeast(l) {
		i-- // from the top: that is where data arrives
	}
	j := i
	for j < len(s) && s[j].left.AtMost(r) {
		j++
	}
	if i < j {
		s[i].left = packet.MinSeq(s[i].left, l)
		s[i].right = packet.MaxSeq(s[j-1].right, r)
		q.s = slices.Delete(s, i+1, j)
		return
	}
	if len(s) == maxStretches {
		q.joined++
		if i == len(s) {
			s[i-1].right = r
			return
		}
		s[len(s)-2].right = s[len(s)-1].right
		q.s = s[:len(s)-1]
		q.add(l, r, since)
		return
	}
	g := hole{since: since}
	if i < len(q.s) {
		g = q.s[i].gap
	}
	q.s = slices.Insert(q.s, i, stretch{left: l, right: r, gap: g})
}

// trim forgets what lies below at.
func (q *stretches) trim(at packet.Seq) {
	k := 0
	for k < len(q.s) && q.s[k].right.AtMost(at) {
		k++
	}
	q.s = slices.Delete(q.s, 0, k)
	if len(q.s) > 0 {
		q.s[0].left = packet.MaxSeq(q.s[0].left, at)
	}
}

// covers tells whether the byte at seq is in the set.
func (q *stretches) covers(seq packet.Seq) bool {
	for _, s := range slices.Backward(q.s) {
		if s.left.AtMost(seq) {
			return seq.Before(s.right)
		}
	}
	return false
}

// spare gives the holes that [l, r) touches another chance from now on.
func (q *stretches) spare(from, l, r packet.Seq, now instant) {
	for i := range q.s {
		if from.AtLeast(r) {
			return
		}
		if s := &q.s[i]; from.Before(s.left) && l.Before(s.left) {
			s.gap.since = now
		}
		from = q.s[i].right
	}
}
