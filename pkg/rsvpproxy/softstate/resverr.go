package softstate

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// refuseResv answers a RESV that is in error as a whole: one ResvErr for each
// flow descriptor, since each has room for one only (RFC 2205 section 3.1.8).
func (n *Node) refuseResv(rx *Received, r *Refusal) {
	m := rx.Msg
	out, ok := n.lih(rx)
	if !ok {
		out = rx.Iface
	}
	about := func(fd *wire.FlowDescriptor) {
		n.sendResvErr(m.Session, out, m.Hop.Addr, complaint{style: m.Style, scope: m.Scope, flow: fd, why: r, as: rx.Dst})
	}
	for i := range m.Flows {
		about(&m.Flows[i])
	}
	for i := range m.BadFlows {
		about(&m.BadFlows[i].FlowDescriptor)
	}
	if len(m.Flows)+len(m.BadFlows) == 0 {
		about(nil)
	}
}

// complaint is what a ResvErr that starts here tells.
type complaint struct {
	style wire.Style
	scope []netip.Addr // a copy of the SCOPE in error (RFC 2205 section 3.4)
	flow  *wire.FlowDescriptor
	why   *Refusal
	flags uint8
	// policy goes along (RFC 4495 section 5.1).
	policy []wire.Object
	// as is what the next hop has called us in the RESV in error; invalid: it is to
	// be found out.
	as netip.Addr
}

// sendResvErr starts a ResvErr at this node.
func (n *Node) sendResvErr(s wire.Session, out IfIndex, to netip.Addr, c complaint) {
	n.count.resvErrs[c.why.Code]++
	if !n.mayComplain(to) {
		return
	}
	if c.policy == nil {
		c.policy = c.why.policy()
	}
	if n.unseen == nil {
		n.complain(s, out, to, n.addr(out, near(to, s.Dst)), &c)
		return
	}
	if c.as.IsValid() {
		n.complain(s, out, to, c.as, &c)
		return
	}
	var about []wire.Filter
	if c.flow != nil {
		about = c.flow.Filters
	}
	n.facings(n.sessions[s.Key()], out, about, func(as netip.Addr, filters []wire.Filter) {
		part := c
		if len(about) > 0 { // of what it calls us by another name it has asked another
			flow := *c.flow
			flow.Filters, part.flow = filters, &flow
		}
		if part.scope = scopeFor(c.scope, filters); len(c.scope) > 0 && len(part.scope) == 0 {
			return
		}
		n.complain(s, out, to, as, &part)
	})
}

// complain sends a ResvErr that starts here from an address of ours.
func (n *Node) complain(s wire.Session, out IfIndex, to, as netip.Addr, c *complaint) {
	m := &wire.Message{
		Type: wire.ResvErr, Session: s.Key(), Hop: &wire.Hop{Addr: as, LIH: n.lihOf(out)}, Style: c.style, Scope: c.scope,
		ErrorSpec: &wire.ErrorSpec{Node: as, Flags: c.flags, Code: c.why.Code, Value: c.why.Value},
		Policy:    c.policy,
	}
	if c.flow != nil {
		m.Flows = []wire.FlowDescriptor{{FlowSpec: c.flow.FlowSpec, Filters: c.flow.Filters, Raw: c.flow.Raw}}
	}
	n.sendAs(n.source(out, to, as), out, to, m)
}

// handleResvErr is RERR MESSAGE ARRIVES of RFC 2209 section 2. Reservations
// stay as they are: it is for the receiver to decide.
func (n *Node) handleResvErr(now time.Time, rx *Received) {
	m := rx.Msg
	s := n.sessions[m.Session.Key()]
	if m.ErrorSpec == nil || m.Hop == nil {
		n.drop(DropMalformed)
		return
	}
	style, reserved := s.style()
	if !reserved || m.Style != style {
		n.drop(DropNoState)
		return
	}
	var hit []*psb
	for i := range m.Flows {
		fd := &m.Flows[i]
		list := s.inError(rx, fd)
		n.blockade(now, rx, fd, list)
		hit = append(hit, list...)
		for _, t := range s.sorted() {
			if t.key.out != rx.Iface {
				n.passResvErr(rx, t, fd, list)
			}
		}
	}
	switch {
	case len(hit) > 0:
	case s.named(m):
		n.drop(DropWrongHop)
	default:
		n.drop(DropNoState)
	}
}

// named says whether a ResvErr names a sender that is known here.
func (s *session) named(m *wire.Message) bool {
	return slices.ContainsFunc(m.Flows, func(fd wire.FlowDescriptor) bool {
		return slices.ContainsFunc(fd.Filters, func(f wire.Filter) bool { return s.psbs[f] != nil })
	})
}

// inError lists the senders that a ResvErr is about: those that it names, or in
// wildcard style all, of those behind the previous hop that sent it. One that was
// the previous hop before a route changed, and still has a reservation of ours
// that has not timed out, may well see it fail: that is no matter any more.
func (s *session) inError(rx *Received, fd *wire.FlowDescriptor) (list []*psb) {
	behind := func(p *psb) bool {
		return p != nil && !p.local && p.in == rx.Iface && p.phop.Addr == rx.Msg.Hop.Addr
	}
	for _, f := range fd.Filters {
		if p := s.psbs[f]; behind(p) {
			list = append(list, p)
		}
	}
	if rx.Msg.Style == wire.WF {
		for _, p := range s.order {
			if behind(p) {
				list = append(list, p)
			}
		}
	}
	return list
}

// sorted lists the reservations of s in the order in which they were made.
func (s *session) sorted() []*tcsb {
	list := make([]*tcsb, 0, len(s.tcsbs))
	for _, t := range s.tcsbs {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b *tcsb) int { return cmp.Compare(a.id, b.id) })
	return list
}

// blockade notes an error from upstream. An admission control failure makes
// blockade state, per sender, or in wildcard style per previous hop, and what
// did not fail goes up at once (RFC 2205 section 3.5 rules 1 to 4).
func (n *Node) blockade(now time.Time, rx *Received, fd *wire.FlowDescriptor, list []*psb) {
	e := rx.Msg.ErrorSpec
	var ups []*upstream
	for _, p := range list {
		f := failureOf(rx.Msg)
		f.Upstream = true
		if fd.FlowSpec != nil {
			f.Flags |= p.guilt(e.Code, *fd.FlowSpec)
		}
		n.fail(now, p, &f)
		if e.Code != wire.ErrAdmission || fd.FlowSpec == nil {
			continue
		}
		qb := *fd.FlowSpec
		p.blockade = &qb
		free := false
		p.reservations(func(t *tcsb) { free = free || t.covers(p) && !p.blockades(t.fwd) })
		if u := n.upOf(p); u != nil && free && !p.proxied() && !slices.Contains(ups, u) {
			ups = append(ups, u)
		}
	}
	for _, u := range ups {
		n.forwardResv(now, u)
	}
}

// guilt is [wire.NotGuilty] if we answer for receivers of p and what was refused
// for want of resources is strictly greater than what any of them asks for (RFC
// 2205 section 3.11.1 and Appendix A.5).
func (p *psb) guilt(code wire.ErrorCode, failed intserv.FlowSpec) uint8 {
	if code != wire.ErrAdmission {
		return 0
	}
	var flag uint8
	for _, b := range p.outs {
		switch {
		case !b.proxy || b.ask == nil:
		case !failed.StrictlyAbove(*b.ask):
			return 0
		default:
			flag = wire.NotGuilty
		}
	}
	return flag
}

// upOf is needUp for what is there already.
func (n *Node) upOf(p *psb) *upstream {
	if style, ok := p.s.style(); ok && style == wire.FF {
		return &p.up
	}
	for _, u := range p.s.ups {
		if u.ofOwn(p) {
			return u
		}
	}
	return nil
}

// passResvErr sends a ResvErr on to the next hops of one reservation.
func (n *Node) passResvErr(rx *Received, t *tcsb, fd *wire.FlowDescriptor, list []*psb) {
	m, e := rx.Msg, rx.Msg.ErrorSpec
	var here []*psb
	t.senders(func(p *psb) {
		if slices.Contains(list, p) {
			here = append(here, p)
		}
	})
	if len(here) == 0 {
		return
	}
	scope, ok := errorScope(m.Scope, here)
	if !ok {
		return // RFC 2205 section 3.4: an empty SCOPE is not sent
	}
	guilty := e.Code == wire.ErrAdmission && fd.FlowSpec != nil && e.Flags&wire.InPlace != 0
	less := reduction(e.Code, e.Value) && fd.FlowSpec != nil
	for _, r := range slices.Clone(t.rsbs) {
		if guilty && fd.FlowSpec.StrictlyAbove(r.wanted().flow) {
			continue // the failure was not this one's (section 3.5 rule 5)
		}
		if less && r.wanted().flow.Within(*fd.FlowSpec) {
			continue // asks for no more than what is left (RFC 4495 section 5.2)
		}
		var filters []wire.Filter // those of the reservation here (section 3.1.8)
		for _, p := range here {
			if !t.shared() || t.style == wire.SE && hasFilter(r.wanted().filters, p.sender) {
				filters = append(filters, p.sender)
			}
		}
		switch {
		case r.local():
			// RFC 5946 section 3.1: the sender has to learn of it, in wildcard style all.
			for _, p := range here {
				if b, _ := p.find(t.key.out); b.proxy {
					n.tellSender(p, proxyRefusal(&Refusal{Code: e.Code, Value: e.Value}), e.Flags&wire.InPlace, m.Policy)
					if less {
						f := failureOf(rx.Msg)
						f.Upstream = true
						n.limitProxy(n.now, p, *fd.FlowSpec, f)
					}
				}
			}
		case t.style == wire.SE && len(filters) == 0:
		default:
			as := n.facing(here[0], t.key.out) // of all: they are behind one previous hop
			if n.unseen == nil {
				as = n.addr(t.key.out, near(r.hop.Addr, t.s.id.Dst))
			}
			n.sendAs(n.source(t.key.out, r.hop.Addr, as), t.key.out, r.hop.Addr, &wire.Message{
				Type: wire.ResvErr, Session: t.s.id, Hop: &wire.Hop{Addr: as, LIH: n.lihOf(t.key.out)}, ErrorSpec: e, Style: m.Style, Scope: scope,
				Flows:  []wire.FlowDescriptor{{FlowSpec: fd.FlowSpec, Raw: fd.Raw, Filters: filters, Unknown: fd.Unknown}},
				Policy: m.Policy, Unknown: m.Unknown,
			})
		}
	}
}

// errorScope reduces the SCOPE of a ResvErr to the senders that route to an
// outgoing interface (RFC 2205 section 3.4); false: none is left.
func errorScope(scope []netip.Addr, here []*psb) (out []netip.Addr, ok bool) {
	if len(scope) == 0 {
		return nil, true
	}
	for _, p := range here {
		if slices.Contains(scope, p.sender.Src) && !slices.Contains(out, p.sender.Src) {
			out = append(out, p.sender.Src) // here is sorted
		}
	}
	return out, len(out) > 0
}
