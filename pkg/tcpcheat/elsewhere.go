package tcpcheat

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Routes may change such that the way back does not lead by here any more. The source
// then shows that it hears the receiver, and nothing of the receiver is heard here.
// What that acknowledges is never known again, and the source may have been told of
// bytes that the receiver lacks. Unless the source shows that it does not, what is held
// of them is sent some times more, and then the two are left to themselves. A reset
// would end a connection that works.
const (
	// elsewhereTime is how long that has to be so. While the queue rules stand open,
	// segments of the receiver pass unseen too, and then there is another one.
	elsewhereTime = 3 * time.Second
	// unsureTime is how long something is promised for the receiver meanwhile.
	unsureTime = time.Second
	// blindRounds is how often what is held is sent again.
	blindRounds = 3
	leastRound  = 500 * time.Millisecond
)

// listen looks whether a segment of the source tells of the receiver what was not
// heard here: a later time stamp (RFC 7323 section 3: it echoes what it was sent), or
// more room than it was ever offered.
func (c *conn) listen(now instant, t packet.TCP, o *packet.TCPOptions) {
	switch {
	case c.ch == nil || !c.ch.active || c.ch.blind:
		return
	case c.elsewhere != 0:
		c.unsure = now >= c.elsewhere+unsureTime
		return
	}
	later := c.ts && o.HasTimestamps && t.Has(packet.FlagACK) && int32(o.TSEcr-c.rcv.tsval) > 0
	// One byte there is a probe.
	beyond := len(t.Payload()) > 1 && t.Seq().AtLeast(c.offered)
	if later || beyond {
		c.elsewhere = now
	}
}

// elsewhereAt is when the receiver counts as one that speaks by another way.
func (c *conn) elsewhereAt() instant {
	if c.elsewhere == 0 {
		return never
	}
	return c.elsewhere + elsewhereTime
}

// deaf lets a connection alone whose receiver is not heard any more.
func (e *Engine) deaf(c *conn) {
	c.elsewhere, c.unsure = 0, false
	ch := c.ch
	if ch == nil {
		return
	}
	e.leave(c, ErrOneWay)
	c.left, c.reason, ch.why = ErrOneWay, ErrOneWay.Error(), ErrOneWay.Error()
	ch.blind, ch.rounds, ch.roundAt = true, 0, e.now
	ch.stop = c.passed  // nothing more is promised
	ch.reno = newReno{} // which waits for acknowledgements
	ch.bucket.at = e.now
}

// blindly sends what is held and was acknowledged for the receiver once more, when
// that is due.
func (c *conn) blindly(now instant) {
	ch := c.ch
	f := &ch.flight
	switch {
	case !ch.blind:
		return
	case f.lost > 0: // it is being sent still
		ch.roundAt = now + max(c.rttRcv.timeout(), leastRound)
		return
	case now < ch.roundAt, ch.rounds == blindRounds:
		return
	}
	ch.rounds++
	ch.roundAt = now + max(c.rttRcv.timeout(), leastRound)
	for i := f.head; i != f.tail && f.from(i).Before(c.passed); i++ {
		f.setLost(i)
	}
}

// done tells whether there is no more to be done for a receiver that is not heard.
func (c *conn) done(now instant) bool {
	ch := c.ch
	return ch.Mode == Realtime || ch.proven || ch.flight.empty() || ch.rounds == blindRounds && ch.flight.lost == 0 && now >= ch.roundAt
}
