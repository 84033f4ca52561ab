package daemon

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/nfq"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// This file is about packets for a station that a bridge of more than two ports has
// not heard yet: it sends them by all other ports. Which of these leads to the station
// nobody knows, and so nothing is decided about their flow.

// flooded tells that a packet leaves by out only because it leaves by all ports. Flows
// that no policy claims are not asked about.
func (t *flowTable) flooded(key packet.FlowKey, in, out int) bool {
	var f packet.Frame
	back := key.Reverse().PairKey()
	switch {
	case t.frames.station == nil || t.frames.two() || in == 0 || out == 0 || toGroup(key):
		return false
	case t.policyOf(key) == nil && t.policyOf(key.Reverse()) == nil:
		return false
	case t.frames.learned.Frame(&back, &f) && f.Port == out:
		return false
	}
	there := key.PairKey()
	if !t.frames.learned.Frame(&there, &f) || f.Dst[0]&1 != 0 {
		return false
	}
	port, err := t.frames.station(in, f.Dst)
	return err == nil && port != out
}

// mostFlooded is how many flooded packets a second come to be asked about again with
// the next packet of their flow. The flows of others wait until the kernel takes them
// for undecided.
const mostFlooded = 200

// allowance is what is left of mostFlooded.
type allowance struct {
	since time.Time
	used  int
}

func (a *allowance) take(now time.Time) bool {
	if now.Sub(a.since) >= time.Second {
		*a = allowance{since: now}
	}
	a.used++
	return a.used <= mostFlooded
}

// pass lets a flooded packet go.
func (h *firstHandler) pass(now time.Time, v packet.View) nfq.Verdict {
	h.count.unwanted.add()
	if !h.allowed.take(now) {
		h.later(now, &decision{settle: []packet.FlowKey{v.Key()}, by: h.flows.current(), stranger: true})
	}
	return nfq.Accept
}
