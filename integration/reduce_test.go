package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// Twice what the voice stream of talk needs, and room for what a machine that is
// busy sends at once.
const reducible = `
  - name: voice
    match: {protocol: udp, to_port: 5004}
    reserve: {role: both, service: controlled-load, tspec: {rate: 160kbit, burst: 8kB, max_packet: 400B}}
    mark: voice-admit
  - name: call
    match: {protocol: udp, to_port: 5030}
    reserve: {role: both, service: guaranteed, delay: 50ms, tspec: {rate: 320kbit, burst: 4000B, max_packet: 200B}}
`

// reserves waits until a box reserves so much for a session, in bytes/s, and the
// kernel's class has as much.
func (b *box) reserves(t *testing.T, port uint16, rate func(console.SessionRow) float64, want float64, link string) (class uint64) {
	t.Helper()
	eventually(t, 25*time.Second, fmt.Sprintf("%s: %g bytes/s for port %d", b.name, want, port), func() error {
		rows, err := b.Sessions(t.Context())
		if err != nil {
			return err
		}
		links, err := b.Links(t.Context())
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.Dport != port || row.State != console.SessionReserved || row.FlowSpec == nil || rate(row) != want {
				continue
			}
			if link == "" { // towards a host, where nothing is shaped
				return nil
			}
			for _, c := range linkRow(links, link).Classes {
				if c.Class == row.Class {
					class = c.RateBPS
					return nil
				}
			}
		}
		return fmt.Errorf("sessions %+v", rows)
	})
	return class
}

// RFC 4495: the box in the middle takes bandwidth away from reservations that
// stand. All boxes, and their kernels, then have what is left; nothing is torn
// down, and a flow that keeps to it keeps its marks throughout. In the end all is
// asked for again.
func TestReduceRFC4495Section5_3(t *testing.T) { overBothInSoak(t, reduceInTheMiddle) }

func reduceInTheMiddle(t *testing.T, f family) {
	l := newLab(t, 3, nil)
	l.watch(t, leftWAN, rightWAN)
	mid := config{network: []string{leftWAN, rightWAN}, capacity: "19mbit", policies: "  []\n"}
	var configs []string
	for _, c := range []config{l.edge(0, reducible, ""), mid, l.edge(2, reducible, "")} {
		configs = append(configs, strings.Replace(c.String(), "refresh: 1s", "refresh: 3s", 1)) // a reduction holds for 12 s
	}
	l.startAll(t, configs...)
	out := []string{rightWAN, rightWAN, ""}
	all := func(port uint16, rate func(console.SessionRow) float64, want float64) (class uint64) {
		t.Helper()
		for i, b := range l.boxes {
			if c := b.reserves(t, port, rate, want, out[i]); c > 0 {
				class = c
			}
		}
		return class
	}
	loadRate := func(r console.SessionRow) float64 { return r.FlowSpec.R }
	serviceRate := func(r console.SessionRow) float64 { return r.FlowSpec.Rate }
	atB := capture(t, l.b, hostIface, toPort(portVoice))
	end := l.callOver(t, f, portVoice, 60*time.Second)
	endCall := l.callOver(t, f, portCall, 60*time.Second)
	full := all(portVoice, loadRate, 20_000)
	asked := l.boxes[2].waitSession(t, portCall, console.SessionReserved).FlowSpec.Rate
	all(portCall, serviceRate, asked)
	before := l.boxes[1].waitFlowFrom(t, f.src, portVoice, "managed", isState(console.FlowManaged))
	waitFrame(t, atB, "a marked packet", func(f []byte) bool { return dscpOf(f) == dscp.VoiceAdmit })
	marked := time.Now()

	reduce := func(args ...string) (r console.Reduction) {
		t.Helper()
		code, stdout, stderr := l.boxes[1].cli(t, append([]string{"rsvp", "reduce", f.dst.String(), "--json"}, args...)...)
		if code != 0 {
			t.Fatalf("rsvp reduce %v: %d %s%s", args, code, stdout, stderr)
		}
		if err := json.Unmarshal([]byte(stdout), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if code, _, stderr := l.boxes[1].cli(t, "rsvp", "reduce", f.dst.String(), "--rate", "100kbit"); code != 1 || !strings.Contains(stderr, "2 reservations match") {
		t.Errorf("two match: %d %s", code, stderr)
	}
	if r := reduce("--dport", "5004", "--rate", "100kbit", "--interface", rightWAN); r.Before.R != 20_000 || r.FlowSpec.R != 12_500 || r.LastsS != 12 || r.Interface != rightWAN || len(r.Senders) != 1 {
		t.Errorf("%+v", r)
	}
	less := all(portVoice, loadRate, 12_500)
	if less >= full {
		t.Errorf("class of %d bit/s, it had %d", less, full)
	}
	if row := l.boxes[2].waitSession(t, portVoice, console.SessionReserved); !strings.Contains(row.Error, "reduced in favour of another reservation") || !row.InPlace {
		t.Errorf("the receiver's box says %q", row.Error)
	}
	reduced := time.Now()
	heard := func(from, to time.Time) (n int) {
		t.Helper()
		for _, p := range captured(t, atB) {
			if p.At.Before(from) || p.At.After(to) {
				continue
			}
			n++
			if dscpOf(p.Data) != dscp.VoiceAdmit {
				t.Fatalf("a packet %v after the reservation has DSCP %d", p.At.Sub(marked), dscpOf(p.Data))
			}
		}
		return n
	}
	eventually(t, 8*time.Second, "the stream goes on", func() error {
		if n := heard(reduced, time.Now()); n < 50 {
			return fmt.Errorf("%d packets", n)
		}
		return nil
	})
	t.Logf("%d packets kept their mark while the rate fell; class %d, then %d bit/s", heard(marked, time.Now()), full, less)

	// Less than the stream has: the policers find it, from the first one on.
	reduce("--dport", "5004", "--rate", "40kbit")
	all(portVoice, loadRate, 5000)
	for _, b := range l.boxes[:2] {
		b.waitFlowFrom(t, f.src, portVoice, "above what is left", func(r console.FlowRow) bool { return r.ReservedBPS == 40_000 && r.ExceedPackets > 0 })
	}
	// The other service, whose rate is R.
	if r := reduce("--dport", "5030", "--rate", "330kbit"); r.Service != "guaranteed" || r.FlowSpec.Rate != 41_250 || r.FlowSpec.R != 40_000 {
		t.Errorf("%+v", r)
	}
	all(portCall, serviceRate, 41_250)
	if code, _, stderr := l.boxes[1].cli(t, "rsvp", "reduce", f.dst.String(), "--dport", "5030", "--rate", "10mbit"); code != 1 || !strings.Contains(stderr, "not less") {
		t.Errorf("more than there is: %d %s", code, stderr)
	}

	all(portVoice, loadRate, 20_000)
	all(portCall, serviceRate, asked)
	row := l.boxes[1].waitFlowFrom(t, f.src, portVoice, "managed", isState(console.FlowManaged))
	if row.Class != before.Class || row.SetupUS != before.SetupUS {
		t.Errorf("%+v, it was %+v", row, before)
	}
	for i, b := range l.boxes {
		st, err := b.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st.RSVP.Received.ResvTear+st.RSVP.Sent.ResvTear+st.RSVP.Sent.PathTear > 0 || st.Admission.Released > 0 {
			t.Errorf("box %d tore something down: %+v", i+1, st.RSVP)
		}
	}
	end().check(t)
	endCall().check(t)
}
