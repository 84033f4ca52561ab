package shaper

import (
	"context"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// group is what the treatments of one plan.Treatment.Group on one interface
// share: a policer in the table, and a class.
type group struct {
	number   uint32         // in the table
	spec     plan.Treatment // only Group and the TSpec
	reserve  bool           // it has a class; else it shares the policer alone
	mark     bool
	dscp     uint8        // what its members are marked
	class    plan.ClassID // 0: none
	load     plan.Load    // of a class that others share too
	members  map[packet.FlowKey]bool
	cheated  int // members that may not be policed
	realTime int
}

func newGroup(number uint32, t plan.Treatment) *group {
	return &group{number: number, spec: shared(t), members: map[packet.FlowKey]bool{}}
}

// shared is the part of a treatment that its group has.
func shared(t plan.Treatment) plan.Treatment {
	return plan.Treatment{Group: t.Group}.WithTSpec(t)
}

func (g *group) add(t plan.Treatment) {
	g.members[t.Key] = true
	g.is(t)
	g.count(t, 1)
}

// is notes what all members have in common beside the TSpec.
func (g *group) is(t plan.Treatment) { g.reserve, g.mark, g.dscp = t.Reserve, t.Mark, t.DSCP }

func (g *group) drop(t plan.Treatment) {
	delete(g.members, t.Key)
	g.count(t, -1)
}

func (g *group) count(t plan.Treatment, n int) {
	if t.Cheated {
		g.cheated += n
	}
	if t.RealTime {
		g.realTime += n
	}
}

// whole is the treatment that the group's class is made for: one cheated flow
// has it shape, one that cannot wait has all of them go first.
func (g *group) whole() plan.Treatment {
	t := g.spec
	t.Reserve, t.Cheated, t.RealTime = g.reserve, g.cheated > 0, g.realTime > 0
	t.Mark, t.DSCP = g.mark, g.dscp
	return t
}

// with is whole if t were a member, in place of what it was before.
func (g *group) with(t plan.Treatment, was *flow) plan.Treatment {
	h := *g
	h.spec = shared(t)
	h.is(t)
	h.count(t, 1)
	if was != nil && was.group == g {
		h.count(was.Treatment, -1)
	}
	return h.whole()
}

// without is whole once a member has gone.
func (g *group) without(t plan.Treatment) plan.Treatment {
	h := *g
	h.count(t, -1)
	return h.whole()
}

// treatment is a flow's own, with the TSpec of its group as it is now.
func (f *flow) treatment() plan.Treatment {
	if f.group == nil {
		return f.Treatment
	}
	return f.WithTSpec(f.group.spec)
}

// number is that of the flow's group in the table, 0 if it has none.
func (f *flow) number() uint32 {
	if f.group == nil {
		return 0
	}
	return f.group.number
}

// alone tells whether nobody shares the flow's class.
func (f *flow) alone() bool { return f.group == nil || len(f.group.members) == 1 }

// freeNumber is one that no group has.
func (s *Shaper) freeNumber() uint32 {
	for {
		s.lastGroup++
		if s.lastGroup != 0 && !s.numberInUse(s.lastGroup) {
			return s.lastGroup
		}
	}
}

func (s *Shaper) numberInUse(n uint32) bool {
	for _, p := range s.ports {
		for _, g := range p.groups {
			if g.number == n {
				return true
			}
		}
	}
	return false
}

// leave follows a flow's end, or its move to another class, in the books of what
// it was in: the last one takes the group along.
func (s *Shaper) leave(ctx context.Context, p *port, was *flow, now plan.ClassID) {
	g := was.group
	if g == nil {
		s.vacate(ctx, p, held{was.Class, was.load}, now)
		return
	}
	g.drop(was.Treatment)
	if len(g.members) > 0 {
		s.refit(ctx, p, g)
		return
	}
	delete(p.groups, g.spec.Group)
	s.vacate(ctx, p, held{g.class, g.load}, now)
	if p.ByDSCP {
		return // the table has none
	}
	if err := s.row("delete the group "+g.spec.Group.String(), func() error { return s.table.DeleteGroup(g.number) }); err != nil {
		// Nobody names it any more: a few bytes, until the next Set.
		s.log.Warn("a group of treatments that nobody is in stays in the table", zap.Error(err))
	}
}

// vacate gives back a class that is not the flow's any more.
func (s *Shaper) vacate(ctx context.Context, p *port, h held, now plan.ClassID) {
	switch {
	case h.class == now:
	case h.class.SharedBy():
		s.part(ctx, p, h)
	default:
		p.release(h.class)
	}
}

// refit brings the class of a group in line with those who are left in it.
func (s *Shaper) refit(ctx context.Context, p *port, g *group) {
	if g.class.SharedBy() {
		load := plan.LoadOf(p.Interface, p.facts, g.whole())
		if _, err := s.load(ctx, p, g.class, p.loads[g.class].Minus(g.load).Plus(load)); err != nil {
			s.log.Warn("a class that reserved flows share stays as it was", zap.Stringer("class", g.class), zap.Error(err))
			return
		}
		g.load = load
		return
	}
	if !g.class.Pooled() {
		return
	}
	if _, err := s.alter(ctx, p, plan.FlowClass(p.Interface, p.facts, g.whole(), g.class), true); err != nil {
		// It has what it had; the next Set repairs it.
		s.log.Warn("the class of a group of treatments stays as it was", zap.Stringer("class", g.class), zap.Error(err))
	}
}
