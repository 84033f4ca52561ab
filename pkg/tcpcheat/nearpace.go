package tcpcheat

import (
	"math"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// pacing is the pacer of a connection, and what waits for its tokens.
type pacing struct {
	pacer
	real  packet.Seq // the receiver's right edge as it was last seen
	said  instant    // the source was last told something
	asked bool       // the source wants an answer: it probed, or sent again
	held  heldAck
	again again
}

// heldAck is a plain ACK of the receiver that the source has not been given.
type heldAck struct {
	on    bool
	ack   packet.Seq
	field uint16 // of its window
	since instant
}

// again repeats a window update that may have been lost, since the source has
// used up all that it had and nothing else would tell it (RFC 9293 section
// 3.8.6.1).
type again struct {
	on   bool
	sent packet.Seq // what it had sent then
	at   instant
	gap  time.Duration
	n    int
}

const (
	minAgain = 200 * time.Millisecond
	maxAgain = 6 // a source that has nothing to send looks the same
	// lagSlack is beside the round trip in what a source may take to use an
	// edge: a late wake-up here and there.
	lagSlack = 5 * time.Millisecond
	maxLag   = 4 * time.Second
	noLag    = 200 * time.Millisecond // where no round trip was measured yet
)

// paceParams says how a source is paced whose window moves in steps of unit.
func (n *near) paceParams(unit int) paceParams {
	q := paceParams{rate: n.Rate * paceShare, depth: n.Bucket * depthShare, factor: n.PaceFactor, mss: n.mss, header: n.header}
	share := paceShare
	if n.PaceLoose {
		share = loosePaceShare
		q.rate, q.depth, q.factor = n.Rate*share, n.Bucket*looseDepthShare, n.PaceFactor*looseWindow
	}
	// Few ACKs cannot keep a peak rate: with thin_acks that is left to the box at
	// the source's side.
	if !math.IsInf(n.Peak, 1) && !n.Thin {
		q.peak = n.Peak * share
		// M is a segment. What is let through at once must fit into the bucket, and
		// no timer is finer than quantumTime.
		q.burst = max(float64(n.mss+n.header), q.peak*quantumTime.Seconds(), float64(unit+n.header))
	}
	return q
}

// setPace sets the pacer up, or gives it new parameters.
func (e *Engine) setPace(c *conn) {
	n := c.near
	if n == nil || n.Mode != Pace {
		return
	}
	n.pace.set(n.paceParams(1 << c.shiftRcv()))
	if n.pace.at == 0 {
		n.pace.begin(e.now, c.src.max, c.rcv.ack, c.offered)
		n.pace.real = c.edge
		c.shownTS, c.shownAny = c.rcv.stamp, true
	}
}

// lag is how long the source may take until what it makes of an edge is seen:
// the round trip without queues, and of what queues add as much as a quarter of
// the bucket makes up for.
func (e *Engine) lag(c *conn) time.Duration {
	d := c.rttSrc.lowest(e.now)
	if d == 0 {
		return noLag
	}
	p := &c.near.pace
	queued := max(min(c.rttSrc.smooth-d, time.Duration(p.depth/p.rate/4*1e9)), 0)
	return min(d+d/8+queued+lagSlack, maxLag)
}

// paceData sees a segment of the source.
func (e *Engine) paceData(c *conn, v packet.View, t packet.TCP) {
	p := &c.near.pace
	n := len(t.Payload())
	end := t.Seq().Add(n)
	if n == 0 || end.AtMost(p.sent) {
		p.asked = true
	}
	if n == 0 {
		p.spend(float64(v.Len()))
		return
	}
	p.refill(e.now, e.lag(c), c.offered)
	if end.After(p.sent) {
		p.again.on = false
		p.judge(e.now, e.lag(c), end)
	}
	p.data(end, n, v.Len()-n)
}

// paceBound is how far the source may be let, tokens aside: never beyond the
// receiver's own edge.
func (e *Engine) paceBound(c *conn) packet.Seq {
	rtt := c.rttSrc.lowest(e.now) + c.rttRcv.lowest(e.now)
	return packet.MinSeq(c.edge, c.near.pace.bound(e.now, e.lag(c), c.rcv.ack, rtt))
}

// paceAck decides about a segment of the receiver. Only a plain ACK may wait or
// be left out; of all others at most the window is made smaller.
func (e *Engine) paceAck(c *conn, a *ackOf) Action {
	p := &c.near.pace
	p.refill(e.now, e.lag(c), c.offered)
	more := a.fresh && c.edge.After(p.real) // its own edge has moved
	if a.fresh {
		p.real = c.edge
	}
	if p.held.on && a.ack.AtLeast(p.held.ack) {
		if a.ack == p.held.ack && !a.news {
			// A duplicate of what the source has not been given: it must have both
			// to know that there is one (RFC 5681 section 3.2).
			e.letGo(c, p.held.ack)
			c.near.detour = detour{round: e.out.round, open: true}
		}
		p.held.on = false
	}
	advance := a.ack.After(c.passed)
	edge := c.offered
	if advance || more {
		edge = edge.Add(p.grant(edge, e.paceBound(c)))
	}
	if plain(a.v, a.meta) && a.fresh && (!c.src.finSeen || !a.ack.After(c.src.fin)) {
		switch {
		case advance && e.waits(c, a.ack, edge):
			p.held = heldAck{on: true, ack: a.ack, field: a.t.Window(), since: e.now}
			c.stats.Absorbed++
			e.totals.Absorbed++
			return Drop
		case !advance && more && !p.asked && edge == c.offered && !c.midway && a.ack == c.passed:
			// A window update of which nothing is left: without its news it would
			// look like a duplicate ACK. The update comes when it is paid for.
			c.stats.Absorbed++
			e.totals.Absorbed++
			return Drop
		}
	}
	p.asked = false
	raw := a.t.Window()
	field := e.give(c, a.ack, edge, raw)
	c.awaitEcho(e.now)
	if field == raw {
		return Accept
	}
	setWindow(a.v, a.meta, field)
	c.stats.Rewritten++
	e.totals.Rewritten++
	return Modified
}

// waits tells whether an acknowledgement number has to wait for tokens: where
// the edge does not clock the source, and where the source could not send
// anything anyway with the window that goes with it.
func (e *Engine) waits(c *conn, ack, edge packet.Seq) bool {
	p := &c.near.pace
	switch {
	case p.asked:
		return false
	case p.spaces || c.midway:
		return p.free() < p.cost(ack.Diff(c.passed))
	case e.paceBound(c).Diff(edge) < p.mss:
		return false // it waits for the receiver, or for data to arrive
	}
	unit := 1 << c.shiftRcv()
	if surplus := -edge.Diff(ack) & (unit - 1); surplus > p.mss && p.free() < p.cost(surplus) {
		return true // rounding would give more than was let through
	}
	return edge.Diff(ack) < p.mss
}

// give accounts for a segment to the source that acknowledges ack and shows
// the edge, or less if the receiver's own field is less. It returns the field.
func (e *Engine) give(c *conn, ack, edge packet.Seq, raw uint16) uint16 {
	p := &c.near.pace
	p.said = e.now
	if gain := ack.Diff(c.passed); gain > 0 {
		if p.spaces || c.midway {
			p.spend(p.cost(gain))
		}
		c.passed = ack
	}
	if c.midway {
		return raw
	}
	shift := c.shiftRcv()
	field := min(max(edge.Diff(ack), 0)+1<<shift-1, int(raw)<<shift) >> shift
	if to := ack.Add(field << shift); to.After(c.offered) {
		if !p.spaces {
			p.spend(p.cost(to.Diff(c.offered)))
		}
		c.offered = to
	}
	return uint16(field)
}

// paceDue spends what tokens have come.
func (e *Engine) paceDue(c *conn) {
	p := &c.near.pace
	if c.near.Mode != Pace {
		return
	}
	p.woken(e.now)
	p.refill(e.now, e.lag(c), c.offered)
	if p.held.on {
		if e.now >= e.heldAt(c) {
			e.releaseHeld(c)
		}
		return
	}
	if e.now >= e.updateAt(c) {
		blocked := c.offered.Diff(p.sent) < p.mss
		e.update(c)
		if blocked && (!p.again.on || p.again.sent != p.sent) {
			gap := max(4*e.lag(c), minAgain)
			p.again = again{on: true, sent: p.sent, at: e.now + gap, gap: gap}
		}
	}
	if p.again.on && e.now >= p.again.at {
		p.again.n++
		p.again.gap *= 2
		p.again.at = e.now + p.again.gap
		p.again.on = p.again.n < maxAgain
		e.update(c)
	}
}

// update sends a window update with all that is let through.
func (e *Engine) update(c *conn) {
	c.stats.WindowUpdates++
	e.letGo(c, c.passed)
}

// releaseHeld gives the source as much of the held acknowledgement as the tokens
// allow, or all of it. What is left is whole units of the window field, so that
// the edge that goes with it is the receiver's to the byte.
func (e *Engine) releaseHeld(c *conn) {
	p := &c.near.pace
	ack := p.held.ack
	if p.spaces && !c.midway && e.now < p.held.since+paceHold {
		unit := 1 << c.shiftRcv()
		left := ack.Diff(c.passed) - p.worth(p.free()+0.5)
		part := ack.Add(-(max(left, 0) + unit - 1) / unit * unit)
		if part.After(c.passed) && part != ack {
			ack = part
			p.held.since = e.now
		}
	}
	e.letGo(c, ack)
	p.held.on = p.held.ack.After(c.passed)
}

// letGo sends an ACK of the engine's own that says what the receiver has said:
// no more than it acknowledged, and no edge beyond its own.
func (e *Engine) letGo(c *conn, ack packet.Seq) {
	p := &c.near.pace
	raw, edge := p.held.field, c.offered
	if !c.midway {
		edge = edge.Add(p.grant(edge, e.paceBound(c)))
		raw = c.rawField(ack)
	}
	e.say(c, ack, e.give(c, ack, edge, raw))
}

// rawField is the receiver's own edge as a window field that goes with ack.
func (c *conn) rawField(ack packet.Seq) uint16 {
	return uint16(min(max(c.edge.Diff(ack), 0)>>c.shiftRcv(), 0xffff))
}

// say makes an ACK in the receiver's name.
func (e *Engine) say(c *conn, ack packet.Seq, field uint16) {
	opt := e.opts[:0]
	if c.ts {
		opt = packet.AppendTimestamps(opt, c.rcv.stamp, c.rcv.tsecr)
		c.awaitEcho(e.now)
	}
	e.seg = packet.Segment{
		Key: c.key.Reverse(), TTL: c.rcv.ttl, TOS: c.rcv.tos, ID: c.rcv.nextID(),
		DF: c.rcv.df, FlowLabel: c.rcv.flowLabel,
		Seq: c.src.ack, Ack: ack, Flags: packet.FlagACK, Window: field, Options: opt,
	}
	e.out.add(ToSource, &e.seg)
	c.stats.FakeAcks++
	e.totals.FakeAcks++
}

// heldAt is when something of the held acknowledgement can be let go.
func (e *Engine) heldAt(c *conn) instant {
	p := &c.near.pace
	n := p.step()
	switch gain := p.held.ack.Diff(c.passed); {
	case c.midway:
		n = min(gain, max(p.most()-1, 1))
	case p.spaces:
		n = min(gain, max(n, 1<<c.shiftRcv()), max(p.most()-1, 1))
	case e.paceBound(c).Diff(c.offered) < p.mss:
		return e.now // nothing to wait for any more
	default:
		unit := 1 << c.shiftRcv()
		if surplus := -c.offered.Diff(p.held.ack) & (unit - 1); surplus > p.mss {
			n = min(max(n, surplus), p.most())
		}
	}
	return min(p.ready(n), p.held.since+paceHold)
}

// updateAt is when the source is owed a window update: the edge can move by
// what is worth a segment, or by less if it has used up what it had.
func (e *Engine) updateAt(c *conn) instant {
	p := &c.near.pace
	if c.midway || p.spaces || c.src.finSeen {
		return never
	}
	bound := e.paceBound(c)
	room := bound.Diff(c.offered)
	n := p.step()
	if c.near.Thin {
		n = max(n, min(p.worth(p.rate*maxAutoHold.Seconds()), p.worth(p.depth)))
	}
	if c.offered.Diff(p.sent) < p.mss {
		n = min(n, 2*p.mss)
		if bound == c.edge || bound.Diff(p.sent) >= p.mss {
			n = min(n, room) // it is all that there is for now, and a segment more
		}
	}
	if room <= 0 || room < n {
		return never
	}
	return max(p.ready(n), p.said+1) // not beside a segment that is just passing
}

// paceAt is when paceDue wants to be called.
func (e *Engine) paceAt(c *conn) instant {
	p := &c.near.pace
	if c.near.Mode != Pace {
		return never
	}
	if p.held.on {
		p.due = e.heldAt(c)
		return p.due
	}
	at := e.updateAt(c)
	if p.due = at; at == never {
		p.due = 0
	}
	if p.again.on {
		at = min(at, p.again.at)
	}
	return at
}

// endPace has the last word to the source: the receiver's own acknowledgement
// and edge.
func (e *Engine) endPace(c *conn) {
	p := &c.near.pace
	if c.src.finSeen && c.passed.After(c.src.fin) {
		return
	}
	ack, field := c.passed, p.held.field
	if p.held.on {
		ack = packet.MaxSeq(ack, p.held.ack)
	}
	if !c.midway {
		field = c.rawField(ack)
		if !p.held.on && !c.edge.After(c.offered) {
			return
		}
	} else if !p.held.on {
		return
	}
	e.say(c, ack, field)
	c.given(ack, int(field)<<c.shiftRcv())
	p.held.on = false
}
