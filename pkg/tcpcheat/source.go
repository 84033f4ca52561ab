package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// fromSource handles a segment of the source.
func (e *Engine) fromSource(c *conn, v packet.View, t packet.TCP, o *packet.TCPOptions, meta Meta) Action {
	h := &c.src
	n := len(t.Payload())
	seq := t.Seq()
	if t.Has(packet.FlagACK) && t.Ack().After(h.ack) {
		if t.Ack().AtMost(c.rcv.max) {
			h.ack = t.Ack()
		} else {
			e.neverSent(c, &c.rcv, t.Ack())
		}
	}
	h.from(v, t, o)
	c.echoed(e.now, o)
	c.listen(e.now, t, o)
	end := seq.Add(t.SegLen())
	h.show(e.now, seq, end)
	if t.Has(packet.FlagFIN) && !h.finSeen {
		h.finSeen, h.fin = true, seq.Add(n)
	}
	if n > 0 {
		c.stats.Packets++
		c.stats.Bytes += uint64(v.Len())
		c.time(e.now, seq, end)
	}
	var a Action
	if c.near != nil {
		e.nearData(c, v, t)
	}
	switch {
	case c.state == Watched && c.plain, c.ch == nil && c.near != nil:
	case c.state == Watched:
		e.remember(c, seq, t.Payload(), o.TSVal)
	case n == 0 && !t.Has(packet.FlagFIN):
		a = e.bare(c, seq)
	default:
		c.marks(v, t, seq.Add(n))
		a = e.data(c, v, t, o)
	}
	if a == Accept {
		if c.ch != nil && c.ch.active && c.ch.Mode == Reliable {
			a = c.reducedMark(v, t, seq, n, meta)
		}
		h.max = packet.MaxSeq(h.max, end)
		e.fillData(c, seq, end, t.Has(packet.FlagFIN))
	}
	return a
}

// time measures the round trip to the receiver with one segment at a time; a
// repeated one is not measured (Karn, RFC 6298 section 3).
func (c *conn) time(now instant, seq, end packet.Seq) {
	switch {
	case seq.Before(c.src.max):
		c.timing = c.timing && seq.AtLeast(c.timed)
	case !c.timing:
		c.timed, c.timedAt, c.timing = end, now, true
	}
}

// marks takes note of congestion marks (RFC 3168 section 6.1): a CE mark is
// echoed to the source until it says CWR. In realtime mode the mark also goes
// on to the receiver, whose own echo of it must then not count a second time.
func (c *conn) marks(v packet.View, t packet.TCP, end packet.Seq) {
	ch := c.ch
	if t.Has(packet.FlagCWR) {
		ch.ece = false
	}
	if v.ECN() == 3 {
		c.stats.CE++
		ch.ece = true
		ch.eceMuted, ch.eceUntil = true, packet.MaxSeq(c.src.max, end)
	}
}

// reducedMark sets or clears CWR in a segment on its way to the receiver: in
// reliable mode there are two control loops, and the source's answer to a mark
// in front of the box says nothing of the way behind it (tcp.md 2.4). The box's
// own answer goes with new data (RFC 3168 section 6.1.2), and is due once per
// window: what it sends is bound by the reservation, or by newReno.
func (c *conn) reducedMark(v packet.View, t packet.TCP, seq packet.Seq, n int, meta Meta) Action {
	ch := c.ch
	set := ch.cwr && n > 0 && seq.AtLeast(c.src.max)
	if set == t.Has(packet.FlagCWR) {
		return Accept
	}
	ch.cwr = ch.cwr && !set
	edit(v, meta, func(t packet.TCP) { t.SetFlags(t.Flags() ^ packet.FlagCWR) })
	return Modified
}

// bare handles a segment without data. Below the edge it is a keep-alive or a
// window probe, which the receiver answers while all is delivered, and the
// engine else (RFC 9293 sections 3.8.4 and 3.8.6.1).
func (e *Engine) bare(c *conn, seq packet.Seq) Action {
	ch := c.ch
	if !ch.active || c.state == Draining || !seq.Before(ch.next) {
		return Accept
	}
	if c.passed == c.rcv.ack && ch.next == c.passed && c.offered.After(c.passed) {
		return Accept
	}
	ch.reack = true
	c.stats.Probes++
	return Drop
}

// data handles a segment with data or FIN of a cheated flow.
func (e *Engine) data(c *conn, v packet.View, t packet.TCP, o *packet.TCPOptions) Action {
	ch := c.ch
	seq, n := t.Seq(), len(t.Payload())
	end := seq.Add(n)
	fin := t.Has(packet.FlagFIN)
	if ch.blind {
		// RFC 9293 section 3.10.7.4: a window is taken from an acknowledgement that
		// is not below what is acknowledged already. One of the receiver's own, then,
		// covers all that was acknowledged here.
		ch.proven = ch.proven || n > 1 && seq.AtLeast(c.offered)
		return Accept // it is the source's to deliver
	}
	// One byte may be the garbage of a keep-alive (RFC 9293 section 3.8.4).
	if n > 1 && ch.Mode == Reliable && !c.unchanged(seq, t.Payload()) {
		// What was acknowledged first is what the receiver gets: as with two
		// copies at a receiver, the first one counts.
		e.leave(c, ErrChanged)
		return Drop
	}
	if ch.active && n > 0 {
		if end.AtMost(ch.next) && (!fin || ch.Mode == Reliable) {
			if n == 1 && ch.Mode == Realtime && end.AtMost(c.passed) && end.After(c.rcv.ack) && !fin {
				// The source was told that this byte arrived, so it may send garbage
				// in its place (RFC 9293 section 3.8.4), and the receiver lacks it.
				ch.reack = true
				c.stats.Probes++
				return Drop
			}
			return e.repeated(c, end, fin, t.Has(packet.FlagURG))
		}
		if n == 1 && seq.AtLeast(c.offered) && c.state == Cheated {
			// Beyond all that was offered: a probe with a byte in it. It is
			// answered and not taken. More than a byte there means that the
			// source was offered more by ACKs which passed here unseen, as
			// they do while the queue rules stand open.
			ch.reack = true
			c.stats.Probes++
			return Drop
		}
	}
	if c.state == Draining {
		return Accept
	}
	if c.ts && ch.active && ch.Mode == Realtime && int32(o.TSVal-ch.recentTS) < 0 {
		// PAWS (RFC 7323 section 5): a repetition has overtaken it, and the
		// receiver will discard it.
		c.stats.OldTimestamps++
		return Accept
	}
	taken := n > 0 && e.arrive(c, v.Len()-n, seq, t.Payload(), o.TSVal)
	if fin && ch.Mode == Reliable && ch.flight.end() == c.src.fin {
		ch.flight.push(sent{at: e.now, end: c.src.fin.Add(1), ts: o.TSVal})
	}
	if taken && !t.Has(packet.FlagURG) && e.inPiecesNow(c, seq, t.Payload(), fin) {
		return Drop
	}
	return Accept
}

// unchanged tells whether data agrees with the held bytes of the same numbers.
func (c *conn) unchanged(seq packet.Seq, data []byte) bool {
	ch := c.ch
	end := seq.Add(len(data))
	if seq.AtLeast(ch.next) && ch.ooo.n == 0 {
		return true
	}
	if !ch.hold.same(seq, data, ch.hold.base, ch.next) {
		return false
	}
	for _, r := range ch.ooo.r[:ch.ooo.n] {
		if r.Left.Before(end) && seq.Before(r.Right) && !ch.hold.same(seq, data, r.Left, r.Right) {
			return false
		}
	}
	return true
}

// repeated handles data that was seen before. The source has missed an
// acknowledgement, so it gets one (RFC 9293 section 3.10.7.4). Held data need
// not go over the network twice; a FIN or an urgent pointer is for the receiver,
// always.
func (e *Engine) repeated(c *conn, end packet.Seq, fin, urgent bool) Action {
	ch := c.ch
	c.stats.SourceRetransmits++
	if end.After(c.passed) {
		ch.ackNow = true
	} else {
		ch.reack = true
	}
	if ch.Mode == Reliable && !fin && !urgent && end.AtMost(packet.MaxSeq(ch.next, c.rcv.ack)) {
		return Drop
	}
	return Accept
}

// arrive takes new data in, which came with header bytes of headers; false if it
// finds no room.
func (e *Engine) arrive(c *conn, header int, seq packet.Seq, data []byte, ts uint32) (taken bool) {
	ch := c.ch
	end := seq.Add(len(data))
	if ch.Mode == Reliable && !e.keep(c, seq, data, ts) {
		c.stats.Unheld++
		return false
	}
	before := ch.next
	switch {
	case ch.ooo.n == 0 && seq.AtMost(ch.next):
		ch.next = packet.MaxSeq(ch.next, end)
	case seq.AtMost(ch.next):
		ch.next = ch.ooo.advance(packet.MaxSeq(ch.next, end))
		ch.ackNow = ch.active // a hole was filled: RFC 5681 section 4.2
	default:
		if ch.ooo.add(seq, end) {
			c.stats.OutOfOrder++
		}
		ch.ackNow = ch.active
		return true
	}
	gain := ch.next.Diff(before)
	if gain == 0 {
		return true
	}
	cost := uint32(gain + (gain+ch.cut()-1)/ch.cut()*header)
	e.gained(c, ts, cost)
	return true
}

// gained queues the acknowledgement of data that has become contiguous.
func (e *Engine) gained(c *conn, ts, cost uint32) {
	ch := c.ch
	ch.pend.push(arrival{end: ch.next, ts: ts, cost: cost, at: e.now})
	ch.recentTS = ts
	ch.flight.present(ch.next, e.now, ts)
	c.activate()
}

// activate begins to acknowledge once all that was sent before the reservation
// is delivered or held.
func (c *conn) activate() {
	if ch := c.ch; !ch.active && ch.next.AtLeast(ch.base) {
		ch.active = true
		ch.released = packet.MaxSeq(ch.released, c.rcv.ack)
	}
}

// keep stores a copy and writes the transmission down; false if there is no
// room, and then the bytes are not acknowledged.
func (e *Engine) keep(c *conn, seq packet.Seq, data []byte, ts uint32) bool {
	ch := c.ch
	f := &ch.flight
	end := seq.Add(len(data))
	full := ch.cut()
	segs := (max(end.Diff(f.end()), 0) + full - 1) / full
	if gap := seq.Diff(f.end()); gap > 0 {
		segs = 1 + (gap+full-1)/full + (len(data)+full-1)/full
	}
	if !f.room(segs) {
		return false
	}
	stored := ch.hold.write(&e.pool, seq, data, ch.MaxBuffered)
	s := sent{at: e.now, ts: ts, flags: sentAbsent}
	f.extend(seq, full, s)
	if stored {
		s.flags = 0
	}
	f.extend(end, full, s)
	if f.tail-f.head == uint64(segs) {
		ch.rto.base = e.now
	}
	ch.tail.base = e.now
	return stored
}
