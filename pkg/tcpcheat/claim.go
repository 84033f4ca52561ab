package tcpcheat

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Packets may pass unseen while the queue's rules stand open, or when the queue
// overflows: then an end acknowledges more than the other one was seen to send.
// What the other end sends next shows the truth, but for what was reordered on
// its way; if it says nothing, a silence of unseenTime speaks against it.
const (
	overtaken  = 100 * time.Millisecond
	unseenTime = doubtFor
)

// neverSent notes that data of h beyond all that it sent here is acknowledged.
func (e *Engine) neverSent(c *conn, h *host, ack packet.Seq) {
	c.stats.Contradictions++
	if h.claimAt == 0 {
		h.claim, h.claimAt, h.claimDue = ack, e.now, e.now+unseenTime
		e.timers.schedule(c, e.now+unseenTime)
	}
	h.claim = packet.MaxSeq(h.claim, ack)
}

// show takes note that a host has sent from seq up to end. What is new of it and
// below the claim refutes that: there is nothing beyond yet.
func (h *host) show(now instant, seq, end packet.Seq) {
	switch {
	case h.claimAt == 0:
	case end.AtLeast(h.claim):
		h.claimAt = 0
	case seq.AtLeast(h.max) && now >= h.claimAt+overtaken:
		h.claimDue = now
	}
}

// contradictedAt is when a claim that stands ends the cheating.
func (c *conn) contradictedAt() instant {
	at := c.elsewhereAt()
	for _, h := range [2]*host{&c.src, &c.rcv} {
		if h.claimAt != 0 {
			at = min(at, h.claimDue)
		}
	}
	return at
}

// contradicted lets a connection alone whose ends speak of what was never seen.
// What is in hand is delivered first, and if that cannot be, both are told.
func (e *Engine) contradicted(c *conn) {
	if e.now >= c.elsewhereAt() {
		e.deaf(c)
		return
	}
	c.src.claimAt, c.rcv.claimAt = 0, 0
	e.leave(c, ErrNeverSent)
}
