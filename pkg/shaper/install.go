package shaper

import (
	"context"
	"errors"
	"fmt"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// Install puts a treatment in force, or changes the one in force on the same
// interface and key. It returns the flow's class, 0 if it has none of its own.
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
	var undo func() error
	if t.Reserve && p.Capacity > 0 {
		if undo, err = s.class(ctx, p, f, was); err != nil {
			return 0, err
		}
	}
	if err := s.table.Put(p.facts.Index, t, f.Class, p.excess()); err != nil {
		if undo != nil {
			err = errors.Join(err, undo())
		}
		return 0, err
	}
	p.flows[t.Key] = f
	if was != nil && was.Class != 0 && f.Class == 0 {
		p.release(was.Class)
	}
	return f.Class, nil
}

// class gives a flow its class: the one it had, an idle one, or a new one. The
// function it returns puts things back.
func (s *Shaper) class(ctx context.Context, p *port, f, was *flow) (undo func() error, err error) {
	var held uint64
	id := plan.ClassID(0)
	if was != nil && was.Class != 0 {
		id, held = was.Class, p.classes[was.Class].Rate
	}
	c := plan.FlowClass(p.Interface, p.facts, f.Treatment, id)
	p.rates -= held
	err = p.room(c.Rate)
	p.rates += held
	if err != nil {
		return nil, err
	}
	if id == 0 {
		if id, err = p.free(s.plan.Pool); err != nil {
			return nil, err
		}
		c.ID = id
	}
	old, there := p.classes[id]
	if there && c.Leaf.Kind == old.Leaf.Kind && held == 0 {
		// A queue that is longer than needed is no reason for another request.
		if !f.RealTime {
			c.Leaf.Limit = max(c.Leaf.Limit, old.Leaf.Limit)
		}
	}
	facts := map[string]plan.Facts{p.Name: p.facts}
	put := func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		return s.restore(ctx, facts, p, c, old, there, held > 0)
	}
	if err := s.applyAll(ctx, facts, plan.DiffClass(p.Name, old, there, c)); err != nil {
		return nil, errors.Join(err, put())
	}
	f.Class = id
	p.classes[id] = c
	p.rates += c.Rate - held
	return func() error {
		p.rates -= c.Rate - held
		return put()
	}, nil
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
func (s *Shaper) Remove(_ context.Context, iface string, key packet.FlowKey) error {
	return s.removeIf(iface, key, func(*flow) bool { return true })
}

// removeIf is Remove for a flow that is still what the caller thinks.
func (s *Shaper) removeIf(iface string, key packet.FlowKey, still func(*flow) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.managed(iface)
	if err != nil {
		return err
	}
	f := p.flows[key]
	if f == nil || !still(f) {
		return fmt.Errorf("%s on %s: %w", key, iface, ErrNoFlow)
	}
	if err := s.table.Delete(p.facts.Index, key); err != nil && !errors.Is(err, ErrNoFlow) {
		return err
	}
	delete(p.flows, key)
	if f.Class != 0 {
		p.release(f.Class)
	}
	return nil
}

func (p *port) release(id plan.ClassID) {
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
