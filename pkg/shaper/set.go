package shaper

import (
	"context"
	"errors"
	"fmt"
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
// repairs what others changed, and does nothing if nobody did.
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
	facts, err := s.facts(ctx, p)
	if err != nil {
		return err
	}
	if err := s.open(p.Flows); err != nil {
		return err
	}
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
	next, err := s.next(p, facts, have)
	if err != nil {
		return err
	}
	if err := s.change(ctx, facts, have, p, next); err != nil {
		return err
	}
	s.plan, s.ports, s.set = p, next, true
	return nil
}

// facts reads what the kernel says of the interfaces of the plan, which must
// exist, and of those managed so far, which need not.
func (s *Shaper) facts(ctx context.Context, p plan.Plan) (map[string]plan.Facts, error) {
	facts := map[string]plan.Facts{}
	for _, itf := range p.Interfaces {
		f, err := s.conn.Facts(ctx, itf.Name)
		if err != nil {
			return nil, err
		}
		facts[itf.Name] = f
	}
	for name := range s.ports {
		if _, ok := facts[name]; ok {
			continue
		}
		f, err := s.conn.Facts(ctx, name)
		if _, missing := errors.AsType[*MissingInterfaceError](err); missing {
			continue
		}
		if err != nil {
			return nil, err
		}
		facts[name] = f
	}
	return facts, nil
}

// open opens the table, again where the plan wants another size.
func (s *Shaper) open(flows int) error {
	if s.table != nil && s.plan.Flows == flows {
		return nil
	}
	t, err := bpf.Open(s.options.PinDir, flows)
	if err != nil {
		return err
	}
	if err := t.Renew(s.options.OnCrash); err != nil {
		return errors.Join(err, t.Close())
	}
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
	err := s.applyAll(ctx, facts, plan.Diff(have, want))
	if err == nil {
		err = s.verify(ctx, facts, want)
	}
	if err == nil {
		err = s.fill(next)
	}
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return errors.Join(err, s.undo(ctx, facts, have))
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
		return s.table.Attach(bpf.Egress, index, op.Program)
	case plan.AttachIngress:
		return s.table.Attach(bpf.Ingress, index, op.Program)
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

// verify reads back: a kernel that rounds or ignores must not go unnoticed.
func (s *Shaper) verify(ctx context.Context, facts map[string]plan.Facts, want plan.State) error {
	now, err := s.read(ctx, facts)
	if err != nil {
		return err
	}
	if ops := plan.Diff(now, want); len(ops) > 0 {
		return fmt.Errorf("the kernel took every step, but is not in the wanted state: it lacks %q", ops[0])
	}
	return nil
}

// undo puts back what was, from wherever the failure left it.
func (s *Shaper) undo(ctx context.Context, facts map[string]plan.Facts, was plan.State) error {
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
	for _, op := range ops {
		if op.Program.Attached && !op.Program.Current {
			// Loaded by an earlier process: ours does the same.
			op.Program.Current, op.Program.Header = true, facts[op.Interface].Header
			if op.Kind == plan.AttachEgress && was.Port(op.Interface).Root {
				op.Program.Control = plan.Control
			}
			op.Program.ByDSCP = slices.ContainsFunc(was.Port(op.Interface).Rows, func(r plan.Row) bool {
				return r.Arriving == (op.Kind == plan.AttachIngress)
			})
		}
		err = errors.Join(err, s.apply(ctx, facts, op))
	}
	if err == nil && s.set {
		err = s.fill(s.ports)
	}
	if err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	return nil
}
