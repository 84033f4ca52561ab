package tcpcheat

import (
	"math"
	"time"
)

// bucket is the token bucket of a TSpec (RFC 2210 section 3.1): rate r, depth
// b, and a peak rate p whose own bucket is one burst deep. It counts IP bytes.
// It may go into debt: what was sent out of turn is paid back before the next.
type bucket struct {
	rate, depth  float64 // bytes/s, bytes
	peak, burst  float64
	tokens, fast float64
	at           instant
}

func (b *bucket) set(now instant, p *Params, burst float64) {
	fresh := b.rate == 0
	b.refill(now)
	// A bucket that cannot hold what is let through at once would never open.
	b.rate, b.depth, b.peak, b.burst = p.Rate, max(p.Bucket, burst), p.Peak, burst
	if fresh {
		b.tokens, b.fast = b.depth, b.burst
	}
	b.tokens, b.fast = min(b.tokens, b.depth), min(b.fast, b.burst)
}

func (b *bucket) refill(now instant) {
	s := (now - b.at).Seconds()
	if s <= 0 {
		return
	}
	b.at = now
	b.tokens = min(b.depth, b.tokens+s*b.rate)
	if math.IsInf(b.peak, 1) {
		b.fast = b.burst
	} else {
		b.fast = min(b.burst, b.fast+s*b.peak)
	}
}

// has tells whether n bytes may pass now.
func (b *bucket) has(n float64) bool { return b.tokens >= n && b.fast >= n }

func (b *bucket) take(n float64) {
	b.tokens -= n
	if !math.IsInf(b.peak, 1) {
		b.fast -= n
	}
}

// wait is how long until n bytes may pass.
func (b *bucket) wait(n float64) time.Duration {
	s := max((min(n, b.depth)-b.tokens)/b.rate, 0)
	if !math.IsInf(b.peak, 1) {
		s = max(s, (min(n, b.burst)-b.fast)/b.peak)
	}
	// A nanosecond more, so that rounding does not make the timer fire early.
	return time.Duration(s*1e9) + 1
}
