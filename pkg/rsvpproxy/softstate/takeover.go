package softstate

import (
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// This file is about receivers that begin to speak RSVP, and that fall silent.
// Either way the reservation stays in place under its ID and is only changed
// (RFC 5945 section 4.1.1.1, RFC 5946 section 4.1).

// Rediscover tells that somebody at dst was heard to speak RSVP, or is not
// expected to any more: PATH goes there, or ends here, at once.
func (n *Node) Rediscover(now time.Time, dst netip.Addr) []Effect {
	n.now = now
	for id, s := range n.sessions {
		if id.Dst != dst {
			continue
		}
		for _, p := range slices.Clone(s.order) {
			if n.reroute(p) {
				n.forwardPath(now, p)
				n.answer(now, p)
				n.touch(p)
			}
		}
	}
	return n.flush()
}

// answered says whether those behind b ask for p themselves, or have done so
// and do not want it any more.
func (p *psb) answered(b branch) bool {
	if b.yield {
		return true
	}
	t := p.reservation(b.out)
	return t != nil && t.foreign()
}

// yield takes the receiver proxy's own request away once a next hop's is
// granted in its place.
func (n *Node) yield(t *tcsb) {
	if !slices.ContainsFunc(t.rsbs, func(r *rsb) bool { return !r.local() && r.have }) {
		return
	}
	i := slices.IndexFunc(t.rsbs, (*rsb).local)
	t.senders(func(p *psb) {
		b := p.at(t.key.out)
		if i < 0 && !b.proxy {
			return
		}
		b.proxy, b.ask, b.yield = false, nil, true
		p.confirm, p.confirmed = netip.Addr{}, false
		n.touch(p)
	})
	if i >= 0 { // it had not been asked for else
		t.rsbs = slices.Delete(t.rsbs, i, i+1)
	}
}

// supplant prepares for a next hop's request where only the receiver proxy has
// asked: what it asks for now stands by, what it was about to ask for is
// forgotten.
func (n *Node) supplant(t *tcsb) {
	l := t.find(local(t.key.out))
	switch {
	case l == nil:
	case l.have:
		l.next, l.ask = nil, nil
	default:
		t.rsbs = slices.DeleteFunc(t.rsbs, func(r *rsb) bool { return r == l })
	}
}

// inherit has the receiver proxy's new request begin with what the next hops
// have in place: a change that is refused then leaves that.
func (r *rsb) inherit(t *tcsb) {
	if t.installed == nil {
		return
	}
	first := true
	for _, o := range t.rsbs {
		switch {
		case o == r || !o.have:
		case first:
			r.have, r.now, first = true, o.now, false
		default:
			if m, err := r.now.flow.Merge(o.now.flow); err == nil {
				r.now = request{m, withFilters(r.now.filters, o.now.filters)}
			}
		}
	}
}

// displace removes the next hops' requests where PATH does not go any more. The
// caller looks after traffic control.
func (n *Node) displace(t *tcsb) {
	for _, r := range slices.Clone(t.rsbs) {
		ended := false
		t.senders(func(p *psb) { ended = ended || !p.carries(t.key.out) })
		if !r.local() && ended {
			n.release(r)
			t.rsbs = slices.DeleteFunc(t.rsbs, func(o *rsb) bool { return o == r })
		}
	}
}

// resume has the receiver proxy go on with what a next hop asked for that has
// fallen silent or taken it back, if it was the last one and policy claims its senders. False:
// it is over.
func (n *Node) resume(now time.Time, r *rsb) bool {
	t := r.t
	if !r.have || len(t.rsbs) > 1 {
		return false
	}
	var mine []*psb
	t.senders(func(p *psb) {
		if _, yes := n.env.ReceiverProxy(n.pathInfo(p, t.key.out)); yes && p.control != wire.ProxyNotNeeded {
			mine = append(mine, p)
		}
	})
	if len(mine) == 0 {
		t.senders(func(p *psb) { p.at(t.key.out).yield = false })
		return false
	}
	l := &rsb{t: t, hop: local(t.key.out), have: true, now: r.now}
	l.life = timer{Owner: owner{kind: timerResvLife, r: l}}
	if t.style == wire.SE {
		l.keep(func(f wire.Filter) bool { return slices.ContainsFunc(mine, func(p *psb) bool { return p.sender == f }) })
	}
	n.release(r)
	t.senders(n.touch)
	t.rsbs = []*rsb{l}
	t.s.kept = true
	for _, p := range mine {
		flow := r.now.flow
		b := p.at(t.key.out)
		b.proxy, b.ask, b.yield = true, &flow, false
		p.retryAt = time.Time{}
	}
	if t.shared() { // the silence about the other senders was a wish, too
		mine = slices.Clone(t.s.order)
	}
	for _, p := range mine {
		if b := p.at(t.key.out); b != nil {
			b.yield = false
		}
		if n.byID[t.id] == t && p.routes(t.key.out) {
			n.answerOn(now, p, t.key.out)
		}
	}
	if n.byID[t.id] == t {
		n.updateTC(now, t, true)
		n.resvChanged(now, t, nil)
	}
	return true
}

// giveWay turns what the receiver proxy has reserved into the style of a next
// hop that asks now, where nobody else has: styles do not mix (RFC 2205 section
// 2.4), and it is the receiver's choice. Here the reservations stay; the
// previous hops cannot change a style in place, so the old one is torn down and
// the new one follows at once.
func (n *Node) giveWay(now time.Time, s *session, m *wire.Message, out IfIndex) bool {
	if s.foreign() || !m.Style.Known() {
		return false
	}
	var wanted []wire.Filter // to keep a reservation for
	fits := false
	for i := range m.Flows {
		if key, filters, ok := s.match(m.Style, m.Flows[i].Filters, out); ok {
			fits = true
			if wanted = append(wanted, filters...); m.Style == wire.FF {
				wanted = append(wanted, key.filter)
			}
		}
	}
	if !fits {
		return false
	}
	s.kept = true
	n.changeStyle(now, s, m.Style, wanted)
	return true
}

// changeStyle turns the reservations of a session into those of another style,
// as far as that has a place for them; wanted tells which of several senders to
// prefer if only one can stay. The previous hops are told at once.
func (n *Node) changeStyle(now time.Time, s *session, style wire.Style, wanted []wire.Filter) {
	n.torn = true // what ends here, ends for another one
	defer func() { n.torn = false }()
	for _, p := range s.order {
		n.timers.Stop(&p.up.timer)
		if p.up.sent && !p.local {
			n.sendResvTear(&p.up, wire.FF, []wire.Filter{p.sender}, nil)
		}
	}
	for _, u := range s.ups {
		n.timers.Stop(&u.timer)
		if u.sent {
			n.tearShared(u, u.last.filters, nil)
		}
	}
	s.ups = nil
	for _, t := range s.sorted() {
		n.restyleInPlace(t, style, wanted)
	}
	for _, p := range s.order {
		if style == wire.FF && p.installed() != nil && !p.local {
			n.forwardResv(now, &p.up)
		}
	}
	n.syncShared(now, s, nil, true, false)
}

// restyleInPlace moves a reservation of the receiver proxy to where one of
// another style belongs; wanted tells which of several senders to prefer if
// only one can stay. Where another has taken the place already, it ends.
func (n *Node) restyleInPlace(t *tcsb, style wire.Style, wanted []wire.Filter) {
	s, out := t.s, t.key.out
	var senders []wire.Filter
	t.senders(func(p *psb) { senders = append(senders, p.sender) })
	key, filters := tcKey{out: out}, []wire.Filter(nil)
	switch style {
	case wire.FF:
		key.filter = senders[0]
		for _, f := range senders {
			if slices.Contains(wanted, f) {
				key.filter = f
				break
			}
		}
	case wire.SE:
		filters = senders
	default: // wildcard: neither
	}
	if s.tcsbs[key] != nil && s.tcsbs[key] != t {
		n.deleteTCSB(t)
		return
	}
	delete(s.tcsbs, t.key)
	t.key, t.style = key, style
	s.tcsbs[key] = t
	for _, r := range t.rsbs {
		r.now.filters = filters
		if r.next != nil {
			r.next = &request{r.next.flow, filters}
		}
		if r.ask != nil { // what traffic control is looking at is the same but for its style
			r.ask = &request{r.ask.flow, filters}
			if r.next != nil && r.next.equal(*r.ask) {
				r.next = r.ask
			}
		}
	}
}
