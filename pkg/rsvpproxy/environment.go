package rsvpproxy

import (
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// awareFor is how long a host that sent RSVP is taken to speak it.
const awareFor = time.Hour

// maxAware bounds the hosts remembered as speakers of RSVP.
const maxAware = 4096

// environment answers the machine's questions. It belongs to the event loop.
type environment struct {
	p      *Proxy
	aware  map[netip.Addr]time.Time
	routes *route.Table
	groups *route.Multicast // nil: multicast is not routed here
}

// Route asks the kernel. On a bridge that has nothing to say: see Onward.
func (e *environment) Route(dst netip.Addr) (out softstate.IfIndex, local, ok bool) {
	if e.p.bridged() != nil {
		return 0, false, false
	}
	h, err := e.routes.Lookup(time.Now(), dst)
	if err != nil {
		return 0, false, false
	}
	return softstate.IfIndex(h.Index), h.Local, true
}

// NextHop is the gateway towards dst, or dst where it is on the link.
func (e *environment) NextHop(dst netip.Addr, out softstate.IfIndex) (netip.Addr, bool) {
	if e.p.bridged() != nil {
		return dst, true
	}
	h, err := e.routes.Lookup(time.Now(), dst)
	switch {
	case err != nil || h.Index != int(out) || h.Local:
		return netip.Addr{}, false
	case h.Gateway.IsValid():
		return h.Gateway, true
	default:
		return dst, true
	}
}

// Assured says whether a message is repeated until it is acknowledged.
func (e *environment) Assured(dst netip.Addr, out softstate.IfIndex) bool {
	return e.p.layer != nil && e.p.layer.Assured(dst, out)
}

// MTU is that of an interface.
func (e *environment) MTU(i softstate.IfIndex) int { return e.p.ifaces.Load().byIndex[int(i)].MTU }

// Forwards says whether multicast from src that comes in by in goes on to group.
func (e *environment) Forwards(src, group netip.Addr, in softstate.IfIndex) bool {
	if e.p.bridged() != nil {
		return true
	}
	return e.groups != nil && len(e.groups.Routes(group, src, int(in))) > 0
}

// Routes reads the copy of the kernel's multicast forwarding cache. Without an
// entry nothing is forwarded: nobody listens, or the source's first packet has
// not come yet, or no multicast routing daemon runs here. Path state is kept
// then and goes nowhere, and neither does its data; the entry's coming is told.
// Sessions of groups are refused only where multicast routes cannot be read.
//
// Listeners behind an interface are seen by the entry having it, which is the
// routing daemon's answer to IGMP and MLD (RFC 3376, 3810). That this machine
// itself has joined a group adds no interface, and nothing to reserve.
func (e *environment) Routes(group, src netip.Addr, in softstate.IfIndex) (outs []softstate.IfIndex, ok bool) {
	if e.p.bridged() != nil {
		if in == 0 {
			port, _ := e.p.bridged().Source(src, group)
			in = softstate.IfIndex(port)
		}
		return e.flooded(in), true
	}
	if e.groups == nil {
		return nil, false
	}
	for _, o := range e.groups.Routes(group, src, int(in)) {
		outs = append(outs, softstate.IfIndex(o.Index))
	}
	return outs, true
}

// inScope says whether what has ttl on its way out may leave by an interface
// towards a group: the kernel keeps the group's data to thresholds, which bound
// regions, and PATH must not go further than they do.
func (e *environment) inScope(s softstate.Send) bool {
	if !s.Dst.IsMulticast() || e.groups == nil {
		return true
	}
	for _, o := range e.groups.Routes(s.Dst, s.Src, 0) {
		if o.Index == int(s.Out) {
			return s.TTL >= o.Threshold
		}
	}
	return true // a PathTear after the listeners have gone
}

// Addr6 is our IPv6 address on an interface: link-local only if there is no
// other.
func (e *environment) Addr6(i softstate.IfIndex) netip.Addr {
	return e.p.ifaces.Load().byIndex[int(i)].Addr6
}

// Addr is our IPv4 address on an interface.
func (e *environment) Addr(i softstate.IfIndex) netip.Addr {
	return e.p.ifaces.Load().byIndex[int(i)].Addr4
}

// AddrTowards is our address on an interface in the network of the next hop
// towards to, if it has several; else the one of Addr or Addr6.
func (e *environment) AddrTowards(i softstate.IfIndex, to netip.Addr) netip.Addr {
	link := e.p.ifaces.Load().byIndex[int(i)].Link
	a, on := link.AddrTowards(to)
	if on || !link.Multihomed(to) || to.IsMulticast() {
		return a
	}
	if hop, ok := e.NextHop(to, i); ok {
		a, _ = link.AddrTowards(near(hop, to))
	}
	return a
}

// near is a next hop of the same family; a gateway may be of the other.
func near(hop, to netip.Addr) netip.Addr {
	if hop.Is4() == to.Is4() {
		return hop
	}
	return to
}

// Local says whether a is ours.
func (e *environment) Local(a netip.Addr) bool { return e.p.ifaces.Load().local[a] }

// Hop is the interface's contribution to an ADSPEC.
func (e *environment) Hop(out softstate.IfIndex) intserv.Hop {
	rest := 0.0
	if e.p.hooks.Rest != nil {
		rest = e.p.hooks.Rest(int(out))
	}
	return hopOf(e.p.ifaces.Load().byIndex[int(out)], rest)
}

// Crossed says whether routers without RSVP are those of a region that is known.
func (e *environment) Crossed(in softstate.IfIndex, routers int) bool {
	g := e.p.ifaces.Load().byIndex[int(in)].Region
	return g != nil && (g.Hops == 0 || routers <= int(g.Hops))
}

// Aware says whether somebody towards dst is known to speak RSVP.
func (e *environment) Aware(dst netip.Addr, out softstate.IfIndex) bool {
	i, ok := e.p.ifaces.Load().byIndex[int(out)]
	if !ok {
		return false
	}
	at, heard := e.aware[dst]
	return !i.Hosts || heard && time.Since(at) < awareFor
}

// Discovers says whether PATH goes to hosts of whom it is not known that they
// speak RSVP (RFC 5946 section 4.1).
func (e *environment) Discovers(out softstate.IfIndex) bool {
	i := e.p.ifaces.Load().byIndex[int(out)]
	return i.Hosts && i.Discover
}

// ReceiverProxy asks the policies.
func (e *environment) ReceiverProxy(i softstate.PathInfo) (softstate.ReserveSpec, bool) {
	return e.p.hooks.ReceiverProxy(i)
}

// Reverse asks the policies about the other direction.
func (e *environment) Reverse(i softstate.PathInfo) (intserv.TSpec, bool) {
	if e.p.hooks.Reverse == nil {
		return intserv.TSpec{}, false
	}
	return e.p.hooks.Reverse(i)
}

// Marks asks what RESV shall tell of marking.
func (e *environment) Marks(m softstate.Marking) ([]uint8, bool) {
	if e.p.hooks.Marks == nil {
		return nil, false
	}
	return e.p.hooks.Marks(m)
}

// heard notes that a host sent RSVP itself: from now on it is one neighbour of
// others, to whom PATH goes in any case, and what is asked for on its behalf
// stands only until it asks itself (RFC 5946 section 4.1). first: it was not
// known to.
func (e *environment) heard(now time.Time, src netip.Addr, iface int) (first bool) {
	if i, ok := e.p.ifaces.Load().byIndex[iface]; !ok || !i.Hosts {
		return false
	}
	last, known := e.aware[src]
	if !known && len(e.aware) >= maxAware {
		for a, at := range e.aware {
			if now.Sub(at) > awareFor {
				delete(e.aware, a)
			}
		}
		if len(e.aware) >= maxAware {
			return false
		}
	}
	e.aware[src] = now
	return !known || now.Sub(last) >= awareFor
}

// Branches tells by which interfaces the kernel, or the bridge, forwards packets from a source to a
// group, by index. It may be called from anywhere.
func (p *Proxy) Branches(source, group netip.Addr) (out []int) {
	if b := p.bridged(); b != nil {
		in, _ := b.Source(source, group)
		for _, i := range p.env.flooded(softstate.IfIndex(in)) {
			out = append(out, int(i))
		}
		return out
	}
	m := p.groups.Load()
	if m == nil {
		return nil
	}
	for _, o := range m.Routes(group, source, 0) {
		out = append(out, o.Index)
	}
	return out
}
