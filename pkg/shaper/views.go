package shaper

import (
	"context"
	"errors"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/bpf"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
	"github.com/qosproxy/qosproxy/pkg/shaper/tc"
)

// Counters are what a treatment has seen.
type Counters = bpf.Counters

// ClassStats are the figures of one HTB class.
type ClassStats = tc.ClassStats

// Frames reads how frames look that come in on a bridge.
type Frames = bpf.Frames

// FlowID names a treatment.
type FlowID struct {
	Interface string
	Key       packet.FlowKey
}

// Frames is the reader of what was learned of frames, the same one as long as the
// Shaper is there. It knows nothing before Set, or where the plan has none learned.
func (s *Shaper) Frames() *Frames { return s.frames }

// Counters reads those of one treatment.
func (s *Shaper) Counters(iface string, key packet.FlowKey) (Counters, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.managed(iface)
	if err != nil {
		return Counters{}, err
	}
	return s.table.Counters(p.facts.Index, key)
}

// readAtOnce is how many treatments are read while nobody can change one.
const readAtOnce = 128

// SomeCounters reads those of the treatments of a list, and tells each's place in
// it; not of one that is not there.
func (s *Shaper) SomeCounters(list []FlowID, tell func(int, Counters)) error {
	for at := 0; at < len(list); at += readAtOnce {
		if err := s.someCounters(list[at:min(at+readAtOnce, len(list))], func(i int, c Counters) { tell(at+i, c) }); err != nil {
			return err
		}
	}
	return nil
}

func (s *Shaper) someCounters(list []FlowID, tell func(int, Counters)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	for i, id := range list {
		p := s.ports[id.Interface]
		if p == nil {
			continue
		}
		c, err := s.table.Counters(p.facts.Index, id.Key)
		switch {
		case errors.Is(err, ErrNoFlow):
		case err != nil:
			return err
		default:
			tell(i, c)
		}
	}
	return nil
}

// AllCounters reads those of all treatments.
func (s *Shaper) AllCounters() (map[FlowID]Counters, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if s.table == nil {
		return nil, nil
	}
	names := map[int]string{}
	for name, p := range s.ports {
		names[p.facts.Index] = name
	}
	all := map[FlowID]Counters{}
	err := s.table.Each(func(e bpf.Entry) {
		all[FlowID{Interface: names[e.Ifindex], Key: e.Treatment.Key}] = e.Counters
	})
	return all, err
}

// Totals are what all treatments have counted since the Shaper is there, those that
// ended included (of one that was adopted also what it had counted before), and how
// many there are now. They never go down.
func (s *Shaper) Totals() (sum Counters, now int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return sum, 0, ErrClosed
	}
	if s.table == nil {
		return sum, 0, nil
	}
	sum = s.table.Gone
	err = s.table.Each(func(e bpf.Entry) {
		sum.Add(e.Counters)
		now++
	})
	return sum, now, err
}

// Classes reads the HTB statistics of every shaped interface. Pooled classes
// that no flow uses are left out.
func (s *Shaper) Classes(ctx context.Context) (map[string][]ClassStats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	all := map[string][]ClassStats{}
	for name, p := range s.ports {
		if p.Capacity == 0 {
			continue
		}
		list, err := s.conn.Stats(ctx, p.facts.Index)
		if err != nil {
			return nil, err
		}
		idle := map[plan.ClassID]bool{}
		for _, id := range p.idle {
			idle[id] = true
		}
		for _, c := range list {
			if !idle[c.ID] {
				all[name] = append(all[name], c)
			}
		}
	}
	return all, nil
}

// Adopted lists the treatments that an earlier process left and that were not
// installed again since.
func (s *Shaper) Adopted() []plan.Treatment {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []plan.Treatment
	for _, p := range s.ports {
		for _, f := range p.flows {
			if f.adopted {
				list = append(list, f.treatment())
			}
		}
	}
	return list
}

// IsAdopted tells whether a treatment was left by an earlier process and not
// installed again since.
func (s *Shaper) IsAdopted(iface string, key packet.FlowKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ports[iface]
	return p != nil && p.flows[key] != nil && p.flows[key].adopted
}

// Treatment returns what is in force for a flow on an interface.
func (s *Shaper) Treatment(iface string, key packet.FlowKey) (plan.Treatment, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.ports[iface]; p != nil && p.flows[key] != nil {
		return p.flows[key].treatment(), true
	}
	return plan.Treatment{}, false
}

// Class is what Install returned for a flow; Set may have moved it since.
func (s *Shaper) Class(iface string, key packet.FlowKey) plan.ClassID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.ports[iface]; p != nil && p.flows[key] != nil {
		return p.classOf(p.flows[key])
	}
	return 0
}

// Unclaim makes a treatment an earlier process's again, after an Install that was
// to replace it and then was undone.
func (s *Shaper) Unclaim(iface string, key packet.FlowKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.ports[iface]; p != nil && p.flows[key] != nil {
		p.flows[key].adopted = true
	}
}

// Reconcile removes what Adopted lists: call it when the reservations that
// should be there again had their time to come.
func (s *Shaper) Reconcile(ctx context.Context) error {
	var errs []error
	for _, t := range s.Adopted() {
		// Looked at again under the lock: it may have been claimed meanwhile.
		if _, err := s.removeIf(ctx, t.Interface, t.Key, func(f *flow) bool { return f.adopted }); err != nil && !errors.Is(err, ErrNoFlow) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, s.forget(ctx))...)
}
