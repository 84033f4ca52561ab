package rsvpproxy

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/gather"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// This file is about a box that nobody sees ([softstate.Config.Transparent]). What
// it takes part in it takes over, and everything else of RSVP goes by untouched, as
// on a wire: what it does not understand, what is signed (a box in between has no key,
// RFC 2747), what is between neighbours (RFC 2961, RFC 2745, RFC 3473) or about
// sessions of which it has told nobody.

// ErrUnseen is returned where an address of the box is needed.
var ErrUnseen = errors.New("a box with hop: transparent has no address that could be answered to: ask from a host or from a box with hop: router")

// likeSender is a [Sender] that can be told of which flow a packet is, to whom its
// own addresses say nothing of where the stations are.
type likeSender interface {
	SendLike(pkt []byte, ifindex int, like packet.FlowKey) error
}

// unseen is what a transparent box has beside the machine. Its claims are asked by
// those who capture messages, and made by the event loop.
type unseen struct {
	mu     sync.Mutex
	claims *softstate.Claims
	bridge *route.Bridge // nil: the kernel routes, and puts fragments together
	parts  *gather.Table // of a bridge
	over   bool          // no more parts are held
	moving restless
}

func newUnseen(cfg softstate.Config, b route.Bridge) *unseen {
	u := &unseen{claims: softstate.NewClaims(cfg)}
	if cfg.Bridge {
		u.bridge, u.parts = &b, gather.New(gather.Config{})
	}
	return u
}

func (u *unseen) sent(now time.Time, s *softstate.Send) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.claims.Sent(now, s)
}

func (u *unseen) mine(now time.Time, m *wire.Message, dst netip.Addr, iface int) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.claims.Mine(now, m.Type, m.Session, dst, softstate.IfIndex(iface))
}

// UnseenView are the figures of a transparent box.
type UnseenView struct {
	Names     int    // that neighbours know it by
	NamesFull uint64 // that found no room
	Gathered  gather.Counters
}

// Unseen reads the figures of a transparent box; nil: it is none. It may be called
// from anywhere.
func (p *Proxy) Unseen() *UnseenView {
	u := p.unseen
	if u == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	v := &UnseenView{Names: u.claims.Len(), NamesFull: u.claims.Refused()}
	if u.parts != nil {
		v.Gathered = u.parts.Counters()
	}
	return v
}

// bridged is the bridge; nil if the kernel routes.
func (p *Proxy) bridged() *route.Bridge {
	if p.unseen == nil {
		return nil
	}
	return p.unseen.bridge
}

// takes parses a message if it is for a transparent box; nil: it goes by.
func (p *Proxy) takes(now time.Time, v packet.View, msg []byte, iface int) *wire.Message {
	set := p.ifaces.Load()
	if _, ours := set.byIndex[iface]; !ours || v.Dst().Is6() && !p.cfg.Node.IPv6 {
		return nil
	}
	m, err := wire.Options{Formats: wire.AllFormats, RefreshReduction: true}.Parse(msg)
	switch {
	case err != nil:
		p.capture.foreign.Add(1)
		return nil
	case m.Integrity != nil:
		p.capture.signed.Add(1)
		return nil
	}
	mine := false
	switch m.Type {
	case wire.Path, wire.PathTear:
		mine = p.goesOn(now, set, v, iface)
	case wire.Resv, wire.ResvTear:
		mine = m.Hop != nil && p.node.Ours(m.Hop.LIH) || p.unseen.mine(now, m, v.Dst(), iface)
	case wire.PathErr, wire.ResvErr, wire.ResvConf:
		mine = p.unseen.mine(now, m, v.Dst(), iface)
	default:
		return nil
	}
	if !mine && !set.local[v.Dst()] {
		return nil
	}
	return m
}

// goesOn says whether what comes in by a port leaves by another one. What does not, a
// bridge would never have forwarded, or it sees it twice and cannot tell the sides
// apart.
func (p *Proxy) goesOn(now time.Time, set *interfaces, v packet.View, iface int) bool {
	b := p.bridged()
	if b == nil || v.Dst().IsMulticast() {
		return true
	}
	if _, ok := b.Onward(v.Dst(), v.Src(), iface, set.ports); !ok {
		return false
	}
	moves := b.Moves(v.Src(), v.Dst())
	p.unseen.mu.Lock()
	defer p.unseen.mu.Unlock()
	return !p.unseen.moving.look(now, stations{v.Src(), v.Dst()}, moves)
}

// like is the flow, or the direction of one, whose packets go the way of a message.
func like(s *softstate.Send) packet.FlowKey {
	src, dst := s.Data, s.Msg.Session.Dst
	if t := s.Msg.SenderTemplate; t != nil {
		src = t.Src
	}
	if !src.IsValid() || !dst.IsValid() {
		return packet.FlowKey{}
	}
	k := packet.FlowKey{Src: src.As16(), Dst: dst.As16()}
	switch s.Msg.Type {
	case wire.Resv, wire.ResvTear, wire.PathErr:
		if dst.IsMulticast() {
			return packet.FlowKey{} // nothing comes from a group
		}
		return k.Reverse()
	default:
		return k
	}
}

// Port says whether an interface takes part.
func (e *environment) Port(i softstate.IfIndex) bool {
	_, ok := e.p.ifaces.Load().byIndex[int(i)]
	return ok
}

// Onward asks what the bridge has learned, or the kernel.
func (e *environment) Onward(dst, src netip.Addr, in softstate.IfIndex) (out softstate.IfIndex, ok bool) {
	if b := e.p.bridged(); b != nil {
		o, ok := b.Onward(dst, src, int(in), e.p.ifaces.Load().ports)
		return softstate.IfIndex(o), ok
	}
	out, local, ok := e.Route(dst)
	return out, ok && !local && out != in
}

// flooded are the ports that a bridge sends what comes in by one for a group to: all
// others. Who listens it does not know.
func (e *environment) flooded(in softstate.IfIndex) (outs []softstate.IfIndex) {
	for _, i := range e.p.ifaces.Load().ports {
		if i != int(in) {
			outs = append(outs, softstate.IfIndex(i))
		}
	}
	return outs
}

var _ softstate.Unseen = (*environment)(nil)
