package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// thin has the thinner decide about a segment of the receiver, and sends
// what has to go before it.
func (e *Engine) thin(c *conn, a *ackOf) thinAct {
	n := c.near
	n.thin.set(n.ThinRate, c.rttSrc.smooth, c.rttSrc.min)
	s := look(a.v, a.o, a.meta, a.win, c.src.max, n.mss)
	s.unscaled = c.midway
	if c.src.finSeen && a.ack.After(c.src.fin) {
		s.plain = false // what close() waits for
	}
	before := n.thin.dropped
	act := n.thin.offer(e.now, &s)
	switch act {
	case thinAfter:
		e.owed(c)
	case thinSwap:
		e.owed(c)
		n.thin.keep(e.now, &s)
		act = thinKeep
	case thinPass:
		c.awaitEcho(e.now)
	case thinKeep:
	}
	gone := n.thin.dropped - before
	c.stats.Thinned += gone
	e.totals.Thinned += gone
	return act
}

// owed sends the ACK that is owed, if there is one.
func (e *Engine) owed(c *conn) {
	n := c.near
	b := n.thin.take(e.now)
	if b == nil {
		return
	}
	v, err := packet.Parse(b)
	if err != nil {
		// It was parsed when it came, so this cannot be. It goes as it is.
		e.copyOut(c, b)
		return
	}
	t := v.TCP()
	o, _ := packet.ParseOptions(t.Options())
	a := ackOf{v: v, t: t, o: &o, ack: t.Ack(), win: int(t.Window()) << c.shiftRcv(), news: true, fresh: true, was: n.thin.told}
	if e.onward(c, &a) != Drop {
		e.copyOut(c, b)
	}
	c.awaitEcho(e.now)
}

// detour keeps the order of what goes to the source. A packet of the engine's
// own leaves after all verdicts of its batch, so until it was taken short
// segments go the same way behind it.
type detour struct {
	round uint64
	open  bool
}

func (e *Engine) copyOut(c *conn, b []byte) {
	e.out.addCopy(ToSource, c.key.Reverse(), b)
	c.near.detour = detour{round: e.out.round, open: true}
}

// inTurn has a segment wait for what the engine sends before it.
func (e *Engine) inTurn(c *conn, a *ackOf, act Action) Action {
	d := &c.near.detour
	if !d.open || act == Drop {
		return act
	}
	if e.out.taken || d.round != e.out.round {
		d.open = false
		return act
	}
	if a.v.Len() > maxThin || a.meta.GSO {
		return act
	}
	if a.meta.CsumNotReady {
		a.v.SetTCPChecksum()
	}
	e.copyOut(c, a.v.Bytes())
	return Drop
}
