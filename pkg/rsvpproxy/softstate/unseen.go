package softstate

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// This file is about whose addresses a node speaks with. One that is seen has its
// own. One that is not ([Config.Transparent]) has the neighbours': it tells its next
// hops the address of the previous hop, or of the sender that it speaks for, and its
// previous hops that of the next hop, or of the receiver. The logical interface
// handle is its own, and brings back what is meant for it (RFC 2205 section 3.3). So
// each neighbour sees the one on the far side, and the node is a wire to both.
//
// What is sent to such an address reaches the node because it is on the way there:
// RESV follows the path of its PATH backwards.

// Unseen is an [Environment] for [Config.Transparent].
type Unseen interface {
	// Port says whether RSVP is spoken on an interface. It needs no address.
	Port(IfIndex) bool
	// Onward is Route for packets from src that come in by in; 0: that is not known.
	// On a bridge it is this that tells the way to hosts that were never heard.
	Onward(dst, src netip.Addr, in IfIndex) (out IfIndex, ok bool)
}

// uses says whether an interface is one of ours, and can be spoken on in the
// family of dst.
func (n *Node) uses(i IfIndex, dst netip.Addr) bool {
	if n.unseen != nil {
		return n.unseen.Port(i)
	}
	return n.addr(i, dst).IsValid()
}

// lihOf is the LIH of an interface, as others are told it.
func (n *Node) lihOf(i IfIndex) uint32 { return uint32(i) ^ n.cfg.Handle }

// byHandle is the interface that a LIH of ours stands for.
func (n *Node) byHandle(lih uint32) IfIndex { return IfIndex(lih ^ n.cfg.Handle) }

// Ours says whether a LIH is one of a transparent node's own. Others are most
// unlikely to have the same: [Config.Handle].
func (n *Node) Ours(lih uint32) bool {
	return n.unseen != nil && lih != 0 && n.unseen.Port(n.byHandle(lih))
}

// echoed says whether a message that names where it comes from is one of ours that
// has come back: on a wire that turns frames round, by a router that sends what
// comes from this side there again, or out of a loop.
func (n *Node) echoed(m *wire.Message) bool {
	if m.Hop == nil || m.Type == wire.Resv || m.Type == wire.ResvTear { // theirs have our handle
		return false
	}
	return n.Ours(m.Hop.LIH)
}

// onward asks for the way of packets from src that come in by in.
func (n *Node) onward(dst, src netip.Addr, in IfIndex) (out IfIndex, local, ok bool) {
	if n.unseen != nil {
		out, ok = n.unseen.Onward(dst, src, in)
		return out, false, ok
	}
	return n.env.Route(dst)
}

// toNext is the hop that p's next hops on out know us by: in PATH, PathTear and
// ResvErr.
func (n *Node) toNext(p *psb, out IfIndex) wire.Hop {
	return wire.Hop{Addr: n.facing(p, out), LIH: n.lihOf(out)}
}

func (n *Node) facing(p *psb, out IfIndex) netip.Addr {
	switch {
	case n.unseen == nil:
		return n.addr(out, p.s.id.Dst)
	case p.local:
		return p.sender.Src
	default:
		return p.phop.Addr
	}
}

// name chooses the address that u's previous hops know us by: in RESV and
// ResvTear. It is that of a next hop who asks for what is told, the same as before if
// there is one who still does. To the previous hop another is another next hop: what
// the one before had asked for is taken back, a moment later. False: there is no name,
// for those who ask are receivers of a group that we speak for.
func (n *Node) name(u *upstream, o *offer) bool {
	if n.unseen == nil {
		return true
	}
	in, _ := u.to()
	was := u.as
	u.as = netip.Addr{}
	for _, r := range o.from {
		a := r.hop.Addr
		if r.local() {
			a = n.receiver(u.s, in)
		}
		if a == was && a.IsValid() {
			u.as = was
			return true
		}
		if !u.as.IsValid() {
			u.as = a
		}
	}
	if !u.sent || !was.IsValid() {
		return u.as.IsValid()
	}
	u.each(func(out IfIndex, hop wire.Hop) {
		m := &wire.Message{
			Type: wire.ResvTear, Session: u.s.id, Style: u.last.style, SendTTL: n.cfg.TTL, Hop: &wire.Hop{Addr: was, LIH: hop.LIH},
		}
		if len(u.last.filters) > 0 {
			m.Flows = []wire.FlowDescriptor{{Filters: u.last.filters}}
		}
		n.say(Send{Out: out, Src: was, Dst: hop.Addr, TTL: n.cfg.TTL, Msg: m, Data: u.source()}, max(n.cfg.Quick, 1))
	})
	return u.as.IsValid()
}

// source is that of data which go to u's receivers; invalid: nobody sends any more.
func (u *upstream) source() (a netip.Addr) {
	if u.p != nil {
		return u.p.sender.Src
	}
	if len(u.last.filters) > 0 {
		return u.last.filters[0].Src
	}
	u.senders(func(p *psb) { a = p.sender.Src })
	return a
}

// named is u's name for one of its previous hops.
func (n *Node) named(u *upstream, in IfIndex, hop wire.Hop) netip.Addr {
	if n.unseen != nil {
		return u.as
	}
	return n.addr(in, near(hop.Addr, u.s.id.Dst))
}

// source is where what is said as somebody comes from.
func (n *Node) source(out IfIndex, to, as netip.Addr) netip.Addr {
	if n.unseen != nil {
		return as
	}
	return n.addr(out, to)
}

// receiver is the address of a receiver that we speak for. That of a group's is
// not known: a node that has an address uses that.
func (n *Node) receiver(s *session, in IfIndex) netip.Addr {
	if s.id.Dst.IsMulticast() {
		return n.addr(in, s.id.Dst)
	}
	return s.id.Dst
}

// receiverNamed says whether there is an address to reserve with for p's receivers.
func (n *Node) receiverNamed(p *psb) bool {
	return n.unseen == nil || n.receiver(p.s, p.in).IsValid()
}

// complainer is the address that a PathErr about session id comes from which starts
// here and goes out by in. To a group it has none where nobody of ours is known who
// could have sent it.
func (n *Node) complainer(id wire.Session, in IfIndex, hop netip.Addr) netip.Addr {
	switch {
	case n.unseen == nil:
		return n.addr(in, hop)
	case id.Dst.IsMulticast():
		return n.addr(in, id.Dst)
	default:
		return id.Dst
	}
}

// facings calls f for each address that a next hop on out may know us by, with
// those of the senders that it was told this for. about: of these alone; none: all.
func (n *Node) facings(s *session, out IfIndex, about []wire.Filter, f func(as netip.Addr, filters []wire.Filter)) {
	if s == nil {
		return
	}
	var order []netip.Addr
	by := map[netip.Addr][]wire.Filter{}
	for _, p := range s.order {
		if !p.routes(out) || len(about) > 0 && !slices.Contains(about, p.sender) {
			continue
		}
		as := n.facing(p, out)
		if by[as] == nil {
			order = append(order, as)
		}
		by[as] = append(by[as], p.sender)
	}
	for _, as := range order {
		f(as, by[as])
	}
}

// apart has a transparent node's neighbours be of the session's family: it speaks to
// each with the address of another.
func (n *Node) apart(m *wire.Message) bool {
	return n.unseen != nil && m.Hop != nil && m.Hop.Addr.Is4() != m.Session.Dst.Is4()
}

// scopeFor reduces SCOPE to the sources of senders.
func scopeFor(scope []netip.Addr, senders []wire.Filter) (out []netip.Addr) {
	for _, a := range scope {
		if slices.ContainsFunc(senders, func(f wire.Filter) bool { return f.Src == a }) {
			out = append(out, a)
		}
	}
	return out
}

// scopeOf is the SCOPE of a next hop's request of wildcard style. Where it knows a
// transparent node by several names, as there are several previous hops or senders, it
// has several previous hops itself and tells each of its part.
func (n *Node) scopeOf(now time.Time, r *rsb, m *wire.Message) []netip.Addr {
	if n.unseen == nil || len(m.Scope) == 0 {
		r.scopes = nil
		return m.Scope
	}
	if r.scopes == nil {
		r.scopes = map[netip.Addr]time.Time{}
	}
	for a, until := range r.scopes {
		if !until.After(now) {
			delete(r.scopes, a)
		}
	}
	for _, a := range m.Scope {
		if len(r.scopes) < n.cfg.Limits.PerSession {
			r.scopes[a] = now.Add(n.lifetime(m.TimeValues))
		}
	}
	return r.scoped()
}

// scoped lists what is in scopes, in order.
func (r *rsb) scoped() []netip.Addr {
	return slices.SortedFunc(maps.Keys(r.scopes), netip.Addr.Compare)
}

// narrow takes the senders for which a next hop knows us by a name out of its request
// of wildcard style. It is false if nothing would be left.
func (n *Node) narrow(r *rsb, name netip.Addr) bool {
	if n.unseen == nil || len(r.scopes) == 0 {
		return false
	}
	left := maps.Clone(r.scopes)
	for _, p := range r.t.s.order {
		if p.routes(r.t.key.out) && n.facing(p, r.t.key.out) == name {
			delete(left, p.sender.Src)
		}
	}
	if len(left) == 0 || len(left) == len(r.scopes) {
		return false
	}
	r.scopes = left
	r.scope = r.scoped()
	return true
}
