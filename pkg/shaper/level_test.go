package shaper

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/bpf"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

const af31 = 26

// sold is plan20 with a contract for voice and for data.
func sold(byDSCP bool) plan.Plan {
	levels := []plan.Level{
		{DSCP: af31, Rate: 1_000_000, Burst: 64_000, Excess: dscp.LE},
		{DSCP: dscp.VoiceAdmit, Rate: 250_000, Burst: 16_000, Drop: true, RealTime: true},
	}
	p := plan20
	p.Interfaces = []plan.Interface{{
		Name: "qp0", Capacity: 2_500_000, Levels: levels, Policed: true, Arriving: levels[:1], BestEffort: 0.1, ByDSCP: byDSCP,
	}}
	return p
}

// levelRows reads the table of code points.
func levelRows(t testing.TB, s *Shaper) []plan.Row {
	t.Helper()
	var rows []plan.Row
	if err := s.table.EachLevel(func(l bpf.Level) { rows = append(rows, l.Row) }); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(rows, plan.Row.Compare)
	return rows
}

// levelClass reads the class of a service level.
func levelClass(t testing.TB, s *Shaper, code uint8) plan.Class {
	t.Helper()
	c, _ := state(t, s, "qp0").Port("qp0").Class(plan.LevelClass(code))
	return c
}

// fits fails where the classes below the root have more than it, or best effort
// less than its share.
func fits(t testing.TB, s *Shaper) {
	t.Helper()
	p := s.ports["qp0"]
	var busy []plan.Class
	for _, c := range state(t, s, "qp0").Port("qp0").Classes {
		if !slices.Contains(p.idle, c.ID) {
			busy = append(busy, c)
		}
		if least := uint64(float64(p.Capacity) * p.BestEffortShare()); c.ID == plan.BestEffort && c.Rate < least {
			t.Errorf("best effort has %d bytes/s, less than %d", c.Rate, least)
		}
	}
	if sum, root := plan.Guaranteed(busy); sum > root {
		t.Errorf("the classes have %d bytes/s, the root has %d", sum, root)
	}
}

// What is reserved is taken from its level's class and given back, so that the
// classes below the root never have more than it.
func TestReservedIsPartOfItsLevel(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), sold(false)))
	whole := levelClass(t, s, af31)
	if want := plan.DefaultFacts.HTBRate(1_000_000, 0); whole.Rate != want {
		t.Errorf("the class of af31 has %d bytes/s, want %d", whole.Rate, want)
	}
	data := voice
	data.DSCP, data.RealTime, data.MaxPacket, data.Rate = af31, false, 1500, 400_000
	id, err := s.Install(t.Context(), data)
	n.check(err)
	if !id.Pooled() {
		t.Errorf("a reserved flow is in class %s", id)
	}
	fits(t, s)
	if c, want := levelClass(t, s, af31), plan.DefaultFacts.HTBRate(600_000-1, 0); c.Rate != want {
		t.Errorf("beside 400000 bytes/s reserved the class of af31 has %d, want %d", c.Rate, want)
	}
	more := data
	more.Key.SrcPort++
	more.Rate = 700_000 // admission may have overbooked it
	_, err = s.Install(t.Context(), more)
	n.check(err)
	fits(t, s)
	shared := []plan.Treatment{sender(2), sender(3)}
	for _, tr := range shared { // what is shared counts once
		_, err = s.Install(t.Context(), tr)
		n.check(err)
	}
	if got := s.ports["qp0"].reserved[dscp.VoiceAdmit]; got.Flows != 1 || got.Rate != 10_000 {
		t.Errorf("a shared reservation counts as %+v", got)
	}
	fits(t, s)
	for _, key := range []packet.FlowKey{data.Key, more.Key, shared[0].Key, shared[1].Key} {
		n.check(s.Remove(t.Context(), "qp0", key))
		fits(t, s)
	}
	if d := cmp.Diff(whole, levelClass(t, s, af31)); d != "" || len(s.ports["qp0"].reserved) != 0 {
		t.Errorf("after all is over, with %v reserved:\n%s", s.ports["qp0"].reserved, d)
	}
	s.before = func(op plan.Op) error { t.Errorf("a Set does %q", op); return nil }
	n.check(s.Set(t.Context(), sold(false)))
}

// A time of day changes rows and classes in place, the wish of an operator too,
// and what cannot be is refused whole.
func TestLevelsChange(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), sold(false)))
	_, err := s.Install(t.Context(), voice)
	n.check(err)
	night := sold(false)
	night.Interfaces[0].Levels = []plan.Level{{DSCP: af31, Rate: 1_500_000, Burst: 64_000}, {DSCP: dscp.VoiceAdmit}}
	before := pictureOf(t, s)
	for steps := 0; ; steps++ {
		failed := s.faults(t, steps, steps%2 == 0)
		err := s.Set(t.Context(), night)
		s.before, s.beforeRow = nil, nil
		if err == nil {
			if failed() || steps < 4 {
				t.Errorf("%d steps, the last failed: %t", steps, failed())
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
	want := []plan.Row{
		{DSCP: af31, Policed: true, Rate: 1_500_000, Burst: 64_000, Class: plan.LevelClass(af31), ExcessClass: plan.BestEffort},
		{DSCP: dscp.VoiceAdmit, Policed: true, Class: plan.LevelClass(dscp.VoiceAdmit), ExcessClass: plan.BestEffort},
		{DSCP: af31, Arriving: true, Policed: true, Rate: 1_000_000, Burst: 64_000, Excess: dscp.LE},
	}
	if d := cmp.Diff(want, levelRows(t, s)); d != "" {
		t.Error(d)
	}
	fits(t, s)
	tooMuch := sold(false)
	tooMuch.Interfaces[0].Levels[0].Rate = 2_000_000
	before = pictureOf(t, s)
	if err := s.Set(t.Context(), tooMuch); err == nil {
		t.Error("levels with more than the interface were set")
	}
	if d := cmp.Diff(before, pictureOf(t, s)); d != "" {
		t.Error(d)
	}
	none := plan20
	n.check(s.Set(t.Context(), none))
	if rows := levelRows(t, s); len(rows) != 0 || levelClass(t, s, af31).ID != 0 {
		t.Errorf("left: %v, class %v", rows, levelClass(t, s, af31))
	}
}

// Whatever operation of an Install or Remove fails, levels are as they were.
func TestEveryFailureWithLevels(t *testing.T) {
	data := voice
	data.DSCP, data.RealTime, data.MaxPacket, data.Rate, data.Bucket = af31, false, 1500, 400_000, 90_000
	data.Key.SrcPort += 7
	for _, byDSCP := range []bool{false, true} {
		for _, done := range []bool{false, true} {
			n := newNet(t)
			s := n.shaper(Options{})
			n.check(s.Set(t.Context(), sold(byDSCP)))
			_, err := s.Install(t.Context(), voice)
			n.check(err)
			before := pictureOf(t, s)
			for steps := 0; ; steps++ {
				s.faults(t, steps, done)
				_, err := s.Install(t.Context(), data)
				s.before, s.beforeRow = nil, nil
				if err == nil {
					if steps < 1 {
						t.Errorf("by DSCP %t: nothing could fail", byDSCP)
					}
					break
				}
				if !errors.Is(err, errInjected) {
					t.Fatal(err)
				}
				if d := cmp.Diff(before, pictureOf(t, s)); d != "" {
					t.Fatalf("by DSCP %t, step %d (%v):\n%s", byDSCP, steps, err, d)
				}
			}
			fits(t, s)
			for steps := 0; ; steps++ {
				was := pictureOf(t, s)
				failed := s.faults(t, steps, false)
				err := s.Remove(t.Context(), "qp0", data.Key)
				s.before, s.beforeRow = nil, nil
				if err == nil {
					if failed() {
						n.check(s.Set(t.Context(), sold(byDSCP)))
					}
					break
				}
				if d := cmp.Diff(was, pictureOf(t, s)); d != "" {
					t.Fatalf("by DSCP %t, remove, step %d (%v):\n%s", byDSCP, steps, err, d)
				}
			}
			s.before = func(op plan.Op) error { t.Errorf("by DSCP %t: a Set does %q", byDSCP, op); return nil }
			n.check(s.Set(t.Context(), sold(byDSCP)))
			s.before = nil
		}
	}
}

// An aggregate data plane (RFC 2998): flows have no rows and no classes; the class
// and the policer of their DSCP have what was admitted, bought or not.
func TestByDSCP(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{OnCrash: time.Hour})
	n.check(s.Set(t.Context(), sold(true)))
	empty := pictureOf(t, s)
	const bulk = 10 // af11, which is not bought
	data := voice
	data.DSCP, data.RealTime, data.MaxPacket, data.Rate, data.Bucket = bulk, false, 1500, 100_000, 9000
	for i := range 3 {
		data.Key.SrcPort = uint16(6000 + i)
		id, err := s.Install(t.Context(), data)
		if err != nil || id != plan.LevelClass(bulk) {
			t.Fatalf("flow %d: class %s, %v", i, id, err)
		}
	}
	row := plan.Row{DSCP: bulk, Policed: true, Rate: 300_000, Burst: 27_000, Class: plan.LevelClass(bulk), ExcessClass: plan.BestEffort}
	is := func(what string) {
		t.Helper()
		if rows := levelRows(t, s); !slices.Contains(rows, row) {
			t.Errorf("%s: %+v is not among %+v", what, row, rows)
		}
		if c, want := levelClass(t, s, bulk), plan.DefaultFacts.HTBRate(float64(row.Rate), 0); c.Rate != want {
			t.Errorf("%s: the class has %d bytes/s, want %d", what, c.Rate, want)
		}
		fits(t, s)
	}
	is("three flows")
	// The level that was bought has its contract, whatever of it is reserved.
	bought := data
	bought.Key.SrcPort, bought.DSCP = 7000, af31
	_, err := s.Install(t.Context(), bought)
	n.check(err)
	if c, want := levelClass(t, s, af31), plan.DefaultFacts.HTBRate(1_000_000, 0); c.Rate != want {
		t.Errorf("the class of af31 has %d bytes/s, want %d", c.Rate, want)
	}
	// What is shown is what was installed, after a reload too.
	if id := s.Class("qp0", data.Key); id != plan.LevelClass(bulk) {
		t.Errorf("a flow is in class %s", id)
	}
	n.check(s.Set(t.Context(), sold(true)))
	if id := s.Class("qp0", data.Key); id != plan.LevelClass(bulk) {
		t.Errorf("after a reload a flow is in class %s", id)
	}
	// A mark by policy is none here.
	static := plan.Treatment{Key: voice.Key, Interface: "qp0", Mark: true, DSCP: af31}
	static.Key.DstPort++
	_, err = s.Install(t.Context(), static)
	n.check(err)
	all, err := s.AllCounters()
	n.check(err)
	if len(all) != 0 {
		t.Errorf("the table has rows of flows: %v", all)
	}
	if _, err := s.Install(t.Context(), func() plan.Treatment { d := data; d.Key.SrcPort, d.Rate = 8000, 2_000_000; return d }()); !errors.Is(err, ErrCapacity) {
		t.Errorf("more than the root has: %v", err)
	}
	is("after a refusal")
	n.check(s.Remove(t.Context(), "qp0", data.Key))
	row.Rate, row.Burst = 200_000, 18_000
	is("two flows")

	// What was admitted outlives the process, until its flows had the time to come
	// again.
	crash(t, s)
	s = n.shaper(Options{OnCrash: time.Hour})
	s.before = func(op plan.Op) error {
		if op.Kind != plan.AttachEgress && op.Kind != plan.AttachIngress {
			t.Errorf("adopting does %q", op)
		}
		return nil
	}
	n.check(s.Set(t.Context(), sold(true)))
	is("adopted")
	data.Key.SrcPort = 6000
	_, err = s.Install(t.Context(), data)
	n.check(err)
	is("one has come again")
	n.check(s.Set(t.Context(), sold(true)))
	s.before = nil
	n.check(s.Reconcile(t.Context()))
	row.Rate, row.Burst = 100_000, 9000
	is("the other has not")
	n.check(s.Remove(t.Context(), "qp0", data.Key))
	if d := cmp.Diff(empty, pictureOf(t, s)); d != "" {
		t.Error(d)
	}

	// Flows get rows and classes where the operator wants them told apart, before
	// those of their DSCP go.
	_, err = s.Install(t.Context(), data)
	n.check(err)
	gone := 0
	s.before = func(op plan.Op) error {
		if op.Kind.Last() {
			gone++
			if id := classesOf(t, s)[data.Key]; !id.Pooled() {
				t.Errorf("%q while the flow is in class %q", op, id)
			}
		}
		return nil
	}
	n.check(s.Set(t.Context(), sold(false)))
	s.before = nil
	if gone == 0 {
		t.Error("the row and the class of a DSCP that is not bought stay")
	}
	if _, err := s.Counters("qp0", data.Key); err != nil {
		t.Error(err)
	}
	fits(t, s)
	n.check(s.Set(t.Context(), sold(true)))
	row = plan.Row{DSCP: bulk, Policed: true, Rate: 100_000, Burst: 9000, Class: plan.LevelClass(bulk), ExcessClass: plan.BestEffort}
	is("back")
}

// Policies that police: their flows share a policer without a reservation, and
// have no class.
func TestPolicedWithoutReservation(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), sold(false)))
	rates := s.ports["qp0"].rates
	for i := range 2 {
		tr := sender(i)
		tr.Reserve, tr.Excess, tr.Rate, tr.Bucket, tr.MinUnit, tr.MaxPacket, tr.DSCP = false, dscp.LE, 1, 400, 0, 0, af31
		id, err := s.Install(t.Context(), tr)
		if err != nil || id != 0 {
			t.Fatalf("class %s, %v", id, err)
		}
	}
	if got := s.ports["qp0"]; got.rates != rates || len(got.reserved) != 0 || kernelGroups(t, s) != 1 {
		t.Errorf("rates %d, want %d; reserved %v; %d groups", got.rates, rates, got.reserved, kernelGroups(t, s))
	}
	in := n.listenUDP("10.9.0.2:5004")
	setsockopt(t, in, 0, 13, 1) // IPPROTO_IP, IP_RECVTOS
	for i, want := range []byte{af31, af31, dscp.LE, dscp.LE} {
		out := n.dialUDP("10.9.0.1:"+[]string{"4000", "4001"}[i%2], "10.9.0.2:5004")
		_, err := out.Write(make([]byte, 172)) // 200 bytes of IP
		n.check(err)
		if got := tosOf(t, in) >> 2; got != want {
			t.Errorf("packet %d: DSCP %d, want %d", i, got, want)
		}
		n.check(out.Close())
	}
	levels, err := s.Levels()
	n.check(err)
	for _, l := range levels["qp0"] {
		if l.Row.DSCP == af31 && !l.Row.Arriving && (l.Counters.Conform != 2 || l.Counters.ConformBytes != 400) {
			t.Errorf("conditioned with the new DSCP: %+v", l.Counters)
		}
	}
	for i := range 2 {
		n.check(s.Remove(t.Context(), "qp0", sender(i).Key))
	}
	if kernelGroups(t, s) != 0 {
		t.Error("the policer is still there")
	}
}
