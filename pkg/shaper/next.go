package shaper

import (
	"cmp"
	"errors"
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
	for _, port := range ports {
		port.settle()
	}
	return ports, nil
}

func newPort(itf plan.Interface, f plan.Facts, is plan.Port) *port {
	p := &port{
		Interface: itf, facts: f, next: plan.FirstPooled,
		flows: map[packet.FlowKey]*flow{}, classes: map[plan.ClassID]plan.Class{},
	}
	if itf.Capacity == 0 {
		return p
	}
	p.rates, p.root = plan.Guaranteed(plan.Base(itf, f))
	for _, c := range is.Classes {
		if c.ID.Pooled() {
			p.classes[c.ID] = c
			p.next = max(p.next, c.ID+1)
		}
	}
	return p
}

// inForce lists the flows that are treated: those we know of, and in the
// beginning those that an earlier process left. Those with a class come first,
// so that nobody else gets it.
func (s *Shaper) inForce(facts map[string]plan.Facts) ([]*flow, error) {
	var list []*flow
	for _, p := range s.ports {
		for _, f := range p.flows {
			list = append(list, &flow{Assigned: f.Assigned, adopted: f.adopted})
		}
	}
	if !s.set && s.table.Adopted {
		names := map[int]string{}
		for name, f := range facts {
			names[f.Index] = name
		}
		err := s.table.Each(func(e bpf.Entry) {
			e.Treatment.Interface = names[e.Ifindex]
			list = append(list, &flow{Assigned: plan.Assigned{Treatment: e.Treatment, Class: e.Class}, adopted: true})
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(list, func(a, b *flow) int { return cmp.Compare(b.Class, a.Class) })
	return list, nil
}

// take puts a flow in force on the port.
func (p *port) take(f *flow, pool int) error {
	p.flows[f.Key] = f
	if !f.Reserve || p.Capacity == 0 {
		f.Class = 0
		return nil
	}
	if f.Class == 0 {
		id, err := p.free(pool)
		if err != nil {
			return err
		}
		f.Class = id
	}
	p.next = max(p.next, f.Class+1)
	c := plan.FlowClass(p.Interface, p.facts, f.Treatment, f.Class)
	if err := p.room(c.Rate); err != nil {
		return fmt.Errorf("%s: %w", f.Key, err)
	}
	p.classes[c.ID] = c
	p.rates += c.Rate
	return nil
}

// settle finds the idle classes, once all flows have theirs.
func (p *port) settle() {
	used := map[plan.ClassID]bool{}
	for _, f := range p.flows {
		used[f.Class] = true
	}
	p.idle = p.idle[:0]
	for id := range p.classes {
		if !used[id] {
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

// room refuses a rate that the root class could not keep beside the others.
func (p *port) room(rate uint64) error {
	if p.rates+rate > p.root {
		return fmt.Errorf("%s: %w: %d bytes/s are asked for and %d of %d are left, with %s", p.Name, ErrCapacity,
			rate, p.root-min(p.rates, p.root), p.root, "2 % kept for control traffic and 5 % for best effort")
	}
	return nil
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
			list = append(list, f.Assigned)
		}
	}
	return list
}

// fill makes the table of treatments agree with the ports.
func (s *Shaper) fill(ports map[string]*port) error {
	type id struct {
		index int
		key   packet.FlowKey
	}
	is := map[id]bpf.Entry{}
	err := s.table.Each(func(e bpf.Entry) { is[id{e.Ifindex, e.Treatment.Key}] = e })
	if err != nil {
		return err
	}
	for _, p := range ports {
		for key, f := range p.flows {
			i := id{p.facts.Index, key}
			e, ok := is[i]
			delete(is, i)
			e.Treatment.Interface = p.Name
			if ok && e.Class == f.Class && e.Excess == p.excess() && e.Treatment == f.Treatment {
				continue
			}
			if err := s.table.Put(p.facts.Index, f.Treatment, f.Class, p.excess()); err != nil {
				return err
			}
		}
	}
	for i := range is {
		err := s.table.Delete(i.index, i.key)
		if err != nil && !errors.Is(err, ErrNoFlow) {
			return err
		}
	}
	return nil
}

// excess is the class of what exceeds a TSpec.
func (p *port) excess() plan.ClassID {
	if p.Capacity == 0 {
		return 0
	}
	return plan.BestEffort
}
