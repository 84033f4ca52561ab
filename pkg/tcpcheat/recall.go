package tcpcheat

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// A connection that an earlier process has cheated, and whose source may believe
// bytes delivered that the receiver never got. Nobody has them any more: the
// source will not send them again, and the receiver will go on asking. Both ends
// are asked how far they are. If the receiver turns out to have all that was
// promised, the two speak for themselves from then on. If it still lacks some
// after a time that lets what is on its way arrive, it is asked once more, and if
// it says so again, both are reset, for else they would wait for each other for
// ever. Nothing else is a reason for a reset: a receiver that is not heard here may
// be well, by another way, and the ports may be another connection's by now. Such
// a connection is forgotten.

const (
	// recallWait is the least time for bytes on their way, since the last that came.
	recallWait = 2 * time.Second
	// recallMost is the most of it, however long the round trip.
	recallMost = 10 * time.Second
	// recallInHand is the least time where the record says that they were lost.
	recallInHand = 300 * time.Millisecond
	// askGap is the time to the second question; each next one takes twice as long.
	askGap  = 200 * time.Millisecond
	askMost = 5 * time.Second
	// recallFar is how far a number may be from what was recorded: what is farther
	// away is another connection's.
	recallFar = 64 << 20
	// resetGap is the time to the second pair of resets; they may be lost, too.
	resetGap = 200 * time.Millisecond
	// resetFor is how long an end that answers a reset gets another one.
	resetFor = 2 * time.Second
	// resetMost bounds them, for one connection.
	resetMost = 16
)

// recall is the state of such a connection.
type recall struct {
	mode     Mode
	inHand   bool
	promised packet.Seq
	floor    packet.Seq // what the receiver had
	heard    bool       // the receiver, since then
	sure     instant    // what it says from then on answers the last question; 0: that was not asked
	echo     uint32     // what the source had heard of the receiver when that was more than here
	at       uint32     // the record's
	moved    instant    // the receiver last had more
	askAt    instant
	asked    uint
	bare     bool    // the next question is without a time stamp
	resetAt  instant // the next pair
	endAt    instant // of the resets; 0: they have not begun
	resets   int
	healed   bool // the receiver has everything
}

// Recall takes over a connection that an earlier process has cheated: see above.
// One without an open promise needs nobody's help, and is refused.
func (e *Engine) Recall(now time.Time, p *Promise) error {
	e.tick(now)
	switch {
	case p.Key.Proto != packet.ProtoTCP:
		return ErrNotTCP
	case p.Open() == 0:
		return ErrNothingOpen
	case e.find(p.Key) != nil:
		return ErrReused
	case len(e.conns) >= e.lim.Flows:
		e.totals.TableFull++
		return ErrTableFull
	}
	c := &conn{
		key: p.Key, heap: -1, last: e.now, state: Recalled, reason: reasonRecalled, midway: true, ts: p.Timestamps,
		passed: p.Passed, offered: p.Passed, edge: p.Had,
		src: host{max: p.SrcMax, ack: p.SrcAck}, rcv: host{max: p.RcvMax, ack: p.Had},
		recall: &recall{
			mode: p.Mode, inHand: p.InHand, promised: p.Passed, floor: p.Had,
			at: p.At, moved: e.now, askAt: e.now,
		},
	}
	c.rttRcv.smooth = p.RTT
	c.src.recallFrom(&p.Src)
	c.rcv.recallFrom(&p.Rcv)
	k, _ := p.Key.Canonical()
	e.conns[k] = c
	e.place(c, p.Mode) // without one it is looked after all the same
	e.lookAfter(c)
	return nil
}

// patience is how long what is on its way may take.
func (r *recall) patience(rtt time.Duration) time.Duration {
	if r.inHand {
		return max(recallInHand, min(2*rtt, recallMost))
	}
	return max(recallWait, min(4*rtt, recallMost))
}

// lookAfter does what is due for a recalled connection.
func (e *Engine) lookAfter(c *conn) {
	r := c.recall
	giveUp := r.moved + e.lim.NoProgress
	switch {
	case r.endAt != 0 && e.now >= r.endAt:
		e.broken(c)
		return
	case r.endAt != 0:
		if e.now >= r.resetAt {
			e.resetBoth(c)
		}
	case e.now >= giveUp:
		e.forgo(c, ErrUnheard)
		return
	case r.sure == 0 && e.now >= r.doubtAt(c):
		// What was heard may have been on its way for long.
		r.sure, r.asked = e.now+c.answerTime(), 0
		e.askBoth(c)
	case e.now >= r.askAt:
		e.askBoth(c)
	}
	e.put(c)
	at := min(r.askAt, giveUp)
	if r.sure == 0 {
		at = min(at, r.doubtAt(c))
	}
	if r.endAt != 0 {
		at = min(r.endAt, r.resetAt)
	}
	e.timers.schedule(c, max(at, e.now+1))
}

// doubtAt is when a receiver that was heard should have had everything.
func (r *recall) doubtAt(c *conn) instant {
	if !r.heard {
		return never
	}
	return r.moved + r.patience(c.rttRcv.smooth)
}

// answerTime is what the answer to a question takes at least: what comes before may
// have been sent before.
func (c *conn) answerTime() time.Duration {
	if c.rttRcv.smooth == 0 {
		return initialRTO
	}
	return c.rttRcv.smooth
}

// askBoth asks both ends for an acknowledgement, which tells what each has, by a
// segment without data from below its window: it must be answered (RFC 9293
// section 3.10.7.4). Its time stamp is the record's. An end that has heard a later
// one since need not answer it: RFC 7323 section 5.3 (R1) wants an answer, but newer
// Linux has none for a bare acknowledgement (6.18: TestCrashHealsWhatArrives). So every other question goes
// without a time stamp; who does not want that (RFC 7323 section 3.2) is silent, and
// gets the next one.
func (e *Engine) askBoth(c *conn) {
	r := c.recall
	e.ask(c, ToReceiver)
	e.ask(c, ToSource)
	r.bare = !r.bare
	r.askAt = e.now + min(askGap<<r.asked, askMost)
	r.asked = min(r.asked+1, 16)
}

func (e *Engine) ask(c *conn, to Toward) {
	h, peer, key := &c.src, &c.rcv, c.key
	ack := h.ack
	if to == ToSource {
		h, peer, key = peer, h, key.Reverse()
		ack = c.passed
	}
	opt := e.opts[:0]
	if c.ts && !c.recall.bare {
		opt = packet.AppendTimestamps(opt, h.tsval, h.tsecr)
	}
	e.seg = packet.Segment{
		Key: key, TTL: h.ttl, TOS: h.tos, ID: h.nextID(), DF: h.df, FlowLabel: h.flowLabel,
		Seq: peer.ack.Add(-1), Ack: ack, Flags: packet.FlagACK, Window: h.win, Options: opt,
	}
	e.out.add(to, &e.seg)
	c.stats.ReceiverProbes++
}

// resetBoth resets both ends. The numbers are the latest that each has said it
// expects; one that expects another says so (RFC 5961 section 3.2), and overhear
// tries again.
func (e *Engine) resetBoth(c *conn) {
	r := c.recall
	r.resetAt = e.now + resetGap<<min(r.resets, 8)
	e.resetOne(c, ToSource)
	e.resetOne(c, ToReceiver)
}

// broken ends the record of a connection that was reset.
func (e *Engine) broken(c *conn) {
	c.stats.Undelivered = uint64(max(c.recall.promised.Diff(c.rcv.ack), 0))
	e.end(c, EventReset, reasonBroken)
}

func (e *Engine) resetOne(c *conn, to Toward) {
	if r := c.recall; r.resets < resetMost {
		r.resets++
		e.sendRST(c, to)
	}
}

// overhear follows a packet of a recalled connection. All go on but one: an octet
// of garbage in a keep-alive (RFC 9293 section 3.8.4), in the place of a byte that
// the receiver may lack and would take it for.
func (e *Engine) overhear(c *conn, h *host, v packet.View, t packet.TCP, o *packet.TCPOptions) Action {
	if t.Has(packet.FlagRST) {
		peer := &c.src
		if h == peer {
			peer = &c.rcv
		}
		switch {
		case t.Seq() != peer.ack:
		case c.recall.endAt != 0: // what came of our own
			e.broken(c)
		default:
			e.end(c, EventReset, c.resetBy(h))
		}
		return Accept // else its receiver does not believe it either
	}
	if !t.Has(packet.FlagACK) {
		return Accept
	}
	c.lastWords(h, t)
	if c.another(h, t) {
		e.forgo(c, ErrReused)
		return Accept
	}
	e.hear(c, h, v, t, o)
	if r := c.recall; r != nil && h == &c.src && len(t.Payload()) == 1 && t.Seq().Add(1) == r.promised {
		return Drop
	}
	return Accept
}

// another tells whether a segment is of another connection than the one that is
// recalled, whose ports are in use again.
func (c *conn) another(h *host, t packet.TCP) bool {
	r := c.recall
	if h == &c.src {
		d := t.Seq().Diff(h.max)
		return d > recallFar || d < -recallFar
	}
	d := t.Ack().Diff(r.promised)
	return d > recallFar || t.Ack().Diff(r.floor) < -recallFar
}

// hear takes note of what an end says.
func (e *Engine) hear(c *conn, h *host, v packet.View, t packet.TCP, o *packet.TCPOptions) {
	r := c.recall
	if h == &c.src && c.hearsMore(e.now, o) {
		e.forgo(c, ErrOneWay)
		return
	}
	h.from(v, t, o)
	h.max = packet.MaxSeq(h.max, t.Seq().Add(t.SegLen()))
	if h == &c.src {
		h.ack = packet.MaxSeq(h.ack, t.Ack())
		if r.endAt != 0 {
			h.ack = t.Ack()
			e.resetOne(c, ToSource)
		}
		e.lookAfter(c)
		return
	}
	c.elsewhere = 0
	ack := t.Ack()
	switch {
	case ack.AtLeast(r.promised):
		// Also if it is another connection by now: then there is nothing to do
		// for this one.
		e.rely(c)
		return
	case ack.Before(r.floor):
		return // an old one
	case ack.After(h.ack):
		h.ack, r.moved = ack, e.now
		if r.endAt == 0 {
			r.sure = 0 // some is arriving
		}
	}
	r.heard = true
	switch {
	case r.endAt != 0:
		h.ack = ack
		e.resetOne(c, ToReceiver)
	case r.sure != 0 && e.now >= r.sure && ack == h.ack:
		r.endAt = e.now + resetFor
		e.resetBoth(c)
	}
	e.lookAfter(c)
}

// hearsMore tells whether the source goes on hearing the receiver by another way
// than by here: it echoes later and later time stamps (RFC 7323 section 3), for
// elsewhereTime, of which none was seen. One alone may have passed while there was
// no process.
func (c *conn) hearsMore(now instant, o *packet.TCPOptions) bool {
	r := c.recall
	switch {
	case !c.ts || !o.HasTimestamps || int32(o.TSEcr-c.rcv.tsval) <= 0:
		return false
	case c.elsewhere == 0:
		c.elsewhere, r.echo = now, o.TSEcr
		return false
	}
	return now >= c.elsewhereAt() && int32(o.TSEcr-r.echo) > 0
}

// rely gives a connection whose receiver has everything back to its ends.
func (e *Engine) rely(c *conn) {
	c.recall.healed = true
	c.left = ErrRecalled
	e.unrecall(c, reasonHealed)
}

// forgo forgets a connection of which nothing is known that would justify a reset.
func (e *Engine) forgo(c *conn, why error) {
	c.left = why
	e.unrecall(c, why.Error())
}

func (e *Engine) unrecall(c *conn, why string) {
	c.state, c.reason = LeftAlone, why
	e.event(c, EventLeftAlone, why)
	e.release(c)
	c.recall, c.elsewhere = nil, 0
	e.schedule(c)
}
