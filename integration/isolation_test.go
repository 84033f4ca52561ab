package integration

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

const (
	portProvisioned = 5040 // and those after it: marked by policy, with a service level
	portGreedy      = 5050 // reserved, and sends more
	isolatedWAN     = `, best_effort: 10%, sls: [{class: voice-admit, rate: 1mbit, burst: 16kB}, {class: af31, rate: 8mbit, burst: 80kB},
      {class: af21, rate: 4mbit, burst: 64kB, excess: drop}]`
	isolatedPolicies = `
  - name: call
    match: {protocol: udp, to_port: 5030}
    reserve: {role: both, service: guaranteed, delay: 80ms, tspec: {rate: 320kbit, burst: 2000B, max_packet: 200B}}
    mark: voice-admit
  - name: provisioned
    match: {protocol: udp, to_port: 5040-5049}
    mark: af21
  - name: greedy
    match: {protocol: udp, to_port: 5050}
    reserve: {role: both, service: controlled-load, tspec: {rate: 8mbit, burst: 64kB, max_packet: 1500B}}
    mark: af31
    excess: drop
`
)

// Draft-ietf-issll-diffserv-rsvp section 6.2: IntServ, provisioned and best-effort
// traffic are isolated from each other. Under a flood of either of the other two, or
// of both, a guaranteed call keeps its rate and the delay that it was promised, where
// one without a reservation waits for longer than that; provisioned traffic within its
// level loses nothing to the others' floods; and best effort keeps its share under all
// that the others may send.
func TestIsolationDraft6_2(t *testing.T) {
	roottest.Need(t)
	l := newLab(t, 2, nil)
	one, two := l.edge(0, isolatedPolicies, ""), l.edge(1, isolatedPolicies, "")
	one.secured, two.secured = isolatedWAN, isolatedWAN
	l.startAll(t, one.String(), two.String())

	const interval = 10 * time.Millisecond
	measured := soak(3*time.Second, 5*time.Second)
	const bound, margin = 80 * time.Millisecond, 20 * time.Millisecond
	call := traffic.StreamConfig{
		Local: at(addrA, callSource), Remote: at(addrB, portCall), Payload: 172, Interval: interval,
	}
	victim := call
	victim.Local, victim.Remote = at(addrA, callSource+1), at(addrB, portOther+1)
	const flood, provisioned = 30_000_000, 4_000_000
	of := func(port uint16, rate int64) traffic.StreamConfig {
		return traffic.Flood(nil, nil, at(addrB, port), rate, measured)
	}
	// One flow, not a new one each time: of two that would fill the level one is refused,
	// and which is a matter of their ports, since box 2 asks for both at once when there
	// is a second (style: auto).
	greedy := of(portGreedy, flood)
	greedy.Local = at(addrA, callSource+2)
	idle := victim
	idle.Duration, idle.Warmup = time.Second, 0
	quiet := l.atOnce(t, map[string]traffic.StreamConfig{"idle": idle})["idle"].Delay.Min

	const reserving, filling = 2 * time.Second, time.Second
	for _, c := range []struct {
		name    string
		warmup  time.Duration // a reservation is made in it, or queues alone become full
		streams map[string]traffic.StreamConfig
	}{
		{"a flood of best effort", reserving, map[string]traffic.StreamConfig{
			"best effort": of(portOther, flood), "provisioned": of(portProvisioned, provisioned*9/10),
		}},
		{"a flood of provisioned traffic", filling, map[string]traffic.StreamConfig{
			"flood": of(portProvisioned+1, flood), "best effort": of(portOther, 20_000_000),
		}},
		{"a reserved flow with four times its TSpec", reserving, map[string]traffic.StreamConfig{
			"greedy": greedy, "provisioned": of(portProvisioned, provisioned*9/10), "best effort": of(portOther, 12_000_000),
		}},
		{"floods of all", filling, map[string]traffic.StreamConfig{
			"greedy": greedy, "flood": of(portProvisioned+1, flood), "best effort": of(portOther, flood),
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.streams["call"], c.streams["victim"] = call, victim
			for name, s := range c.streams {
				s.Warmup, s.Duration = c.warmup, c.warmup+measured
				c.streams[name] = s
			}
			got := l.atOnce(t, c.streams)
			if r := got["call"]; r.Sent < int64(measured/interval*4/5) || r.Lost > r.Sent/1000 || r.Delay.P999-quiet > bound-margin {
				t.Errorf("the call lost %d of %d packets, 99.9 %% waited no more than %v; promised are %v", r.Lost, r.Sent, r.Delay.P999-quiet, bound)
			}
			if v := got["victim"]; v.Delay.P50-quiet < bound {
				t.Errorf("without a reservation packets wait %v: nothing is proved", v.Delay.P50-quiet)
			}
			if p, ok := got["provisioned"]; ok && (p.Lost > 0 || p.Delay.P99-quiet > bound) {
				t.Errorf("provisioned traffic lost %d of %d packets, p99 %v", p.Lost, p.Sent, p.Delay.P99)
			}
			if p, ok := got["flood"]; ok && (p.IPRate > 1.1*provisioned || p.IPRate < 0.8*provisioned) {
				t.Errorf("the provisioned flood got %.0f bit/s, its level has %d", p.IPRate, provisioned)
			}
			if r, ok := got["greedy"]; ok && (r.IPRate > 1.1*8e6 || r.IPRate < 0.8*8e6) {
				t.Errorf("the greedy flow got %.0f bit/s, 8 Mbit/s are reserved", r.IPRate)
			} else if ok {
				l.boxes[0].waitSession(t, portGreedy, console.SessionReserved)
			}
			if b := got["best effort"]; b.IPRate < 0.9*1.9e6 || b.Lost == 0 {
				t.Errorf("best effort got %.0f bit/s of %.0f, 10 %% of 19 Mbit/s are its own", b.IPRate, b.SendRate)
			}
		})
	}
	l.boxes[0].waitFlow(t, portCall, "conforming", func(r console.FlowRow) bool { return r.ConformPackets > 1000 && r.DroppedPackets == 0 })
}
