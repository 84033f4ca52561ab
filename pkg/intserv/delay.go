package intserv

import (
	"errors"
	"math"
	"time"
)

// ErrDelay is returned when no rate can meet a delay bound.
var ErrDelay = errors.New("delay bound cannot be met by any rate")

// DelayBound returns the end-to-end queueing delay that guaranteed service
// promises traffic of t at service rate rate (bytes/s) over a path with error
// terms ctot (bytes) and dtot (microseconds): RFC 2212, End-to-End Behavior.
// The path's minimum latency comes on top. A rate below r has no bound.
func DelayBound(t TSpec, rate float64, ctot, dtot uint32) (time.Duration, error) {
	if !(rate > 0) || rate < t.Rate {
		return 0, ErrDelay
	}
	b, maxPkt, p, c := t.Bucket, t.packet(), t.Peak, float64(ctot)
	var s float64
	switch {
	case math.IsInf(p, 1):
		s = (b + c) / rate
	case rate >= p || p <= t.Rate:
		s = (maxPkt + c) / rate
	default:
		s = (b-maxPkt)/rate*(p-rate)/(p-t.Rate) + (maxPkt+c)/rate
	}
	return seconds(s) + micros(dtot), nil
}

// RequiredRate returns the smallest R (bytes/s) that keeps [DelayBound] within
// w, never below r: the same formula solved for R.
func RequiredRate(t TSpec, ctot, dtot uint32, w time.Duration) (float64, error) {
	queueing := (w - micros(dtot)).Seconds()
	if queueing <= 0 {
		return 0, ErrDelay
	}
	b, maxPkt, p, c := t.Bucket, t.packet(), t.Peak, float64(ctot)
	var rate float64
	switch {
	case math.IsInf(p, 1):
		rate = (b + c) / queueing
	case p <= t.Rate:
		rate = (maxPkt + c) / queueing
	default:
		k := (b - maxPkt) / (p - t.Rate)
		if rate = (p*k + maxPkt + c) / (queueing + k); rate >= p {
			rate = (maxPkt + c) / queueing
		}
	}
	return max(rate, t.Rate), nil
}

// SlackFor returns the slack S in microseconds that a receiver can give away
// when it asks for rate and may wait for w.
func SlackFor(t TSpec, rate float64, ctot, dtot uint32, w time.Duration) (uint32, error) {
	bound, err := DelayBound(t, rate, ctot, dtot)
	if err != nil {
		return 0, err
	}
	if bound > w {
		return 0, ErrDelay
	}
	return uint32(min((w - bound).Microseconds(), math.MaxUint32)), nil
}

func micros(us uint32) time.Duration { return time.Duration(us) * time.Microsecond }

// seconds converts with a clamp: a bound of centuries is as good as none.
func seconds(s float64) time.Duration {
	ns := s * float64(time.Second)
	if ns >= math.MaxInt64/2 {
		return math.MaxInt64 / 2
	}
	return time.Duration(math.Round(ns))
}
