package demo

import (
	"fmt"
	"strings"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
)

// Names of the flows of the scenario voice-admit.
const (
	flowAdmitted   = "admitted call"
	flowUnadmitted = "unadmitted call"
	flowTrains     = "trains of EF"
	flowBestEffort = "best effort"
)

// The targets of the scenario voice-admit.
const (
	efCalm      = 16 * time.Millisecond // at most, where a queue of higher priority is
	efJitter    = 20 * time.Millisecond // at least, behind a train, which takes 32 ms
	efSame      = 6 * time.Millisecond  // by how much two calls in one queue may differ
	efPunished  = 10.0                  // per cent that are lost at least, of what nobody admitted
	efLeftAlone = 0.15                  // Mbit/s that best effort gets: 5 % of the link are 0.19
)

func newEFReport(m *measured) *Report {
	r := &Report{
		Scenario: voiceAdmit, DurationS: m.took.Seconds(), WarmupS: efWarmup.Seconds(),
		Targets: efTargets(m), Notes: notes(m), Reservations: []Reservation{}, WAN: directions(m), Pass: true,
	}
	for i := range r.Targets {
		r.Pass = r.Pass && r.Targets[i].Pass
	}
	r.Flows = []Flow{efFlow(flowAdmitted, PhaseUnloaded, m.unloaded)}
	for i := range m.efs {
		e := &m.efs[i]
		admitted := efFlow(flowAdmitted, e.name(), e.admitted)
		admitted.treated(&e.row)
		r.Flows = append(r.Flows, admitted, efFlow(flowUnadmitted, e.name(), e.unadmitted),
			efFlow(flowTrains, e.name(), e.trains), efFlow(flowBestEffort, e.name(), e.bestEffort))
		for box, s := range e.sessions {
			if s != nil {
				r.Reservations = append(r.Reservations, Reservation{Box: fmt.Sprintf("box%d", box+1), Flow: e.name(), SessionRow: *s})
			}
		}
		for _, p := range e.problems {
			r.Notes = append(r.Notes, fmt.Sprintf("%s: %s", e.efPhase, p))
		}
	}
	return r
}

// efFlow is the row of a flow in a phase.
func efFlow(name, phase string, s traffic.StreamResult) Flow {
	f := voiceFlow(phase, sourceAdmitted, s)
	f.Name, f.Dport = name, portAdmitted
	switch name {
	case flowUnadmitted:
		f.Src, f.Sport, f.Dport = rig.AddrC.String(), sourceAdmitted+1, portUnadmitted
	case flowTrains:
		f.Src, f.Sport, f.Dport = rig.AddrC.String(), 0, portTrains
	case flowBestEffort:
		f.Src, f.Sport, f.Dport = rig.AddrC.String(), 0, portFlood
	}
	return f
}

// ef returns the result of a phase, an empty one where it did not run.
func (m *measured) ef(p efPhase) *efResult {
	for i := range m.efs {
		if m.efs[i].efPhase == p {
			return &m.efs[i]
		}
	}
	return &efResult{efPhase: p}
}

func efTargets(m *measured) []Target {
	var list []Target
	add := func(name string, value float64, unit, relation string, target float64) {
		list = append(list, newTarget(name, value, unit, relation, target))
	}
	ms := func(d time.Duration) float64 { return d.Seconds() * 1e3 }
	before := m.ef(efPhase{})
	bad := 0.0
	if before.admitted.Lost > 0 || m.excess(&before.admitted) > ms(efJitter) {
		bad = 1
	}
	add("call without boxes fails: loss, or p99 too late", bad, "calls", exactly, 1)
	var lost, within int64
	least := -1.0
	for i := range m.efs {
		e := &m.efs[i]
		if e.model == "" {
			continue
		}
		lost += e.admitted.Lost
		if !e.abuse {
			within += e.unadmitted.Lost
		}
		if got := e.bestEffort.IPRate / 1e6; least < 0 || got < least {
			least = got
		}
	}
	add("admitted call: lost, in both models", float64(lost), "packets", exactly, 0)
	add("unadmitted call: lost while EF keeps to its contract", float64(within), "packets", exactly, 0)
	for _, model := range []string{modelPriority, modelPolicer} {
		share := m.ef(efPhase{model, true}).unadmitted.LossRatio() * 100
		add("unadmitted call: lost once EF does not, "+model, share, "%", atLeast, efPunished)
	}
	priority, policer := m.ef(efPhase{modelPriority, false}), m.ef(efPhase{modelPolicer, false})
	add("admitted call: p99 above the unloaded path, priority", m.excess(&priority.admitted), unitTime, atMost, ms(efCalm))
	add("unadmitted call: the same", m.excess(&priority.unadmitted), unitTime, atLeast, ms(efJitter))
	add("admitted call: p99 above the unloaded path, policer", m.excess(&policer.admitted), unitTime, atLeast, ms(efJitter))
	apart := policer.admitted.Delay.P99 - policer.unadmitted.Delay.P99
	add("both calls: p99 apart, policer", ms(apart.Abs()), unitTime, atMost, ms(efSame))
	add("best effort: least that it got with boxes", least, unitRate, atLeast, efLeftAlone)
	return append(list, standing(m)...)
}

// writeEF writes a block for each flow: a line for each figure, a column for each
// phase.
func (r *Report) writeEF(b *strings.Builder) {
	fmt.Fprintf(b, `Scenario %s (RFC 5865): hosts A and C - box 1 - WAN of 4 Mbit/s - box 2 - host B. A's call
is reserved and marked VOICE-ADMIT. C marks EF, admitted by nobody: a call and trains of 10 packets,
within the %s that were bought; EXCESS: twenty more calls. Beside them a flood of 6 Mbit/s.
The first %g s of each phase are not counted.
`, r.Scenario, efContract, r.WarmupS)
	for _, name := range []string{flowAdmitted, flowUnadmitted, flowTrains, flowBestEffort} {
		t := newColumns(b)
		t.line(strings.ToUpper(name), "BEFORE", "PRIORITY", "EXCESS", "POLICER", "EXCESS")
		var flows []*Flow
		for _, p := range efPhases() {
			flows = append(flows, r.find(name, p.name(), "", ""))
		}
		t.figure("packets lost", flows, lossShare)
		if name == flowBestEffort {
			t.figure("goodput", flows, func(f *Flow) string { return mbits(f.GoodputBPS) })
			t.end()
			continue
		}
		t.figure("one-way delay p50", flows, func(f *Flow) string { return microsText(f.DelayP50US) })
		t.figure("one-way delay p99", flows, func(f *Flow) string { return microsText(f.DelayP99US) })
		t.figure("jitter, most", flows, func(f *Flow) string { return microsText(f.JitterUS) })
		if name == flowAdmitted {
			t.figure("HTB class", flows, func(f *Flow) string { return orDash(f.Class) })
		}
		t.end()
	}
}

func lossShare(f *Flow) string {
	if f.Loss == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", *f.Loss*100)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
