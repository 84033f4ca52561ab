package shaper

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/bpf"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// picture is the kernel's state and what the Shaper's books say of it.
type picture struct {
	Queues  plan.State
	Rows    []string
	Flows   map[packet.FlowKey]string
	Groups  map[packet.FlowKey]string
	Classes map[plan.ClassID]plan.Class
	Idle    []plan.ClassID
	Next    plan.ClassID
	Rates   uint64
	// Of service levels.
	Levels, Planned []plan.Row
	Reserved        plan.Sums
}

func pictureOf(t testing.TB, s *Shaper) picture {
	t.Helper()
	p := s.ports["qp0"]
	out := picture{
		Queues: state(t, s, "qp0"), Flows: map[packet.FlowKey]string{}, Groups: map[packet.FlowKey]string{},
		Planned: p.levels.Rows, Reserved: p.reserved,
		Classes: maps.Clone(p.classes), Idle: slices.Sorted(slices.Values(p.idle)), Next: p.next, Rates: p.rates,
	}
	err := errors.Join(
		s.table.Each(func(e bpf.Entry) {
			e.Counters = bpf.Counters{}
			out.Rows = append(out.Rows, fmt.Sprintf("%+v", e))
		}),
		s.table.EachLevel(func(l bpf.Level) { out.Levels = append(out.Levels, l.Row) }),
		s.table.EachGroup(func(g bpf.Group) { out.Rows = append(out.Rows, fmt.Sprintf("%+v", g)) }),
	)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out.Rows)
	slices.SortFunc(out.Levels, func(a, b plan.Row) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	for key, f := range p.flows {
		out.Flows[key] = fmt.Sprintf("%+v class %s group %d adopted %t", f.treatment(), f.Class, f.number(), f.adopted)
	}
	for name, g := range p.groups {
		members := []string{}
		for key := range g.members {
			members = append(members, key.String())
		}
		slices.Sort(members)
		out.Groups[name] = fmt.Sprintf("%d %+v class %s %v cheated %d real time %d", g.number, g.spec, g.class, members, g.cheated, g.realTime)
	}
	return out
}

// faults has the n-th operation on queues or on the table fail, and no other. done:
// those on queues have been carried out, and only their answer is lost.
func (s *Shaper) faults(t *testing.T, n int, done bool) (failed func() bool) {
	fired := false
	fail := func(what fmt.Stringer) error {
		if n--; n != -1 {
			return nil
		}
		fired = true
		return fmt.Errorf("at %q: %w", what, errInjected)
	}
	s.before = func(op plan.Op) error {
		err := fail(op)
		if err != nil && done {
			facts := map[string]plan.Facts{"qp0": s.ports["qp0"].facts}
			if err := s.apply(t.Context(), facts, op); err != nil {
				t.Error(err)
			}
		}
		return err
	}
	s.beforeRow = func(what string) error { return fail(word(what)) }
	return func() bool { return fired }
}

type word string

func (w word) String() string { return string(w) }

// An Install that fails at any of its operations, on queues or on the table, leaves
// all of the kernel and of the books as it was; what fails after it is in force
// is a clean-up, which the next Set repeats.
func TestEveryFailureOfInstall(t *testing.T) {
	single := func(i int) plan.Treatment { tr := sender(i); tr.Group = packet.FlowKey{}; return tr }
	counted := plan.Treatment{Key: voice.Key, Interface: "qp0", Peak: math.Inf(1)}
	larger := func(tr plan.Treatment) plan.Treatment { tr.Rate, tr.Bucket = 30_000, 50_000; return tr }
	cheated := func(tr plan.Treatment) plan.Treatment { tr.Cheated = true; return tr }
	for name, c := range map[string]struct {
		before []plan.Treatment
		remove []packet.FlowKey
		then   plan.Treatment
	}{
		"new":                            {nil, nil, voice},
		"new, with a class that is idle": {[]plan.Treatment{single(1)}, []packet.FlowKey{single(1).Key}, voice},
		"counted before":                 {[]plan.Treatment{counted}, nil, voice},
		"counted again":                  {[]plan.Treatment{voice}, nil, counted},
		"more":                           {[]plan.Treatment{voice}, nil, larger(voice)},
		"less":                           {[]plan.Treatment{larger(voice)}, nil, voice},
		"cheated":                        {[]plan.Treatment{voice}, nil, cheated(voice)},
		"the first of a group":           {nil, nil, sender(0)},
		"into a group":                   {[]plan.Treatment{sender(0), single(1)}, nil, sender(1)},
		"into a group, with more":        {[]plan.Treatment{sender(0)}, nil, larger(sender(1))},
		"a group has more":               {[]plan.Treatment{sender(0), sender(1)}, nil, larger(sender(0))},
		"out of a group":                 {[]plan.Treatment{sender(0), sender(1)}, nil, single(0)},
		"the last out of a group":        {[]plan.Treatment{sender(0)}, nil, single(0)},
		"a cheated one joins":            {[]plan.Treatment{sender(0)}, nil, cheated(sender(1))},
	} {
		for _, done := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, done %t", name, done), func(t *testing.T) {
				n := newNet(t)
				s := n.shaper(Options{})
				n.check(s.Set(t.Context(), plan20))
				for _, tr := range c.before {
					_, err := s.Install(t.Context(), tr)
					n.check(err)
				}
				for _, key := range c.remove {
					n.check(s.Remove(t.Context(), "qp0", key))
				}
				before := pictureOf(t, s)
				for steps := 0; ; steps++ {
					failed := s.faults(t, steps, done)
					_, err := s.Install(t.Context(), c.then)
					s.before, s.beforeRow = nil, nil
					if err == nil {
						if steps == 0 {
							t.Fatal("nothing was done in the kernel")
						}
						if failed() {
							n.check(s.Set(t.Context(), plan20))
						}
						break
					}
					if !errors.Is(err, errInjected) {
						t.Fatal(err)
					}
					if d := cmp.Diff(before, pictureOf(t, s)); d != "" {
						t.Fatalf("step %d (%v):\n%s", steps, err, d)
					}
				}
				// In the end the books and the kernel agree.
				s.before = func(op plan.Op) error { t.Errorf("a Set does %q", op); return nil }
				s.beforeRow = func(what string) error { t.Errorf("a Set does %q", what); return nil }
				n.check(s.Set(t.Context(), plan20))
			})
		}
	}
}

// A Remove that fails has removed nothing, and can be tried again.
func TestEveryFailureOfRemove(t *testing.T) {
	single := sender(0)
	single.Group = packet.FlowKey{}
	for name, before := range map[string][]plan.Treatment{
		"alone": {single}, "of a group": {sender(0), sender(1)}, "the last of a group": {sender(0)},
		"a cheated one of a group": {func() plan.Treatment { tr := sender(0); tr.Cheated = true; return tr }(), sender(1)},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNet(t)
			s := n.shaper(Options{})
			n.check(s.Set(t.Context(), plan20))
			for _, tr := range before {
				_, err := s.Install(t.Context(), tr)
				n.check(err)
			}
			was := pictureOf(t, s)
			for steps := 0; ; steps++ {
				s.faults(t, steps, false)
				err := s.Remove(t.Context(), "qp0", before[0].Key)
				s.before, s.beforeRow = nil, nil
				if err == nil {
					break
				}
				if d := cmp.Diff(was, pictureOf(t, s)); d != "" {
					t.Fatalf("step %d (%v):\n%s", steps, err, d)
				}
			}
			n.check(s.Set(t.Context(), plan20)) // repairs what failed after it was gone
			s.before = func(op plan.Op) error { t.Errorf("a Set does %q", op); return nil }
			n.check(s.Set(t.Context(), plan20))
			if _, ok := s.Treatment("qp0", before[0].Key); ok {
				t.Error("it is still there")
			}
		})
	}
}

// A Set that fails while it fills the table leaves the former plan in force.
func TestEveryFailureOfFilling(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), plan20))
	alone := sender(2)
	alone.Group = packet.FlowKey{}
	for _, tr := range []plan.Treatment{sender(0), sender(1), alone} {
		_, err := s.Install(t.Context(), tr)
		n.check(err)
	}
	unshaped := plan20
	unshaped.Interfaces = []plan.Interface{{Name: "qp0"}} // every row changes
	before := pictureOf(t, s)
	for steps := 0; ; steps++ {
		failed := s.faults(t, steps, false)
		err := s.Set(t.Context(), unshaped)
		s.before, s.beforeRow = nil, nil
		if err == nil {
			if failed() {
				t.Errorf("step %d failed, and nobody is told", steps)
			}
			break
		}
		if d := cmp.Diff(before, pictureOf(t, s)); d != "" {
			t.Fatalf("step %d (%v):\n%s", steps, err, d)
		}
	}
	if steps := len(s.ports["qp0"].flows); steps != 3 {
		t.Errorf("%d flows", steps)
	}
	n.check(s.Set(t.Context(), plan20))
}

// The first plan of a process that fails leaves the programs of the one before as they
// were, whatever they did: those of a bridge are back before a router.
func TestProgramsOfAnEarlierProcessAreBack(t *testing.T) {
	n := newNet(t)
	before := plan20
	before.Frames = 1000
	before.Interfaces = slices.Clone(before.Interfaces)
	before.Interfaces[0].PCP.Set(46, 5)
	first, err := New(Options{})
	n.check(err)
	n.check(first.Set(t.Context(), before))
	index := first.ports["qp0"].facts.Index
	programs := func() [2][]uint32 {
		return [2][]uint32{attachedAt(t, index, bpf.Egress), attachedAt(t, index, bpf.Ingress)}
	}
	were := programs()
	if len(were[0]) != 1 || len(were[1]) != 2 {
		t.Fatalf("programs %v", were)
	}
	n.check(first.Close(false))
	s := n.shaper(Options{})
	after := plan20 // learns nothing
	for step := 0; ; step++ {
		failed := s.faults(t, step, false)
		err := s.Set(t.Context(), after)
		if !failed() {
			n.check(err)
			break
		}
		if !errors.Is(err, errInjected) {
			t.Fatalf("step %d: %v", step, err)
		}
		now := programs()
		for i := range now {
			slices.Sort(now[i])
			slices.Sort(were[i])
		}
		if d := cmp.Diff(were, now); d != "" {
			t.Errorf("step %d: %s", step, d)
		}
	}
	if now := programs(); len(now[0]) != 1 || len(now[1]) != 1 || now[0][0] == were[0][0] {
		t.Errorf("in the end programs %v, and before %v", now, were)
	}
}

// A plan that fails with a table of another size leaves programs that work with the
// table that stays.
func TestUndoOfAnotherSizeTreats(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), plan20))
	_, err := s.Install(t.Context(), voice)
	n.check(err)
	in := n.listenUDP("10.9.0.2:5004")
	out := n.dialUDP("10.9.0.1:4000", "10.9.0.2:5004")
	counted := uint64(0)
	treated := func(when string) {
		t.Helper()
		_, err := out.Write(make([]byte, 100))
		n.check(err)
		_, err = in.Read(make([]byte, 1000))
		n.check(err)
		counted++
		if c, err := s.Counters("qp0", voice.Key); err != nil || c.Packets != counted {
			t.Errorf("%s: %d packets counted, want %d, %v", when, c.Packets, counted, err)
		}
	}
	treated("at first")
	larger := plan20
	larger.Flows *= 2
	// Refused before the first step.
	impossible := larger
	impossible.Interfaces = slices.Clone(impossible.Interfaces)
	impossible.Interfaces[0].Capacity = 10_000
	if err := s.Set(t.Context(), impossible); !errors.Is(err, ErrCapacity) {
		t.Errorf("room for 10 kB/s beside 10 kB/s: %v", err)
	}
	treated("after a refusal")
	for step := 0; ; step++ {
		failed := s.faults(t, step, false)
		err := s.Set(t.Context(), larger)
		if !failed() {
			n.check(err)
			break
		}
		if !errors.Is(err, errInjected) {
			t.Fatalf("step %d: %v", step, err)
		}
		treated(fmt.Sprintf("after step %d", step))
	}
	treated("in the end")
}
