package tcpcheat

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// The pacer clocks a source by the acknowledgements of its receiver. What it
// decides about is the right edge of the window that the source is shown: the
// edge moves by what a token bucket with the reservation's rate lets through,
// whatever the acknowledgements do, so a source that fills its window sends at
// that rate and never in bursts above the bucket. Acknowledgement numbers pass
// at once: the source's round trip, its loss recovery and the time that its
// congestion window takes to grow stay what they are.
//
// Tokens are kept in two places, the bucket and what the source was given and
// has not used: it may send all of both at once. Together they are never more
// than the depth. Of what it was given within the last round trip the source
// cannot have used anything yet, so that does not count.
//
// Where a peak rate p is declared, a second bucket with that rate lets the edge
// move by little at a time (RFC 2215 section 3.6), and the source is never ahead
// of what it has used by more than it would send at p until that is seen.
//
// There is one case in which the edge clocks nobody: the receiver offered more
// than the bucket is deep before the reservation came, and an edge that was
// given stays (RFC 9293 section 3.8.6). Until the source has used that up,
// acknowledgement numbers are spaced instead, by the same bucket.
type pacer struct {
	paceParams
	tokens float64 // IP bytes; negative: debt
	fast   float64 // the same of the peak rate's bucket
	due    instant // when the box wanted to be woken; 0: it need not be
	late   instant // by how much it is woken later than that, smoothed
	at     instant // of tokens
	sent   packet.Seq
	room   float64    // what the tokens may grow to
	unused int        // bytes that the source was given a round trip ago or earlier
	greedy bool       // the source sends all that it may
	since  packet.Seq // it has been so from there on
	spaces bool       // the edge is too far to clock the source
	past   history
}

// paceParams is the treatment of one flow.
type paceParams struct {
	rate   float64 // IP bytes/s
	depth  float64 // IP bytes
	peak   float64 // IP bytes/s; 0: none
	burst  float64 // depth of its bucket, IP bytes
	factor float64 // of the window, in round trips
	mss    int
	header int
}

const (
	// paceShare is the part of the reserved rate at which a source is clocked:
	// the rest pays back what queues on the way have pushed together, so that a
	// policer at the rate itself never runs dry. depthShare is the same for the
	// bucket. The sender's box, which may see ACKs that the receiver's box has
	// paced, leaves less: what conforms to the one passes the other untouched.
	paceShare, depthShare           = 0.99, 0.75
	loosePaceShare, looseDepthShare = 0.995, 0.875
	looseWindow                     = 1.25
	// paceTime is the time at the rate that a window covers at least: a late
	// wake-up, a delayed acknowledgement or a super-packet must not stop the
	// source where the round trip is short.
	paceTime = 20 * time.Millisecond
	// minPaceWindow in segments: with less, one loss cannot be repaired by
	// duplicate ACKs (RFC 5827), and the source waits for delayed ACKs.
	minPaceWindow = 4
	// paceHold is the longest that an acknowledgement number is held back.
	// Each is held for hardly longer than the one before, so the source's
	// timer, which each restarts, does not fire.
	paceHold = time.Second
	// maxLate bounds what late timers are made up for.
	maxLate = 10 * time.Millisecond
)

func (p *pacer) set(q paceParams) {
	q.depth = max(q.depth, float64(q.mss+q.header))
	if p.peak == 0 {
		p.fast = q.burst
	}
	p.paceParams = q
	p.tokens, p.fast = min(p.tokens, p.depth), min(p.fast, p.top())
}

// begin starts with a source that has sent up to sent, of which up to acked is
// acknowledged, and was given a window up to edge.
func (p *pacer) begin(now instant, sent, acked, edge packet.Seq) {
	p.at, p.sent, p.fast = now, sent, p.burst
	if sent == acked {
		p.tokens = p.depth
		if p.cost(edge.Diff(sent)) > p.depth {
			p.tokens /= 2 // a source that starts sends two segments for each that is acknowledged
		}
	}
	p.past.begin(now, edge, sent)
}

// cost is what n bytes of payload are on the wire, in segments of full size.
func (p *pacer) cost(n int) float64 { return float64(n) * float64(p.mss+p.header) / float64(p.mss) }

// worth is how much payload the tokens pay for.
func (p *pacer) worth(tokens float64) int {
	return int(max(tokens, 0) * float64(p.mss) / float64(p.mss+p.header))
}

// spend may leave a debt, of one depth at most.
func (p *pacer) spend(tokens float64) {
	p.tokens = max(p.tokens-tokens, -p.depth)
	p.fast = max(p.fast-tokens, -p.depth)
}

// free is what may be let through now.
func (p *pacer) free() float64 {
	if p.peak > 0 {
		return min(p.tokens, p.fast)
	}
	return p.tokens
}

// most is the largest payload that the buckets ever let through at once.
func (p *pacer) most() int {
	n := p.depth
	if p.peak > 0 {
		n = min(n, p.burst)
	}
	return p.worth(n + 0.5)
}

// refill brings the bucket up to date. lag is the time that the source may take
// to use an edge, and edge what it was given.
func (p *pacer) refill(now, lag instant, edge packet.Seq) {
	if now > p.at {
		p.tokens = min(p.depth, p.tokens+(now-p.at).Seconds()*p.rate)
		p.fast = min(p.top(), p.fast+(now-p.at).Seconds()*p.peak)
		p.at = now
	}
	p.past.note(now, lag, edge, p.sent)
	p.unused = max(p.past.find(now-lag).edge.Diff(p.sent), 0)
	if p.unused < p.mss {
		p.unused = 0 // less than a segment is not sent
	}
	p.room = p.depth - p.cost(p.unused)
	if p.spaces = p.room < 0; p.spaces {
		p.room = p.depth
	}
	p.tokens = min(p.tokens, p.room)
}

// data notes a segment of the source that ends at end, n bytes of payload with
// header bytes of headers in front of each part. What it takes beyond what was
// paid for with the edge, as a repetition or for small segments, is spent now.
func (p *pacer) data(end packet.Seq, n, header int) {
	parts := max((n+p.mss-1)/p.mss, 1)
	more := min(max(end.Diff(p.sent), 0), n)
	p.sent = packet.MaxSeq(p.sent, end)
	if extra := float64(n+parts*header) - p.cost(more); extra > 0.5 {
		p.spend(extra)
	}
}

// window is W: what may be under way from the last byte acknowledged on.
func (p *pacer) window(rtt time.Duration) int {
	w := p.factor * rtt.Seconds() * p.rate
	return max(p.worth(max(w, p.rate*paceTime.Seconds())), minPaceWindow*p.mss)
}

// woken notes how late the box is woken. What it could not let through then it
// lets through at once: else late timers, each of which loses what does not fit
// into a bucket of a segment, would be felt as a lower rate.
func (p *pacer) woken(now instant) {
	if p.due != 0 && now >= p.due {
		p.late += (min(now-p.due, maxLate) - p.late) / 4
		p.due = 0
	}
}

// top is the depth of the peak rate's bucket, with room for late timers.
func (p *pacer) top() float64 { return p.burst + p.peak*(2*p.late).Seconds() }

// lead is how far the edge may be ahead of what was sent: a bucket's worth,
// which the source may send at once, and no more than it takes to send at the
// peak rate until more can be given.
func (p *pacer) lead(lag instant) int {
	n := p.depth
	if p.peak > 0 {
		n = min(n, p.burst+p.peak*lag.Seconds())
	}
	return max(p.worth(n), p.mss)
}

// bound is how far the edge may be whatever the bucket says: W ahead of what is
// acknowledged, and ahead of what was sent by no more than its lead and by what
// is under way between here and there. The latter is known of a source that
// sends all that it may: it uses what it is given in the order and at the pace
// in which it is given.
func (p *pacer) bound(now, lag instant, acked packet.Seq, rtt time.Duration) packet.Seq {
	lead := p.lead(lag)
	if p.greedy {
		lead += p.sent.Diff(packet.MaxSeq(p.since, p.past.find(now-lag).sent))
	}
	return packet.MinSeq(acked.Add(p.window(rtt)), p.sent.Add(lead))
}

// judge looks whether the source sends all that it may: what it sends now was
// allowed a round trip ago, so it has waited for that. It is not so any more
// when it leaves half of its lead.
func (p *pacer) judge(now, lag instant, end packet.Seq) {
	switch took := now - p.past.given(end); {
	case took <= lag:
		if !p.greedy {
			p.greedy, p.since = true, p.sent
		}
	case took > 2*lag, p.unused > p.lead(lag)/2:
		p.greedy = false
	}
}

// grant is by how much the edge may move now, up to bound: whole segments, or
// all that there is room for.
func (p *pacer) grant(edge, bound packet.Seq) int {
	room := bound.Diff(edge)
	if room <= 0 || p.spaces {
		return 0
	}
	n := p.worth(p.free() + 0.5)
	if n >= room {
		return room
	}
	n -= n % p.mss
	if p.peak > 0 && n > 0 {
		// What rounding has given beyond whole segments counts, or it would
		// become a segment of its own beside another.
		n -= max(edge.Diff(p.sent), 0) % p.mss
	}
	return n
}

// ready is when n bytes can be granted; never, if the bucket cannot hold that.
func (p *pacer) ready(n int) instant {
	cost := p.cost(n)
	if cost <= p.free() {
		return p.at
	}
	if cost > p.room+0.5 {
		return never
	}
	wait := (cost - p.tokens) / p.rate
	if p.peak > 0 {
		wait = max(wait, (min(cost, p.burst)-p.fast)/p.peak)
	}
	// A nanosecond more, so that rounding does not make the timer fire early.
	return p.at + time.Duration(max(wait, 0)*1e9) + 1
}

// step is the least that is worth a segment of the box's own: two segments, or
// a millisecond's worth at high rates, and half as many ACKs as a receiver
// sends, so that the box speaks only where the receiver does not. With a peak
// rate it speaks as often as that takes.
func (p *pacer) step() int {
	n := 2 * min(max(2*p.mss, int(p.rate*quantumTime.Seconds())), maxQuantum)
	whole := p.most()
	return max(min(n, whole-whole%p.mss), p.mss)
}

// history remembers what the source was given and what it had sent, for as long
// as it takes to see what it made of it.
type history struct {
	ring [historySize]moment
	n    int // moments noted
	base moment
}

const historySize = 32

type moment struct {
	at         instant
	edge, sent packet.Seq
}

func (h *history) begin(now instant, edge, sent packet.Seq) {
	*h = history{base: moment{at: now, edge: edge, sent: sent}}
}

// note adds a moment, unless the last is recent: the first value of a span of
// time stands for all of it, so neither is ever taken for more than it was.
func (h *history) note(now, lag instant, edge, sent packet.Seq) {
	last := h.base.at
	if h.n > 0 {
		last = h.ring[(h.n-1)%historySize].at
	}
	if now-last < lag/(historySize/2) || now == last {
		return
	}
	slot := &h.ring[h.n%historySize]
	if h.n >= historySize {
		h.base = *slot
	}
	*slot = moment{now, edge, sent}
	h.n++
}

// find is the latest moment not after at.
func (h *history) find(at instant) *moment {
	for i := h.n - 1; i >= max(h.n-historySize, 0); i-- {
		if m := &h.ring[i%historySize]; m.at <= at {
			return m
		}
	}
	return &h.base
}

// given is when the source was given an edge of at least end, or hardly later.
func (h *history) given(end packet.Seq) instant {
	if h.base.edge.AtLeast(end) {
		return h.base.at
	}
	for i := max(h.n-historySize, 0); i < h.n; i++ {
		if m := &h.ring[i%historySize]; m.edge.AtLeast(end) {
			return m.at
		}
	}
	return never
}
