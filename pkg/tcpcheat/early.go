package tcpcheat

import (
	"bytes"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// maxEarly is how much of a connection that waits for its reservation is kept,
// in bytes: a few initial windows (RFC 6928). One that has more on its way does
// without.
const maxEarly = 64 << 10

// early is a segment that was sent before the reservation was in place, as best
// effort. Some of these are lost where best effort is crowded, and their
// source would need seconds to find out. A copy of each is kept until the
// receiver has acknowledged it, so that Start can take over all that is on its
// way.
type early struct {
	seq  packet.Seq
	ts   uint32
	data []byte
}

// remember keeps a segment of a watched connection.
func (e *Engine) remember(c *conn, seq packet.Seq, data []byte, ts uint32) {
	if c.tooMuch || len(data) == 0 {
		return
	}
	e.discard(c, c.rcv.ack)
	for i := range c.early {
		if k := &c.early[i]; k.seq == seq && len(k.data) == len(data) {
			k.ts = ts // sent again by its source
			if len(data) > 1 && !bytes.Equal(k.data, data) {
				e.leave(c, ErrChanged)
			}
			return
		}
	}
	if c.earlyBytes+len(data) > maxEarly || e.early+len(data) > e.lim.Buffered/4 {
		c.tooMuch = true
		e.forgetEarly(c)
		return
	}
	c.early = append(c.early, early{seq: seq, ts: ts, data: append([]byte(nil), data...)})
	c.earlyBytes += len(data)
	e.early += len(data)
}

// discard forgets what the receiver has acknowledged.
func (e *Engine) discard(c *conn, acked packet.Seq) {
	kept := c.early[:0]
	for _, k := range c.early {
		if k.seq.Add(len(k.data)).AtMost(acked) {
			c.earlyBytes -= len(k.data)
			e.early -= len(k.data)
			continue
		}
		kept = append(kept, k)
	}
	clear(c.early[len(kept):])
	c.early = kept
}

func (e *Engine) forgetEarly(c *conn) {
	e.early -= c.earlyBytes
	c.early, c.earlyBytes = nil, 0
}

// takeOver has a flow that begins to be cheated answer for what is on its way
// already, if all of it was kept. It is sent once more, now within the
// reservation: the receiver ignores what it has.
func (e *Engine) takeOver(c *conn) {
	defer e.forgetEarly(c)
	e.discard(c, c.rcv.ack)
	edge := c.rcv.ack
	for _, k := range c.early {
		if k.seq.After(edge) {
			return // a hole: the two ends repair it
		}
		edge = packet.MaxSeq(edge, k.seq.Add(len(k.data)))
	}
	if edge != c.src.max || c.tooMuch {
		return
	}
	ch := c.ch
	if ch.Mode == Realtime && len(c.early)+edge.Diff(c.rcv.ack)/ch.mss > maxBurst {
		return // too many small ones to be sent at once; nothing is held to do it later
	}
	for _, k := range c.early {
		e.arrive(c, ch.header, k.seq, k.data, k.ts)
		if ch.Mode == Realtime {
			e.sendData(c, k.seq, k.data)
		}
	}
	if ch.Mode == Reliable {
		f := &ch.flight
		for i := f.head; i != f.tail; i++ {
			f.setLost(i)
		}
	}
}

// sendData sends bytes of the source once more, in segments.
func (e *Engine) sendData(c *conn, seq packet.Seq, data []byte) {
	for len(data) > 0 {
		n := min(len(data), c.ch.mss)
		e.speak(c, seq, packet.FlagACK|packet.FlagPSH, data[:n])
		e.resent(c, n)
		seq, data = seq.Add(n), data[n:]
	}
}
