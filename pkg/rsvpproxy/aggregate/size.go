package aggregate

import (
	"math"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
)

// Size is how large aggregates are made (RFC 3175 sections 1.4.4 and 4): in blocks,
// and with two water marks that are far enough apart for few of the flows that come
// and go to change it.
type Size struct {
	Step float64 // bytes/s: aggregates are multiples of it
	// High and Low are parts of the aggregate. Above High it grows, ahead of need; one
	// that was below Low for Hold shrinks. Both bring it to where the middle of the two
	// is in use.
	High, Low float64
	Hold      time.Duration
}

// Defaults of [Size].
const (
	DefaultStep = 125_000 // 1 Mbit/s
	DefaultHigh = 0.9
	DefaultLow  = 0.5
	DefaultHold = time.Minute
)

func (s Size) withDefaults() Size {
	if s.Step <= 0 {
		s.Step = DefaultStep
	}
	if s.High <= 0 || s.High > 1 {
		s.High = DefaultHigh
	}
	if s.Low <= 0 || s.Low >= s.High {
		s.Low = s.High * DefaultLow / DefaultHigh
	}
	if s.Hold <= 0 {
		s.Hold = DefaultHold
	}
	return s
}

const (
	// stepTime is the part of a block's rate that is a block of the bucket's depth.
	stepTime = 0.05
	// burstTime is how long the bursts may be at the whole rate for which there is room
	// ahead of need.
	burstTime = 0.2
	// leastStep is the least that one may be: a packet.
	leastStep = 1500
	// leastUnit is the m that aggregates have as long as nobody needs a smaller one:
	// another m for each flow would change the aggregate each time.
	leastUnit = 64
)

// load is what flows take of an aggregate.
type load struct {
	rate      float64 // r
	bandwidth float64 // R, where that is asked for, else r
	bucket    float64
	flows     int // 1 for one flow
	bounded   int // those of guaranteed service
}

func loadOf(f intserv.FlowSpec) load {
	l := load{rate: f.TSpec.Rate, bandwidth: f.Bandwidth(), bucket: f.TSpec.Bucket, flows: 1}
	if f.Service == intserv.Guaranteed {
		l.bounded = 1
	}
	return l
}

func (l load) plus(o load) load {
	return load{l.rate + o.rate, l.bandwidth + o.bandwidth, l.bucket + o.bucket, l.flows + o.flows, l.bounded + o.bounded}
}

// minus takes away what was added before. Nothing is left of no flows, whatever
// the rounding of the sums.
func (l load) minus(o load) load {
	l = load{l.rate - o.rate, l.bandwidth - o.bandwidth, l.bucket - o.bucket, l.flows - o.flows, l.bounded - o.bounded}
	if l.flows <= 0 {
		return load{}
	}
	return l
}

// within says whether l is no more than o in any of its parts.
func (l load) within(o load) bool {
	return l.rate <= o.rate && l.bandwidth <= o.bandwidth && l.bucket <= o.bucket && (l.bounded == 0 || o.bounded > 0)
}

// carries says whether a reservation has room for a load.
func carries(have *intserv.FlowSpec, l load) bool {
	if l.flows == 0 {
		return true
	}
	return have != nil && (l.bounded == 0 || have.Service == intserv.Guaranteed) &&
		have.TSpec.Rate >= l.rate*pipe.Slack && have.Bandwidth() >= l.bandwidth*pipe.Slack && have.TSpec.Bucket >= l.bucket*pipe.Slack
}

// blocks is the least multiple of step of which need is no more than part.
func blocks(need, part, step float64) float64 {
	return math.Ceil(need/part/step*pipe.Slack) * step
}

// measure is rate, bandwidth and bucket of an aggregate.
type measure struct{ rate, bandwidth, bucket float64 }

// fresh is what an aggregate for a load is made, whatever it was before: the middle
// of the marks in use, and a bucket for as many flows like these as there is rate for,
// if they are not very bursty.
func (s Size) fresh(l load) measure {
	middle, bstep := (s.High+s.Low)/2, max(s.Step*stepTime, leastStep)
	m := measure{rate: blocks(l.rate, middle, s.Step), bandwidth: blocks(l.bandwidth, middle, s.Step), bucket: blocks(l.bucket, middle, bstep)}
	if l.rate > 0 {
		m.bucket = max(m.bucket, blocks(min(l.bucket*m.rate/l.rate, m.rate*burstTime), 1, bstep))
	}
	return m
}

// next is what an aggregate of the size of have should be for a load. low: it is so
// much too large that it should shrink, if that stays so. With exact it grows by no
// more than what is needed.
func (s Size) next(have measure, l load, exact bool) (want measure, low bool) {
	to := s.fresh(l)
	switch {
	case exact:
		return measure{max(have.rate, l.rate), max(have.bandwidth, l.bandwidth), max(have.bucket, l.bucket)}, low
	case l.rate > have.rate*s.High, l.bandwidth > have.bandwidth*s.High, l.bucket > have.bucket*s.High:
		return measure{max(have.rate, to.rate), max(have.bandwidth, to.bandwidth), max(have.bucket, to.bucket)}, false
	}
	idle := func(need, have, to float64) bool { return need < have*s.Low && to < have }
	// A bucket that one bursty flow has made large takes of what the network sells (RFC
	// 2998 section 4.1), whatever the rate is. Of flows that are alike the rate tells, and
	// the rounding of buckets shall add no changes: it has to be twice too large.
	return have, idle(l.bandwidth, have.bandwidth, to.bandwidth) || idle(l.rate, have.rate, to.rate) || idle(l.bucket, have.bucket, 2*to.bucket)
}

// smaller is what an aggregate shrinks to.
func (s Size) smaller(have measure, l load) measure {
	to := s.fresh(l)
	return measure{min(have.rate, to.rate), min(have.bandwidth, to.bandwidth), min(have.bucket, to.bucket)}
}

func measured(f *intserv.FlowSpec) measure {
	if f == nil {
		return measure{}
	}
	return measure{f.TSpec.Rate, f.Bandwidth(), f.TSpec.Bucket}
}
