package integration

import (
	"context"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/roottest"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

const (
	portCall    = 5030 // guaranteed, 50 ms
	portHurried = 5031 // guaranteed, less than the queues of the path take
)

// The call's bucket has room for what a source that the machine kept waiting
// sends at once.
const guaranteedPolicies = `
  - name: call
    match: {protocol: udp, to_port: 5030}
    reserve: {role: both, service: guaranteed, delay: 50ms, tspec: {rate: 320kbit, burst: 2000B, max_packet: 200B}}
  - name: hurried
    match: {protocol: udp, to_port: 5031}
    reserve: {role: both, service: guaranteed, delay: 10ms, tspec: {rate: 160kbit, burst: 2000B, max_packet: 200B}}
`

// guaranteedBoxes are two edges and a transit router.
func (l *lab) guaranteedBoxes() []string {
	transit := config{network: []string{leftWAN, rightWAN}, capacity: "19mbit", policies: "  []\n"}
	return []string{l.edge(0, guaranteedPolicies, "").String(), transit.String(), l.edge(2, guaranteedPolicies, "").String()}
}

// RFC 2210 section 2 and RFC 2212: the receiver's box asks for the rate that the
// formula gives for the error terms in PATH, as a dissector that is not ours
// reads them; under a flood of best effort 99.9 % of the packets are then well
// within the bound, where others wait for much longer.
func TestGuaranteedVoice(t *testing.T) {
	roottest.Need(t)
	tshark := roottest.Tool(t, "tshark")
	l := newLab(t, 3, nil)
	// Between the last two boxes the terms of all queues but B's own are known.
	rsvp := capture(t, l.boxes[1].ns, rightWAN, isRSVP)
	l.startAll(t, l.guaranteedBoxes()...)
	ctx := within(t, 100*time.Second)

	// One packet every 10 ms is half of what is reserved.
	call := traffic.StreamConfig{
		From: l.a, To: l.b, Remote: at(addrB, portCall),
		Payload: 172, Interval: 10 * time.Millisecond, Duration: soak(9*time.Second, 15*time.Second), Warmup: 3 * time.Second,
	}
	idle := call
	idle.Remote, idle.Duration, idle.Warmup = at(addrB, portOther), time.Second, 0
	quiet, err := traffic.Stream(ctx, idle)
	if err != nil {
		t.Fatal(err)
	}
	flood := traffic.Flood(l.a, l.b, at(addrB, portOther+1), 30_000_000, call.Duration+time.Second)
	flooded, victim := make(chan error, 1), make(chan traffic.StreamResult, 1)
	go func() { _, err := traffic.Stream(ctx, flood); flooded <- err }()
	other := call
	other.Remote = at(addrB, portOther+2)
	go func() {
		r, err := traffic.Stream(ctx, other)
		if err != nil {
			t.Error(err)
		}
		victim <- r
	}()
	reserved := make(chan [3]console.SessionRow, 1)
	go func() {
		var rows [3]console.SessionRow
		for i := range rows {
			rows[i] = l.boxes[i].waitSession(t, portCall, console.SessionReserved)
		}
		reserved <- rows
	}()
	got, err := traffic.Stream(ctx, call)
	if err != nil {
		t.Fatal(err)
	}
	rows := <-reserved
	for i, row := range rows {
		if row.Service != "guaranteed" || row.FlowSpec == nil || row.FlowSpec.Rate != rows[2].FlowSpec.Rate || row.PHB != "ef" {
			t.Errorf("box %d: %+v", i+1, row)
		}
	}
	checkRate(t, tshark, rsvp, rows[2])

	// The other stream shows that there was something to be protected from.
	v := <-victim
	if err := <-flooded; err != nil {
		t.Error(err)
	}
	const bound, margin = 50 * time.Millisecond, 10 * time.Millisecond
	queueing := got.Delay.P999 - quiet.Delay.Min
	t.Logf("queueing of the call: p50 %v, p99 %v, p99.9 %v of %d packets, R %.0f bytes/s; without a reservation p50 %v, p99 %v",
		got.Delay.P50-quiet.Delay.Min, got.Delay.P99-quiet.Delay.Min, queueing, got.Delay.Count, rows[2].FlowSpec.Rate, v.Delay.P50, v.Delay.P99)
	if queueing > bound-margin || got.Lost > got.Sent/1000 {
		t.Errorf("99.9 %% within %v, %d of %d lost; promised are %v", queueing, got.Lost, got.Sent, bound)
	}
	if v.Delay.P50 < bound {
		t.Errorf("the flood delays others by %v only: nothing is proved", v.Delay.P50)
	}
	if row, err := l.boxes[0].flow(t, portCall); err != nil || row.ConformPackets < 500 || row.DroppedPackets > 0 {
		t.Errorf("flow %+v, %v", row, err)
	}
	// R is what the links have given away (RFC 2212), not r.
	links, err := l.boxes[1].Links(t.Context())
	if bps := linkRow(links, rightWAN).ReservedBPS; err != nil || math.Abs(float64(bps)/8-rows[1].FlowSpec.Rate) > 1 {
		t.Errorf("reserved %d bit/s, want R: %v", bps, err)
	}
}

// checkRate compares R in RESV with the formula for what tshark reads in PATH.
func checkRate(t *testing.T, tshark string, rsvp *traffic.Capture, row console.SessionRow) {
	t.Helper()
	_, path := waitMessage(t, rsvp, wire.Path)
	_, resv := waitMessage(t, rsvp, wire.Resv)
	file := filepath.Join(t.TempDir(), "rsvp.pcap")
	writePcap(t, file, []traffic.Frame{{At: time.Now(), Data: path}, {At: time.Now(), Data: resv}})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, tshark, "-r", file, "-V").Output()
	if err != nil {
		t.Fatalf("tshark -V: %v", err)
	}
	text := string(out)
	if strings.Contains(text, "Malformed") || strings.Contains(text, "ncorrect") {
		t.Errorf("tshark objects:\n%s", text)
	}
	value := func(name string) float64 {
		m := regexp.MustCompile(`(?m)^ *` + name + `: ([0-9.]+)`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("tshark shows no %q:\n%s", name, text)
		}
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	ctot, dtot := value("End-to-end composed value for C"), value("End-to-end composed value for D")
	if ctot != 2 || dtot < 2*7000 || dtot > 2*15_000 {
		t.Errorf("Ctot %g, Dtot %g: want two hops' worth", ctot, dtot)
	}
	// p is not known: (b + Ctot)/R + Dtot = w. B's own network adds the least, 1 and 1.
	want := (2000 + ctot + 1) / (0.050 - (dtot+1)/1e6)
	if r := value("Rate"); math.Abs(r/want-1) > 1e-5 || math.Abs(r/row.FlowSpec.Rate-1) > 1e-5 {
		t.Errorf("R %g in RESV and %g in sessions, want %g", r, row.FlowSpec.Rate, want)
	}
	if s := value("Slack term"); s > 1 || row.FlowSpec.Slack != uint32(s) {
		t.Errorf("S %g in RESV, %d in sessions, want none", s, row.FlowSpec.Slack)
	}
}

// RFC 5946 section 3.1.2: what no rate can keep is refused by code 1 value 1, and
// both ends' boxes say why. The flow passes all the same.
func TestGuaranteedDelayTooSmall(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, nil)
	rsvp := capture(t, l.boxes[1].ns, leftWAN, isRSVP)
	l.startAll(t, l.guaranteedBoxes()...)
	end := l.talk(t, portHurried, 12*time.Second)
	refusal, _ := waitMessage(t, rsvp, wire.PathErr)
	if e := refusal.ErrorSpec; e == nil || e.Code != wire.ErrAdmission || e.Value != wire.AdmissionDelay {
		t.Errorf("PathErr %+v, want code 1 value 1", e)
	}
	far, _ := hop(1, 2)
	if row := l.boxes[0].waitSession(t, portHurried, console.SessionRejected); row.Error != fmt.Sprintf("delay bound cannot be met (code 1 value 1) at %s", far) {
		t.Errorf("box 1 says %q", row.Error)
	}
	row := l.boxes[2].waitSession(t, portHurried, console.SessionRejected)
	if !strings.Contains(row.Error, "a delay of 10ms cannot be promised") || !strings.Contains(row.Error, "microseconds") {
		t.Errorf("box 3 says %q", row.Error)
	}
	l.boxes[0].waitFlow(t, portHurried, "not reserved, with the reason", func(r console.FlowRow) bool {
		return r.State == console.FlowWatched && strings.Contains(r.Reason, "delay bound cannot be met")
	})
	end().check(t)
}
