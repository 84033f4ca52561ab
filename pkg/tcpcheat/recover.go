package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// reallyAcked moves the state of a reliable flow to the receiver's cumulative
// acknowledgement.
func (e *Engine) reallyAcked(c *conn, ack packet.Seq, o *packet.TCPOptions) {
	ch := c.ch
	f, r := &ch.flight, &ch.rto
	var sample instant = -1
	if n := &ch.reno; n.on {
		n.acked(max(ack.Diff(f.start), 0), ack)
	}
	certain, clean := false, f.sacked == 0
	f.pop(ack, func(s *sent) {
		c.delivered(e.now, s, o, true, s.end.Diff(f.start))
		switch {
		case s.flags&sentAbsent != 0:
		case s.rtx == 0:
			sample = e.now - s.at
			certain = true
		default:
			certain = certain || c.copyArrived(e.now, s, o, true)
			clean = false
		}
	})
	if sample >= 0 && clean {
		// Karn, RFC 6298 section 3: only what was sent once, and was not kept
		// waiting behind something that was sent twice.
		c.rttRcv.sample(sample)
		ch.tail.waited = false
	}
	if certain {
		r.backoff = 0
	} else {
		r.backoff /= 2 // progress all the same
	}
	if r.goodAcks++; r.goodAcks > 1000 && r.reorder > 0 {
		r.reorder, r.goodAcks = r.reorder-1, 0
	}
	r.base, r.dupAcks = e.now, 0
	ch.tail.base = e.now
	r.top = packet.MaxSeq(r.top, ack)
	r.copied = packet.MaxSeq(r.copied, ack.Add(-1<<30)) // it stays near in sequence space
	if ack.AtLeast(r.recover) {
		r.goBack = false
	}
	if !c.sack && r.inFast {
		// NewReno, RFC 6582 section 3.2 step 3: a partial acknowledgement
		// names the next hole.
		if ack.Before(r.recover) && !f.empty() {
			f.setLost(f.head)
			ch.reno.free = true // it goes whatever the window is
		} else {
			r.inFast = false
		}
	}
	ch.hold.release(&e.pool, packet.MinSeq(ack, ch.next))
}

// duplicate counts duplicate ACKs of a receiver without SACK (RFC 5681
// section 3.2, RFC 6582).
func (c *conn) duplicate(now instant) {
	f, r := &c.ch.flight, &c.ch.rto
	if c.sack || f.empty() {
		return
	}
	if r.dupAcks++; r.dupAcks == 3 && !r.inFast {
		r.inFast, r.recover = true, f.end()
		if n := &c.ch.reno; n.on {
			n.lost(now, f.at(f.head).at, c.pipe(), f.end())
		}
		f.setLost(f.head)
		c.stats.Lost++
	}
}

// timeoutAt is when the retransmission timer fires (RFC 6298 section 5).
func (c *conn) timeoutAt() instant {
	f, r := &c.ch.flight, &c.ch.rto
	if f.empty() || f.at(f.head).flags&sentAbsent != 0 {
		return never
	}
	base := max(r.base, f.at(f.head).at)
	return base + min(c.rttRcv.timeout()<<r.backoff, maxRTO)
}

// timeout sends the oldest segment again, and only this one: if all is lost its
// arrival says so, and if only the ACKs are late nothing is made worse.
func (e *Engine) timeout(c *conn) {
	f, r := &c.ch.flight, &c.ch.rto
	c.ch.tail.out = false
	r.backoff = min(r.backoff+1, 16)
	r.base = e.now
	r.inFast, r.goBack, r.recover = false, !c.sack, f.end()
	c.stats.Timeouts++
	e.totals.Timeouts++
	if n := &c.ch.reno; n.on {
		n.timeout(e.now, c.pipe(), f.end())
	}
	if f.at(f.head).flags&sentSACKed != 0 {
		c.renege()
	}
	f.setLost(f.head)
	f.at(f.head).flags |= sentTimeout
}

// resend sends lost segments as far as the bucket and the receiver's window
// allow. It tells whether the bucket stands in the way.
func (e *Engine) resend(c *conn) (waiting bool) {
	ch := c.ch
	f := &ch.flight
	for range maxBurst {
		i, ok := f.nextLost()
		if !ok {
			return false
		}
		s, from := f.at(i), f.from(i)
		if !c.mayResend(i) || !ch.reno.allows(c.pipe()) {
			return false
		}
		cost := float64(ch.cost(max(s.end.Diff(from), 1)))
		// The oldest byte after a timeout is a probe that must not starve
		// behind a debt; there is one per timeout.
		if !ch.bucket.has(cost) && (i != f.head || s.flags&sentTimeout == 0) {
			return true
		}
		ch.reno.free = false
		e.again(c, i)
	}
	return true
}

// again sends record i once more.
func (e *Engine) again(c *conn, i uint64) {
	ch := c.ch
	f := &ch.flight
	s, from := f.at(i), f.from(i)
	ch.bucket.take(float64(ch.cost(max(s.end.Diff(from), 1))))
	size, least := c.piece(s, s.end.Diff(from))
	for at := from; at.Before(s.end); {
		to := packet.MinSeq(at.Add(size), s.end)
		e.sendCopy(c, at, to)
		if to.After(c.edge) {
			break // a probe of a closed window
		}
		at = to
	}
	s.flags &^= sentLeast
	if least {
		s.flags |= sentLeast
	}
	if s.flags&sentLost != 0 {
		f.lost--
	}
	s.flags &^= sentLost | sentTimeout | sentNewTS
	if s.ts != c.src.tsval {
		s.flags |= sentNewTS
	}
	s.at, s.ts = e.now, c.src.tsval
	s.rtx = min(s.rtx+1, 0xfff0)
}

// mayResend keeps to the receiver's window, but for the first missing byte:
// that one is the window probe of RFC 9293 section 3.8.6.1. Where a block lies
// beyond, the receiver had room.
func (c *conn) mayResend(i uint64) bool {
	f := &c.ch.flight
	return i == f.head || c.ch.blind || f.at(i).end.AtMost(packet.MaxSeq(c.edge, c.ch.rto.top))
}

// sendCopy sends held bytes once more.
func (e *Engine) sendCopy(c *conn, from, to packet.Seq) {
	ch := c.ch
	flags := uint8(packet.FlagACK)
	n := to.Diff(from)
	if c.src.finSeen && to == c.src.fin.Add(1) {
		flags |= packet.FlagFIN
		n--
	}
	if n > 0 {
		flags |= packet.FlagPSH
		ch.hold.read(e.scratch[:n], from)
	}
	e.speak(c, from, flags, e.scratch[:n])
	e.resent(c, n)
}

// resent counts a segment that was sent again.
func (e *Engine) resent(c *conn, n int) {
	c.stats.Retransmits++
	c.stats.RetransmitBytes += uint64(n)
	e.totals.Retransmits++
}

// speak makes a segment of the source's, such that it could have sent it now.
// TSval is the latest that the receiver was shown, never that of a first
// transmission (PAWS, RFC 7323 section 5), and the packet is not ECN-capable (RFC
// 3168 section 6.1.5).
func (e *Engine) speak(c *conn, from packet.Seq, flags uint8, data []byte) {
	opt := e.opts[:0]
	if c.ts {
		opt = packet.AppendTimestamps(opt, c.src.tsval, c.src.tsecr)
	}
	e.seg = packet.Segment{
		Key: c.key, TTL: c.src.ttl, TOS: c.src.tos, ID: c.src.nextID(),
		DF: c.src.df, FlowLabel: c.src.flowLabel,
		Seq: from, Ack: c.src.ack, Flags: flags, Window: c.src.win,
		Options: opt, Payload: data,
	}
	e.out.add(ToReceiver, &e.seg)
}

// reopened follows a closed window that has opened: what was sent meanwhile
// was discarded, and the oldest byte finds out.
func (c *conn) reopened() {
	ch := c.ch
	if f := &ch.flight; ch.active && ch.Mode == Reliable && !f.empty() && f.at(f.head).flags&sentSACKed == 0 {
		ch.rto.backoff = 0
		f.setLost(f.head)
	}
}
