package shaper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/shaper/bpf"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// undoTimeout is what putting things back may take, even if the caller's
// context is over.
const undoTimeout = 10 * time.Second

// Set brings the kernel to the plan's state: it reads what is, does what is
// missing, and reads again. Treatments in force stay, but for those on
// interfaces that the plan does not name. If a step fails, the steps before
// it are undone and the former plan stays in force. Setting the same plan again
// repairs what others changed, and does nothing if nobody did. An interface that was
// managed before and is missing now is passed over, and its treatments are kept in the
// books, until it has come back and Set is called again (see Missing).
func (s *Shaper) Set(ctx context.Context, p plan.Plan) error {
	p = p.WithDefaults()
	if err := p.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	facts, gone, err := s.facts(ctx, p)
	if err != nil {
		return err
	}
	if err := s.open(p); err != nil {
		return err
	}
	if err := s.bring(ctx, facts, gone, p); err != nil {
		return errors.Join(err, s.keepTable(ctx, facts))
	}
	return s.table.Settle()
}

// bring is Set with the table that the plan wants; gone is what was known of the
// interfaces that are missing.
func (s *Shaper) bring(ctx context.Context, facts, gone map[string]plan.Facts, p plan.Plan) error {
	if err := s.table.Prune(); err != nil {
		return err
	}
	if err := s.strays(ctx, facts); err != nil {
		return err
	}
	have, err := s.read(ctx, facts)
	if err != nil {
		return err
	}
	known := maps.Clone(facts)
	maps.Copy(known, gone)
	next, err := s.next(p, known, have)
	if err != nil {
		return err
	}
	here := p
	here.Interfaces = slices.DeleteFunc(slices.Clone(p.Interfaces), func(itf plan.Interface) bool { _, missing := gone[itf.Name]; return missing })
	if err := s.change(ctx, facts, have, here, next); err != nil {
		return err
	}
	s.plan, s.ports, s.set = p, next, true
	s.gone = slices.Sorted(maps.Keys(gone))
	return nil
}

// Missing are the interfaces that the last Set has passed over.
func (s *Shaper) Missing() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.gone)
}

// keepTable goes back to a table of the former size, where a plan with another one was
// refused before anything was changed: the programs have it still.
func (s *Shaper) keepTable(ctx context.Context, facts map[string]plan.Facts) error {
	if !s.set || s.table.Sized(s.plan.Flows, s.plan.Frames) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	have, err := s.read(ctx, facts)
	if err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	return s.undo(ctx, facts, have)
}

// facts reads what the kernel says of the interfaces of the plan, which must exist or
// have been managed so far, and of others managed so far. Of those of the plan that are
// gone it returns what was known.
func (s *Shaper) facts(ctx context.Context, p plan.Plan) (facts, gone map[string]plan.Facts, err error) {
	facts, gone = map[string]plan.Facts{}, map[string]plan.Facts{}
	for _, itf := range p.Interfaces {
		f, err := s.conn.Facts(ctx, itf.Name)
		if _, missing := errors.AsType[*MissingInterfaceError](err); missing && s.ports[itf.Name] != nil {
			gone[itf.Name] = s.ports[itf.Name].facts
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		facts[itf.Name] = f
	}
	for name := range s.ports {
		_, known := facts[name]
		if _, missing := gone[name]; known || missing {
			continue
		}
		f, err := s.conn.Facts(ctx, name)
		if _, missing := errors.AsType[*MissingInterfaceError](err); missing {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		facts[name] = f
	}
	return facts, gone, nil
}

// open opens the table, again where the plan wants another size.
func (s *Shaper) open(p plan.Plan) error {
	if s.table != nil && s.table.Sized(p.Flows, p.Frames) {
		return nil
	}
	t, err := bpf.Open(s.options.PinDir, p.Flows, p.Frames)
	if err != nil {
		return err
	}
	if err := t.Renew(s.options.OnCrash); err != nil {
		return errors.Join(err, t.Close())
	}
	s.frames.Use(t)
	if s.table != nil {
		t.Gone = s.table.Gone
		err = s.table.Close()
	} else if t.Adopted {
		s.log.Info("adopted the treatments of an earlier process")
	}
	s.table = t
	return err
}

// strays adds the interfaces where an earlier process left its programs.
func (s *Shaper) strays(ctx context.Context, facts map[string]plan.Facts) error {
	known := map[int]bool{}
	for _, f := range facts {
		known[f.Index] = true
	}
	for _, index := range s.table.Interfaces() {
		if known[index] {
			continue
		}
		name, err := s.conn.Name(ctx, index)
		if err != nil {
			return err
		}
		if facts[name], err = s.conn.Facts(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// read reads the state of the interfaces.
func (s *Shaper) read(ctx context.Context, facts map[string]plan.Facts) (plan.State, error) {
	var state plan.State
	levels, err := s.rows()
	if err != nil {
		return state, err
	}
	for name, f := range facts {
		p, err := s.conn.Read(ctx, name, f.Index)
		if err != nil {
			return state, err
		}
		p.Egress = s.table.State(bpf.Egress, f.Index)
		p.Ingress = s.table.State(bpf.Ingress, f.Index)
		p.Learn = s.table.State(bpf.Learn, f.Index)
		for _, l := range levels[f.Index] {
			p.Rows = append(p.Rows, l.Row)
		}
		state.Ports = append(state.Ports, p)
	}
	return state, nil
}

// change leads from have to the next ports' state, and back if that fails.
func (s *Shaper) change(ctx context.Context, facts map[string]plan.Facts, have plan.State, p plan.Plan, next map[string]*port) error {
	want := wanted(p, next)
	first, last := inTurn(plan.Diff(have, want))
	err := s.applyAll(ctx, facts, first)
	if err == nil {
		err = s.verify(ctx, facts, want)
	}
	if err == nil {
		err = s.fill(next)
	}
	if err == nil {
		err = s.applyAll(ctx, facts, last)
	}
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return errors.Join(err, s.undo(ctx, facts, have))
}

// inTurn parts the operations that come before the treatments change from those that
// come after: while these are written no row leads to a class that is gone, and no
// flow has lost what its DSCP had before it has its own.
func inTurn(ops []plan.Op) (first, last []plan.Op) {
	for _, op := range ops {
		if op.Kind.Last() {
			last = append(last, op)
		} else {
			first = append(first, op)
		}
	}
	return first, last
}

func (s *Shaper) applyAll(ctx context.Context, facts map[string]plan.Facts, ops []plan.Op) error {
	for _, op := range ops {
		if s.before != nil {
			if err := s.before(op); err != nil {
				return err
			}
		}
		if err := s.apply(ctx, facts, op); err != nil {
			return err
		}
	}
	return nil
}

func (s *Shaper) apply(ctx context.Context, facts map[string]plan.Facts, op plan.Op) error {
	s.log.Debug("kernel", zap.Stringer("op", op))
	index := facts[op.Interface].Index
	switch op.Kind {
	case plan.AttachEgress:
		return s.attach(bpf.Egress, index, op.Program)
	case plan.AttachIngress:
		return s.attach(bpf.Ingress, index, op.Program)
	case plan.AttachLearn:
		return s.attach(bpf.Learn, index, op.Program)
	case plan.DetachLearn:
		return s.table.Detach(bpf.Learn, index)
	case plan.DetachEgress:
		return s.table.Detach(bpf.Egress, index)
	case plan.DetachIngress:
		return s.table.Detach(bpf.Ingress, index)
	case plan.PutRow:
		return s.table.PutRow(index, op.Row)
	case plan.DelRow:
		return s.table.DeleteRow(index, op.Row)
	default:
		return s.conn.Apply(ctx, index, op)
	}
}

// attach hangs our program at an interface, or, where things are put back, the one that
// an earlier process had there.
func (s *Shaper) attach(d bpf.Direction, index int, p plan.Program) error {
	if !p.Current {
		return s.table.PutBack(d, index)
	}
	return s.table.Attach(d, index, p)
}

// verify reads back: a kernel that rounds or ignores must not go unnoticed. What is to
// go is still there.
func (s *Shaper) verify(ctx context.Context, facts map[string]plan.Facts, want plan.State) error {
	now, err := s.read(ctx, facts)
	if err != nil {
		return err
	}
	if first, _ := inTurn(plan.Diff(now, want)); len(first) > 0 {
		return fmt.Errorf("the kernel took every step, but is not in the wanted state: it lacks %q", first[0])
	}
	return nil
}

// undo puts back what was, from wherever the failure left it.
func (s *Shaper) undo(ctx context.Context, facts map[string]plan.Facts, was plan.State) error {
	if s.set {
		// Ours, of the former plan: whatever table they were with.
		if err := s.open(s.plan); err != nil {
			return fmt.Errorf("undo: %w", err)
		}
		want := wanted(s.plan, s.ports)
		for i := range was.Ports {
			w, p := want.Port(was.Ports[i].Name), &was.Ports[i]
			p.Egress, p.Ingress, p.Learn = w.Egress, w.Ingress, w.Learn
		}
	}
	now, err := s.read(ctx, facts)
	if err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	ops := plan.Diff(now, was)
	for _, p := range now.Ports {
		before := was.Port(p.Name)
		for _, c := range p.Classes {
			if _, ok := before.Class(c.ID); !ok && before.Root && (c.ID.Pooled() || c.ID.SharedBy()) {
				ops = append(ops, plan.Op{Kind: plan.DelClass, Interface: p.Name, Class: c})
			}
		}
	}
	first, last := inTurn(ops)
	for _, op := range first {
		err = errors.Join(err, s.apply(ctx, facts, op))
	}
	if err == nil && s.set {
		err = s.fill(s.ports)
	}
	for _, op := range last {
		err = errors.Join(err, s.apply(ctx, facts, op))
	}
	if err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	return nil
}
