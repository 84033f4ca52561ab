package tcpcheat

import (
	"math"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// span is how far ahead of the bucket the source may be, in bytes: what keeps
// it sending at the reserved rate, or, while the bucket has tokens, the paper's
// window of PRTT*p, which lets it send them at the declared peak rate. Where no
// peak was declared the paper takes the capacity of the path from the source,
// which is not known here; the tokens are the bound then, as they are for the
// peak rate: a window beyond them only fills the queue of the box's shaper.
func (c *conn) span() int {
	ch := c.ch
	lead := windowTime + 2*min(c.rttSrc.smooth, windowTime/2)
	span := max(minWindow*ch.mss, 2*ch.quantum(), int(ch.Rate*lead.Seconds()))
	burst := ch.bucket.tokens * float64(ch.mss) / float64(ch.mss+ch.header)
	if !math.IsInf(ch.Peak, 1) {
		burst = min(burst, c.rttSrc.smooth.Seconds()*ch.Peak)
	}
	return max(span, int(burst))
}

// limit is the edge that may not be crossed for safety's sake, as opposed to
// the one that only paces: beyond it a byte might be lost for ever.
func (c *conn) limit(room int) packet.Seq {
	ch := c.ch
	lim := c.rcv.ack.Add(ch.MaxUnacked)
	if ch.Mode == Reliable {
		// RFC 9293 section 3.8.6: no promise without room to keep it.
		have := ch.next.Diff(c.rcv.ack) + room
		lim = packet.MinSeq(lim, c.rcv.ack.Add(min(ch.MaxBuffered, have)))
	}
	if !c.predicting() {
		lim = packet.MinSeq(lim, c.edge)
	}
	return lim
}

// ackLimit is how far data may be acknowledged to the source. Held bytes may
// always be; without a copy only what the receiver has promised to take, or
// what it is predicted to take.
func (c *conn) ackLimit() packet.Seq {
	ch := c.ch
	lim := c.rcv.ack.Add(ch.MaxUnacked)
	if ch.Mode == Realtime && !c.predicting() {
		lim = packet.MinSeq(lim, c.edge)
	}
	if c.state == Draining {
		lim = packet.MinSeq(lim, ch.stop)
	}
	if c.unsure {
		lim = packet.MinSeq(lim, c.passed)
	}
	return packet.MinSeq(lim, ch.next)
}

// window is the field for a segment to the source that acknowledges ack, and
// the edge that results. The edge never moves left (RFC 9293 SHLD-14); the
// scaled field is rounded up for that, or down where a hard limit is near:
// RFC 7323 section 2.4 allows less than one unit.
func (c *conn) window(ack packet.Seq, room int) (uint16, packet.Seq) {
	hard := c.limit(room)
	want := packet.MinSeq(c.ch.released.Add(c.span()), hard)
	if c.state == Draining {
		want = c.edge // what follows is between the two ends
	}
	want = packet.MaxSeq(want, c.offered)
	bytes := want.Diff(ack)
	if bytes <= 0 {
		return 0, packet.MaxSeq(ack, c.offered)
	}
	shift := c.shiftRcv()
	unit := 1 << shift
	up := min((bytes+unit-1)>>shift, 0xffff)
	if ack.Add(up << shift).After(packet.MaxSeq(hard, c.offered)) {
		up = bytes >> shift
	}
	return uint16(up), ack.Add(up << shift)
}

// prediction is the assumption that the receiver reads at the reserved rate or
// faster, and what speaks against it.
type prediction struct {
	withdrawn   bool
	withdrawals uint64
	level       int     // the window that the receiver usually offers, bytes
	until       instant // no new trust before
	doubts      uint    // withdrawals so far, worn off by good behaviour
	since       instant // of the last change

	// What the last ACK said, and how many since have said it again.
	ack, edge packet.Seq
	block     packet.SACKBlock
	stamp     uint32
	again     int

	freshAt instant // before that the receiver speaks of what was sent before the start
	excused int     // answers to come to what was sent twice: they say nothing new
}

func (c *conn) predicting() bool {
	return c.ch.Predict && !c.ch.predict.withdrawn && !c.ch.hole
}

const (
	firstDoubt = 100 * time.Millisecond
	maxDoubts  = 8 // 25.6 s
	goodTime   = time.Minute
)

// judge looks at a window of the receiver. A window well below its usual level
// says that the reader is slower than the data: then the receiver's own edge
// counts, until the window has recovered and a time that doubles with each
// relapse has gone by.
func (p *prediction) judge(now instant, win int) {
	if win > p.level {
		p.level = win
	} else {
		p.level -= (p.level - win) / 64
	}
	switch {
	case !p.withdrawn && win < p.level/2:
		p.withdraw(now)
	case p.withdrawn && win >= p.level/4*3 && now >= p.until:
		p.withdrawn, p.since = false, now
	case !p.withdrawn && p.doubts > 0 && now-p.since > goodTime:
		p.doubts, p.since = p.doubts-1, now
	}
}

// tooFar is how many ACKs that say nothing new show that the receiver discards
// what is beyond its edge: it answers each such segment with one (RFC 9293
// section 3.10.7.4), and a path that duplicates a packet makes one more.
const tooFar = 3

// repeated looks for the receiver's answers to segments beyond its right edge:
// ACKs that acknowledge, report and open nothing new while such segments are
// out. Those of one time stamp are taken for one, as copies have it.
func (p *prediction) repeated(now instant, ack, edge, sent packet.Seq, o *packet.TCPOptions) {
	var block packet.SACKBlock
	if o.NSACK > 0 {
		block = o.SACK[0]
	}
	switch {
	case ack != p.ack || edge != p.edge || block != p.block:
		p.ack, p.edge, p.block, p.stamp, p.again = ack, edge, block, o.TSVal, 0
		return
	case now < p.freshAt, sent.AtMost(edge), o.HasTimestamps && o.TSVal == p.stamp:
		return
	}
	p.stamp = o.TSVal
	if p.excused > 0 {
		p.excused--
		return
	}
	if p.again++; p.again >= tooFar {
		p.withdraw(now)
	}
}

// excuse takes note of segments that were sent twice at the start, of which the
// receiver speaks from a time on.
func (p *prediction) excuse(from instant, segments int) {
	p.freshAt, p.excused = from, segments
}

func (p *prediction) withdraw(now instant) {
	if p.withdrawn {
		return
	}
	p.withdrawals++
	p.again = 0
	p.withdrawn, p.since = true, now
	p.until = now + firstDoubt<<p.doubts
	p.doubts = min(p.doubts+1, maxDoubts)
}

// stalled withdraws the prediction when the receiver has acknowledged nothing
// for several round trips though it has something to acknowledge.
func (c *conn) stalled(now instant) {
	if p := &c.ch.predict; !p.withdrawn && c.passed.After(c.rcv.ack) && now >= c.stallAt() {
		p.withdraw(now)
	}
}

func (c *conn) stallAt() instant {
	ch := c.ch
	if ch.predict.withdrawn || !c.passed.After(c.rcv.ack) || ch.owed == 0 {
		return never
	}
	return max(ch.progress, ch.owed) + max(4*c.rttRcv.smooth, 3*time.Second)
}
