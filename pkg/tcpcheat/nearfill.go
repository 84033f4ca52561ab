package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// setFill begins, changes or ends the filling of a connection's holes.
func (e *Engine) setFill(c *conn) {
	n := c.near
	switch {
	case n == nil:
		return
	case !n.Fill:
		n.fill = nil
		return
	case n.fill == nil:
		if c.filled == nil {
			c.filled = &filled{}
		}
		n.fill = newFiller(fillParams{after: n.FillAfter, rate: n.Rate, mss: n.mss, sack: c.sack},
			e.now, c.rcv.ack, c.edge, c.src.max, c.pos, c.filled)
	default:
		n.fill.after = n.FillAfter
		n.fill.setRate(e.now, n.Rate)
	}
	n.fill.refused = c.unfillable(n)
	e.fillTiming(c)
}

// unfillable is why no hole may be filled; nil if one may.
func (c *conn) unfillable(n *near) error {
	if c.midway {
		return ErrNoHandshake // no scale, so no right edge is known
	}
	if n.FillForce {
		return nil
	}
	if c.fragile != nil {
		return c.fragile
	}
	if err := fragilePort(c.key); err != nil {
		return err
	}
	if c.unread {
		return ErrUnread
	}
	return nil
}

// lookAt looks for streams that a filled byte would end, in the data of either
// end, from the first byte on.
func (e *Engine) lookAt(c *conn, h *host, seq packet.Seq, data []byte) {
	if c.unread || c.fragile != nil || len(data) == 0 || c.midway {
		return
	}
	if c.openings == nil {
		c.openings = &[2]opening{}
	}
	i := 0
	if h == &c.rcv {
		i = 1
	}
	if c.fragile = c.openings[i].look(seq.Diff(h.isn.Add(1)), data); c.fragile == nil {
		return
	}
	c.openings = nil
	if n := c.near; n != nil && n.fill != nil && !n.FillForce {
		n.fill.refused = c.fragile
		e.refuseFill(c)
	}
}

// refuseFill tells that no hole is filled. A connection for which there is
// nothing else to do need not come here.
func (e *Engine) refuseFill(c *conn) {
	n := c.near
	if n == nil || n.fill == nil || n.fill.refused == nil {
		return
	}
	switch {
	case c.ch != nil:
		c.reason = n.what()
	case n.Mode == 0 && !n.Thin:
		e.leave(c, n.fill.refused)
	default:
		c.reason = n.what()
	}
}

// fillTiming follows the round trips. A box at the source's side waits for the
// one at the receiver's side, which may do it as well.
func (e *Engine) fillTiming(c *conn) {
	n := c.near
	after := n.FillAfter
	if c.ch != nil {
		after = 2*after + c.rttRcv.smooth
	}
	n.fill.timing(after, c.rttSrc.min+c.rttRcv.min, c.rttRcv)
}

// fillData shows the filler a segment that goes on to the receiver.
func (e *Engine) fillData(c *conn, seq, end packet.Seq, fin bool) {
	if c.near != nil && c.near.fill != nil {
		c.near.fill.data(e.now, seq, end, fin)
	}
}

// fillAck shows it a segment of the receiver.
func (e *Engine) fillAck(c *conn, a *ackOf) {
	if c.near.fill == nil || !a.fresh {
		return
	}
	e.fillTiming(c)
	c.near.fill.acked(e.now, fillAck{
		ack: a.ack, edge: c.edge, blocks: a.o.SACK[:a.o.NSACK],
		bare: len(a.t.Payload()) == 0 && !a.t.Has(packet.FlagFIN) && c.edge == a.was,
	})
}

// fillDue makes what is due.
func (e *Engine) fillDue(c *conn) {
	f := c.near.fill
	if f == nil {
		return
	}
	if c.ch != nil {
		// What the source was not told is delivered it will send again.
		f.bounded, f.below = true, c.passed
	}
	again, givenUp := f.report.again, f.report.givenUp
	defer func() {
		e.totals.FillsAgain += f.report.again - again
		e.totals.FillsGivenUp += f.report.givenUp - givenUp
	}()
	for range maxBurst {
		from, to, ok := f.next(e.now)
		if !ok {
			return
		}
		data := e.scratch[:to.Diff(from)]
		fillContent(data, c.near.FillPattern, f.pos+uint64(from.Diff(f.ack)))
		e.speak(c, from, packet.FlagACK|packet.FlagPSH, data)
		e.totals.Filled++
		e.totals.FilledBytes += uint64(len(data))
	}
}
