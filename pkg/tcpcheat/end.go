package tcpcheat

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// vet is vet for segments after the handshake; RFC 7323 section 3.2 wants
// timestamps on all of them once negotiated.
func (c *conn) vet(t packet.TCP, o *packet.TCPOptions, ok bool) error {
	if err := vet(t, o, ok); err != nil {
		return err
	}
	if c.ts && !o.HasTimestamps {
		return ErrTimestamps
	}
	return nil
}

// leave lets a connection alone for its life. Bytes in hand are delivered
// first.
func (e *Engine) leave(c *conn, why error) {
	switch c.state {
	case LeftAlone, Draining, Closed, Recalled: // what is promised is looked after whatever comes
		return
	case Cheated:
		c.left = why
		e.endNear(c)
		if c.ch == nil {
			break
		}
		e.drain(c, why.Error())
		return
	default:
	}
	c.left = why
	e.forgetEarly(c)
	c.state, c.reason = LeftAlone, why.Error()
	e.event(c, EventLeftAlone, c.reason)
	e.schedule(c)
}

// Leave lets a connection alone for a reason of the caller's, as if it had been
// found in its packets.
func (e *Engine) Leave(now time.Time, key packet.FlowKey, why error) {
	e.tick(now)
	if c := e.find(key); c != nil {
		e.leave(c, why)
		e.pump(c)
	}
}

// strayed lets a connection alone that does not go from one port of a bridge to
// another: it is routed in between and comes by twice, or its stations have moved,
// or there are two of the same name. True if the packet is not to be looked at: it
// may not be one of this connection.
func (e *Engine) strayed(c *conn, h, peer *host, port int) bool {
	switch {
	case port == 0, c.state == LeftAlone, c.state == Draining, c.state == Closed, c.state == Recalled:
		return false
	case h.port == 0 && peer.port == int32(port):
		e.leave(c, ErrOnePort)
		return true
	case h.port == 0:
		h.port = int32(port)
		return false
	case h.port == int32(port):
		return false
	}
	e.leave(c, ErrTwoPorts)
	return true
}

// lastWords notes the end of a connection that is let alone, until nobody has its
// packets come here any more: who looks after it then has not seen them.
func (c *conn) lastWords(h *host, t packet.TCP) {
	if t.Has(packet.FlagRST) {
		c.src.finSeen, c.rcv.finSeen = true, true
	}
	h.finSeen = h.finSeen || t.Has(packet.FlagFIN)
}

// fragment lets a connection alone whose packets come in fragments: what is in
// the later ones is not seen here.
func (e *Engine) fragment(v packet.View) {
	key, ok := v.FragmentKey()
	if !ok {
		return
	}
	if c := e.find(key); c != nil && c.state != Expected {
		e.leave(c, ErrFragment)
	}
}

// why is the error that Start gives for a connection that is left alone.
func (c *conn) why() error {
	if c.left != nil {
		return c.left
	}
	return ErrNoHandshake
}

// handBack ends a drain: the source gets a last word with the receiver's own
// window, and from now on the two ends speak for themselves.
func (e *Engine) handBack(c *conn) {
	ch := c.ch
	if ch.active && !c.src.finSeen && c.edge.After(c.offered) {
		ch.released = c.edge
		ch.Predict = false
		e.acknowledge(c, c.passed)
	}
	e.release(c)
	c.reason = ch.why
	c.state = Watched
	if c.left != nil {
		c.state = LeftAlone
	}
	e.event(c, EventDrained, c.reason)
	e.schedule(c)
}

// release gives back what cheating took.
func (e *Engine) release(c *conn) {
	e.unplace(c)
	e.forgetEarly(c)
	if c.near != nil {
		c.stats.Mode, c.near = c.near.Mode, nil
	}
	if c.ch != nil {
		c.ch.hold.drop(&e.pool)
		c.stats.sealed(c)
		e.totals.Withdrawals += c.ch.predict.withdrawals
		c.ch = nil
	}
}

// rst handles a reset. One that its receiver will not believe must not cost us
// the data in hand (RFC 5961 section 3.2), so the sequence number is checked.
// One that does not fit may yet be right, if data has passed here unseen: the
// silence that follows decides.
func (e *Engine) rst(c *conn, h, peer *host, t packet.TCP) Action {
	if c.state == Opening {
		e.end(c, EventReset, c.resetBy(h))
		return Accept
	}
	seq := t.Seq()
	if h == &c.rcv {
		if seq != peer.ack && seq != h.max {
			return e.doubt(c)
		}
		e.end(c, EventReset, reasonResetRcv)
		return Accept
	}
	if seq.Before(c.rcv.ack) || seq.After(packet.MaxSeq(c.src.max, c.offered)) {
		return e.doubt(c)
	}
	if c.ch != nil && seq != c.rcv.ack {
		// What lies between is lost to the receiver, which therefore takes the
		// source's own RST for out of window: one that fits goes with it.
		e.sendRST(c, ToReceiver)
	}
	e.end(c, EventReset, reasonResetSrc)
	return Accept
}

// doubt passes a reset on without believing it yet.
func (e *Engine) doubt(c *conn) Action {
	c.doubted = e.now
	e.timers.schedule(c, e.now+e.patience(c))
	return Accept
}

func (c *conn) resetBy(h *host) string {
	if h == &c.src {
		return reasonResetSrc
	}
	return reasonResetRcv
}

// sendRST makes a reset that its receiver must accept: its sequence number is
// exactly what that end expects (RFC 5961 section 3.2).
func (e *Engine) sendRST(c *conn, to Toward) {
	h, peer, key := &c.src, &c.rcv, c.key
	if to == ToSource {
		h, peer, key = peer, h, key.Reverse()
	}
	e.seg = packet.Segment{
		Key: key, TTL: h.ttl, TOS: h.tos, ID: h.nextID(), DF: h.df, FlowLabel: h.flowLabel,
		Seq: peer.ack, Ack: h.ack, Flags: packet.FlagRST | packet.FlagACK,
	}
	if to == ToSource {
		e.seg.Ack = c.passed
	}
	e.out.add(to, &e.seg)
	e.totals.Resets++
}

// abort resets both ends: bytes that the source believes delivered cannot be,
// and silence would be worse.
func (e *Engine) abort(c *conn, why string) {
	c.stats.Undelivered = uint64(max(c.passed.Diff(c.rcv.ack), 0))
	e.sendRST(c, ToSource)
	e.sendRST(c, ToReceiver)
	e.end(c, EventReset, why)
}

// end closes a connection's record; the entry stays for a short time so that
// late packets are recognised.
func (e *Engine) end(c *conn, kind EventKind, why string) {
	e.release(c)
	c.state, c.reason = Closed, why
	e.event(c, kind, why)
	c.recall = nil
	e.schedule(c)
}

// closing ends a connection when both FINs are acknowledged (RFC 9293 section
// 3.6). Each half stays open for as long as its end likes.
func (e *Engine) closing(c *conn) {
	if c.state == Closed || !c.src.finSeen || !c.rcv.finSeen {
		return
	}
	if c.rcv.ack.After(c.src.fin) && c.src.ack.After(c.rcv.fin) {
		e.end(c, EventEnded, reasonClosed)
	}
}

// renew turns an entry into that of a new connection.
func (e *Engine) renew(c *conn) {
	if c.state != Closed {
		e.event(c, EventReplaced, reasonReplaced)
	}
	e.release(c)
	next := conn{key: c.key, plain: c.plain, heap: c.heap, due: c.due, last: c.last}
	if c.state == Opening {
		next.want, next.unread = c.want, c.unread // the same attempt, tried again
	}
	*c = next
}

// remove takes a connection out of the table.
func (e *Engine) remove(c *conn, why string) {
	if c.ch != nil && c.passed.After(c.rcv.ack) && why == reasonIdle {
		c.stats.Undelivered = uint64(c.passed.Diff(c.rcv.ack))
	}
	e.release(c)
	if c.state != Closed && why != "" {
		c.state = Closed
		e.event(c, EventEnded, why)
	}
	e.timers.remove(c)
	k, _ := c.key.Canonical()
	delete(e.conns, k)
}
