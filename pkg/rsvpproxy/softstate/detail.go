package softstate

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// PathView is what there is to see of one path state block.
type PathView struct {
	Session wire.Session
	Sender  wire.Filter
	Role    Role
	State   State
	PrevHop wire.Hop // zero: the sender is proxied
	In      IfIndex
	Outs    []IfIndex // where the data leave
	TSpec   intserv.TSpec
	AdSpec  *intserv.AdSpec // as it came; nil: none did
	Break   bool            // a node without RSVP was crossed on the way here
	Police  bool            // the sender's side does not police
	Failure *Failure        // nil: none
	Age     time.Duration
	// Refresh is when the next PATH goes out, 0: none does. Expires is how long
	// the state lives without a refresh, 0: for ever.
	Refresh, Expires time.Duration
}

// Paths lists the path state, in the order of [Node.Sessions].
func (n *Node) Paths(now time.Time) []PathView {
	out := make([]PathView, 0, n.room.senders.All())
	n.eachPSB(func(p *psb) {
		v := PathView{
			Session: p.s.id, Sender: p.sender, Role: p.role(), State: p.state(), PrevHop: p.phop, In: p.in, TSpec: p.tspec, AdSpec: p.adspec,
			Break: p.nonRSVP || p.adspec != nil && p.adspec.Break, Police: p.ePolice, Failure: p.failure,
			Age: now.Sub(p.created), Refresh: remaining(&p.refresh, now), Expires: remaining(&p.life, now),
		}
		for _, b := range p.outs {
			v.Outs = append(v.Outs, b.out)
		}
		out = append(out, v)
	})
	return out
}

// RequestView is what there is to see of one reservation state block: what a
// next hop asks for.
type RequestView struct {
	Session     wire.Session
	Style       wire.Style
	Filters     []wire.Filter // the senders it is for; none in wildcard style
	Out         IfIndex
	NextHop     netip.Addr // invalid: the receiver proxy asks
	FlowSpec    intserv.FlowSpec
	Installed   bool   // something is in place: this, or what was asked for before
	Pending     bool   // this is not in place (yet)
	Reservation uint64 // ID of the reservation that it is part of
	Confirm     bool   // a confirmation is wanted
	Expires     time.Duration
}

// Requests lists the reservation state, ordered by session, and within it in
// the order in which it was made.
func (n *Node) Requests(now time.Time) []RequestView {
	var out []RequestView
	for _, s := range n.sorted() {
		for _, t := range s.sorted() {
			for _, r := range t.rsbs {
				w := r.wanted()
				v := RequestView{
					Session: s.id, Style: t.style, Filters: slices.Clone(w.filters), Out: t.key.out, NextHop: r.hop.Addr,
					FlowSpec: w.flow, Installed: r.have && t.installed != nil, Pending: r.next != nil, Reservation: t.id,
					Confirm: r.confirm.IsValid(), Expires: remaining(&r.life, now),
				}
				if !t.shared() {
					v.Filters = []wire.Filter{t.key.filter}
				}
				out = append(out, v)
			}
		}
	}
	return out
}

// NeighborView is a previous or next hop that state depends on.
type NeighborView struct {
	Iface    IfIndex
	Addr     netip.Addr
	Senders  int // path states that came from it
	Requests int // reservation requests
}

// Neighbors lists them by interface and address.
func (n *Node) Neighbors() []NeighborView {
	out := make([]NeighborView, 0, len(n.neighbors))
	for k, nb := range n.neighbors {
		out = append(out, NeighborView{Iface: k.iface, Addr: k.addr, Senders: nb.senders, Requests: nb.refs - nb.senders})
	}
	slices.SortFunc(out, func(a, b NeighborView) int {
		return cmp.Or(cmp.Compare(a.Iface, b.Iface), a.Addr.Compare(b.Addr))
	})
	return out
}

// remaining is how long it is until a timer fires, 0 if it is not set.
func remaining(t *timer, now time.Time) time.Duration {
	if !t.Armed() {
		return 0
	}
	return max(t.At().Sub(now), 1)
}

// sorted lists the sessions by destination.
func (n *Node) sorted() []*session {
	return slices.SortedFunc(maps.Values(n.sessions), func(a, b *session) int {
		return cmp.Or(a.id.Dst.Compare(b.id.Dst), cmp.Compare(a.id.Protocol, b.id.Protocol), cmp.Compare(a.id.DstPort, b.id.DstPort))
	})
}

func (n *Node) eachPSB(f func(*psb)) {
	for _, s := range n.sorted() {
		for _, p := range s.order {
			f(p)
		}
	}
}
