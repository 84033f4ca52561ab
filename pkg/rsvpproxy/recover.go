package rsvpproxy

import (
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// maxAsked bounds the hosts whose way is looked up for neighbours to ask: a
// handful of neighbours is behind very many hosts.
const maxAsked = 1000

// askAgain are the times at which neighbours are asked for the state of an
// earlier process, after the first: the question or its answer may be lost.
var askAgain = []time.Duration{time.Second, 3 * time.Second}

type hopKey struct {
	out  softstate.IfIndex
	addr netip.Addr
}

// Recover tells that an earlier process has left reservations of flows between
// these hosts. Neighbours may tell their state again until then, and those that
// have RFC 2961 and are on the way to the hosts are asked to, at once.
func (p *Proxy) Recover(until time.Time, hosts []netip.Addr) error {
	return p.do(func(now time.Time, n *softstate.Node) []softstate.Effect {
		n.Recover(now, until)
		if p.layer == nil {
			return nil
		}
		hops := p.hopsTowards(hosts)
		p.ask(now, hops)
		for _, d := range askAgain {
			time.AfterFunc(d, func() {
				// An error says that the proxy has stopped.
				_ = p.do(func(now time.Time, _ *softstate.Node) []softstate.Effect { p.ask(now, hops); return nil })
			})
		}
		return nil
	})
}

func (p *Proxy) ask(now time.Time, hops []hopKey) {
	for _, h := range hops {
		p.sendAll(p.layer.Ask(now, h.out, h.addr))
	}
}

// hopsTowards lists the neighbours on the way to hosts. A host that is on the
// link itself is no neighbour unless it was heard to speak RSVP.
func (p *Proxy) hopsTowards(hosts []netip.Addr) (list []hopKey) {
	seen := map[netip.Addr]bool{}
	known := map[hopKey]bool{}
	for _, a := range hosts {
		if seen[a] || len(seen) >= maxAsked {
			continue
		}
		seen[a] = true
		out, local, ok := p.env.Route(a)
		if !ok || local || !p.env.Aware(a, out) {
			continue
		}
		hop, ok := p.env.NextHop(a, out)
		if k := (hopKey{out, hop}); ok && !known[k] && !p.env.Local(hop) {
			known[k] = true
			list = append(list, k)
		}
	}
	return list
}
