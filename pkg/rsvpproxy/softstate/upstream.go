package softstate

import (
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// upstream is what goes to a previous hop: in a distinct style the reservation
// of one sender, in a shared style that of all senders behind the hop.
type upstream struct {
	s     *session
	p     *psb // distinct style: the sender
	in    IfIndex
	hop   wire.Hop
	timer timer
	r     time.Duration // R announced last
	quick int           // quick refreshes left

	as      netip.Addr // what a transparent node is called by the previous hops
	sent    bool       // the previous hop has reservation state from us
	last    offer
	confirm netip.Addr // RESV_CONFIRM to go with the next RESV, once
	live    bool       // mark of syncShared
}

// offer is the contents of a RESV.
type offer struct {
	style   wire.Style
	flow    intserv.FlowSpec
	filters []wire.Filter
	scope   []netip.Addr
	from    []*rsb // what it was merged from
}

func (o *offer) same(x *offer) bool {
	return o.flow == x.flow && slices.Equal(o.filters, x.filters) && slices.Equal(o.scope, x.scope)
}

// to is where the RESV goes, in a distinct style first of all.
func (u *upstream) to() (IfIndex, wire.Hop) {
	if u.p != nil {
		return u.p.in, u.p.phop
	}
	return u.in, u.hop
}

// senders calls f for each sender behind the hop.
func (u *upstream) senders(f func(*psb)) {
	if u.p != nil {
		f(u.p)
		return
	}
	for _, p := range u.s.order {
		if u.serves(p) {
			f(p)
		}
	}
}

func (u *upstream) serves(p *psb) bool { return p.cameBy(u.in, u.hop) }

// ofOwn says whether what goes to u's hop goes to p's own, not to one of the
// others that stand beside it.
func (u *upstream) ofOwn(p *psb) bool { return u.p != nil || u.in == p.in && u.hop == p.phop }

// each calls f for each hop that it goes to: in a distinct style to all that the
// sender's PATHs came from.
func (u *upstream) each(f func(IfIndex, wire.Hop)) {
	if u.p != nil {
		u.p.hops(f)
		return
	}
	f(u.in, u.hop)
}

// offer merges what goes to the hop (RESV REFRESH of RFC 2209 section 2).
func (u *upstream) offer() (o offer, ok bool) {
	o.style, _ = u.s.style()
	u.senders(func(p *psb) {
		if p.local {
			return
		}
		flow, from, covered := p.merged()
		switch {
		case !covered:
			return
		case !ok:
			o.flow, ok = flow, true
		default:
			if m, err := o.flow.Merge(flow); err == nil { // one service per session, see handleFlow
				o.flow = m
			}
		}
		o.filters = append(o.filters, p.sender)
		if o.from == nil {
			o.from = slices.Clip(from)
			return
		}
		for _, r := range from {
			if !slices.Contains(o.from, r) {
				o.from = append(o.from, r)
			}
		}
	})
	if ok && o.style == wire.WF {
		if u.s.needScope() {
			for _, f := range o.filters { // sorted, as Appendix A.6 wants them
				o.scope = append(o.scope, f.Src)
			}
			o.scope = slices.Compact(o.scope)
		}
		o.filters = nil
	}
	return o, ok
}

// unchanged says whether the previous hop has been told all there is to tell.
func (u *upstream) unchanged() bool {
	o, ok := u.offer()
	return ok && u.sent && o.same(&u.last)
}

// needScope says whether wildcard reservations have to carry SCOPE: where there
// is more than one previous hop, and onwards from there (RFC 2205 section 3.4).
func (s *session) needScope() bool {
	var first *wire.Hop
	var at IfIndex
	several := false
	for _, p := range s.order {
		p.hops(func(in IfIndex, hop wire.Hop) {
			if first == nil {
				first, at = &hop, in
			}
			several = several || in != at || hop != *first
		})
		if several {
			return true
		}
	}
	for _, t := range s.tcsbs {
		for _, r := range t.rsbs {
			if len(r.scope) > 0 {
				return true
			}
		}
	}
	return false
}

// merged merges what p's next hops ask for: the least upper bound of what is
// not blockaded, or if all is, the greatest lower bound (RFC 2205 section 3.5).
func (p *psb) merged() (flow intserv.FlowSpec, from []*rsb, ok bool) {
	free := false
	for _, b := range p.outs {
		t := p.reservation(b.out)
		if t == nil || !t.covers(p) {
			continue
		}
		merge := intserv.FlowSpec.GLB
		switch blockaded := p.blockades(t.fwd); {
		case !blockaded && !free: // the first that is free: what was blockaded is ignored
			free, ok = true, false
		case blockaded && free:
			continue
		}
		if free {
			merge = intserv.FlowSpec.Merge
		}
		if !ok {
			flow, from, ok = t.fwd, slices.Clip(t.rsbs), true
			continue
		}
		if m, err := merge(flow, t.fwd); err == nil { // one service per session, see handleFlow
			flow = m
		}
		from = append(from, t.rsbs...)
	}
	return flow, from, ok
}

// blockades says whether the blockade, if there is one, concerns flow: it does
// unless its flowspec is greater in every component (RFC 2205 section 3.5).
func (p *psb) blockades(flow intserv.FlowSpec) bool {
	return p.blockade != nil && !p.blockade.StrictlyAbove(flow)
}

// needUp finds or makes what goes to p's previous hop.
func (n *Node) needUp(p *psb) *upstream {
	if style, _ := p.s.style(); style == wire.FF {
		return &p.up
	}
	return n.upTo(p.s, p.in, p.phop)
}

// upTo does it for a hop in a shared style.
func (n *Node) upTo(s *session, in IfIndex, hop wire.Hop) *upstream {
	for _, u := range s.ups {
		if u.in == in && u.hop == hop {
			return u
		}
	}
	u := &upstream{s: s, in: in, hop: hop}
	u.timer = timer{Owner: owner{kind: timerResvRefresh, u: u}}
	s.ups = append(s.ups, u)
	return u
}
