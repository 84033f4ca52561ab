package tcpcheat

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Promise is what has to be known of a cheated connection to end it well if the
// process dies: what the source was told on the receiver's behalf, what the
// receiver has said itself, and the numbers of segments that the two ends must
// believe (RFC 9293 sections 3.5.2 and 3.10.7.4, RFC 5961 section 3.2).
type Promise struct {
	Key  packet.FlowKey // direction of the data
	Mode Mode

	Passed   packet.Seq // what is below the source takes for delivered
	Had      packet.Seq // what is below the receiver has acknowledged itself
	SrcMax   packet.Seq // end of what the source has sent
	SrcAck   packet.Seq // what the source expects next
	RcvMax   packet.Seq // end of what the receiver has sent
	Src, Rcv PromiseEnd
	RTT      time.Duration // to the receiver; 0: not known
	// Timestamps says that both SYNs had them.
	Timestamps bool
	// InHand says that what the receiver waits for was lost, as far as could be
	// seen, so that this process alone had it.
	InHand bool
	// At is when it was so, in seconds since what Record was told: after a while the
	// ports may be another connection's.
	At uint32
}

// Open is how many bytes the source takes for delivered that the receiver has not
// acknowledged.
func (p *Promise) Open() int { return max(p.Passed.Diff(p.Had), 0) }

// PromiseEnd is how the packets of one end look.
type PromiseEnd struct {
	TSVal, TSEcr uint32
	FlowLabel    uint32
	Win          uint16
	TTL, TOS     uint8
	DF           bool
}

// Recorder keeps promises where they outlive the process. It is called by the
// engine's worker: Put with every packet, so it must neither block nor allocate,
// and before anything is sent that makes the promise.
type Recorder interface {
	// Take finds a place for a connection; false if there is none.
	Take(key packet.FlowKey, mode Mode) (place int, ok bool)
	// Put notes how a connection stands. The promise is not kept.
	Put(place int, p *Promise)
	// Free gives a place back: nothing is promised any more.
	Free(place int)
}

// Record has the promises kept from now on, of connections that begin to be
// cheated later. They have their time since a moment that another process knows, too,
// by a clock that nobody sets.
func (e *Engine) Record(r Recorder, since time.Time) { e.recorder, e.since = r, since }

// place finds room to keep a connection's promises; false if there is none, and
// then it must not be cheated.
func (e *Engine) place(c *conn, mode Mode) bool {
	if e.recorder == nil || c.place != 0 {
		return true
	}
	n, ok := e.recorder.Take(c.key, mode)
	if ok {
		c.place = n + 1
	}
	return ok
}

// put keeps what is promised now.
func (e *Engine) put(c *conn) {
	if c.place == 0 {
		return
	}
	p := &e.promise
	*p = Promise{
		Key: c.key, Passed: c.passed, Had: c.rcv.ack, SrcMax: c.src.max, SrcAck: c.src.ack, RcvMax: c.rcv.max,
		Src: c.src.promise(), Rcv: c.rcv.promise(), RTT: c.rttRcv.smooth, Timestamps: c.ts,
		At: uint32(e.epoch.Add(e.now).Sub(e.since) / time.Second),
	}
	switch {
	case c.recall != nil:
		p.Mode, p.InHand = c.recall.mode, c.recall.inHand
		if !c.recall.heard {
			p.At = c.recall.at
		}
	case c.ch != nil:
		f := &c.ch.flight
		p.Mode = c.ch.Mode
		p.InHand = p.Mode == Reliable && !f.empty() && f.at(f.head).flags&sentLost != 0
	}
	e.recorder.Put(c.place-1, p)
}

// unplace ends what is kept of a connection.
func (e *Engine) unplace(c *conn) {
	if c.place != 0 {
		e.recorder.Free(c.place - 1)
		c.place = 0
	}
}

func (h *host) promise() PromiseEnd {
	return PromiseEnd{TSVal: h.tsval, TSEcr: h.tsecr, FlowLabel: h.flowLabel, Win: h.win, TTL: h.ttl, TOS: h.tos, DF: h.df}
}

// recallHost is the reverse of promise.
func (h *host) recallFrom(p *PromiseEnd) {
	h.tsval, h.stamp, h.tsecr, h.flowLabel = p.TSVal, p.TSVal, p.TSEcr, p.FlowLabel
	h.win, h.ttl, h.tos, h.df = p.Win, p.TTL, p.TOS, p.DF
}
