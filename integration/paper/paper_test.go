package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/integration/rig/box/boxtest"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

func testOptions(t *testing.T) options {
	return options{program: boxtest.Program(t), cc: "cubic", warmup: 3 * time.Second, window: 2 * time.Second, thin: true, say: t.Logf}
}

// Two points of the figures, by wide margins: the way back's width decides over
// the source that is not cheated on, and not over the one that is.
func TestTwoPoints(t *testing.T) {
	roottest.Need(t)
	o := testOptions(t)
	o.modes, o.rates = []string{modeNone, modeReliable}, []int64{32_000}
	points, err := curves(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(points) != 2 {
		t.Fatalf("points: %+v", points)
	}
	without, with := &points[0], &points[1]
	for _, p := range points {
		if !p.good() {
			t.Errorf("%s: %+v", p.remark(), p)
		}
	}
	// On an idle machine it is all of it, and a twentieth of that without.
	if with.Goodput < carries/8 || without.Goodput > with.Goodput/2 {
		t.Errorf("%.2f Mbit/s with cheating, %.2f without, the reservation carries %.2f", with.Goodput/1e6, without.Goodput/1e6, carries/1e6)
	}
	if with.Whole == nil || without.Whole != nil || with.AcksThinned == 0 || without.AcksThinned != 0 {
		t.Errorf("%+v\n%+v", with, without)
	}
}

// Every connection is measured, and those that are to be cheated on are.
func TestLatency(t *testing.T) {
	roottest.Need(t)
	o := testOptions(t)
	o.modes, o.window = []string{modeNone, modeRealtime, modeReliable}, 4*time.Second
	r, err := latencyOn(t.Context(), o, 2*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 2+2*3+2+2 {
		t.Errorf("%d rows", len(r.Rows))
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		if !row.treated() || row.Times.Count < 5 || row.Times.Min < 2*time.Millisecond {
			t.Errorf("%+v", row)
		}
	}
}

func TestConfigs(t *testing.T) {
	list := append(policies([]string{modeNone, modePace, modeRealtime, modeReliable}), policy{Name: "answers", Mode: modeReliable, Port: 9, Down: true})
	for _, thin := range []bool{false, true} {
		for i, v := range []boxValues{{Role: "sender", Capacity: capacity}, {Role: "receiver"}} {
			v.Number, v.Rate, v.Thin, v.Policies, v.State = i+1, rate(reserved), thin, list, t.TempDir()
			text, err := v.config()
			if err != nil {
				t.Fatal(err)
			}
			c, err := config.Parse("box.yaml", []byte(text))
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			want := []config.TCPMode{config.TCPNone, config.TCPPace, config.TCPRealtime, config.TCPReliable, config.TCPReliable}
			if i == 1 {
				want = []config.TCPMode{config.TCPNone, config.TCPPace, config.TCPNone, config.TCPNone, config.TCPNone}
			}
			var got []config.TCPMode
			for j := range c.Policies {
				got = append(got, c.Policies[j].TCP)
				if thins := thin && i == 1 && j >= 2; c.Policies[j].ThinAcks != thins {
					t.Errorf("box %d, policy %d: thin_acks %v, want %v", i+1, j, c.Policies[j].ThinAcks, thins)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("box %d (-want +got):\n%s", i+1, diff)
			}
		}
	}
}

// made is a report with two points, one of them of a transfer that failed.
func made() report {
	return report{Runs: 1, Processors: 2, WarmupS: 3, WindowS: 3, Points: []point{
		{Figure: figureRate, CC: "cubic", Mode: modeNone, Back: 32_000, Goodput: 1e6, Intact: true, Reserved: reserved, State: "managed"},
		{Figure: figureRate, CC: "cubic", Mode: modeReliable, Back: 32_000, Goodput: 18e6, Intact: true, Reserved: reserved, State: "cheated", FakeAcks: 1, Whole: new(false)},
	}}
}

// What is wrong with a transfer stands beside its figure.
func TestTable(t *testing.T) {
	r := made()
	var b strings.Builder
	if err := r.table(&b); err != nil {
		t.Fatal(err)
	}
	got, _, _ := strings.Cut(b.String(), "\n\n")
	want := `| way back  | cubic, none | cubic, reliable           |
|-----------|-------------|---------------------------|
| 32 kbit/s | 1.00        | 18.00 (BYTES ARE MISSING) |`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	if !r.Points[0].good() || r.Points[1].good() {
		t.Errorf("good: %v, %v", r.Points[0].good(), r.Points[1].good())
	}
}

// Of what several runs have measured the median counts, and no fault is lost.
func TestMerge(t *testing.T) {
	var r report
	for _, v := range []float64{3, 1, 18} {
		p := made().Points[0]
		p.Goodput = v
		r.Points = append(r.Points, p)
	}
	r.Points[2].Intact = false
	lines := r.curves(figureRate)
	if len(lines) != 1 || len(lines[0].points) != 1 || lines[0].points[0].Goodput != 3 || lines[0].points[0].Intact {
		t.Errorf("%+v", lines)
	}
	if p := merge([]point{{Goodput: 4}, {Goodput: 2}}); p.Goodput != 3 {
		t.Errorf("median of 2 and 4: %v", p.Goodput)
	}
}

// Reports that were written can be put together and drawn.
func TestReadAndDraw(t *testing.T) {
	dir := t.TempDir()
	a, b := made(), made()
	b.Points[0].Back, b.Points[1].Back = 64_000, 64_000
	var files []string
	for i, r := range []report{a, b} {
		var text bytes.Buffer
		if err := r.write(&text, true); err != nil {
			t.Fatal(err)
		}
		if !json.Valid(text.Bytes()) {
			t.Errorf("no JSON: %s", &text)
		}
		file := filepath.Join(dir, []string{"a", "b"}[i])
		if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	r, err := read(files)
	if err != nil {
		t.Fatal(err)
	}
	lines := r.curves(figureRate)
	if len(r.Points) != 4 || len(lines) != 2 || len(lines[0].points) != 2 || lines[0].points[0].Back != 64_000 {
		t.Errorf("%+v", lines)
	}
	if err := r.draw(filepath.Join(dir, "img")); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(filepath.Join(dir, "img", "tcp-rate-cubic.svg"))
	if err != nil || !bytes.Contains(svg, []byte("without cheating")) || !bytes.Contains(svg, []byte("64k")) {
		t.Errorf("%v: %d bytes", err, len(svg))
	}
	if _, err := read([]string{filepath.Join(dir, "none")}); err == nil {
		t.Error("a missing file is no error")
	}
}

func TestLists(t *testing.T) {
	rates, err := parseRates("20mbit, 32kbit")
	if diff := cmp.Diff([]int64{20_000_000, 32_000}, rates); diff != "" || err != nil {
		t.Error(diff, err)
	}
	losses, err := parseLosses("0,20%")
	if diff := cmp.Diff([]float64{0, 0.2}, losses); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for _, bad := range []string{"fast", "1bit", "-8mbit"} {
		if _, err := parseRates(bad); err == nil {
			t.Errorf("-rates %s is accepted", bad)
		}
	}
	for _, bad := range []string{"x", "-1", "51", "NaN"} {
		if _, err := parseLosses(bad); err == nil {
			t.Errorf("-losses %s is accepted", bad)
		}
	}
	for _, bad := range []string{"split", "none,none"} {
		if _, err := parseModes(bad, false); err == nil {
			t.Errorf("-modes %s is accepted", bad)
		}
	}
	for bps, want := range map[int64]string{20_000_000: "20 Mbit/s", 512_000: "512 kbit/s", 1_500_000: "1.5 Mbit/s"} {
		if got := unit(bps); got != want {
			t.Errorf("%d: %s, want %s", bps, got, want)
		}
	}
}

func TestWithin(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		with, without time.Duration
		want          bool
	}{{3 * ms, 2 * ms, true}, {3*ms + 1, 2 * ms, false}, {42 * ms, 40 * ms, true}, {42*ms + 1, 40 * ms, false}, {ms, 40 * ms, true}} {
		if within(c.with, c.without) != c.want {
			t.Errorf("%s against %s: want %v", c.with, c.without, c.want)
		}
	}
	// Nothing measured is not good.
	r := latencyRow{}
	if r.against(traffic.Distribution{P50: ms, P99: ms}); r.Within {
		t.Error("no exchange at all is within")
	}
}
