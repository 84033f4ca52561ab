package plan

import "math"

// Sum is what the reserved flows with one DSCP have on an interface, in whole
// bytes, so that what is added can be taken off again.
type Sum struct {
	Flows         int
	Rate, Bucket  uint64 // of their TSpecs
	Class         uint64 // rate of their classes, in IP bytes
	RealTimeFlows int
	// Joined is the part of Class, and JoinedBucket that of Bucket, of flows that
	// wait in the common queue, see EFModel.
	Joined, JoinedBucket uint64
}

// Sums are those of an interface, by DSCP.
type Sums map[uint8]Sum

// Count counts a reserved flow, or what flows share, in (1) or out (-1).
func (itf Interface) Count(s Sums, t Treatment, n int) {
	if !t.Reserve || !t.Mark {
		return
	}
	sum := s[t.DSCP]
	class := t.Share
	if class == 0 {
		class = t.Rate / max(1, itf.Overbooking)
	}
	sum.Flows += n
	sum.Rate += whole(t.Rate) * uint64(n)
	sum.Bucket += whole(t.Bucket) * uint64(n)
	sum.Class += whole(class) * uint64(n)
	if itf.Joins(t) {
		sum.Joined += whole(class) * uint64(n)
		sum.JoinedBucket += whole(t.Bucket) * uint64(n)
	}
	if t.RealTime {
		sum.RealTimeFlows += n
	}
	if s[t.DSCP] = sum; sum.Flows == 0 {
		delete(s, t.DSCP)
	}
}

// Provided is what the levels of an interface have in the kernel, as Sums that
// they would have it for.
func Provided(is Port) Sums {
	s := Sums{}
	for _, r := range is.Rows {
		if r.Arriving || !r.Policed {
			continue
		}
		sum := Sum{Flows: 1, Rate: r.Rate, Bucket: r.Burst, Class: r.Rate}
		if c, ok := is.Class(r.Class); ok && c.Prio < prioReserved {
			sum.RealTimeFlows = 1
		}
		s[r.DSCP] = sum
	}
	return s
}

func whole(v float64) uint64 { return uint64(math.Ceil(max(v, 0))) }
