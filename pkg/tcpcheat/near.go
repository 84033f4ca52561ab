package tcpcheat

import (
	"strings"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// near is the treatment that takes no byte in hand: whatever it does, the two
// ends could have done it themselves, so it can end at any moment. It paces and
// thins the acknowledgements on their way to the source, and fills holes at the
// receiver.
type near struct {
	Params
	mss    int // payload of a full segment
	header int // IP and TCP header of a full segment
	thin   thinner
	pace   pacing
	detour detour
	fill   *filler
}

// newNear begins the treatment of an established connection.
func newNear(c *conn, p Params) *near {
	n := &near{Params: p}
	n.mss, n.header = c.segment()
	return n
}

// what says what is done, for the operator.
func (n *near) what() string {
	var did []string
	if n == nil {
		return ""
	}
	if n.Mode == Pace {
		did = append(did, "paced")
	}
	if n.Thin {
		did = append(did, "ACKs thinned")
	}
	switch {
	case n.fill == nil:
	case n.fill.refused != nil:
		did = append(did, "holes not filled: "+n.fill.refused.Error())
	default:
		did = append(did, "holes filled")
	}
	return strings.Join(did, ", ")
}

// segment is the payload of a full segment of the source, and the length of its
// IP and TCP headers.
func (c *conn) segment() (mss, header int) {
	mss = int(min(orDefault(c.src.mss), orDefault(c.rcv.mss)))
	ip, tcp := 40, 20
	if c.key.Is4() {
		ip = 20
	}
	if c.ts {
		mss, tcp = mss-12, 32
	}
	return max(mss, 64), ip + tcp
}

// nearData sees a segment of the source on its way to the receiver, before the
// state of the connection takes note of it.
func (e *Engine) nearData(c *conn, v packet.View, t packet.TCP) {
	if c.near.Thin {
		c.near.thin.data(e.now, t.Seq().Add(t.SegLen()))
	}
	if c.near.Mode == Pace {
		e.paceData(c, v, t)
	}
}

// ackOf is a segment of the receiver, and what is new in it.
type ackOf struct {
	v     packet.View
	t     packet.TCP
	o     *packet.TCPOptions
	meta  Meta
	ack   packet.Seq
	win   int        // bytes; of a connection without a known handshake, the bare field
	news  bool       // it acknowledges more than any before
	fresh bool       // it is not older than one before
	was   packet.Seq // the receiver's right edge before it
}

// nearAck decides what the source sees of a segment of the receiver.
func (e *Engine) nearAck(c *conn, a *ackOf) Action {
	e.fillAck(c, a)
	if c.near.Thin && e.thin(c, a) == thinKeep {
		return Drop
	}
	return e.inTurn(c, a, e.onward(c, a))
}

// onward is what is done with a segment of the receiver that goes to the
// source now.
func (e *Engine) onward(c *conn, a *ackOf) Action {
	if c.near.Mode == Pace {
		return e.paceAck(c, a)
	}
	c.given(a.ack, a.win)
	return Accept
}

// nearDue does what time allows, after each packet and at each deadline.
func (e *Engine) nearDue(c *conn) {
	if e.now >= c.near.thin.due() {
		e.owed(c)
	}
	e.paceDue(c)
	e.fillDue(c)
}

// nearAt is when nearDue wants to be called.
func (e *Engine) nearAt(c *conn) instant {
	n, now := c.near, e.now
	at := min(n.thin.due(), e.paceAt(c))
	if n.fill != nil {
		at = min(at, n.fill.deadline(now))
	}
	return at
}

// endNear ends the treatment: the last word to the source, so that the
// connection goes on as if nobody had been there.
func (e *Engine) endNear(c *conn) {
	if c.near == nil {
		return
	}
	e.owed(c)
	if c.near.Mode == Pace && c.ch == nil {
		e.endPace(c)
	}
	c.stats.Mode = c.near.Mode
	c.near = nil
}

// giveBack ends the treatment of a connection that is not cheated otherwise.
func (e *Engine) giveBack(c *conn, why string) {
	e.endNear(c)
	c.state, c.reason = Watched, why
	e.event(c, EventDrained, why)
	e.schedule(c)
}

// pumpNear is pump for a connection that has nothing but this treatment.
func (e *Engine) pumpNear(c *conn) {
	e.nearDue(c)
	at := c.last + e.patience(c)
	if e.now >= at {
		e.silent(c)
		return
	}
	e.timers.schedule(c, max(min(at, c.contradictedAt(), c.askAt(), e.nearAt(c)), e.now+1))
}

// pickUp follows a connection from the middle. Its window scale is not known,
// nor what options were negotiated.
func (e *Engine) pickUp(c *conn, fromSource bool, t packet.TCP, o *packet.TCPOptions) {
	h, peer := &c.src, &c.rcv
	if !fromSource {
		h, peer = peer, h
	}
	h.max, h.ack = t.Seq(), t.Ack()
	peer.max, peer.ack = t.Ack(), t.Seq()
	h.next, peer.next = h.max, peer.max
	if o.HasTimestamps {
		h.tsval, peer.tsval = o.TSVal, o.TSEcr
		h.stamp, peer.stamp = o.TSVal, o.TSEcr
		c.ts = true
	}
	h.shift, peer.shift = -1, -1
	c.passed, c.edge, c.offered = c.rcv.ack, c.rcv.ack, c.rcv.ack
	c.state, c.midway = Watched, true
}
