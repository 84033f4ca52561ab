package intserv

import (
	"math"
	"time"
)

// Policer decides conformance to a TSpec as the RFCs define it: within any time
// T no more than M + min(pT, rT + b - M) bytes (RFC 2212, Policing), which for
// p infinite is the rT + b of RFC 2211 section 7. Packets smaller than m count
// as m, packets larger than M never conform.
//
// It is the yardstick that the kernel's policers are tested against: written
// for clarity, in floating point.
type Policer struct {
	tspec  TSpec
	depth  float64 // of the peak bucket, bytes
	tokens float64 // of the (r, b) bucket, bytes
	peak   float64 // of the (p, M) bucket, bytes
	last   time.Duration
}

// NewPolicer returns a policer whose buckets are full (RFC 2212) at time start.
// Times are durations since an origin of the caller's choice. An M that is not
// stated is unlimited, which by the formula leaves the peak rate without effect.
func NewPolicer(t TSpec, start time.Duration) *Policer {
	depth := math.Inf(1)
	if t.MaxPacket != 0 && !math.IsInf(t.Peak, 1) {
		depth = float64(t.MaxPacket)
	}
	return &Policer{tspec: t, depth: depth, tokens: t.Bucket, peak: depth, last: start}
}

// Conform says whether a packet of length bytes (IP header included) conforms
// at time now, and takes its tokens if so. Time that runs backwards earns nothing.
func (p *Policer) Conform(now time.Duration, length uint32) bool {
	p.fill(now)
	if p.tspec.MaxPacket != 0 && length > p.tspec.MaxPacket {
		return false
	}
	n := float64(max(length, p.tspec.MinUnit))
	if n > p.tokens || n > p.peak {
		return false
	}
	p.tokens -= n
	p.peak -= n
	return true
}

// Tokens returns how much of the (r, b) and of the (p, M) bucket is there, in
// bytes, as of the last packet; without a peak rate the latter is infinite.
func (p *Policer) Tokens() (token, peak float64) { return p.tokens, p.peak }

func (p *Policer) fill(now time.Duration) {
	if now <= p.last {
		return
	}
	dt := (now - p.last).Seconds()
	p.last = now
	p.tokens = min(p.tspec.Bucket, p.tokens+p.tspec.Rate*dt)
	p.peak = min(p.depth, p.peak+p.tspec.Peak*dt)
}
