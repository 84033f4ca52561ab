package daemon

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

const borderConfig = `
interfaces:
  - {name: lan0, zone: hosts, trust: policed, sls: [{class: ef, rate: 80kbit, burst: 3kB, excess: drop}]}
  - name: wan0
    zone: network
    capacity: 19mbit
    best_effort: 20%
    sls:
      - {class: voice-admit, rate: 800kbit, burst: 16kB, excess: drop}
      - {class: af31, rate: 8mbit, burst: 64kB, excess: le, from: "08:00", until: "20:00"}
      - {class: af31, rate: 9mbit, burst: 96kB, from: "20:00", until: "23:00"}
policies:
  - {name: together, match: {protocol: udp, to_port: 1}, mark: le, police: {rate: 8mbit, burst: 64kB}, excess: drop}
  - {name: each, match: {protocol: udp, to_port: 2}, police: {rate: 8mbit, burst: 64kB, per: flow}, excess: cs1}
  - {name: marked, match: {protocol: udp, to_port: 3}, mark: le}
`

// Priorities of VLAN tags come to the program of the interface that says them.
func TestPlannedPCP(t *testing.T) {
	c := parse(t, "interfaces: [{name: a, zone: hosts, pcp: keep}, {name: b, zone: network, pcp: {ef: 5, default: 0}}]\n")
	var want plan.PCP
	want.Set(dscp.EF, 5)
	want.Set(dscp.Default, 0)
	a, b := planned(&c.Interfaces[0], largest), planned(&c.Interfaces[1], largest)
	if a.PCP != (plan.PCP{}) || b.PCP != want || want.String() != "{default: 0, ef: 5}" {
		t.Errorf("%s and %s, want none and %s", a.PCP, b.PCP, want)
	}
}

// What the kernel is to have of a contract, by the time of day: outside of its rows
// a class has nothing.
func TestPlannedLevels(t *testing.T) {
	c := parse(t, borderConfig)
	voice := plan.Level{DSCP: dscp.VoiceAdmit, Rate: 100_000, Burst: 16_000, Drop: true, RealTime: true}
	for hour, want := range map[int]plan.Level{
		7: {DSCP: dscp.AF31, Excess: dscp.LE}, 8: {DSCP: dscp.AF31, Rate: 1e6, Burst: 64_000, Excess: dscp.LE},
		20: {DSCP: dscp.AF31, Rate: 1_125_000, Burst: 96_000}, 23: {DSCP: dscp.AF31, Excess: dscp.LE},
	} {
		p := wanted(c, newPolicies(c), 1, time.Date(2026, 11, 26, hour, 0, 0, 0, time.Local))
		wan := p.Interfaces[1]
		if d := cmp.Diff([]plan.Level{want, voice}, wan.Levels); d != "" || wan.Policed || wan.ResetDSCP || wan.BestEffort != 0.2 {
			t.Errorf("%d:00: %+v\n%s", hour, wan, d)
		}
		lan := p.Interfaces[0]
		if d := cmp.Diff([]plan.Level{{DSCP: dscp.EF, Rate: 10_000, Burst: 3000, Drop: true, RealTime: true}}, lan.Arriving); d != "" || !lan.Policed || len(lan.Levels) > 0 {
			t.Errorf("%d:00: %+v\n%s", hour, lan, d)
		}
		if err := p.Validate(); err != nil {
			t.Error(err)
		}
	}
	c.Interfaces[1].Trust = config.TrustNone // of whoever is there
	if p := planned(&c.Interfaces[1], largest); !p.ResetDSCP || p.Policed {
		t.Errorf("trust: none towards the network: %+v", p)
	}
	// What is promised holds at any time of day.
	if l := planned(&c.Interfaces[1], largest).Levels[0]; l.Rate != 1_125_000 {
		t.Errorf("%+v", l)
	}
}

// What a policy without a reservation does to a flow, and what flows of it share.
func TestStaticTreatments(t *testing.T) {
	c := parse(t, borderConfig)
	table := newPolicies(c)
	of := func(port uint16) plan.Treatment {
		key := imagingKey
		key.Proto, key.DstPort = packet.ProtoUDP, port
		p := table.match(key)
		return static(&flow{key: key, policy: p, state: stateManaged, marked: p.Marked, dscp: p.DSCP}, "wan0")
	}
	together := of(1)
	if !together.Police || !together.Drop || together.Excess != 0 || together.Rate != 1e6 || together.Bucket != 64_000 || !math.IsInf(together.Peak, 1) ||
		!together.Mark || together.DSCP != dscp.LE || together.Reserve || together.Group != policyGroup("together") {
		t.Errorf("together: %+v", together)
	}
	if each := of(2); !each.Police || each.Drop || each.Excess != 8 || each.Mark || each.Grouped() {
		t.Errorf("each: %+v", each)
	}
	if marked := of(3); marked.Police || !marked.Mark {
		t.Errorf("marked: %+v", marked)
	}
	for _, tr := range []plan.Treatment{together, of(2), of(3)} {
		if err := tr.Validate(); err != nil {
			t.Error(err)
		}
	}
	if a, b := policyGroup("a"), policyGroup("b"); a == b || a != policyGroup("a") || a.Proto != 0 {
		t.Errorf("names of groups: %v, %v", a, b)
	}
	// A flow that its policy leaves alone is counted, no more.
	if tr := static(&flow{key: imagingKey, policy: &c.Policies[0], state: stateLeftAlone, marked: true, dscp: 1}, "wan0"); tr != (plan.Treatment{Key: imagingKey, Interface: "wan0"}) {
		t.Errorf("left alone: %+v", tr)
	}
}

// What an earlier process marked or policed without a reservation is taken over by
// the flow's next packet: it is not removed with what nobody claimed.
func TestStaticTreatmentIsTakenOver(t *testing.T) {
	r := newFaultRig(t)
	for _, reserve := range []bool{false, true} {
		id := shaper.FlowID{Interface: "wan0", Key: imagingKey}
		left := plan.Treatment{Key: imagingKey, Interface: "wan0", Mark: true, DSCP: 1, Reserve: reserve, Rate: 1, Bucket: 1}
		r.kernel.have[id], r.kernel.adopted[id] = left, true
		now := plan.Treatment{Key: imagingKey, Interface: "wan0", Mark: true, DSCP: 8}
		if err := r.count(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		if got := r.kernel.have[id]; reserve && (got != left || !r.kernel.adopted[id]) || !reserve && (got != now || r.kernel.adopted[id]) {
			t.Errorf("reserved %t: %+v, adopted %t", reserve, got, r.kernel.adopted[id])
		}
	}
}

// On an interface that is classified by DSCP no flow has a class that could shape
// it: it is reserved, and not cheated. Guaranteed service is not promised there.
func TestNotCheatedByDSCP(t *testing.T) {
	r := testControl(t)
	r.links().byIndex[wan].cfg.Classify = config.ClassifyDSCP
	v := tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN)
	d := r.flows.first(time.Now(), v, lan, wan)
	if d.shard < 0 {
		t.Fatalf("decision %+v", d)
	}
	r.reserved(t, 1, v.Key(), lan, wan)
	if tr := r.fake.have[v.Key()]; tr.Cheated || !tr.Reserve || len(r.cheat.running) > 0 {
		t.Errorf("treatment %+v, cheated %v", tr, r.cheat.running)
	}
	if f, _, _ := r.flows.get(v.Key()); f.reason != "reserved; not cheated: no flow has a class of its own on wan0" {
		t.Errorf("reason %q", f.reason)
	}
	if _, ok := r.links().byIndex[wan].promise(); ok {
		t.Error("a delay is promised")
	}
}
