package integration

import (
	"encoding/json"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/console"
)

// transit is the configuration of a box between two others.
func (l *lab) transit() string {
	c := config{network: []string{leftWAN, rightWAN}, capacity: "19mbit", policies: voicePolicy, reliable: true}
	return c.String()
}

// linkRoutes lets every box reach the others' addresses on the links between.
func (l *lab) linkRoutes(t *testing.T) {
	t.Helper()
	for i, b := range l.boxes {
		for link := range len(l.boxes) - 1 {
			for _, f := range []family{ipv4, ipv6} {
				var via netip.Addr
				switch {
				case link+1 < i:
					via = f.hop(i-1, 1)
				case link > i:
					via = f.hop(i, 2)
				default:
					continue
				}
				if err := b.ns.Route(f.link(f.hop(link, 1)), via); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// Three boxes with a router in between that knows nothing of RSVP, and a
// reservation through all of them: from each box `rsvp trace` tells the same of
// every hop (RFC 2745), straight and hop by hop.
func TestTraceFromEveryBox(t *testing.T) { overBoth(t, traceFromEveryBox) }

func traceFromEveryBox(t *testing.T, f family) {
	l := newLab(t, 4, nil) // the second stays a plain router
	l.watch(t, leftWAN, rightWAN)
	l.linkRoutes(t)
	fixed := strings.Replace(f.policies(voicePolicy), "service: controlled-load", "service: controlled-load, style: ff", 1)
	first, last := l.edge(0, fixed, ""), l.edge(3, fixed, "")
	first.reliable, last.reliable = true, true
	boxes := []*box{l.boxes[0], l.boxes[2], l.boxes[3]}
	for i, c := range []string{first.String(), l.transit(), last.String()} {
		boxes[i].launch(t, c)
	}
	for _, b := range boxes {
		b.wait(t)
	}
	end := l.callOver(t, f, portVoice, 3*time.Minute)
	var row console.SessionRow
	for _, b := range boxes {
		row = b.waitSession(t, portVoice, console.SessionReserved)
	}
	at := func(i, end int) string { return f.hop(i, end).String() }
	lanA, lanB := "10.1.0.1", "10.2.0.1"
	if f.v6 {
		lanA, lanB = "fd00:1::1", "fd00:2::1"
	}
	want := []console.TraceHop{
		{Hop: 1, Out: lanB, In: at(2, 2), PrevHop: at(2, 1)},
		{Hop: 2, Out: at(2, 1), In: at(1, 2), PrevHop: at(0, 1)},
		{Hop: 3, Out: at(0, 1), In: lanA, PrevHop: "", DTTL: 1},
	}
	for i := range want {
		h := &want[i]
		h.K, h.RefreshS, h.Style, h.Service = 3, 1, row.Style, row.Service
		h.TSpec, h.FlowSpec = row.TSpec, row.FlowSpec
		h.Errors, h.Filters = []string{}, []console.TraceHost{{Src: f.src.String(), Sport: row.Sport}}
	}
	for i, b := range boxes {
		for _, route := range []bool{false, true} {
			q := console.TraceQuery{Dst: f.dst, HopByHop: route, Timeout: 3 * time.Second}
			got, err := b.Trace(t.Context(), q)
			if err != nil {
				t.Fatalf("%s: %v", b.name, err)
			}
			if got.Outcome != console.TraceSender || !got.Complete || got.Dport != portVoice || got.Src != f.src.String() || got.Sport != row.Sport || (got.Reply == "hop-by-hop") != route && got.Attempts == 1 {
				t.Errorf("%s: %+v", b.name, got)
			}
			checkTrace(t, b.name, want, got.Hops, i)
		}
	}
	// One hop alone, from the middle; and a session that nobody knows.
	got, err := boxes[1].Trace(t.Context(), console.TraceQuery{Dst: f.dst, MaxHops: 1, Timeout: 3 * time.Second})
	if err != nil || got.Outcome != console.TraceMaxHops || len(got.Hops) != 1 {
		t.Errorf("%+v %v", got, err)
	}
	got, err = boxes[0].Trace(t.Context(), console.TraceQuery{Dst: f.dst, Src: f.src, Protocol: 6, Dport: 1, Sport: 2, Timeout: 3 * time.Second})
	if err != nil || got.Outcome != console.TraceNoPath || got.Complete || len(got.Hops) != 1 || got.Hops[0].Out != lanB {
		t.Errorf("%+v %v", got, err)
	}
	if _, err = boxes[0].Trace(t.Context(), console.TraceQuery{Dst: netip.MustParseAddr("10.7.7.7")}); err == nil || !strings.Contains(err.Error(), "no session") {
		t.Errorf("%v", err)
	}
	// The command prints the same.
	out, err := exec.CommandContext(t.Context(), program, "-s", boxes[2].socket(), "rsvp", "trace", f.dst.String(), "--json").Output()
	var printed console.Trace
	if jsonErr := json.Unmarshal(out, &printed); err != nil || jsonErr != nil || len(printed.Hops) != 3 {
		t.Errorf("%v, %v: %s", err, jsonErr, out)
	}
	end().check(t)
}

// checkTrace compares what every box told. From the first boxes the request has
// to pass the router in front of the second on its way to the last hop.
func checkTrace(t *testing.T, from string, want, got []console.TraceHop, i int) {
	t.Helper()
	first := []uint8{2, 0, 0}[i] // the router and the box in the middle, or none
	for k := range got {
		h := &got[k]
		if _, err := time.Parse(time.RFC3339Nano, h.Arrival); err != nil || h.OffsetUS < -1_000 || h.OffsetUS > 30_000_000 {
			t.Errorf("from %s: hop %d arrived at %s (%d us)", from, k+1, h.Arrival, h.OffsetUS)
		}
		h.Arrival, h.OffsetUS = "", 0
		if k == 0 {
			if h.DTTL != first {
				t.Errorf("from %s: %d routers before the last hop, want %d", from, h.DTTL, first)
			}
			h.DTTL = 0
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("from %s: %s", from, d)
	}
}

// A box that is down is the one that the trace ends at.
func TestTraceNamesTheSilentHop(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, nil)
	l.watch(t, leftWAN, rightWAN)
	l.linkRoutes(t)
	first, last := l.edge(0, voicePolicy, ""), l.edge(2, voicePolicy, "")
	for i, c := range []string{first.String(), l.transit(), last.String()} {
		// So that the path state outlives the first box for a while.
		l.boxes[i].launch(t, strings.Replace(c, "refresh: 1s", "refresh: 10s", 1))
	}
	for _, b := range l.boxes {
		b.wait(t)
	}
	end := l.talk(t, portVoice, time.Minute)
	for _, b := range l.boxes {
		b.waitSession(t, portVoice, console.SessionReserved)
	}
	l.boxes[0].kill(t)
	got, err := l.boxes[1].Trace(t.Context(), console.TraceQuery{Dst: addrB, Timeout: 300 * time.Millisecond, Attempts: 2})
	if err != nil {
		t.Fatal(err)
	}
	before, _ := hop(0, 1)
	if got.Outcome != console.TraceSilent || got.Complete || len(got.Hops) != 2 || !strings.Contains(got.Message, before.String()) {
		t.Errorf("%+v", got)
	}
	end()
}
