package tcpcheat

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// tail is the loss probe of RFC 8985 section 7: when the last segments of a
// flight are lost nothing that arrives later tells of it. The highest one is
// sent once more, long before the timeout, and the answer to it tells.
type tail struct {
	end    packet.Seq // of the probe under way
	out    bool
	base   instant // the probe's time counts from here
	waited bool    // no round trip was measured since the last probe
}

// maxAckDelay is what a receiver may wait with the answer to a lone segment.
const maxAckDelay = 200 * time.Millisecond

// tailAt is when the probe goes (RFC 8985 section 7.2). Never, while loss
// recovery goes on or anything was reported: what arrived later tells enough.
func (c *conn) tailAt() instant {
	f, r, t := &c.ch.flight, &c.ch.rto, &c.ch.tail
	if !c.sack || t.out || t.waited || f.empty() || f.lost > 0 || f.sacked > 0 || f.absent > 0 || r.backoff > 0 {
		return never
	}
	if c.edge.Before(f.at(f.head).end) {
		return never // a closed window is probed by the timeout
	}
	wait := initialRTO
	if c.rttRcv.smooth > 0 {
		wait = 2 * c.rttRcv.smooth
		if f.tail-f.head == 1 {
			wait += maxAckDelay
		}
	}
	return min(t.base+wait, c.timeoutAt())
}

// probeTail sends the highest segment that the receiver has room for once more
// (RFC 8985 section 7.3). The timeout counts anew from here.
func (e *Engine) probeTail(c *conn) {
	f, t := &c.ch.flight, &c.ch.tail
	i := f.tail - 1
	for i != f.head && f.at(i).end.After(c.edge) {
		i--
	}
	t.end, t.out, t.waited = f.at(i).end, true, true
	c.ch.rto.base = e.now
	c.stats.TailProbes++
	e.totals.TailProbes++
	e.again(c, i)
}

// probeAcked looks at an ACK for the answer to the probe (RFC 8985 section
// 7.4.2). If both copies arrived nothing was lost; if only one did, the loss
// has been repaired and counts for the congestion control all the same.
func (c *conn) probeAcked(now instant, ack packet.Seq, o *packet.TCPOptions, dup bool) {
	t := &c.ch.tail
	if !t.out || ack.Before(t.end) {
		return
	}
	switch dsack := o.NSACK > 0 && isDSACK(ack, o); {
	case dsack && o.SACK[0].Right == t.end:
		t.out = false
	case ack.After(t.end):
		t.out = false
		if n := &c.ch.reno; n.on {
			n.marked(now, c.pipe(), ack, c.ch.flight.end())
		}
	case dup && o.NSACK == 0:
		t.out = false
	}
}
