package intserv

import (
	"fmt"
	"math"
	"time"
)

// ErrorTerms are the sums of how far the hops of a path deviate from the fluid
// model of guaranteed service (RFC 2212, Exported Information): C in bytes, D in
// microseconds, over the whole path and since the last reshaping.
type ErrorTerms struct {
	Ctot, Dtot uint32
	Csum, Dsum uint32
}

// Terms returns the error terms of a fragment.
func (g *GuaranteedAd) Terms() ErrorTerms {
	return ErrorTerms{Ctot: g.Ctot, Dtot: g.Dtot, Csum: g.Csum, Dsum: g.Dsum}
}

// Max is what holds for traffic that may come by either of two paths.
func (e ErrorTerms) Max(o ErrorTerms) ErrorTerms {
	return ErrorTerms{
		Ctot: max(e.Ctot, o.Ctot), Dtot: max(e.Dtot, o.Dtot),
		Csum: max(e.Csum, o.Csum), Dsum: max(e.Dsum, o.Dsum),
	}
}

// maxAdjust is how many steps of a single-precision float the rate may be off
// by rounding: more would be a fault of the formula.
const maxAdjust = 8

// RSpecFor is the receiver's choice (RFC 2212, End-to-End Behavior): the least
// service rate that keeps the queueing delay of traffic of t within delay, and
// what remains of delay as slack. The rate is one that the wire can carry. The
// path's latency is not part of it. [ErrDelay]: no rate can do it.
func RSpecFor(t TSpec, e ErrorTerms, delay time.Duration) (RSpec, error) {
	if err := t.Validate(); err != nil {
		return RSpec{}, err
	}
	exact, err := RequiredRate(t, e.Ctot, e.Dtot, delay)
	if err != nil {
		return RSpec{}, err
	}
	rate := float32(exact)
	if float64(rate) < exact {
		rate = up(rate)
	}
	for range maxAdjust {
		if float64(rate) > maxRate {
			return RSpec{}, fmt.Errorf("service rate R %g: %w: %w", rate, ErrRange, ErrDelay)
		}
		slack, err := SlackFor(t, float64(rate), e.Ctot, e.Dtot, delay)
		if err == nil {
			return RSpec{Rate: float64(rate), Slack: slack}, nil
		}
		rate = up(rate)
	}
	return RSpec{}, ErrDelay
}

func up(v float32) float32 { return math.Nextafter32(v, float32(math.Inf(1))) }

// Buffer is the room in bytes that traffic of t can need at a hop that serves
// it at rate, so that nothing of it is lost (RFC 2212, Guidelines for
// Implementors): b + Csum + Dsum * rate. With r in the place of the rate it is
// the bucket to which hops and queues before this one can have distorted the
// traffic's (r, b): what exceeds that is non-conforming anywhere (Policing).
func Buffer(t TSpec, rate float64, e ErrorTerms) float64 {
	return t.Bucket + float64(e.Csum) + float64(e.Dsum)/1e6*rate
}
