package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// acknowledge makes a fake ACK: from the receiver to the source, and such that
// the receiver could have sent it (tcp.md 2.2, 2.3). SEQ is what the source
// expects next, so the segment is always acceptable and keeps SND.WL1 right;
// TSval is the receiver's latest in order, neither older (PAWS) nor newer (it
// would poison TS.Recent); TSecr is that of the earliest segment not acknowledged
// before (RFC 7323 section 4.3).
func (e *Engine) acknowledge(c *conn, ack packet.Seq) {
	ch := c.ch
	win, edge := c.window(ack, e.pool.room())
	if c.repeats(ack) {
		win, edge = ch.lastWin, c.offered
	}
	ch.lastWin = win
	flags := uint8(packet.FlagACK)
	if ch.ece {
		flags |= packet.FlagECE
	}
	opt := e.opts[:0]
	if c.ts {
		ecr := c.echo(ack)
		opt = packet.AppendTimestamps(opt, c.rcv.stamp, ecr)
		c.awaitEcho(e.now)
	}
	if c.sack && ch.ooo.n > 0 {
		n := ch.ooo.sack(e.blocks[:])
		opt = packet.AppendSACK(opt, e.blocks[:n], 40-len(opt))
	}
	e.seg = packet.Segment{
		Key: c.key.Reverse(), TTL: c.rcv.ttl, TOS: c.rcv.tos, ID: c.rcv.nextID(),
		DF: c.rcv.df, FlowLabel: c.rcv.flowLabel,
		Seq: c.src.ack, Ack: ack, Flags: flags, Window: win, Options: opt,
	}
	e.out.add(ToSource, &e.seg)
	c.stats.FakeAcks++
	ch.fakes++
	e.totals.FakeAcks++
	c.passed = packet.MaxSeq(c.passed, ack)
	c.offered = packet.MaxSeq(c.offered, edge)
	ch.ackNow, ch.reack = false, false
	ch.reackAt = e.now + reackGap
	ch.pend.trim(c.passed)
}

// echo is TSecr of a segment to the source that acknowledges ack: TSval of the
// earliest segment that was not acknowledged before (RFC 7323 section 4.3).
func (c *conn) echo(ack packet.Seq) uint32 {
	if a := c.ch.pend.first(c.passed); a != nil && ack.After(c.passed) {
		return a.ts
	}
	return c.ch.recentTS
}

// nextID is the identification of a packet made in the host's name. With DF,
// as in practice, it is atomic, and any value is good (RFC 6864 section 4.1):
// it continues the host's. Without DF it must be unique among the packets under
// way: it keeps half of the number space away from the host's own counter.
func (h *host) nextID() uint16 {
	if h.df {
		h.id++
		return h.id
	}
	if h.made == 0 {
		h.made = h.id ^ 0x8000
	}
	h.made++
	return h.made
}

// awaitEcho starts a round trip measurement towards the source: the time until
// it echoes a TSval that it has not seen before.
func (c *conn) awaitEcho(now instant) {
	if c.shownAny && int32(c.rcv.stamp-c.shownTS) <= 0 {
		return
	}
	c.shownTS, c.shownAny = c.rcv.stamp, true
	if !c.echoing {
		c.echoTS, c.echoAt, c.echoing = c.rcv.stamp, now, true
	}
}

func (c *conn) echoed(now instant, o *packet.TCPOptions) {
	if !c.echoing || !o.HasTimestamps {
		return
	}
	switch late := int32(o.TSEcr - c.echoTS); {
	case late < 0:
		return
	case late == 0:
		c.rttSrc.sample(now - c.echoAt)
	default:
		// It was lost, or a later one came before the source had anything to
		// say: the echo will not come any more.
	}
	c.echoing = false
}

// due decides whether the source is owed an acknowledgement or a larger window,
// and sends it.
func (e *Engine) due(c *conn) {
	ch := c.ch
	target := c.target(e.now)
	switch {
	case target.After(c.passed), ch.ackNow, ch.reack && e.now >= ch.reackAt:
	default:
		if c.src.finSeen && c.passed.After(c.src.fin) || c.repeats(target) {
			return // nobody is left to use a window, or it must not change
		}
		if _, edge := c.window(target, e.pool.room()); !c.opens(edge) {
			return
		}
		c.stats.WindowUpdates++
	}
	e.acknowledge(c, target)
}

// repeats tells whether an ACK is to be a duplicate of the one before for a
// source without SACK: one with another window does not count (RFC 5681 section
// 2), and the hole in front of the box would wait for a timeout.
func (c *conn) repeats(ack packet.Seq) bool {
	return !c.sack && c.ch.ooo.n > 0 && ack == c.passed && c.ch.fakes > 0
}

// target is how far the source may be acknowledged to now.
func (c *conn) target(now instant) packet.Seq {
	ch := c.ch
	lim := c.ackLimit()
	to := packet.MinSeq(packet.MaxSeq(ch.released, c.aged(now)), lim)
	if ch.ackNow {
		to = lim // a duplicate or a hole: everything contiguous, at once
	}
	return packet.MaxSeq(to, c.passed)
}

// opens tells whether an edge is worth a window update of its own: a quantum
// more, or any segment more for a source that has used up what it had
// (RFC 9293 section 3.8.6.2.2).
func (c *conn) opens(edge packet.Seq) bool {
	more := edge.Diff(c.offered)
	used := c.offered.Diff(c.ch.next) < c.ch.mss
	return more >= 2*c.ch.quantum() || used && more >= c.ch.mss
}

// aged is how far data has waited for its acknowledgement as long as it may.
func (c *conn) aged(now instant) packet.Seq {
	to := c.passed
	p := &c.ch.pend
	for i := p.head; i != p.tail; i++ {
		if a := p.at(i); a.end.After(c.passed) {
			if a.at+ackAge > now {
				break
			}
			to = a.end
		}
	}
	return to
}

func (c *conn) agesAt() instant {
	if a := c.ch.pend.first(c.passed); a != nil && c.passed.Before(c.ackLimit()) {
		return a.at + ackAge
	}
	return never
}
