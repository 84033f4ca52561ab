package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// blocked tells whether the source has used up its window and nothing is under
// way that would make the receiver speak: its window update may have been lost
// (RFC 9293 section 3.8.6.1), and the source's own probes end here.
func (c *conn) blocked() bool {
	ch := c.ch
	// What the window field cannot express, the source does not have.
	return c.state == Cheated && ch.active && c.offered.Diff(ch.next) < ch.mss+1<<c.shiftRcv() &&
		(ch.Mode == Realtime || ch.flight.empty()) &&
		(!c.src.finSeen || ch.next != c.src.fin)
}

func (c *conn) probeAt() instant {
	ch := c.ch
	if ch.Mode == Realtime && ch.owed != 0 {
		// The end of the data may be lost, and then nothing else tells of it.
		return max(ch.progress, ch.owed, ch.probed) + min(c.rttRcv.timeout()<<ch.probes, maxRTO)
	}
	if !c.blocked() {
		return never
	}
	return max(ch.alive, ch.probed) + min(c.rttRcv.timeout()<<ch.probes, maxRTO)
}

// probe asks the receiver for an acknowledgement: a segment without data from
// below its window, which it must answer (RFC 9293 section 3.10.7.4).
func (e *Engine) probe(c *conn) {
	ch := c.ch
	ch.probed = e.now
	ch.probes = min(ch.probes+1, 16)
	opt := e.opts[:0]
	if c.ts {
		opt = packet.AppendTimestamps(opt, c.src.tsval, c.src.tsecr)
	}
	e.seg = packet.Segment{
		Key: c.key, TTL: c.src.ttl, TOS: c.src.tos, ID: c.src.nextID(),
		DF: c.src.df, FlowLabel: c.src.flowLabel,
		Seq: c.rcv.ack.Add(-1), Ack: c.src.ack, Flags: packet.FlagACK, Window: c.src.win, Options: opt,
	}
	e.out.add(ToReceiver, &e.seg)
	if ch.Mode == Realtime && c.passed.After(c.rcv.ack) {
		// And one whose number says how far the data went, for the box that
		// fills the holes at the receiver's side.
		e.seg.Seq, e.seg.ID = c.passed, c.src.nextID()
		e.out.add(ToReceiver, &e.seg)
	}
	c.stats.ReceiverProbes++
}

// owes follows since when the source believes more delivered than is, and since
// when something waits for the receiver at all: a source that was silent for
// long has not made its receiver a silent one.
func (c *conn) owes(now instant) {
	ch := c.ch
	switch {
	case !c.waits():
		ch.waiting = 0
	case ch.waiting == 0:
		ch.waiting = now
	}
	switch {
	case !c.passed.After(c.rcv.ack):
		ch.owed = 0
	case ch.owed == 0:
		ch.owed = now
	}
}
