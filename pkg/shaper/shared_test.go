package shaper

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// small is a plan with two classes for reserved flows.
func small() plan.Plan {
	p := plan20
	p.Pool = 2
	return p
}

// stream is the i-th flow of controlled load.
func stream(i int) plan.Treatment {
	t := sender(i)
	t.Group, t.DSCP = packet.FlowKey{}, 26
	return t
}

func fillPool(t testing.TB, s *Shaper) {
	t.Helper()
	for i := range 2 {
		if id, err := s.Install(t.Context(), stream(i)); err != nil || !id.Pooled() {
			t.Fatalf("got %s, %v", id, err)
		}
	}
}

// agrees holds the books to the kernel: a Set has nothing to do, and what is set
// aside is what the classes in use have.
func agrees(t testing.TB, s *Shaper, p plan.Plan) {
	t.Helper()
	s.before = func(op plan.Op) error { t.Errorf("a Set does %q", op); return nil }
	rates := s.ports["qp0"].rates
	if err := s.Set(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	s.before = nil
	if now := s.ports["qp0"].rates; now != rates {
		t.Errorf("%d bytes/s are set aside, and %d after a Set", rates, now)
	}
}

// Beyond the pool flows of controlled load share the class of their PHB, with the
// sum of their rates, and keep a policer each.
func TestBeyondThePoolFlowsShare(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), small()))
	fillPool(t, s)
	base := s.ports["qp0"].rates
	one := s.ports["qp0"].classes[plan.FirstPooled].Rate
	install := func(tr plan.Treatment) plan.ClassID {
		t.Helper()
		id, err := s.Install(t.Context(), tr)
		n.check(err)
		return id
	}
	shared := install(stream(2))
	if !shared.SharedBy() || install(stream(3)) != shared {
		t.Fatalf("class %s", shared)
	}
	voice := stream(4)
	voice.RealTime, voice.DSCP = true, 44
	if id := install(voice); id == shared || !id.SharedBy() {
		t.Errorf("another PHB has class %s", id)
	}
	c, _ := state(t, s, "qp0").Port("qp0").Class(shared)
	if c.Rate != 2*one || s.ports["qp0"].rates-base != 3*one {
		t.Errorf("rate %d, %d set aside; one has %d", c.Rate, s.ports["qp0"].rates-base, one)
	}
	agrees(t, s, small())
	more := stream(3)
	more.Rate *= 2
	if id := install(more); id != shared {
		t.Errorf("class %s", id)
	}
	agrees(t, s, small())

	n.listenUDP("10.9.0.2:5004")
	out := n.dialUDP("10.9.0.1:4002", "10.9.0.2:5004")
	for range 15 { // 15 * 200 bytes of IP: ten fit the bucket
		_, err := out.Write(make([]byte, 172))
		n.check(err)
	}
	got, err := s.Counters("qp0", stream(2).Key)
	n.check(err)
	if got.Packets != 15 || got.Conform < 10 || got.Exceed == 0 {
		t.Errorf("counted %+v", got)
	}
	if c := class(t, s, shared); c.Packets != got.Conform {
		t.Errorf("the class sent %d packets of %d that conform", c.Packets, got.Conform)
	}

	// A class of its own for one that is installed again when there is one.
	n.check(s.Remove(t.Context(), "qp0", stream(0).Key))
	if id := install(stream(2)); !id.Pooled() {
		t.Errorf("class %s", id)
	}
	agrees(t, s, small())
	for _, tr := range []plan.Treatment{stream(1), stream(2), stream(3), voice} {
		n.check(s.Remove(t.Context(), "qp0", tr.Key))
	}
	if p := s.ports["qp0"]; len(p.loads) != 0 || p.rates != base-2*one {
		t.Errorf("left: %v, %d bytes/s", p.loads, p.rates)
	}
	agrees(t, s, small())
}

// What needs a class of its own is refused where there is none: a guaranteed flow's
// bound counts on it (RFC 2212), and a cheated one is shaped by it.
func TestGuaranteedAndCheatedFlowsDoNotShare(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), small()))
	fillPool(t, s)
	before := pictureOf(t, s)
	guaranteed, cheated := stream(2), stream(2)
	guaranteed.Share, cheated.Cheated = 20_000, true
	for _, tr := range []plan.Treatment{guaranteed, cheated} {
		if _, err := s.Install(t.Context(), tr); !errors.Is(err, ErrPool) {
			t.Errorf("got %v", err)
		}
	}
	if d := cmp.Diff(before, pictureOf(t, s)); d != "" {
		t.Error(d)
	}
}

// A group shares a class with others as one flow does.
func TestGroupBeyondThePool(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), small()))
	fillPool(t, s)
	base := s.ports["qp0"].rates
	one := s.ports["qp0"].classes[plan.FirstPooled].Rate
	member := func(i int) plan.Treatment { tr := stream(i); tr.Group = session; return tr }
	for i := 2; i < 5; i++ {
		if id, err := s.Install(t.Context(), member(i)); err != nil || !id.SharedBy() {
			t.Fatalf("got %s, %v", id, err)
		}
	}
	if got := s.ports["qp0"].rates - base; got != one {
		t.Errorf("%d set aside, want %d once", got, one)
	}
	agrees(t, s, small())
	larger := member(3)
	larger.Rate *= 3
	_, err := s.Install(t.Context(), larger)
	n.check(err)
	agrees(t, s, small())
	other := member(2) // out of the group
	other.Group = packet.FlowKey{}
	_, err = s.Install(t.Context(), other)
	n.check(err)
	agrees(t, s, small())
	again := larger
	again.DSCP = 34 // a reload marks them otherwise, one by one
	_, err = s.Install(t.Context(), again)
	n.check(err)
	for i := 2; i < 5; i++ {
		n.check(s.Remove(t.Context(), "qp0", member(i).Key))
	}
	if p := s.ports["qp0"]; p.rates != base || len(p.loads) != 0 {
		t.Errorf("left: %d bytes/s, %v", p.rates-base, p.loads)
	}
}

func TestSharedClassIsAdopted(t *testing.T) {
	n := newNet(t)
	s, err := New(Options{OnCrash: time.Hour})
	n.check(err)
	n.check(s.Set(t.Context(), small()))
	fillPool(t, s)
	for i := 2; i < 5; i++ {
		_, err := s.Install(t.Context(), stream(i))
		n.check(err)
	}
	before, rates := state(t, s, "qp0"), s.ports["qp0"].rates
	crash(t, s)
	s = n.shaper(Options{OnCrash: time.Hour})
	s.before = func(op plan.Op) error {
		if op.Kind != plan.AttachEgress && op.Kind != plan.AttachIngress {
			t.Errorf("adopting does %q", op)
		}
		return nil
	}
	n.check(s.Set(t.Context(), small()))
	s.before = nil
	if d := cmp.Diff(before, state(t, s, "qp0")); d != "" || s.ports["qp0"].rates != rates {
		t.Errorf("%d bytes/s, before %d\n%s", s.ports["qp0"].rates, rates, d)
	}
	if id, err := s.Install(t.Context(), stream(3)); err != nil || !id.SharedBy() {
		t.Errorf("got %s, %v", id, err)
	}
	agrees(t, s, small())
}

// Failures leave shared classes as they were.
func TestEveryFailureBeyondThePool(t *testing.T) {
	larger := func(tr plan.Treatment) plan.Treatment { tr.Rate *= 2; return tr }
	member := func(i int) plan.Treatment { tr := stream(i); tr.Group = session; return tr }
	for name, c := range map[string]struct{ before, then plan.Treatment }{
		"the first":       {stream(0), stream(2)},
		"the second":      {stream(2), stream(3)},
		"more":            {stream(2), larger(stream(2))},
		"into a group":    {member(2), member(3)},
		"more of a group": {member(2), larger(member(2))},
	} {
		for _, done := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				n := newNet(t)
				s := n.shaper(Options{})
				n.check(s.Set(t.Context(), small()))
				fillPool(t, s)
				_, err := s.Install(t.Context(), c.before)
				n.check(err)
				before, loads := pictureOf(t, s), len(s.ports["qp0"].loads)
				for steps := 0; ; steps++ {
					s.faults(t, steps, done)
					_, err := s.Install(t.Context(), c.then)
					s.before, s.beforeRow = nil, nil
					if err == nil {
						break
					}
					if d := cmp.Diff(before, pictureOf(t, s)); d != "" || len(s.ports["qp0"].loads) != loads {
						t.Fatalf("step %d (%v):\n%s", steps, err, d)
					}
				}
				agrees(t, s, small())
			})
		}
	}
}

// RFC 2211 section 4: where flows share a class, their bursts have to fit its queue
// together. One that would not is refused, and one that is in may shrink.
func TestBurstsFitTheSharedQueueRFC2211Section4(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), small()))
	fillPool(t, s)
	large := func(i int, b float64) plan.Treatment {
		tr := stream(i)
		tr.Bucket, tr.MinUnit, tr.MaxPacket = b, 1400, 1500
		return tr
	}
	_, err := s.Install(t.Context(), large(2, 40e6))
	n.check(err)
	before := state(t, s, "qp0")
	if _, err := s.Install(t.Context(), large(3, 30e6)); !errors.Is(err, ErrCapacity) {
		t.Errorf("70 MB of bursts in one queue: %v", err)
	}
	if d := cmp.Diff(before, state(t, s, "qp0")); d != "" {
		t.Errorf("the kernel was changed:\n%s", d)
	}
	_, err = s.Install(t.Context(), large(3, 20e6))
	n.check(err)
	_, err = s.Install(t.Context(), large(2, 10e6))
	n.check(err)
	_, err = s.Install(t.Context(), large(4, 30e6))
	n.check(err)
}
