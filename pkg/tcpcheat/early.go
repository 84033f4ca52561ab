package tcpcheat

import (
	"bytes"
	"time"

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
	seq   packet.Seq
	ts    uint32
	first instant // when its source sent it first
	at    instant // and last
	again bool    // and that was not the first time
	newTS bool    // its last copy has another TSval than the one before
	data  []byte
}

// handover is the repair of early segments in realtime, which holds nothing
// else: what is lost of them is sent again as long as they are not acknowledged.
type handover struct {
	due   instant // when the silence about them counts as a loss; 0: there are none
	tries uint
	told  bool // the receiver has reported what lies behind them
}

// remember keeps a segment of a watched connection.
func (e *Engine) remember(c *conn, seq packet.Seq, data []byte, ts uint32) {
	if c.tooMuch || len(data) == 0 {
		return
	}
	for i := range c.early {
		if k := &c.early[i]; k.seq == seq && len(k.data) == len(data) {
			k.newTS = k.ts != ts // sent again by its source
			k.ts, k.at, k.again = ts, e.now, true
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
	c.early = append(c.early, early{seq: seq, ts: ts, first: e.now, at: e.now, data: append([]byte(nil), data...)})
	c.earlyBytes += len(data)
	e.early += len(data)
}

// discard forgets what the receiver has acknowledged, and notes how long that took, with
// all that was lost meanwhile.
func (e *Engine) discard(c *conn, acked packet.Seq) {
	kept := c.early[:0]
	for _, k := range c.early {
		if k.seq.Add(len(k.data)).AtMost(acked) {
			c.waited = max(c.waited, e.now-k.first)
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

// longWait is a silence that a person notices, and oldNews how old what the receiver
// says can be at most.
const (
	longWait = time.Second
	oldNews  = 5 * time.Second
)

// takeOver has a flow that begins to be cheated answer for what is on its way
// already, if all of it was kept. It is sent again only if it is lost, or if there is
// no time to find out: in reliable mode by the loss recovery, for which it counts as
// sent when its source sent it, in realtime by rescue.
func (e *Engine) takeOver(c *conn) {
	e.discard(c, c.rcv.ack)
	ch := c.ch
	if !c.ours() {
		e.forgetEarly(c)
		return
	}
	for i := range c.early {
		k := &c.early[i]
		e.arrive(c, ch.header, k.seq, k.data, k.ts)
		ch.flight.sentBefore(k)
	}
	if len(c.early) == 0 {
		return
	}
	proof, hurry := c.hurry(e.now)
	c.waited = 0 // what comes after this cheating is judged anew
	switch {
	case ch.Mode == Reliable && hurry:
		for i := ch.flight.head; i != ch.flight.tail; i++ {
			ch.flight.setLost(i)
		}
		ch.rto.copied = ch.flight.end()
		ch.predict.excuse(e.now+proof, ch.flight.lost)
		e.forgetEarly(c)
	case hurry:
		before := c.stats.Retransmits
		e.rescue(c)
		ch.predict.excuse(e.now+proof, int(c.stats.Retransmits-before))
	case ch.Mode == Reliable:
		// RFC 6298 section 5 and RFC 8985 section 7.2 count from when they were
		// sent. What is overdue by now is due at once.
		ch.rto.base, ch.tail.base = c.early[0].at, c.early[len(c.early)-1].at
		e.forgetEarly(c)
	default:
		ch.early.due = max(c.early[len(c.early)-1].at+c.rttRcv.timeout(), e.now+1)
	}
}

// hurry tells how long the proof takes of what is lost of what is on its way, and
// whether that is too long: then it is sent once more at once, and now under the
// reservation. Until a hole is filled the receiver takes no more than the window
// that it has offered, and what the source sends beyond is discarded: all that the
// reserved rate brings in that time would have to be sent again. The copies are maxEarly
// at most, each time that cheating begins.
func (c *conn) hurry(now instant) (proof time.Duration, yes bool) {
	proof = min(max(c.rttRcv.timeout(), c.waited, now-c.early[0].first), oldNews)
	return proof, proof >= longWait && c.ch.Rate*proof.Seconds() > float64(c.edge.Diff(c.rcv.ack))
}

// ours tells whether all that is on its way was kept.
func (c *conn) ours() bool {
	segments := 0
	edge, whole := c.once(func(_ packet.Seq, data []byte) { segments += (len(data) + c.ch.mss - 1) / c.ch.mss })
	if c.ch.Mode == Realtime && segments > maxBurst {
		return false // more than may be sent at once, if need be
	}
	return whole && edge == c.src.max && !c.tooMuch
}

// once calls each with what is kept and not acknowledged, no byte twice: of what its
// source repeated in other pieces there are several copies. It returns where that ends,
// and false if a hole is before it: that is for the two ends to repair.
func (c *conn) once(each func(seq packet.Seq, data []byte)) (edge packet.Seq, whole bool) {
	edge = c.rcv.ack
	for _, k := range c.early {
		end := k.seq.Add(len(k.data))
		if end.AtMost(edge) {
			continue
		}
		if k.seq.After(edge) {
			return edge, false
		}
		each(edge, k.data[edge.Diff(k.seq):])
		edge = end
	}
	return edge, true
}

// sentBefore gives the records of an early segment the time at which it was sent.
// One that its source repeated counts as sent again (Karn, RFC 6298 section 3).
func (f *flight) sentBefore(k *early) {
	end := k.seq.Add(len(k.data))
	for i := f.find(k.seq); i != f.tail && f.at(i).end.AtMost(end); i++ {
		s := f.at(i)
		if s.flags&sentAbsent != 0 {
			continue
		}
		s.at = k.at
		if k.again {
			s.rtx = 1
		}
		if k.newTS {
			s.flags |= sentNewTS
		}
	}
}

// rescue sends the early segments of a realtime flow that are not acknowledged
// again.
func (e *Engine) rescue(c *conn) {
	c.ch.early.due = e.now + min(c.rttRcv.timeout()<<c.ch.early.tries, maxRTO)
	c.once(func(seq packet.Seq, data []byte) { e.sendData(c, seq, data) })
}

// overdue is the timeout of RFC 6298 section 5 for them.
func (e *Engine) overdue(c *conn) {
	h := &c.ch.early
	h.tries = min(h.tries+1, 16)
	c.stats.Timeouts++
	e.totals.Timeouts++
	e.rescue(c)
}

// rescued takes note that the receiver has acknowledged more.
func (e *Engine) rescued(c *conn) {
	if c.ch.early.due == 0 {
		return
	}
	c.ch.early = handover{}
	if e.discard(c, c.rcv.ack); len(c.early) > 0 {
		c.ch.early.due = e.now + c.rttRcv.timeout()
	}
}

// rescueAt is when it is due.
func (c *conn) rescueAt() instant {
	if c.ch.early.due == 0 {
		return never
	}
	return c.ch.early.due
}

// sendData sends bytes of the source once more, in segments.
func (e *Engine) sendData(c *conn, seq packet.Seq, data []byte) {
	for len(data) > 0 {
		n := min(len(data), c.ch.cut())
		e.speak(c, seq, packet.FlagACK|packet.FlagPSH, data[:n])
		e.resent(c, n)
		seq, data = seq.Add(n), data[n:]
	}
}
