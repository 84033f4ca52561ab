package shaper

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/shaper/bpf"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// Level is a row of an interface's service levels with what it has seen.
type Level = bpf.Level

// rows reads the table of code points, by interface.
func (s *Shaper) rows() (map[int][]Level, error) {
	list := map[int][]Level{}
	err := s.table.EachLevel(func(l Level) { list[l.Ifindex] = append(list[l.Ifindex], l) })
	return list, err
}

// Levels reads the service levels of every managed interface.
func (s *Shaper) Levels() (map[string][]Level, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if s.table == nil {
		return nil, nil
	}
	list, err := s.rows()
	if err != nil {
		return nil, err
	}
	all := map[string][]Level{}
	for name, p := range s.ports {
		if l := list[p.facts.Index]; len(l) > 0 {
			all[name] = l
		}
	}
	return all, nil
}

// sums counts what is reserved on a port.
func (p *port) sums() plan.Sums {
	sums := plan.Sums{}
	for _, f := range p.flows {
		if f.group == nil {
			p.Count(sums, f.Treatment, 1)
		}
	}
	for _, g := range p.groups {
		p.Count(sums, g.whole(), 1)
	}
	return sums
}

// atLeast is what levels are sized by: what is reserved, and no less than was when
// the process before this one died.
func (p *port) atLeast(reserved plan.Sums) plan.Sums {
	if len(p.found) == 0 {
		return reserved
	}
	all := maps.Clone(reserved)
	for code, was := range p.found {
		now := all[code]
		if now.Flows == 0 {
			now.Flows, now.RealTimeFlows = was.Flows, was.RealTimeFlows
		}
		now.Rate, now.Bucket, now.Class = max(now.Rate, was.Rate), max(now.Bucket, was.Bucket), max(now.Class, was.Class)
		all[code] = now
	}
	return all
}

// leveled are the service levels of the port with what is reserved.
func (p *port) leveled(reserved plan.Sums) plan.Port {
	reserved = p.atLeast(reserved)
	return plan.Port{
		Name: p.Name, Root: p.Capacity > 0,
		Classes: plan.LevelClasses(p.Interface, p.facts, reserved), Rows: plan.Rows(p.Interface, reserved),
	}
}

// levelRates is the sum of the rates of a port's service levels.
func levelRates(l plan.Port) uint64 {
	sum, _ := plan.Guaranteed(l.Classes)
	return sum
}

// after is what is reserved on the port once f is in the place of was; either may
// be nil. Flows of a group count once.
func (p *port) after(f, was *flow) plan.Sums {
	sums := maps.Clone(p.reserved)
	if was != nil {
		if was.group == nil {
			p.Count(sums, was.Treatment, -1)
		} else if f == nil || f.group != was.group {
			p.Count(sums, was.group.whole(), -1)
			if len(was.group.members) > 1 {
				p.Count(sums, was.group.without(was.Treatment), 1)
			}
		}
	}
	switch {
	case f == nil:
	case f.group == nil:
		p.Count(sums, f.Treatment, 1)
	case len(f.group.members) == 0:
		p.Count(sums, f.group.with(f.Treatment, was), 1)
	default:
		p.Count(sums, f.group.whole(), -1)
		p.Count(sums, f.group.with(f.Treatment, was), 1)
	}
	return sums
}

// regulate makes the service levels those for what is reserved, which leveled says.
// The function it returns puts them back.
func (s *Shaper) regulate(ctx context.Context, p *port, reserved plan.Sums, next plan.Port) (undo func() error, err error) {
	old, was := p.levels, p.reserved
	facts := map[string]plan.Facts{p.Name: p.facts}
	undo = func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		p.levels, p.reserved = old, was
		// Which of the steps were done is not known.
		var errs []error
		have, err := s.read(ctx, facts)
		if err != nil {
			return fmt.Errorf("undo: %w", err)
		}
		now := have.Port(p.Name)
		now.Classes = levelClasses(now.Classes)
		for _, op := range plan.DiffLevels(now, old) {
			errs = append(errs, s.apply(ctx, facts, op))
		}
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("undo: %w", err)
		}
		return nil
	}
	if err := s.applyAll(ctx, facts, plan.DiffLevels(old, next)); err != nil {
		return nil, errors.Join(err, undo())
	}
	p.levels, p.reserved = next, reserved
	return undo, nil
}

func levelClasses(list []plan.Class) (out []plan.Class) {
	for _, c := range list {
		if _, ok := c.ID.Level(); ok {
			out = append(out, c)
		}
	}
	return out
}

// relax is regulate for what has ended, which cannot be undone: the levels keep
// what they had if it fails.
func (s *Shaper) relax(ctx context.Context, p *port, reserved plan.Sums) {
	if _, err := s.regulate(ctx, p, reserved, p.leveled(reserved)); err != nil {
		p.reserved = reserved
		s.log.Warn("the service levels stay as they were until the next change", zap.String("interface", p.Name), zap.Error(err))
	}
}

// aggregates notes what an earlier process had admitted to the levels of an
// interface that is classified by DSCP alone: there are no flows that tell it.
func (p *port) aggregates(is plan.Port) {
	if !p.ByDSCP {
		return
	}
	p.found = plan.Provided(is)
}

// forget ends what aggregates keeps.
func (s *Shaper) forget(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, p := range s.ports {
		if len(p.found) == 0 {
			continue
		}
		was := p.found
		p.found = nil
		if _, err := s.regulate(ctx, p, p.reserved, p.leveled(p.reserved)); err != nil {
			p.found = was
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
