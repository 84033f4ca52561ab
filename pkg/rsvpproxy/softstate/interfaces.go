package softstate

import (
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// SetInterfaces tells which interfaces take part: the limits are shared out among
// them, and the node's own senders that come in by none.
func (n *Node) SetInterfaces(list ...IfIndex) { n.room.share(list) }

// InterfacesChanged tells that the addresses or the state of interfaces have
// changed. After the time W, in which routing settles too (RFC 2205 section
// 3.6), PATH goes out of them with the address that they have now, so that RESV
// comes to it, or takes another way; and RESV goes to the previous hops behind
// them. What is not refreshed any more, because its way here is gone, ends with
// its lifetime.
func (n *Node) InterfacesChanged(now time.Time, list ...IfIndex) {
	at := now.Add(n.cfg.Repair)
	sooner := func(t *timer) {
		if t.Armed() && t.At().After(at) {
			n.timers.Set(t, at)
		}
	}
	for _, s := range n.sessions {
		for _, p := range s.psbs {
			// One without a way may find it there now.
			if len(p.outs) == 0 || slices.ContainsFunc(p.outs, func(b branch) bool { return slices.Contains(list, b.out) }) {
				sooner(&p.refresh)
			}
			p.hops(func(in IfIndex, _ wire.Hop) {
				if slices.Contains(list, in) {
					sooner(&p.up.timer)
				}
			})
		}
		for _, u := range s.ups {
			if slices.Contains(list, u.in) {
				sooner(&u.timer)
			}
		}
	}
}
