package shaper

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/bpf"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

var session = packet.FlowKey{Dst: voice.Key.Dst, DstPort: voice.Key.DstPort, Proto: voice.Key.Proto}

// sender is the i-th of those that share a reservation.
func sender(i int) plan.Treatment {
	t := voice
	t.Key.SrcPort += uint16(i)
	t.Group, t.RealTime = session, false
	return t
}

// kernelGroups counts the groups in the table.
func kernelGroups(t testing.TB, s *Shaper) int {
	t.Helper()
	n := 0
	if err := s.table.EachGroup(func(g bpf.Group) { n++ }); err != nil {
		t.Fatal(err)
	}
	return n
}

// RFC 2205 section 1.3: senders of a shared reservation have one class and one
// policer, and counters of their own. One that comes or goes is no concern of the
// others.
func TestGroupSharesClassAndPolicer(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), plan20))
	rates := s.ports["qp0"].rates
	trs := []plan.Treatment{sender(0), sender(1), sender(2)}
	for i := range trs {
		trs[i].Rate, trs[i].Bucket, trs[i].Drop = 1, 1000, true
		id, err := s.Install(t.Context(), trs[i])
		if err != nil || id != plan.FirstPooled {
			t.Fatalf("sender %d: class %s, %v", i, id, err)
		}
	}
	if got, one := s.ports["qp0"].rates-rates, s.ports["qp0"].classes[plan.FirstPooled].Rate; got != one {
		t.Errorf("%d bytes/s are set aside, want %d once", got, one)
	}
	n.listenUDP("10.9.0.2:5004")
	send := func(i, packets int) {
		out := n.dialUDP(fmt.Sprintf("10.9.0.1:%d", trs[i].Key.SrcPort), "10.9.0.2:5004")
		defer func() { _ = out.Close() }()
		for range packets {
			_, _ = out.Write(make([]byte, 172)) // 200 bytes of IP; what is dropped may be told
		}
	}
	send(0, 2)
	send(1, 2)
	send(2, 4) // one more fits the bucket of 1000
	want := []Counters{
		{Packets: 2, Bytes: 400, Conform: 2, ConformBytes: 400},
		{Packets: 2, Bytes: 400, Conform: 2, ConformBytes: 400},
		{Packets: 4, Bytes: 800, Conform: 1, ConformBytes: 200, Exceed: 3, ExceedBytes: 600, Dropped: 3, DroppedBytes: 600},
	}
	for i := range trs {
		if got, err := s.Counters("qp0", trs[i].Key); err != nil || got != want[i] {
			t.Errorf("sender %d counted %+v, %v, want %+v", i, got, err, want[i])
		}
	}
	if c := class(t, s, plan.FirstPooled); c.Packets != 5 {
		t.Errorf("the class sent %d packets, want 5", c.Packets)
	}

	n.check(s.Remove(t.Context(), "qp0", trs[0].Key))
	send(1, 1) // the bucket is as empty as before
	if got, err := s.Counters("qp0", trs[1].Key); err != nil || got.Exceed != 1 || got.Packets != 3 {
		t.Errorf("after one left another counts %+v, %v", got, err)
	}
	for i := range trs { // more for all of them
		trs[i].Rate = 20_000
	}
	_, err := s.Install(t.Context(), trs[1])
	n.check(err)
	if got := s.ports["qp0"].flows[trs[2].Key].treatment().Rate; got != 20_000 {
		t.Errorf("another member has the rate %g", got)
	}
	n.check(s.Remove(t.Context(), "qp0", trs[1].Key))
	n.check(s.Remove(t.Context(), "qp0", trs[2].Key))
	if p := s.ports["qp0"]; p.rates != rates || len(p.groups) != 0 || len(p.idle) != 1 || kernelGroups(t, s) != 0 {
		t.Errorf("left: %d bytes/s, groups %v, idle %v, %d in the table", p.rates-rates, p.groups, p.idle, kernelGroups(t, s))
	}
}

// A flow keeps its class on its way into a group of its own and out of it again,
// and a group that others are in stays whole.
func TestFlowMovesBetweenGroups(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), plan20))
	install := func(tr plan.Treatment) plan.ClassID {
		t.Helper()
		id, err := s.Install(t.Context(), tr)
		n.check(err)
		n.check(s.Set(t.Context(), plan20)) // the books and the kernel agree
		return id
	}
	one, two := sender(0), sender(1)
	alone := func(tr plan.Treatment) plan.Treatment { tr.Group = packet.FlowKey{}; return tr }
	s.before = func(op plan.Op) error {
		if op.Kind == plan.DelClass || op.Kind == plan.DelLeaf {
			t.Errorf("%q", op)
		}
		return nil
	}
	first := install(one)
	if id := install(alone(one)); id != first {
		t.Errorf("out of a group of one: class %s, want %s", id, first)
	}
	if id := install(one); id != first {
		t.Errorf("into a group of one: class %s, want %s", id, first)
	}
	if id := install(two); id != first {
		t.Errorf("a second one: class %s, want %s", id, first)
	}
	if id := install(alone(one)); id == first {
		t.Error("one that leaves took the class of the others along")
	}
	if id := install(alone(two)); id != first {
		t.Errorf("the last one out: class %s, want %s", id, first)
	}
	if kernelGroups(t, s) != 0 {
		t.Error("an empty group is still in the table")
	}
}

// One cheated member has the class shape; when it is cheated no more, or gone,
// the others may use what is free.
func TestCheatedMemberShapesTheGroup(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), plan20))
	one, two := sender(0), sender(1)
	two.Cheated = true
	for i, step := range []struct {
		do     func() error
		shaped bool
	}{
		{func() error { _, err := s.Install(t.Context(), one); return err }, false},
		{func() error { _, err := s.Install(t.Context(), two); return err }, true},
		{func() error { _, err := s.Install(t.Context(), one); return err }, true},
		{func() error { two.Cheated = false; _, err := s.Install(t.Context(), two); return err }, false},
		{func() error { two.Cheated = true; _, err := s.Install(t.Context(), two); return err }, true},
		{func() error { return s.Remove(t.Context(), "qp0", two.Key) }, false},
	} {
		n.check(step.do())
		c, _ := state(t, s, "qp0").Port("qp0").Class(plan.FirstPooled)
		if (c.Ceil == c.Rate) != step.shaped {
			t.Errorf("step %d: rate %d ceil %d, want shaped: %t", i, c.Rate, c.Ceil, step.shaped)
		}
	}
}

// A failure at any step of a join leaves kernel and books as they were.
func TestGroupInstallUndoes(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	p := plan20
	p.Flows = 2
	n.check(s.Set(t.Context(), p))
	single := sender(0)
	single.Group = packet.FlowKey{}
	bigger := sender(1)
	bigger.Rate, bigger.Bucket = 30_000, 50_000
	for _, tr := range []plan.Treatment{single, sender(0), bigger} {
		before, rates, groups := state(t, s, "qp0"), s.ports["qp0"].rates, kernelGroups(t, s)
		for steps := 0; ; steps++ {
			fail := failAt(steps)
			s.before = func(op plan.Op) error { return fail(op) }
			_, err := s.Install(t.Context(), tr)
			if err == nil {
				break
			}
			if d := cmp.Diff(before, state(t, s, "qp0")); d != "" {
				t.Fatalf("step %d (%v):\n%s", steps, err, d)
			}
			if got := s.ports["qp0"].rates; got != rates || kernelGroups(t, s) != groups {
				t.Fatalf("step %d: %d bytes/s, before %d; %d groups, before %d", steps, got, rates, kernelGroups(t, s), groups)
			}
		}
		s.before = nil
	}
	// The table is full: the group's TSpec is put back too.
	before := state(t, s, "qp0")
	third := sender(2)
	third.Rate = 40_000
	if _, err := s.Install(t.Context(), third); !errors.Is(err, ErrFull) {
		t.Fatalf("got %v", err)
	}
	if d := cmp.Diff(before, state(t, s, "qp0")); d != "" {
		t.Error(d)
	}
	s.before = func(op plan.Op) error { t.Errorf("a Set does %q", op); return nil }
	n.check(s.Set(t.Context(), p))
	err := s.table.EachGroup(func(g bpf.Group) {
		if g.Treatment.Rate != bigger.Rate {
			t.Errorf("the group has the rate %g", g.Treatment.Rate)
		}
	})
	n.check(err)
}

func TestGroupIsAdoptedAfterCrash(t *testing.T) {
	n := newNet(t)
	s, err := New(Options{OnCrash: time.Hour})
	n.check(err)
	n.check(s.Set(t.Context(), plan20))
	for i := range 3 {
		_, err = s.Install(t.Context(), sender(i))
		n.check(err)
	}
	before := state(t, s, "qp0")
	crash(t, s)

	s = n.shaper(Options{OnCrash: time.Hour})
	s.before = func(op plan.Op) error {
		if op.Kind != plan.AttachEgress && op.Kind != plan.AttachIngress {
			t.Errorf("adopting does %q", op)
		}
		return nil
	}
	n.check(s.Set(t.Context(), plan20))
	if d := cmp.Diff(before, state(t, s, "qp0")); d != "" {
		t.Error(d)
	}
	id, err := s.Install(t.Context(), sender(1))
	if err != nil || id != plan.FirstPooled {
		t.Errorf("class %s, %v", id, err)
	}
	n.check(s.Reconcile(t.Context()))
	if p := s.ports["qp0"]; len(p.flows) != 1 || len(p.groups) != 1 || len(p.groups[session].members) != 1 || kernelGroups(t, s) != 1 {
		t.Errorf("left: %v, %v", p.flows, p.groups)
	}
	s.before = nil
	other := sender(0) // another session's group gets a number of its own
	other.Group.DstPort++
	if id, err := s.Install(t.Context(), other); err != nil || id == plan.FirstPooled {
		t.Errorf("another session: class %s, %v", id, err)
	}
	if kernelGroups(t, s) != 2 {
		t.Errorf("%d groups", kernelGroups(t, s))
	}
}
