package tcpcheat

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// unseenTime is how long an end may have acknowledged more than the other end
// was seen to send. Packets may pass unseen while the queue's rules stand open,
// or when the queue overflows; what the other end sends next then shows it.
const unseenTime = 250 * time.Millisecond

// neverSent notes that data of h beyond all that it sent here is acknowledged.
func (e *Engine) neverSent(c *conn, h *host, ack packet.Seq) {
	c.stats.Contradictions++
	if h.claimAt == 0 {
		h.claim, h.claimAt = ack, e.now
		e.timers.schedule(c, e.now+unseenTime)
	}
	h.claim = packet.MaxSeq(h.claim, ack)
}

// show takes note that a host has sent up to end.
func (h *host) show(end packet.Seq) {
	if h.claimAt != 0 && end.AtLeast(h.claim) {
		h.claimAt = 0
	}
}

// contradictedAt is when a claim that stands ends the cheating.
func (c *conn) contradictedAt() instant {
	at := never
	for _, h := range [2]*host{&c.src, &c.rcv} {
		if h.claimAt != 0 {
			at = min(at, h.claimAt+unseenTime)
		}
	}
	return at
}

// contradicted lets a connection alone whose ends speak of what was never seen.
// What is in hand is delivered first, and if that cannot be, both are told.
func (e *Engine) contradicted(c *conn) {
	c.src.claimAt, c.rcv.claimAt = 0, 0
	e.leave(c, ErrNeverSent)
}
