package tcpcheat

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// pump does for a connection what time and state allow, after each packet and
// at each deadline.
func (e *Engine) pump(c *conn) {
	if c.recall != nil {
		e.lookAfter(c)
		return
	}
	if e.now >= c.contradictedAt() {
		e.contradicted(c)
	}
	e.askSource(c)
	switch {
	case c.ch == nil && c.near == nil:
		e.expire(c)
		return
	case c.ch == nil:
		e.pumpNear(c)
		return
	case c.near != nil:
		e.nearDue(c)
	}
	ch := c.ch
	waiting := false
	c.blindly(e.now)
	if ch.active {
		waiting = e.progress(c)
		e.due(c)
		ch.pend.trim(c.passed)
		c.owes(e.now)
		if e.now >= c.probeAt() {
			e.probe(c)
		}
		if e.now >= c.rescueAt() {
			e.overdue(c)
		}
	}
	switch {
	case e.now >= c.last+e.patience(c):
		e.silent(c)
		return
	case e.now >= c.giveUpAt(e.lim.NoProgress):
		e.abort(c, reasonNoProgress)
		return
	case c.state == Draining && c.drained(e.now):
		e.handBack(c)
		return
	}
	e.wake(c, waiting)
	e.put(c)
}

// progress spends the tokens there are, lost segments first; true if one of
// them waits for more.
func (e *Engine) progress(c *conn) (waiting bool) {
	c.ch.bucket.refill(e.now)
	if c.ch.Mode == Reliable {
		waiting = e.repair(c)
	}
	if !waiting {
		c.pay(e.now)
	}
	c.stalled(e.now)
	return waiting
}

// repair runs the loss recovery; true if a retransmission waits for tokens.
func (e *Engine) repair(c *conn) bool {
	r := &c.ch.rto
	if r.scanDue || e.now >= r.detectAt {
		c.detect(e.now)
	}
	if e.now >= c.tailAt() {
		e.probeTail(c)
	} else if e.now >= c.timeoutAt() {
		e.timeout(c)
	}
	return e.resend(c)
}

// giveUpAt is when the receiver counts as gone (R2, RFC 9293 section 3.8.3).
// One that answers with a closed window is not gone (section 3.8.6.1).
func (c *conn) giveUpAt(limit time.Duration) instant {
	ch := c.ch
	if !ch.active || ch.blind || !c.waits() {
		return never
	}
	since := max(ch.progress, ch.waiting)
	if c.edge.AtMost(c.rcv.ack) {
		since = max(since, ch.alive)
	}
	return since + limit
}

// waits tells whether there is something for the receiver to acknowledge. Where
// it lacks what never passed here it is the source who has to speak, in its time.
func (c *conn) waits() bool {
	f := &c.ch.flight
	return c.passed.After(c.rcv.ack) || !f.empty() && f.at(f.head).flags&sentAbsent == 0
}

// wake sets the deadline of a cheated flow.
func (e *Engine) wake(c *conn, waiting bool) {
	ch := c.ch
	at := min(c.last+e.patience(c), c.giveUpAt(e.lim.NoProgress), c.contradictedAt(), c.askAt())
	if ch.active {
		at = min(at, c.agesAt(), c.stallAt(), c.probeAt(), c.rescueAt())
		if waiting {
			at = min(at, e.now+ch.bucket.wait(float64(ch.cost(ch.mss))))
		} else {
			at = min(at, ch.payAt(e.now))
		}
		if ch.reack {
			at = min(at, ch.reackAt)
		}
		if ch.Mode == Reliable {
			at = min(at, ch.rto.detectAt, c.timeoutAt(), c.tailAt())
		}
	}
	if ch.blind {
		at = min(at, ch.roundAt)
	}
	if c.near != nil {
		at = min(at, e.nearAt(c))
	}
	e.timers.schedule(c, max(at, e.now+1))
}

// patience is how long a connection may be silent.
func (e *Engine) patience(c *conn) time.Duration {
	if c.doubted != 0 && c.doubted == c.last && c.state != Closed {
		return min(e.lim.Idle, doubtFor)
	}
	switch c.state {
	case Closed:
		return e.lim.Linger
	case Expected, Opening:
		return min(e.lim.Idle, 2*time.Minute)
	default:
		return e.lim.Idle
	}
}

// schedule sets the deadline of a connection that is not cheated.
func (e *Engine) schedule(c *conn) {
	e.timers.schedule(c, max(min(c.last+e.patience(c), c.contradictedAt()), e.now+1))
}

// expire removes a connection that has been silent for too long.
func (e *Engine) expire(c *conn) {
	if e.now >= c.last+e.patience(c) {
		e.silent(c)
		return
	}
	e.schedule(c)
}

// silent ends a connection that said nothing for too long.
func (e *Engine) silent(c *conn) {
	switch {
	case c.state == Closed || c.doubted == 0 || c.doubted != c.last:
		e.remove(c, reasonIdle)
	case c.ch != nil && c.passed.After(c.rcv.ack):
		e.abort(c, reasonDoubted)
	default:
		e.end(c, EventReset, reasonDoubted)
	}
}

// drained tells whether the two ends agree again.
func (c *conn) drained(now instant) bool {
	if c.ch.blind {
		return c.done(now)
	}
	return c.rcv.ack.AtLeast(c.passed) && (c.passed.AtLeast(c.ch.stop) || !c.ch.active)
}

// drain stops taking data in hand (tcp.md 2.9). Reliable still acknowledges
// what it holds; realtime acknowledges nothing more.
func (e *Engine) drain(c *conn, why string) {
	c.state, c.ch.why, c.reason = Draining, why, why
	c.ch.stop = c.passed
	if c.ch.Mode == Reliable && c.ch.active {
		c.ch.stop = packet.MaxSeq(c.passed, c.ch.next)
	}
	if c.ch.Mode == Reliable {
		c.ch.reno.begin(c.ch.mss) // nothing reserves what is sent from now on
	}
	e.event(c, EventDraining, why)
}
