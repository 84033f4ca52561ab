package rsvpproxy

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/fair"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/reliable"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// NeighborView is a previous or next hop.
type NeighborView struct {
	softstate.NeighborView
	// Heard is when its latest message came; zero: none was counted.
	Heard time.Time
	// In and Out count messages: those that came from it, and those that were
	// addressed to it; a PATH is addressed to its session.
	In, Out Messages
	// Reduction is what RFC 2961 knows of it, nil if nothing or if it is off.
	Reduction *reliable.NeighborView
}

// InterfaceView is what RSVP does on an interface.
type InterfaceView struct {
	Interface
	Neighbors int
	PathsIn   int // path states whose PATH, or whose sender's packets, come in by it
	PathsOut  int // whose data leave by it
	Requests  int // reservation requests for what leaves by it
	In, Out   Messages
	Heard     time.Time // zero: never
}

// Paths asks the event loop for the path state.
func (p *Proxy) Paths() ([]softstate.PathView, error) {
	return ask(p, func(now time.Time, n *softstate.Node) []softstate.PathView { return n.Paths(now) })
}

// Requests asks the event loop for the reservation state.
func (p *Proxy) Requests() ([]softstate.RequestView, error) {
	return ask(p, func(now time.Time, n *softstate.Node) []softstate.RequestView { return n.Requests(now) })
}

// Neighbors asks the event loop for the neighbours that state depends on.
func (p *Proxy) Neighbors() ([]NeighborView, error) {
	return ask(p, func(_ time.Time, n *softstate.Node) []NeighborView { return p.neighbors(n) })
}

func (p *Proxy) neighbors(n *softstate.Node) []NeighborView {
	reduction := map[fair.Key]*reliable.NeighborView{}
	if p.layer != nil {
		list := p.layer.Neighbors()
		for i := range list {
			reduction[fair.Key{Iface: int(list[i].Iface), Addr: list[i].Addr}] = &list[i]
		}
	}
	var out []NeighborView
	for _, v := range n.Neighbors() {
		k := fair.Key{Iface: int(v.Iface), Addr: v.Addr}
		view := NeighborView{NeighborView: v, Reduction: reduction[k]}
		if f := p.tally.neighbors[k]; f != nil {
			view.Heard, view.In, view.Out = f.heard, f.in, f.out
		}
		out = append(out, view)
	}
	return out
}

// Interfaces asks the event loop what RSVP does on each interface, by index.
func (p *Proxy) Interfaces() (map[int]InterfaceView, error) {
	return ask(p, func(now time.Time, n *softstate.Node) map[int]InterfaceView { return p.interfaces(now, n) })
}

func (p *Proxy) interfaces(now time.Time, n *softstate.Node) map[int]InterfaceView {
	out := map[int]InterfaceView{}
	for index, i := range p.ifaces.Load().byIndex {
		v := InterfaceView{Interface: i}
		if f := p.tally.ifaces[index]; f != nil {
			v.In, v.Out, v.Heard = f.in, f.out, f.heard
		}
		out[index] = v
	}
	count := func(i softstate.IfIndex, add func(*InterfaceView)) {
		if v, ok := out[int(i)]; ok {
			add(&v)
			out[int(i)] = v
		}
	}
	for _, s := range n.Paths(now) {
		count(s.In, func(v *InterfaceView) { v.PathsIn++ })
		for _, o := range s.Outs {
			count(o, func(v *InterfaceView) { v.PathsOut++ })
		}
	}
	for _, r := range n.Requests(now) {
		count(r.Out, func(v *InterfaceView) { v.Requests++ })
	}
	for _, nb := range n.Neighbors() {
		count(nb.Iface, func(v *InterfaceView) { v.Neighbors++ })
	}
	return out
}
