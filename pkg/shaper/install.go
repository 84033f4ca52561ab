package shaper

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// Install puts a treatment in force, or changes the one in force on the same
// interface and key. In a group it brings the TSpec of all its members along,
// and disturbs nothing else of them. It returns the flow's class, 0 if it has none;
// on an interface that is classified by DSCP alone it is that of its level.
// A packet sees the old treatment or the new one, and a new one's class is
// ready before.
func (s *Shaper) Install(ctx context.Context, t plan.Treatment) (plan.ClassID, error) {
	if err := t.Validate(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.managed(t.Interface)
	if err != nil {
		return 0, err
	}
	was := p.flows[t.Key]
	f := &flow{Assigned: plan.Assigned{Treatment: t}}
	undo, err := s.place(ctx, p, f, was)
	if err != nil {
		return 0, err
	}
	if !p.ByDSCP {
		if err := s.row("put "+t.Key.String(), func() error {
			return s.table.Put(p.facts.Index, t, f.Class, p.excess(), f.number())
		}); err != nil {
			return 0, errors.Join(err, undo())
		}
	}
	p.flows[t.Key] = f
	if g := f.group; g != nil {
		had := held{g.class, g.load}
		p.groups[t.Group], g.spec, g.class, g.load = g, shared(t), f.Class, f.load
		g.add(t)
		s.vacate(ctx, p, had, f.Class)
	}
	if was != nil {
		if f.group != nil && was.group == f.group {
			f.group.count(was.Treatment, -1)
		} else {
			s.leave(ctx, p, was, f.Class)
		}
	}
	return p.classOf(f), nil
}

// classOf is the class that a flow's packets wait in: its own, or where they are told
// apart by DSCP alone that of its level.
func (p *port) classOf(f *flow) plan.ClassID {
	if p.ByDSCP && f.Reserve && f.Mark && p.Capacity > 0 {
		return p.ClassOf(f.DSCP)
	}
	return f.Class
}

// place gets ready what a flow needs before it is treated: its class, and its
// group's policer. The function it returns puts things back.
func (s *Shaper) place(ctx context.Context, p *port, f, was *flow) (undo func() error, err error) {
	var had held
	whole := f.Treatment
	if was != nil && was.alone() {
		had = held{was.Class, was.load}
		if was.group != nil {
			had.load = was.group.load
		}
	}
	if f.Grouped() {
		g, there := p.groups[f.Group]
		if there {
			had, whole = held{g.class, g.load}, g.with(f.Treatment, was)
		} else {
			g = newGroup(s.freeNumber(), f.Treatment)
		}
		f.group = g
	}
	var steps []func() error
	undo = func() error {
		var errs []error
		for _, step := range slices.Backward(steps) {
			errs = append(errs, step())
		}
		return errors.Join(errs...)
	}
	// The levels first: they make room for a class, and have nothing of what is
	// not there any more.
	reserved := p.after(f, was)
	levels, own := p.leveled(reserved), p.own(whole)
	if !had.class.Pooled() && !had.class.SharedBy() {
		had = held{}
	}
	if err := p.roomFor(whole, had, own, levels); err != nil {
		return nil, err
	}
	back, err := s.regulate(ctx, p, reserved, levels)
	if err != nil {
		return nil, err
	}
	steps = append(steps, back)
	if f.Class = p.joined(whole); own {
		back, err := s.class(ctx, p, f, whole, had)
		if err != nil {
			return nil, errors.Join(err, undo())
		}
		steps = append(steps, back)
	}
	if g := f.group; g != nil && !p.ByDSCP && (g.spec != shared(f.Treatment) || len(g.members) == 0) {
		if err := s.row("put the group of "+f.Key.String(), func() error {
			return s.table.PutGroup(p.facts.Index, g.number, f.Treatment)
		}); err != nil {
			return nil, errors.Join(err, undo())
		}
		steps = append(steps, func() error {
			if len(g.members) == 0 {
				return s.table.DeleteGroup(g.number)
			}
			return s.table.PutGroup(p.facts.Index, g.number, g.spec)
		})
	}
	return undo, nil
}

// roomFor is room for a treatment, in place of what it has; own: with a class of its
// own, or a part of one.
func (p *port) roomFor(whole plan.Treatment, had held, own bool, levels plan.Port) error {
	before, rate := p.rate(had), uint64(0)
	if own {
		rate = plan.FlowClass(p.Interface, p.facts, whole, had.class).Rate
	}
	p.rates -= before
	err := p.room(rate, levels)
	p.rates += before
	return err
}

// class gives a flow its class, made for the treatment whole: the one it had,
// an idle one, a new one, or a part of one that others share. The function it
// returns puts things back.
func (s *Shaper) class(ctx context.Context, p *port, f *flow, whole plan.Treatment, had held) (undo func() error, err error) {
	var rate uint64 // that it has so far
	id := had.class
	if id.SharedBy() {
		if f.group != nil && len(f.group.members) > 0 {
			return s.join(ctx, p, f, whole, had) // others' rows name it
		}
		id = 0 // one of its own, if there is one by now
	}
	if id != 0 {
		rate = p.classes[id].Rate
	}
	c := plan.FlowClass(p.Interface, p.facts, whole, id)
	if id == 0 {
		id, err = p.free(s.plan.Pool)
		if err != nil {
			return s.join(ctx, p, f, whole, had)
		}
		c.ID = id
	}
	if old, there := p.classes[id]; there && c.Leaf.Kind == old.Leaf.Kind && rate == 0 {
		// A queue that is longer than needed is no reason for another request.
		if !whole.RealTime {
			c.Leaf.Limit = max(c.Leaf.Limit, old.Leaf.Limit)
		}
	}
	put, err := s.alter(ctx, p, c, rate > 0)
	if err != nil {
		return nil, err
	}
	f.Class = id
	p.rates += c.Rate - rate
	return func() error {
		p.rates -= c.Rate - rate
		return put()
	}, nil
}

// alter makes a class in the kernel and in the books. used: somebody is in the class
// that was there. The function it returns puts that back.
func (s *Shaper) alter(ctx context.Context, p *port, c plan.Class, used bool) (undo func() error, err error) {
	old, there := p.classes[c.ID]
	facts := map[string]plan.Facts{p.Name: p.facts}
	undo = func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		return s.restore(ctx, facts, p, c, old, there, used)
	}
	if err := s.applyAll(ctx, facts, plan.DiffClass(p.Name, old, there, c)); err != nil {
		return nil, errors.Join(err, undo())
	}
	p.classes[c.ID] = c
	return undo, nil
}

// restore brings a class back to what it was, in the kernel and in the books.
func (s *Shaper) restore(ctx context.Context, facts map[string]plan.Facts, p *port, c, old plan.Class, there, used bool) error {
	var errs []error
	if there {
		p.classes[c.ID] = old
		// Which of the steps were done is not known: doing one again is harmless.
		for _, op := range plan.DiffClass(p.Name, c, true, old) {
			errs = append(errs, s.apply(ctx, facts, op))
		}
		if !used {
			p.idle = append(p.idle, c.ID)
		}
	} else {
		delete(p.classes, c.ID)
		state, err := s.conn.Read(ctx, p.Name, p.facts.Index)
		errs = append(errs, err)
		if _, made := state.Class(c.ID); made {
			errs = append(errs, s.apply(ctx, facts, plan.Op{Kind: plan.DelClass, Interface: p.Name, Class: c}))
		}
		if c.ID == p.next-1 {
			p.next--
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	return nil
}

// Remove ends a treatment: the flow is an ordinary one from its next packet on,
// and its class is free for another.
func (s *Shaper) Remove(ctx context.Context, iface string, key packet.FlowKey) error {
	_, err := s.Take(ctx, iface, key)
	return err
}

// Take is Remove, and returns what the treatment has counted until its end.
func (s *Shaper) Take(ctx context.Context, iface string, key packet.FlowKey) (Counters, error) {
	return s.removeIf(ctx, iface, key, func(*flow) bool { return true })
}

// removeIf is Take for a flow that is still what the caller thinks.
func (s *Shaper) removeIf(ctx context.Context, iface string, key packet.FlowKey, still func(*flow) bool) (c Counters, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.managed(iface)
	if err != nil {
		return c, err
	}
	f := p.flows[key]
	if f == nil || !still(f) {
		return c, fmt.Errorf("%s on %s: %w", key, iface, ErrNoFlow)
	}
	if !p.ByDSCP {
		err = s.row("delete "+key.String(), func() (err error) { c, err = s.table.Take(p.facts.Index, key); return err })
		if err != nil && !errors.Is(err, ErrNoFlow) {
			return c, err
		}
	}
	reserved := p.after(nil, f)
	delete(p.flows, key)
	s.leave(ctx, p, f, 0)
	s.relax(ctx, p, reserved)
	return c, nil
}

// row is one step on the table of treatments.
func (s *Shaper) row(what string, do func() error) error {
	if s.beforeRow != nil {
		if err := s.beforeRow(what); err != nil {
			return err
		}
	}
	return do()
}

// release gives a class back, if it is one of flows.
func (p *port) release(id plan.ClassID) {
	if !id.Pooled() {
		return
	}
	p.rates -= p.classes[id].Rate
	p.idle = append(p.idle, id)
}

func (s *Shaper) managed(iface string) (*port, error) {
	if s.closed {
		return nil, ErrClosed
	}
	p := s.ports[iface]
	if p == nil {
		return nil, fmt.Errorf("%s: %w", iface, ErrNotManaged)
	}
	return p, nil
}
