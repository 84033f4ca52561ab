package shaper

import (
	"errors"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/bpf"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// fill makes the table of treatments agree with the ports. Groups come before
// the flows that name them, and go after them.
func (s *Shaper) fill(ports map[string]*port) error {
	stray, err := s.fillGroups(ports)
	if err != nil {
		return err
	}
	if err := s.fillFlows(ports); err != nil {
		return err
	}
	if err := s.sweepRows(ports); err != nil {
		return err
	}
	for _, number := range stray {
		if err := s.table.DeleteGroup(number); err != nil && !errors.Is(err, ErrNoFlow) {
			return err
		}
	}
	return nil
}

// fillGroups returns the groups that nobody has.
func (s *Shaper) fillGroups(ports map[string]*port) (stray []uint32, err error) {
	is := map[uint32]bpf.Group{}
	if err := s.table.EachGroup(func(g bpf.Group) { is[g.Number] = g }); err != nil {
		return nil, err
	}
	for _, p := range ports {
		if p.ByDSCP {
			continue
		}
		for _, g := range p.groups {
			have, ok := is[g.number]
			delete(is, g.number)
			want := bpf.Group{Ifindex: p.facts.Index, Number: g.number, Treatment: g.spec}
			if have == want {
				continue
			}
			if ok && (have.Ifindex != want.Ifindex || have.Treatment.Group != g.spec.Group) {
				// Its interface was made again: the name must go with it.
				if err := s.table.DeleteGroup(g.number); err != nil {
					return nil, err
				}
			}
			if err := s.row("fill the group "+g.spec.Group.String(), func() error {
				return s.table.PutGroup(p.facts.Index, g.number, g.spec)
			}); err != nil {
				return nil, err
			}
		}
	}
	for number := range is {
		stray = append(stray, number)
	}
	return stray, nil
}

func (s *Shaper) fillFlows(ports map[string]*port) error {
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
		if p.ByDSCP {
			continue
		}
		for key, f := range p.flows {
			i := id{p.facts.Index, key}
			e, ok := is[i]
			delete(is, i)
			e.Treatment.Interface = p.Name
			if ok && e.Class == f.Class && e.Excess == p.excess() && e.Treatment == f.treatment() && e.Number == f.number() {
				continue
			}
			if err := s.row("fill "+key.String(), func() error {
				return s.table.Put(p.facts.Index, f.treatment(), f.Class, p.excess(), f.number())
			}); err != nil {
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

// sweepRows removes the rows of interfaces that are gone.
func (s *Shaper) sweepRows(ports map[string]*port) error {
	here := map[int]bool{}
	for _, p := range ports {
		here[p.facts.Index] = true
	}
	list, err := s.rows()
	if err != nil {
		return err
	}
	for index, levels := range list {
		for _, l := range levels {
			if here[index] {
				continue
			}
			if err := s.table.DeleteRow(index, l.Row); err != nil {
				return err
			}
		}
	}
	return nil
}
