package shaper

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/bpf"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// telephony is an interface of 4 Mbit/s with service levels for both kinds of it.
func telephony(m plan.EFModel) plan.Plan {
	return plan.Plan{Flows: 1000, Interfaces: []plan.Interface{{Name: "qp0", Capacity: 500_000, EF: m, Levels: []plan.Level{
		{DSCP: dscp.EF, Rate: 100_000, Burst: 16_000, Drop: true, RealTime: true},
		{DSCP: dscp.VoiceAdmit, Rate: 150_000, Burst: 8_000, RealTime: true},
	}}}}
}

// classesOf reads which class the table has for each flow.
func classesOf(t testing.TB, s *Shaper) map[packet.FlowKey]plan.ClassID {
	t.Helper()
	all := map[packet.FlowKey]plan.ClassID{}
	if err := s.table.Each(func(e bpf.Entry) { all[e.Treatment.Key] = e.Class }); err != nil {
		t.Fatal(err)
	}
	return all
}

// RFC 5865 section 2.1: admitted calls wait in the queue of the unadmitted ones or
// in one of their own, as the model says, and change place when it is changed: a
// single flow, the flows of a shared reservation, and one of guaranteed service,
// which is by itself in both. What is set aside is the same, and nothing stays when
// they have ended; a process that adopts them finds them where they were.
func TestEFModelsRFC5865Section2_1(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), telephony(plan.EFPolicer)))
	empty, rates := state(t, s, "qp0"), s.ports["qp0"].rates
	promised := voice
	promised.Key.SrcPort, promised.Share = 4100, 12_000
	flows := []plan.Treatment{voice, sender(1), sender(2), promised}
	flows[1].RealTime, flows[2].RealTime = true, true
	for _, f := range flows {
		_, err := s.Install(t.Context(), f)
		n.check(err)
	}
	apart := classesOf(t, s)[promised.Key]
	want := map[packet.FlowKey]plan.ClassID{voice.Key: plan.Common, flows[1].Key: plan.Common, flows[2].Key: plan.Common, promised.Key: apart}
	check := func(what string) {
		t.Helper()
		if d := cmp.Diff(want, classesOf(t, s)); d != "" {
			t.Errorf("%s: classes of the flows:\n%s", what, d)
		}
		if c, ok := state(t, s, "qp0").Port("qp0").Class(plan.Common); !ok || c.Prio == 0 {
			t.Errorf("%s: class of EF: %+v, %v", what, c, ok)
		}
	}
	if !apart.Pooled() {
		t.Errorf("guaranteed service is in class %s", apart)
	}
	check("policer")

	n.check(s.Set(t.Context(), telephony(plan.EFPriority)))
	now := classesOf(t, s)
	if a, b := now[voice.Key], now[flows[1].Key]; !a.Pooled() || !b.Pooled() || a == b || b != now[flows[2].Key] || now[promised.Key] != apart || a == apart || b == apart {
		t.Errorf("priority: classes %v", now)
	}
	n.check(s.Set(t.Context(), telephony(plan.EFPolicer)))
	check("policer again")

	// A group that gets guaranteed service leaves the queue, with all of its members.
	for _, f := range flows[1:3] {
		f.Share = 15_000
		_, err := s.Install(t.Context(), f)
		n.check(err)
	}
	if now := classesOf(t, s); !now[flows[1].Key].Pooled() || now[flows[1].Key] != now[flows[2].Key] {
		t.Errorf("guaranteed group: classes %v", now)
	}
	for _, f := range flows[1:3] {
		_, err := s.Install(t.Context(), f)
		n.check(err)
	}
	check("back")

	crash(t, s)
	s = n.shaper(Options{OnCrash: time.Hour})
	n.check(s.Set(t.Context(), telephony(plan.EFPolicer)))
	check("adopted")
	for _, f := range flows {
		n.check(s.Remove(t.Context(), "qp0", f.Key))
	}
	left := state(t, s, "qp0")
	left.Ports[0].Classes = withoutPool(left.Ports[0].Classes)
	left.Ports[0].Egress.Current = empty.Ports[0].Egress.Current
	if d := cmp.Diff(empty, left); d != "" {
		t.Errorf("left:\n%s", d)
	}
	if got := s.ports["qp0"].rates; got != rates {
		t.Errorf("%d bytes/s are set aside for nobody", got-rates)
	}
}

// A level of EF that is not bought any more takes its class along, which admitted
// calls have waited in: they are in others before. A Set that fails on the way leaves
// them where they were.
func TestCommonQueueGoesLast(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), telephony(plan.EFPolicer)))
	for _, f := range []plan.Treatment{voice, sender(1)} {
		_, err := s.Install(t.Context(), f)
		n.check(err)
	}
	without := telephony(plan.EFPolicer)
	without.Interfaces[0].Levels = without.Interfaces[0].Levels[1:]
	gone := false
	look := func(op plan.Op) {
		if op.Kind != plan.DelClass {
			return
		}
		gone = gone || op.Class.ID == plan.Common
		for key, id := range classesOf(t, s) {
			if id == op.Class.ID {
				t.Errorf("class %s goes, and %s is in it", id, key)
			}
		}
	}
	before := pictureOf(t, s)
	for steps := 0; ; steps++ {
		failed := s.faults(t, steps, steps%2 == 0)
		fault := s.before
		s.before = func(op plan.Op) error { look(op); return fault(op) }
		err := s.Set(t.Context(), without)
		s.before, s.beforeRow = nil, nil
		if err == nil {
			if failed() || !gone {
				t.Errorf("step %d failed: %t; the class has gone: %t", steps, failed(), gone)
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
	for key, id := range classesOf(t, s) {
		if !id.Pooled() {
			t.Errorf("%s is in class %s", key, id)
		}
	}
}

// withoutPool leaves out the idle classes of flows.
func withoutPool(list []plan.Class) (out []plan.Class) {
	for _, c := range list {
		if !c.ID.Pooled() {
			out = append(out, c)
		}
	}
	return out
}
