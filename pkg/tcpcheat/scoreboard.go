package tcpcheat

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// retransmit is the loss recovery towards the receiver. What is lost is told
// by the order of transmissions (RACK, RFC 8985): a segment is lost when one
// that was sent later has arrived and a reordering window has gone by. Late and
// missing ACKs then delay a retransmission but never cause one. The timeout of
// RFC 6298 is for what no later arrival can tell, and sends one segment only.
type retransmit struct {
	// The latest transmission that is known to have arrived.
	rackAt  instant
	rackEnd packet.Seq
	rackRTT time.Duration
	rackSet bool

	detectAt instant // when to look for losses next; never: no need
	scanned  instant
	scanDue  bool

	backoff uint
	base    instant // the timeout counts from here

	top      packet.Seq // end of the highest block seen
	cache    [4]packet.SACKBlock
	dupAcks  int
	recover  packet.Seq // RFC 6582: end of the flight when recovery began
	inFast   bool
	goBack   bool // no SACK, after a timeout: what the copy's arrival outdates is lost
	reorder  uint // doublings of the reordering window, by D-SACKs
	goodAcks uint
	// The window is not widened again before this is acknowledged.
	widened   bool
	widenedTo packet.Seq
	copied    packet.Seq // end of what was sent twice without a claim that it was lost
}

const (
	minReorder = 5 * time.Millisecond
	maxReorder = 4 // doublings
	scanGap    = 2 * time.Millisecond
)

// reorderWindow is RFC 8985 section 6.2 step 4, always open: the price is a
// few milliseconds on paths whose round trip is long anyway.
func (c *conn) reorderWindow() time.Duration {
	return max(c.rttRcv.min/4, minReorder) << c.ch.rto.reorder
}

// delivered takes note of a transmission that arrived. One that was repeated
// counts only if its last copy is certain to be the one: when the receiver
// echoes that copy's TSval, or, failing that, when a plausible round trip has
// gone by since (RFC 8985 section 6.2 step 2).
func (c *conn) delivered(now instant, s *sent, o *packet.TCPOptions, cumulative bool, n int) {
	if s.flags&(sentSACKed|sentAbsent) != 0 {
		return // noted when the block came
	}
	c.arrivedSize(now, s, n)
	r := &c.ch.rto
	switch {
	case s.rtx > 0:
		if !c.copyArrived(now, s, o, cumulative) {
			return
		}
	case c.rttRcv.smooth == 0:
		c.rttRcv.sample(now - s.at) // no better one yet: it was sent once only
	}
	if !r.rackSet || s.at > r.rackAt || s.at == r.rackAt && s.end.After(r.rackEnd) {
		r.rackAt, r.rackEnd, r.rackRTT, r.rackSet = s.at, s.end, now-s.at, true
		r.scanDue = true
	}
}

func (c *conn) copyArrived(now instant, s *sent, o *packet.TCPOptions, cumulative bool) bool {
	if c.ts && cumulative && o.HasTimestamps {
		if int32(o.TSEcr-s.ts) < 0 {
			return false // the receiver answers an older segment
		}
		if s.flags&sentNewTS != 0 {
			return true // and here, as Eifel has it (RFC 3522), this very copy
		}
	}
	if c.rttRcv.smooth == 0 {
		return now-s.at >= initialRTO // what is plausible is not known yet
	}
	switch b := c.ch.rto.backoff; {
	case b >= 2: // several timeouts long: the first copy is not that late
		return true
	case b == 1:
		return now-s.at >= c.rttRcv.min
	}
	return now-s.at >= max(c.rttRcv.min, c.rttRcv.smooth/2)
}

// take applies the SACK blocks of an ACK (RFC 2018, RFC 6675); true if one of
// them brought news.
func (c *conn) take(now instant, ack packet.Seq, o *packet.TCPOptions) bool {
	f, r := &c.ch.flight, &c.ch.rto
	news := false
	for i, b := range o.SACK[:o.NSACK] {
		if i == 0 && isDSACK(ack, o) {
			c.stats.DSACKs++
			c.late(ack, b)
			continue
		}
		if !b.Right.After(b.Left) || b.Right.AtMost(ack) || b.Right.After(f.end()) {
			continue
		}
		from := packet.MaxSeq(b.Left, ack)
		for _, k := range r.cache {
			if k.Right.After(k.Left) && k.Left.AtMost(from) && k.Right.After(from) {
				from = packet.MinSeq(k.Right, b.Right)
			}
		}
		news = c.mark(now, from, b, o) || news
		r.cache[i] = b
		r.top = packet.MaxSeq(r.top, b.Right)
	}
	return news
}

// late answers a D-SACK (RFC 2883): the receiver had it already, so it was late
// and not lost. The reordering window grows, once per round trip (RFC 8985
// section 6.2 step 4); for a loss probe it does not, nor for the copies of takeOver:
// these claim nothing.
func (c *conn) late(ack packet.Seq, b packet.SACKBlock) {
	r := &c.ch.rto
	r.goodAcks = 0
	if t := &c.ch.tail; t.out && b.Right == t.end || b.Right.AtMost(r.copied) || r.widened && ack.Before(r.widenedTo) {
		return
	}
	r.reorder = min(r.reorder+1, maxReorder)
	r.widened, r.widenedTo = true, c.ch.flight.end()
}

// isDSACK tells whether the first block is of bytes that came twice: below the
// acknowledgement, or within the second block (RFC 2883 section 4).
func isDSACK(ack packet.Seq, o *packet.TCPOptions) bool {
	b := o.SACK[0]
	return b.Right.AtMost(ack) ||
		o.NSACK > 1 && b.Left.AtLeast(o.SACK[1].Left) && b.Right.AtMost(o.SACK[1].Right)
}

// mark sets the records that block b covers to SACKed, from the byte on that it
// did not cover before.
func (c *conn) mark(now instant, from packet.Seq, b packet.SACKBlock, o *packet.TCPOptions) bool {
	f := &c.ch.flight
	news := false
	for i := f.find(from); i != f.tail; i++ {
		s := f.at(i)
		if s.end.After(b.Right) {
			break
		}
		if f.from(i).Before(b.Left) || s.flags&(sentSACKed|sentAbsent) != 0 {
			continue
		}
		c.delivered(now, s, o, false, s.end.Diff(f.from(i)))
		if s.flags&sentLost != 0 {
			f.lost--
		}
		s.flags = s.flags&^(sentLost|sentTimeout) | sentSACKed
		f.sacked++
		news = true
	}
	return news
}

// detect marks what is lost (RFC 8985 section 6.2 step 5) and sets the time of
// the next look.
func (c *conn) detect(now instant) {
	f, r := &c.ch.flight, &c.ch.rto
	r.detectAt = never
	if !r.rackSet || !c.sack && !r.goBack {
		r.scanDue = false
		return
	}
	if now < r.scanned+scanGap {
		r.detectAt = r.scanned + scanGap
		return
	}
	r.scanned, r.scanDue = now, false
	patience := r.rackRTT + c.reorderWindow()
	latest, under := never, c.pipe()
	for i := f.head; i != f.tail; i++ {
		s := f.at(i)
		if s.at > r.rackAt || s.at == r.rackAt && s.end.After(r.rackEnd) {
			if s.rtx == 0 && s.flags&sentAbsent == 0 {
				break // all that follow were sent later still
			}
			continue
		}
		if s.flags&(sentSACKed|sentLost|sentAbsent) != 0 {
			continue
		}
		if due := s.at + patience; due <= now {
			f.setLost(i)
			c.stats.Lost++
			if s.end.After(c.edge) {
				// The receiver has answered since it was sent, and would not
				// take it even now.
				c.ch.predict.withdraw(now)
			}
			if latest == never || s.at > latest {
				latest = s.at
			}
		} else {
			r.detectAt = min(r.detectAt, due)
		}
	}
	if n := &c.ch.reno; n.on && latest != never {
		n.lost(now, latest, under, f.end())
	}
}

// renege forgets all SACK information (RFC 2018 section 8): the receiver may
// have discarded what it reported.
func (c *conn) renege() {
	f, r := &c.ch.flight, &c.ch.rto
	for i := f.head; i != f.tail; i++ {
		f.at(i).flags &^= sentSACKed
	}
	f.sacked, r.cache, r.top = 0, [4]packet.SACKBlock{}, f.start
}
