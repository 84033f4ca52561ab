package shaper

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// held is what a flow or a group has before a change: its class, and what it has
// of it if others share it.
type held struct {
	class plan.ClassID // 0: none
	load  plan.Load    // zero: the class is its own
}

// rate is what is set aside for it.
func (p *port) rate(h held) uint64 {
	switch {
	case h.class == 0:
		return 0
	case h.class.SharedBy():
		return h.load.Rate
	}
	return p.classes[h.class].Rate
}

// join gives a treatment its part of the class that others of its PHB share. The
// function it returns puts things back.
func (s *Shaper) join(ctx context.Context, p *port, f *flow, whole plan.Treatment, had held) (undo func() error, err error) {
	id, can := plan.SharedClassOf(whole)
	if !can {
		return nil, fmt.Errorf("%s: %w, and this one cannot share: %d", p.Name, ErrPool, s.plan.Pool)
	}
	load := plan.LoadOf(p.Interface, p.facts, whole)
	now := p.loads[id].Plus(load)
	if had.class == id {
		now = now.Minus(had.load)
	}
	if now.Queued > plan.MostQueued && now.Queued > p.loads[id].Queued {
		return nil, fmt.Errorf("%s: %w: the bursts of flows that share the class %s would be %d bytes, and its queue can hold %d", p.Name, ErrCapacity, id, now.Queued, uint64(plan.MostQueued))
	}
	back, err := s.load(ctx, p, id, now)
	if err != nil {
		return nil, err
	}
	f.Class, f.load = id, load
	return back, nil
}

// load makes a shared class one for a load, and counts that.
func (s *Shaper) load(ctx context.Context, p *port, id plan.ClassID, now plan.Load) (undo func() error, err error) {
	was := p.loads[id]
	put, err := s.alter(ctx, p, plan.SharedClass(p.Interface, p.facts, id, now), true)
	if err != nil {
		return nil, err
	}
	p.count(id, now)
	return func() error {
		p.count(id, was)
		return put()
	}, nil
}

// count notes the load of a shared class.
func (p *port) count(id plan.ClassID, now plan.Load) {
	p.rates += now.Rate - p.loads[id].Rate
	if now == (plan.Load{}) {
		delete(p.loads, id)
		return
	}
	p.loads[id] = now
}

// part follows the end of a flow's or a group's part in a shared class. The last one
// leaves it as it is: it is empty, and soon somebody else's.
func (s *Shaper) part(ctx context.Context, p *port, h held) {
	now := p.loads[h.class].Minus(h.load)
	if now.Flows == 0 {
		p.count(h.class, plan.Load{})
		return
	}
	if _, err := s.load(ctx, p, h.class, now); err != nil {
		p.count(h.class, now)
		// It has more than it needs; the next Set repairs it.
		s.log.Warn("a class that reserved flows share stays as it was", zap.Stringer("class", h.class), zap.Error(err))
	}
}
