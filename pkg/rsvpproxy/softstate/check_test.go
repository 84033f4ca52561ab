package softstate

import (
	"fmt"
	"maps"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/fair"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// check verifies what must hold between the tables of a Node at any time.
func (n *Node) check() error {
	senders, tcsbs, neighbors := map[IfIndex]int{}, 0, map[neighborKey]neighbor{}
	ports := map[portKey]portUse{}
	live := map[*timer]bool{}
	for id, s := range n.sessions {
		if len(s.psbs) == 0 {
			return fmt.Errorf("%v: session without senders", id)
		}
		if id.Format == wire.FormatPorts {
			u := ports[portKey{id.Dst, id.Protocol}]
			*u.of(id.DstPort)++
			ports[portKey{id.Dst, id.Protocol}] = u
		}
		for _, p := range s.psbs {
			senders[p.in]++
			if k := p.prev(); k.addr.IsValid() {
				nb := neighbors[k]
				nb.refs++
				nb.senders++
				neighbors[k] = nb
			}
			if len(p.others) > maxOthers || p.local && len(p.others) > 0 {
				return fmt.Errorf("%v: %d other hops, local %v", id, len(p.others), p.local)
			}
			for i, h := range p.others {
				nb := neighbors[h.key()]
				nb.refs++
				nb.senders++
				neighbors[h.key()] = nb
				live[&h.life] = true
				if h.p != p || !h.life.Armed() || h.is(p.in, p.phop) || p.otherAt(h.rx.Iface, *h.rx.Msg.Hop) != p.others[i] {
					return fmt.Errorf("%v: hop %v: without a timer, or twice", id, h.key())
				}
			}
			if p.local == p.life.Armed() {
				return fmt.Errorf("%v: local %v but lifetime timer %v", id, p.local, p.life.Armed())
			}
			for _, t := range []*timer{&p.refresh, &p.life, &p.up.timer, &p.failureTime, &p.limitTime} {
				live[t] = true
			}
		}
		for _, u := range s.ups {
			live[&u.timer] = true
			served := false
			u.senders(func(*psb) { served = true })
			if !served || !u.timer.Armed() {
				return fmt.Errorf("%v: previous hop %v without a sender or a timer", id, u.hop)
			}
		}
		if !slices.IsSortedFunc(s.order, func(a, b *psb) int { return a.sender.Compare(b.sender) }) || len(s.order) != len(s.psbs) {
			return fmt.Errorf("%v: senders out of order", id)
		}
		style, _ := s.style()
		for k, t := range s.tcsbs {
			tcsbs++
			served := false
			t.senders(func(*psb) { served = true })
			if n.byID[t.id] != t || len(t.rsbs) == 0 || !served || t.style != style || (k.filter.Src.IsValid() == t.shared()) {
				return fmt.Errorf("%v: orphaned reservation %d %+v: style %v of %v, %d requests, served %v", id, t.id, k, t.style, style, len(t.rsbs), served)
			}
			if t.quiet && t.asked == nil {
				return fmt.Errorf("%v: reservation %d is quiet about nothing", id, t.id)
			}
			if t.installed == nil && t.asked == nil {
				return fmt.Errorf("%v: reservation %d neither in place nor asked for", id, t.id)
			}
			for _, r := range t.rsbs {
				if k := r.neighbor(); k.addr.IsValid() {
					nb := neighbors[k]
					nb.refs++
					neighbors[k] = nb
				}
				if r.local() == r.life.Armed() {
					return fmt.Errorf("%v: local %v but lifetime timer %v", id, r.local(), r.life.Armed())
				}
				if !r.have && r.next == nil {
					return fmt.Errorf("%v: empty RSB", id)
				}
				for _, f := range slices.Concat(r.now.filters, r.wanted().filters) {
					if p := s.psbs[f]; p == nil || !p.routes(k.out) {
						return fmt.Errorf("%v: filter spec %v without a sender", id, f)
					}
				}
				if empty := len(r.wanted().filters) == 0; empty == (t.style == wire.SE) {
					return fmt.Errorf("%v: style %v with filter specs %v", id, t.style, r.wanted().filters)
				}
				live[&r.life] = true
			}
		}
	}
	saying := 0
	for _, list := range n.farewells {
		for _, w := range list {
			live[&w.timer] = w.timer.Armed()
			saying++
		}
		if len(list) == 0 {
			return fmt.Errorf("an empty list of tears")
		}
	}
	if saying != n.saying {
		return fmt.Errorf("%d tears wait, %d counted", saying, n.saying)
	}
	if err := n.timers.Check(func(t *timer) error {
		if !live[t] {
			return fmt.Errorf("timer of kind %d is not owned", t.Owner.kind)
		}
		return nil
	}); err != nil {
		return err
	}
	got := map[portKey]portUse{}
	for k, u := range n.ports {
		got[k] = *u
	}
	held := map[neighborKey]neighbor{}
	for k, nb := range n.neighbors {
		held[k] = neighbor{refs: nb.refs, senders: nb.senders}
	}
	if err := n.room.check(n, senders); err != nil {
		return err
	}
	if tcsbs != len(n.byID) || !maps.Equal(neighbors, held) || !maps.Equal(ports, got) {
		return fmt.Errorf("counts: reservations %d/%d neighbours %v/%v ports %v/%v",
			tcsbs, len(n.byID), neighbors, held, ports, got)
	}
	return nil
}

// check compares what the quotas count with what there is.
func (r *rooms) check(n *Node, senders map[IfIndex]int) error {
	sessions, requests, neighbors, early := map[IfIndex]int{}, map[IfIndex]int{}, map[IfIndex]int{}, map[IfIndex]int{}
	for _, s := range n.sessions {
		sessions[s.order[0].in]++
		for _, t := range s.tcsbs {
			for _, b := range t.rsbs {
				if !b.local() {
					requests[b.from]++
				}
			}
		}
	}
	for k, nb := range n.neighbors {
		if !nb.extra {
			neighbors[k.iface]++
		}
	}
	for _, list := range n.early {
		for i := range list {
			early[list[i].Iface]++
		}
	}
	for _, x := range []struct {
		name string
		got  *fair.Quota
		want map[IfIndex]int
	}{{"senders", r.senders, senders}, {"sessions", r.sessions, sessions}, {"requests", r.requests, requests}, {"neighbours", r.neighbors, neighbors}, {"early", r.early, early}} {
		sum := 0
		for i, c := range x.want {
			if sum += c; x.got.Held(int(i)) != c {
				return fmt.Errorf("%s of interface %d: %d counted, %d there", x.name, i, x.got.Held(int(i)), c)
			}
		}
		if x.got.All() != sum {
			return fmt.Errorf("%s: %d counted, %d there", x.name, x.got.All(), sum)
		}
	}
	return nil
}
