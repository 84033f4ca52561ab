package shaper

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/bpf"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
	"github.com/qosproxy/qosproxy/pkg/shaper/tc"
)

// next computes the ports under a plan, with the flows in force on them, and
// refuses what cannot be.
func (s *Shaper) next(p plan.Plan, facts map[string]plan.Facts, have plan.State) (map[string]*port, error) {
	ports := map[string]*port{}
	for _, itf := range p.Interfaces {
		is := have.Port(itf.Name)
		if itf.Capacity > 0 && is.Foreign != "" {
			return nil, fmt.Errorf("%s: %w (%s): remove it (tc qdisc del dev %s root), or set no capacity on the interface",
				itf.Name, ErrForeignQdisc, is.Foreign, itf.Name)
		}
		f := facts[itf.Name]
		if itf.Capacity > 0 {
			f.FQCodel = tc.HasFQCodel()
		}
		ports[itf.Name] = newPort(itf, f, is)
	}
	flows, err := s.inForce(facts)
	if err != nil {
		return nil, err
	}
	for _, f := range flows {
		port := ports[f.Interface]
		if port == nil {
			continue
		}
		if err := port.take(f, p.Pool); err != nil {
			return nil, err
		}
	}
	for name, port := range ports {
		port.settle()
		if !s.set && s.table.Adopted {
			port.aggregates(have.Port(name))
		} else if was := s.ports[name]; was != nil && port.ByDSCP {
			port.found = was.found
		}
		port.reserved = port.sums()
		port.levels = port.leveled(port.reserved)
		if err := port.room(0, port.levels); err != nil {
			return nil, err
		}
	}
	return ports, nil
}

func newPort(itf plan.Interface, f plan.Facts, is plan.Port) *port {
	p := &port{
		Interface: itf, facts: f, next: plan.FirstPooled,
		flows: map[packet.FlowKey]*flow{}, groups: map[packet.FlowKey]*group{},
		classes: map[plan.ClassID]plan.Class{}, loads: map[plan.ClassID]plan.Load{}, taken: map[plan.ClassID]bool{},
	}
	if itf.Capacity == 0 {
		return p
	}
	p.rates, p.root = plan.Guaranteed(plan.Base(itf, f))
	for _, c := range is.Classes {
		switch {
		case c.ID.Pooled():
			p.classes[c.ID] = c
			p.next = max(p.next, c.ID+1)
		case c.ID.SharedBy():
			p.classes[c.ID] = c
		}
	}
	return p
}

// found is a flow that is treated, and its group's number.
type found struct {
	*flow
	number uint32
}

// inForce lists the flows that are treated: those we know of, and in the
// beginning those that an earlier process left. Those with a class come first,
// so that nobody else gets it.
func (s *Shaper) inForce(facts map[string]plan.Facts) ([]found, error) {
	var list []found
	add := func(t plan.Treatment, class plan.ClassID, number uint32, adopted bool) {
		list = append(list, found{&flow{Assigned: plan.Assigned{Treatment: t, Class: class}, adopted: adopted}, number})
	}
	for _, p := range s.ports {
		for _, f := range p.flows {
			add(f.treatment(), f.Class, f.number(), f.adopted)
		}
	}
	if !s.set && s.table.Adopted {
		names := map[int]string{}
		for name, f := range facts {
			names[f.Index] = name
		}
		err := s.table.Each(func(e bpf.Entry) {
			e.Treatment.Interface = names[e.Ifindex]
			add(e.Treatment, e.Class, e.Number, true)
			s.lastGroup = max(s.lastGroup, e.Number)
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(list, func(a, b found) int { return cmp.Compare(b.Class, a.Class) })
	return list, nil
}

// take puts a flow in force on the port.
func (p *port) take(f found, pool int) error {
	p.flows[f.Key] = f.flow
	whole := f.Treatment
	if f.Grouped() {
		g := p.groups[f.Group]
		first := g == nil
		if first {
			g = newGroup(f.number, f.Treatment)
			p.groups[f.Group] = g
		}
		f.group = g
		g.add(f.Treatment)
		if whole = g.whole(); !first {
			f.Class = g.class
			switch {
			case g.class.SharedBy():
				load := plan.LoadOf(p.Interface, p.facts, whole)
				p.takeLoad(g.class, p.loads[g.class].Minus(g.load).Plus(load))
				g.load = load
			case g.class.Pooled(): // its rate is counted already
				p.classes[g.class] = plan.FlowClass(p.Interface, p.facts, whole, g.class)
			}
			return nil
		}
	}
	if !p.own(whole) {
		if f.Class = p.joined(whole); f.group != nil {
			f.group.class = f.Class
		}
		return nil
	}
	if !f.Class.Pooled() && !f.Class.SharedBy() || p.taken[f.Class] { // what shared it may have lost its group
		id, err := p.free(pool)
		shared, can := plan.SharedClassOf(whole)
		switch {
		case err == nil:
			f.Class = id
		case can:
			f.Class = shared
		default:
			return err
		}
	}
	if f.Class.SharedBy() {
		f.load = plan.LoadOf(p.Interface, p.facts, whole)
		p.takeLoad(f.Class, p.loads[f.Class].Plus(f.load))
		if f.group != nil {
			f.group.class, f.group.load = f.Class, f.load
		}
		return nil
	}
	p.taken[f.Class] = true
	p.next = max(p.next, f.Class+1)
	c := plan.FlowClass(p.Interface, p.facts, whole, f.Class)
	p.classes[c.ID] = c
	p.rates += c.Rate
	if f.group != nil {
		f.group.class = f.Class
	}
	return nil
}

// takeLoad puts the load of a shared class in force on the port.
func (p *port) takeLoad(id plan.ClassID, now plan.Load) {
	p.classes[id] = plan.SharedClass(p.Interface, p.facts, id, now)
	p.count(id, now)
}

// settle finds the idle classes, once all flows have theirs.
func (p *port) settle() {
	used := map[plan.ClassID]bool{}
	for _, f := range p.flows {
		used[f.Class] = true
	}
	p.taken = nil
	p.idle = p.idle[:0]
	for id := range p.classes {
		if !used[id] && id.Pooled() {
			p.idle = append(p.idle, id)
		}
	}
	// The lowest number is taken first.
	slices.SortFunc(p.idle, func(a, b plan.ClassID) int { return cmp.Compare(b, a) })
}

// free returns a class that is not in use, the lowest idle one or a new one.
func (p *port) free(pool int) (plan.ClassID, error) {
	if n := len(p.idle); n > 0 {
		id := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return id, nil
	}
	if int(p.next-plan.FirstPooled) >= pool {
		return 0, fmt.Errorf("%s: %w: %d", p.Name, ErrPool, pool)
	}
	p.next++
	return p.next - 1, nil
}

// room refuses a rate that the root class could not keep beside the others, with
// the service levels as they are then.
func (p *port) room(rate uint64, next plan.Port) error {
	if p.Capacity == 0 {
		return nil
	}
	levels := levelRates(next)
	switch used := p.rates + levels; {
	case used+rate <= p.root:
		return nil
	case rate == 0:
		return fmt.Errorf("%s: %w: reservations and service levels need %d bytes/s of %d, with 2 %% kept for control traffic and %g %% for best effort",
			p.Name, ErrCapacity, used, p.root, 100*p.BestEffortShare())
	default:
		return fmt.Errorf("%s: %w: %d bytes/s are asked for and %d of %d are left, with 2 %% kept for control traffic, %g %% for best effort and %d bytes/s for service levels",
			p.Name, ErrCapacity, rate, p.root-min(used, p.root), p.root, 100*p.BestEffortShare(), levels)
	}
}

// own tells whether a flow, or a group, has a class of its own.
func (p *port) own(whole plan.Treatment) bool {
	return whole.Reserve && p.Capacity > 0 && !p.ByDSCP && !p.Joins(whole)
}

// joined is the class that a flow shares with others of its kind, 0 if it does not.
func (p *port) joined(whole plan.Treatment) plan.ClassID {
	if p.Joins(whole) {
		return plan.Common
	}
	return 0
}

// wanted is the state that a plan asks for with the flows in force.
func wanted(p plan.Plan, ports map[string]*port) plan.State {
	want := plan.Want(p, factsOf(ports), assigned(ports))
	for i := range want.Ports {
		w := &want.Ports[i]
		port := ports[w.Name]
		if len(port.found) == 0 {
			continue
		}
		w.Rows = port.levels.Rows
		w.Classes = slices.DeleteFunc(w.Classes, func(c plan.Class) bool { _, ok := c.ID.Level(); return ok })
		w.Classes = append(w.Classes, port.levels.Classes...) // their handles are the highest
	}
	return want
}

func factsOf(ports map[string]*port) map[string]plan.Facts {
	facts := map[string]plan.Facts{}
	for name, p := range ports {
		facts[name] = p.facts
	}
	return facts
}

func assigned(ports map[string]*port) []plan.Assigned {
	var list []plan.Assigned
	for _, p := range ports {
		for _, f := range p.flows {
			if f.group == nil {
				list = append(list, f.Assigned)
			}
		}
		for _, g := range p.groups {
			t := g.whole()
			t.Interface = p.Name
			list = append(list, plan.Assigned{Treatment: t, Class: g.class})
		}
	}
	return list
}
