package softstate

import (
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// forwardResv sends new or changed reservation state to the previous hop: at
// once, then a few quick ones, then every R.
func (n *Node) forwardResv(now time.Time, p *psb) {
	p.resvQ = max(n.cfg.Quick, 0)
	n.resvRefresh(now, p)
}

// resvRefresh is RESV REFRESH of RFC 2209 section 2 for one sender. One message
// per sender is permitted, packing several is an economy (RFC 2205 section
// 3.1.4).
func (n *Node) resvRefresh(now time.Time, p *psb) {
	if p.local || p.installed() == nil {
		n.timers.stop(&p.resv)
		return
	}
	p.resvR = n.slew(p.resvR)
	n.timers.set(&p.resv, now.Add(n.interval(p.resvR, &p.resvQ)))

	flow, from := p.upstream()
	m := &wire.Message{
		Type: wire.Resv, Session: p.s.id, TimeValues: timeValues(p.resvR), Style: wire.FF,
		Hop:         &wire.Hop{Addr: n.env.Addr(p.in), LIH: p.phop.LIH},
		ResvConfirm: p.confirm,
		Flows:       []wire.FlowDescriptor{{FlowSpec: &flow, Filters: []wire.Filter{p.sender}}},
	}
	for _, r := range from {
		m.Policy = union(m.Policy, r.policy)
		m.Unknown = union(m.Unknown, r.unknown) // RFC 2205 section 3.10 (1) rule 3
		m.Flows[0].Unknown = union(m.Flows[0].Unknown, r.flowUnknown)
	}
	if len(from) == 1 && from[0].flow == flow {
		m.Flows[0].Raw = from[0].raw
	}
	if !p.proxied {
		p.confirm = netip.Addr{} // forwarded once; a proxy asks until it is told
	}
	p.resvSent = true
	n.send(p.in, p.phop.Addr, m)
}

// upstream merges what p's next hops ask for: the least upper bound of what is
// not blockaded, or if all is, the greatest lower bound (RFC 2205 section 3.5).
func (p *psb) upstream() (intserv.FlowSpec, []*rsb) {
	var free, all []*tcsb
	p.reservations(func(t *tcsb) {
		if t.installed == nil {
			return
		}
		all = append(all, t)
		if !p.blockades(t.fwd) {
			free = append(free, t)
		}
	})
	merge := intserv.FlowSpec.Merge
	if len(free) == 0 {
		free, merge = all, intserv.FlowSpec.GLB
	}
	flow := free[0].fwd
	from := slices.Clone(free[0].rsbs)
	for _, t := range free[1:] {
		if m, err := merge(flow, t.fwd); err == nil { // one service per session, see updateTC
			flow = m
		}
		from = append(from, t.rsbs...)
	}
	return flow, from
}

// blockades says whether the blockade, if there is one, concerns flow: it does
// unless its flowspec is greater in every component (RFC 2205 section 3.5).
func (p *psb) blockades(flow intserv.FlowSpec) bool {
	return p.blockade != nil && !p.blockade.StrictlyAbove(flow)
}

// resvGone follows the end of a reservation: where nothing is left, the
// previous hop gets a ResvTear.
func (n *Node) resvGone(p *psb, unknown []wire.Object) {
	if p.installed() != nil {
		return
	}
	n.timers.stop(&p.resv)
	p.confirm, p.confirmed, p.blockade = netip.Addr{}, false, nil
	n.touch(p)
	if p.local || !p.resvSent {
		return
	}
	p.resvSent = false
	n.send(p.in, p.phop.Addr, &wire.Message{
		Type: wire.ResvTear, Session: p.s.id, Style: wire.FF,
		Hop:     &wire.Hop{Addr: n.env.Addr(p.in), LIH: p.phop.LIH},
		Flows:   []wire.FlowDescriptor{{Filters: []wire.Filter{p.sender}}},
		Unknown: unknown,
	})
}

// installed returns a reservation of p that is in place, nil if none is.
func (p *psb) installed() *tcsb {
	var found *tcsb
	p.reservations(func(t *tcsb) {
		if t.installed != nil && found == nil {
			found = t
		}
	})
	return found
}

// union appends those objects of more that are not there yet.
func union(objects, more []wire.Object) []wire.Object {
	for _, o := range more {
		if !slices.ContainsFunc(objects, func(x wire.Object) bool { return sameObject(&x, &o) }) {
			objects = append(slices.Clip(objects), o)
		}
	}
	return objects
}
