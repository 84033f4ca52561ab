package plan

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// telephonyOf is an interface of 4 Mbit/s that has bought 800 kbit/s of EF and 1.2
// Mbit/s of VOICE-ADMIT.
func telephonyOf(m EFModel) Interface {
	return Interface{Name: "wan0", Capacity: 500_000, EF: m, Levels: []Level{
		{DSCP: dscp.EF, Rate: 100_000, Burst: 16_000, Drop: true, RealTime: true},
		{DSCP: dscp.VoiceAdmit, Rate: 150_000, Burst: 8_000, Drop: true, RealTime: true},
		{DSCP: dscp.AF31, Rate: 50_000, Burst: 8_000},
	}}
}

func admittedCall() Treatment {
	return Treatment{Key: flowKey(1), Interface: "wan0", Rate: 10_000, Bucket: 800, Police: true, Reserve: true, Mark: true, DSCP: dscp.VoiceAdmit, RealTime: true}
}

func classOf(t *testing.T, list []Class, id ClassID) Class {
	t.Helper()
	for _, c := range list {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("no class %s among %v", id, list)
	return Class{}
}

func rowOf(t *testing.T, rows []Row, code uint8) Row {
	t.Helper()
	for _, r := range rows {
		if r.DSCP == code && !r.Arriving {
			return r
		}
	}
	t.Fatalf("no row of %s among %v", dscp.Name(code), rows)
	return Row{}
}

// RFC 5865 section 2.1, figure 2: each kind has a queue behind its policer, the
// admitted one with the higher priority, both before all rate queues.
func TestEFPriorityRFC5865Figure2(t *testing.T) {
	itf, call := telephonyOf(EFPriority), admittedCall()
	if itf.Joins(call) {
		t.Error("an admitted flow has no queue of its own")
	}
	reserved := Sums{}
	itf.Count(reserved, call, 1)
	flow := FlowClass(itf, DefaultFacts, call, FirstPooled)
	list := LevelClasses(itf, DefaultFacts, reserved)
	admitted, ef, streaming := classOf(t, list, LevelClass(dscp.VoiceAdmit)), classOf(t, list, LevelClass(dscp.EF)), classOf(t, list, LevelClass(dscp.AF31))
	low := FlowClass(itf, DefaultFacts, Treatment{Rate: 10_000, Bucket: 800, Reserve: true, Mark: true, DSCP: dscp.AF31}, FirstPooled+1)
	if flow.Prio >= ef.Prio || admitted.Prio >= ef.Prio || ef.Prio >= low.Prio || ef.Prio >= streaming.Prio {
		t.Errorf("priorities: admitted %d and %d, unadmitted %d, others %d and %d", flow.Prio, admitted.Prio, ef.Prio, low.Prio, streaming.Prio)
	}
	rows := Rows(itf, reserved)
	for code, class := range map[uint8]ClassID{dscp.EF: ef.ID, dscp.VoiceAdmit: admitted.ID} {
		if r := rowOf(t, rows, code); !r.Policed || r.Class != class {
			t.Errorf("%s: %+v, want a policer before class %s", dscp.Name(code), r, class)
		}
	}
}

// RFC 5865 section 2.1, figure 3: two policers, and one queue behind them that has
// the rates of both and goes before all others.
func TestEFPolicerRFC5865Figure3(t *testing.T) {
	itf, call := telephonyOf(EFPolicer), admittedCall()
	if !itf.Joins(call) {
		t.Error("an admitted flow waits elsewhere")
	}
	reserved := Sums{}
	itf.Count(reserved, call, 1)
	list := LevelClasses(itf, DefaultFacts, reserved)
	ef := classOf(t, list, Common)
	if want := DefaultFacts.HTBRate(250_000, 0); ef.Rate != want || ef.Prio != prioRealTime {
		t.Errorf("rate %d, priority %d, want %d and %d", ef.Rate, ef.Prio, want, prioRealTime)
	}
	if len(list) != 2 {
		t.Errorf("%d classes, want the common one and that of af31", len(list))
	}
	rows := Rows(itf, reserved)
	for code, rate := range map[uint8]uint64{dscp.EF: 100_000, dscp.VoiceAdmit: 150_000} {
		if r := rowOf(t, rows, code); !r.Policed || r.Rate != rate || r.Class != Common {
			t.Errorf("%s: %+v, want a policer of %d before the common class", dscp.Name(code), r, rate)
		}
	}
}

// Where packets are told apart by their DSCP alone nobody has a class of his own: the
// models are about the two levels, with what is reserved in each.
func TestEFModelsByDSCP(t *testing.T) {
	for m, class := range map[EFModel]ClassID{EFPolicer: Common, EFPriority: LevelClass(dscp.VoiceAdmit)} {
		itf := telephonyOf(m)
		itf.ByDSCP = true
		if itf.Joins(admittedCall()) || itf.ClassOf(dscp.VoiceAdmit) != class || itf.ClassOf(dscp.EF) != Common || itf.ClassOf(dscp.AF31) != LevelClass(dscp.AF31) {
			t.Errorf("%s: classes %s, %s", m, itf.ClassOf(dscp.VoiceAdmit), itf.ClassOf(dscp.EF))
		}
		reserved := Sums{}
		for range 20 { // 200,000 bytes/s, more than the level has
			itf.Count(reserved, admittedCall(), 1)
		}
		want := map[EFModel]uint64{EFPolicer: 300_000, EFPriority: 200_000}[m]
		if c := classOf(t, LevelClasses(itf, DefaultFacts, reserved), class); c.Rate < DefaultFacts.HTBRate(float64(want), 0)-1 || c.Rate > DefaultFacts.HTBRate(float64(want)*1.01, 0) {
			t.Errorf("%s: rate %d, want about %d", m, c.Rate, want)
		}
	}
}

// What has a promise of its own, and what a class may have to shape, stays out of
// the common queue; so does all that is no telephony.
func TestWhoJoinsTheCommonQueue(t *testing.T) {
	itf := telephonyOf(EFPolicer)
	for name, c := range map[string]struct {
		change func(*Treatment)
		joins  bool
	}{
		"a call":             {func(*Treatment) {}, true},
		"by hand, with EF":   {func(t *Treatment) { t.DSCP = dscp.EF }, true},
		"a shared one":       {func(t *Treatment) { t.Group = flowKey(2) }, true},
		"guaranteed service": {func(t *Treatment) { t.Share = 20_000 }, false},
		"af31":               {func(t *Treatment) { t.DSCP = dscp.AF31 }, false},
		"counted alone":      {func(t *Treatment) { t.Reserve = false }, false},
		"TCP":                {func(t *Treatment) { t.Key.Proto = packet.ProtoTCP }, false},
		"TCP that is shared": {func(t *Treatment) { t.Group = packet.MakeKey(packet.ProtoTCP, netip.AddrPort{}, netip.AddrPort{}) }, false},
	} {
		call := admittedCall()
		c.change(&call)
		if got := itf.Joins(call); got != c.joins {
			t.Errorf("%s: joins %v, want %v", name, got, c.joins)
		}
		// The rate is there once: in the common class, or in the flow's own.
		reserved := Sums{}
		itf.Count(reserved, call, 1)
		sum := classOf(t, LevelClasses(itf, DefaultFacts, reserved), Common).Rate
		if call.DSCP == dscp.AF31 || !call.Reserve {
			continue
		}
		if !c.joins {
			sum += DefaultFacts.HTBRate(max(call.Rate, call.Share), 0)
		}
		if want := DefaultFacts.HTBRate(250_000, 0); sum < want-1 || sum > want+1 {
			t.Errorf("%s: %d bytes/s in all, want %d", name, sum, want)
		}
		itf.Count(reserved, call, -1)
		if len(reserved) != 0 {
			t.Errorf("%s: %+v is left", name, reserved)
		}
	}
}

// Without a service level of EF nothing unadmitted is let into a priority queue, and
// both models are the same. A mark that was not bought by itself has its room in
// the common queue.
func TestEFWithoutALevel(t *testing.T) {
	for _, m := range []EFModel{EFPolicer, EFPriority} {
		itf := telephonyOf(m)
		itf.Levels = itf.Levels[1:]
		if itf.Joins(admittedCall()) {
			t.Errorf("%s: a flow joins a queue that is not there", m)
		}
		for _, r := range Rows(itf, nil) {
			if r.DSCP == dscp.EF {
				t.Errorf("%s: %+v", m, r)
			}
		}
	}
	itf := telephonyOf(EFPolicer)
	itf.Levels = itf.Levels[:1]
	reserved := Sums{}
	itf.Count(reserved, admittedCall(), 1)
	c := classOf(t, LevelClasses(itf, DefaultFacts, reserved), Common)
	if want := DefaultFacts.HTBRate(110_000, 0); c.Rate != want {
		t.Errorf("rate %d, want %d", c.Rate, want)
	}
	for _, r := range Rows(itf, reserved) {
		if r.DSCP == dscp.VoiceAdmit {
			t.Errorf("VOICE-ADMIT that no flow admits is let in: %+v", r)
		}
	}
	if itf.Capacity = 0; itf.Joins(admittedCall()) {
		t.Error("an interface that is not shaped has a queue")
	}
}

// `qosproxy plan` says which model is in force, and which classes and policers are.
func TestPlanShowsTheEFModel(t *testing.T) {
	for m, want := range map[EFModel][]string{
		EFPolicer: {
			"# wan0: ef_model policer: voice-admit and ef, each behind its policer, wait in class 1:ff2e\n",
			"classid 1:ff2e htb prio 1 ", "leaving dscp ef: class 1:ff2e police rate 800kbit", "leaving dscp voice-admit: class 1:ff2e police rate 1200kbit",
		},
		EFPriority: {
			"# wan0: ef_model priority: voice-admit, in classes of its flows, goes before ef in class 1:ff2e\n",
			"classid 1:ff2c htb prio 2 ", "classid 1:ff2e htb prio 3 ", "leaving dscp voice-admit: class 1:ff2c police rate 1200kbit",
		},
	} {
		text := Plan{Interfaces: []Interface{telephonyOf(m)}}.String()
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: no %q in\n%s", m, w, text)
			}
		}
	}
	itf := telephonyOf(EFPriority)
	itf.Levels = nil
	if text := (Plan{Interfaces: []Interface{itf}}).String(); strings.Contains(text, "ef_model") {
		t.Errorf("without a level of EF:\n%s", text)
	}
}
