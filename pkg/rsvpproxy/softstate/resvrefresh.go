package softstate

import (
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// forwardResv sends new or changed reservation state to the previous hop: at
// once, then a few quick ones, then every R.
func (n *Node) forwardResv(now time.Time, u *upstream) {
	out, hop := u.to()
	u.quick = n.quick(hop.Addr, out)
	n.resvRefresh(now, u)
}

// resvRefresh is RESV REFRESH of RFC 2209 section 2 for one previous hop, in a
// distinct style for one sender: one message per sender is permitted, packing
// several is an economy (RFC 2205 section 3.1.4).
func (n *Node) resvRefresh(now time.Time, u *upstream) { n.resvSend(now, u, false, false) }

// resvSend does it, if wanted only for the hop that u goes to first of all; fresh:
// that has nothing from us.
func (n *Node) resvSend(now time.Time, u *upstream, first, fresh bool) {
	o, ok := u.offer()
	if !ok {
		n.timers.Stop(&u.timer)
		return
	}
	out, hop := u.to()
	u.r = slew(u.r, n.refreshOn(out))
	next := now.Add(n.interval(u.r, &u.quick))
	if first {
		n.timers.Sooner(&u.timer, next) // the other hops are due all the same
	} else {
		n.timers.Set(&u.timer, next)
	}
	if !n.name(u, &o) {
		return
	}
	m := n.upMessage(u, wire.Resv, o.style)
	m.TimeValues, m.Scope = timeValues(u.r), o.scope
	m.Flows = []wire.FlowDescriptor{{FlowSpec: &o.flow, Filters: o.filters}}
	m.Policy = mergePolicy(o.from)
	n.addObjects(m, &o)
	if len(o.from) == 1 && o.from[0].now.flow == o.flow {
		m.Flows[0].Raw = o.from[0].raw
	}
	m.ResvConfirm = u.confirm
	u.confirm = netip.Addr{} // forwarded once; a proxy asks until it is told
	u.senders(func(p *psb) {
		if p.confirm.IsValid() && u.ofOwn(p) {
			m.ResvConfirm = p.confirm
		}
	})
	o.from = nil
	fresh = fresh || !u.sent
	u.sent, u.last = true, o
	m.SendTTL = n.cfg.TTL
	n.transmit(Send{Out: out, Src: n.source(out, hop.Addr, u.as), Dst: hop.Addr, Data: u.source(), TTL: n.cfg.TTL, Msg: m, Fresh: fresh})
	if first {
		return
	}
	n.copies(u, m, fresh)
}

// copies sends what has gone to a sender's previous hop to the others that it
// has, but for the wish to have it confirmed.
func (n *Node) copies(u *upstream, m *wire.Message, fresh bool) {
	if u.p == nil || len(u.p.others) == 0 {
		return
	}
	own := true
	u.each(func(out IfIndex, hop wire.Hop) {
		if own {
			own = false
			return
		}
		c := *m
		c.Hop = &wire.Hop{Addr: n.named(u, out, hop), LIH: hop.LIH}
		c.ResvConfirm, c.SendTTL = netip.Addr{}, n.cfg.TTL
		n.transmit(Send{Out: out, Src: n.source(out, hop.Addr, u.as), Dst: hop.Addr, Data: u.source(), TTL: n.cfg.TTL, Msg: &c, Fresh: fresh})
	})
}

// upMessage begins a message to a previous hop.
func (n *Node) upMessage(u *upstream, t wire.MsgType, style wire.Style) *wire.Message {
	in, hop := u.to()
	return &wire.Message{
		Type: t, Session: u.s.id, Style: style,
		Hop: &wire.Hop{Addr: n.named(u, in, hop), LIH: hop.LIH},
	}
}

// resvChanged follows a change of the requests for t, which may be gone, to the
// previous hops: with a ResvTear where nothing is left, with a RESV where
// something else is (RFC 2205 section 3.1.6).
func (n *Node) resvChanged(now time.Time, t *tcsb, unknown []wire.Object) {
	if t.shared() {
		n.syncShared(now, t.s, unknown, true, false)
		return
	}
	if p := t.s.psbs[t.key.filter]; p != nil {
		n.resvGone(now, p, unknown)
	}
}

// resvGone follows the end of one of a sender's reservations of fixed filter
// style.
func (n *Node) resvGone(now time.Time, p *psb, unknown []wire.Object) {
	u := &p.up
	if p.installed() != nil {
		if u.sent {
			n.forwardResv(now, u)
		}
		return
	}
	n.timers.Stop(&u.timer)
	n.unserved(p)
	if p.local || !u.sent {
		return
	}
	n.sendResvTear(u, wire.FF, []wire.Filter{p.sender}, unknown)
}

// unserved forgets what belonged to the last reservation of a sender.
func (n *Node) unserved(p *psb) {
	p.up.confirm, p.confirm = netip.Addr{}, netip.Addr{}
	p.confirmed, p.blockade = false, nil
	n.touch(p)
}

func (n *Node) sendResvTear(u *upstream, style wire.Style, filters []wire.Filter, unknown []wire.Object) {
	data := u.source()
	u.sent, u.last = false, offer{}
	m := n.upMessage(u, wire.ResvTear, style)
	m.SendTTL = n.cfg.TTL
	m.Unknown = unknown
	if len(filters) > 0 {
		m.Flows = []wire.FlowDescriptor{{Filters: filters}}
	}
	out, hop := u.to()
	n.transmit(Send{Out: out, Src: n.source(out, hop.Addr, u.as), Dst: hop.Addr, Data: data, TTL: n.cfg.TTL, Msg: m})
	n.copies(u, m, false)
}

// syncShared brings the previous hops of a session with a shared style up to
// date: a RESV to those for which there is something new, a ResvTear for what
// they have lost. Not loud: nobody is told, as after a PathTear (RFC 2205 section
// 3.1.5). force: all are told again.
func (n *Node) syncShared(now time.Time, s *session, unknown []wire.Object, loud, force bool) {
	if style, ok := s.style(); (!ok || style == wire.FF) && len(s.ups) == 0 {
		return
	}
	for _, u := range s.ups {
		u.live = false
	}
	for _, p := range s.order {
		asked := false
		p.reservations(func(*tcsb) { asked = true })
		if !asked && (p.confirmed || p.blockade != nil || p.confirm.IsValid()) {
			n.unserved(p)
		}
		if p.local || !asked {
			continue
		}
		if _, _, covered := p.merged(); covered {
			p.hops(func(in IfIndex, hop wire.Hop) { n.upTo(s, in, hop).live = true })
		}
	}
	s.ups = slices.DeleteFunc(s.ups, func(u *upstream) bool {
		if u.live {
			return false
		}
		n.timers.Stop(&u.timer)
		if loud && u.sent {
			n.tearShared(u, u.last.filters, unknown)
		}
		return true
	})
	for _, u := range s.ups {
		n.syncHop(now, u, unknown, loud, force)
	}
}

func (n *Node) tearShared(u *upstream, filters []wire.Filter, unknown []wire.Object) {
	style := wire.WF
	if len(filters) > 0 {
		style = wire.SE
	}
	n.sendResvTear(u, style, filters, unknown)
}

// syncHop does it for a previous hop that keeps a reservation.
func (n *Node) syncHop(now time.Time, u *upstream, unknown []wire.Object, loud, force bool) {
	o, ok := u.offer()
	if !ok {
		return
	}
	if u.sent {
		lost := slices.DeleteFunc(slices.Clone(u.last.filters), func(f wire.Filter) bool { return hasFilter(o.filters, f) })
		if len(lost) > 0 {
			last := u.last
			last.filters = slices.DeleteFunc(slices.Clone(last.filters), func(f wire.Filter) bool { return !hasFilter(o.filters, f) })
			if loud {
				n.tearShared(u, lost, unknown)
			}
			u.sent, u.last = true, last
		}
	}
	switch {
	case loud && (force || !u.sent || u.confirm.IsValid() || !o.same(&u.last)):
		n.forwardResv(now, u)
	case !u.timer.Armed():
		n.timers.Set(&u.timer, now.Add(n.interval(slew(u.r, n.refreshOn(u.in)), &u.quick)))
	}
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
		// One NOTIFY_REQUEST, whosever, is as much as may go on (RFC 3473 section 4.2.1).
		if !slices.ContainsFunc(objects, func(x wire.Object) bool {
			return sameObject(&x, &o) || x.Class == o.Class && o.Class == wire.ClassNotify
		}) {
			objects = append(slices.Clip(objects), o)
		}
	}
	return objects
}
