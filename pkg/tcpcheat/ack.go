package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// fromReceiver handles a segment of the receiver.
func (e *Engine) fromReceiver(c *conn, v packet.View, t packet.TCP, o *packet.TCPOptions, meta Meta) Action {
	h := &c.rcv
	c.elsewhere, c.unsure = 0, false
	h.from(v, t, o)
	end := t.Seq().Add(t.SegLen())
	h.show(e.now, t.Seq(), end)
	h.max = packet.MaxSeq(h.max, end)
	h.inOrder(t.Seq(), end, c.src.ack, o.TSVal)
	if t.Has(packet.FlagFIN) && !h.finSeen {
		h.finSeen, h.fin = true, end.Add(-1)
	}
	if !t.Has(packet.FlagACK) {
		return Accept
	}
	ack := t.Ack()
	if c.blind && ack.After(c.src.max) {
		c.src.max = ack
	}
	if ack.After(c.src.max) {
		// It acknowledges what never passed here. Either packets went by
		// unseen, and later ones will show it, or it is not to be believed.
		if seq := t.Seq(); seq.AtLeast(c.src.ack.Add(-1)) && (!c.ts || !o.HasTimestamps || int32(o.TSVal-h.tsval) >= 0) {
			e.neverSent(c, &c.src, ack)
		}
		return Accept
	}
	win := int(t.Window()) << c.shiftRcv()
	news := ack.After(h.ack)
	fresh := ack.AtLeast(h.ack)
	// RFC 5681 section 2: nothing new, no data, the same window.
	dup := ack == h.ack && ack.Add(win) == c.edge && len(t.Payload()) == 0 && !t.Has(packet.FlagFIN)
	shut := c.edge.AtMost(h.ack)
	seen := ackOf{v: v, t: t, o: o, meta: meta, ack: ack, win: win, news: news, fresh: fresh, was: c.edge}
	if fresh {
		c.pos += uint64(ack.Diff(h.ack))
		h.ack, c.edge = ack, ack.Add(win)
	}
	if c.timing && ack.AtLeast(c.timed) {
		c.timing = false
		if c.ch == nil || c.ch.Mode == Realtime {
			c.rttRcv.sample(e.now - c.timedAt)
		}
	}
	switch {
	case c.ch == nil && c.near == nil:
		c.given(ack, win)
		if news {
			e.discard(c, ack)
		}
		return Accept
	case c.ch == nil:
		return e.nearAck(c, &seen)
	case c.near != nil:
		e.fillAck(c, &seen) // the rest is the cheating's to decide
	}
	if fresh {
		e.learn(c, t, o, win, news, dup)
		if shut && win > 0 {
			c.reopened()
		}
	}
	if !c.ch.active {
		c.given(ack, win)
		return Accept
	}
	return e.answer(c, v, t, meta, ack, news)
}

// given notes what the source learns from a segment that passes untouched.
func (c *conn) given(ack packet.Seq, win int) {
	c.passed = packet.MaxSeq(c.passed, ack)
	c.offered = packet.MaxSeq(c.offered, ack.Add(win))
}

// learn draws what can be drawn from an ACK that is not an old one.
func (e *Engine) learn(c *conn, t packet.TCP, o *packet.TCPOptions, win int, news, dup bool) {
	ch := c.ch
	ch.alive, ch.probes = e.now, 0
	ch.predict.judge(e.now, win)
	if len(t.Payload()) == 0 {
		ch.predict.repeated(e.now, c.rcv.ack, c.edge, c.src.max, o)
	}
	if news {
		ch.progress = e.now
		if ch.next.Before(c.rcv.ack) {
			before := ch.next
			ch.next = ch.ooo.advance(packet.MinSeq(c.rcv.ack, c.dataEnd()))
			if gain := ch.next.Diff(packet.MaxSeq(before, ch.base)); gain > 0 {
				e.gained(c, c.src.tsval, ch.cost(gain))
			}
			c.activate()
		}
	}
	if ch.Mode == Reliable {
		if news {
			e.reallyAcked(c, c.rcv.ack, o)
		}
		if c.take(e.now, c.rcv.ack, o) {
			ch.rto.base = e.now
		}
		c.probeAcked(e.now, c.rcv.ack, o, dup)
		if dup {
			c.duplicate(e.now)
		}
	} else {
		e.watchHole(c, o, news, dup)
	}
	if t.Has(packet.FlagECE) {
		c.congestion(e.now)
	}
}

// dataEnd is the end of the source's data, without its FIN.
func (c *conn) dataEnd() packet.Seq {
	if c.src.finSeen {
		return packet.MinSeq(c.src.max, c.src.fin)
	}
	return c.src.max
}

// congestion handles an ECE of the receiver. Realtime copies it to the source,
// once per window of data, as a sender would listen to it (RFC 3168 section
// 6.1.2). Reliable sends at the reserved rate, and counts; without a
// reservation its congestion control listens.
func (c *conn) congestion(now instant) {
	ch := c.ch
	c.stats.ECE++
	if n := &ch.reno; n.on {
		n.marked(now, c.pipe(), c.rcv.ack, ch.flight.end())
	}
	if ch.Mode == Reliable {
		if !ch.heard || c.rcv.ack.After(ch.heardTo) {
			ch.cwr, ch.heard, ch.heardTo = true, true, c.src.max
		}
		return
	}
	if ch.eceMuted && c.rcv.ack.AtMost(ch.eceUntil) {
		return
	}
	ch.ece = true
	ch.eceMuted, ch.eceUntil = true, c.src.max
}

// watchHole notices, in realtime mode, that bytes are missing at the receiver.
// Nobody but a box on its side can bring them: until then its own window is
// the limit.
func (e *Engine) watchHole(c *conn, o *packet.TCPOptions, news, dup bool) {
	ch, now := c.ch, e.now
	if news {
		e.rescued(c)
		ch.hole, ch.holeSeen, ch.dupAcks = false, false, 0
		if c.reason == reasonHole {
			c.reason = c.near.what()
		}
	}
	gap := o.NSACK > 0 && o.SACK[o.NSACK-1].Right.After(c.rcv.ack)
	if !c.sack && dup && c.src.max.After(c.rcv.ack) {
		ch.dupAcks++
		gap = ch.dupAcks >= 3
	}
	switch {
	case !gap || ch.hole || now < ch.predict.freshAt:
	case !ch.holeSeen:
		ch.holeSeen, ch.holeSince = true, now
	case now-ch.holeSince < max(c.rttRcv.min/4, minReorder) || !c.passed.After(c.rcv.ack):
	case ch.early.due != 0 && !ch.early.told:
		ch.early.told, ch.holeSeen = true, false
		e.rescue(c)
	default:
		ch.hole = true
		c.stats.Holes++
		c.reason = reasonHole
	}
}

// answer decides what the source sees of a segment of the receiver.
func (e *Engine) answer(c *conn, v packet.View, t packet.TCP, meta Meta, ack packet.Seq, news bool) Action {
	ch := c.ch
	bare := len(t.Payload()) == 0 && !t.Has(packet.FlagFIN)
	switch {
	case c.src.finSeen && ack.After(c.src.fin):
		// The last byte and the FIN: what close() waits for is always real.
	case !bare:
	case e.odd:
		// Who knows what else it says: it is raised, and not absorbed.
	case c.state == Draining && ack.After(c.passed):
	case ack == c.passed && !news && ch.next == c.passed:
		// Nothing is outstanding: an answer to a keep-alive, a window update.
	default:
		c.stats.Absorbed++
		e.totals.Absorbed++
		return Drop
	}
	return e.raise(c, v, meta, packet.MaxSeq(ack, c.passed))
}
