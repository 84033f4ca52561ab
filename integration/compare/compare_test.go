package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/box/boxtest"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

// Over a way back of 50 kbit/s, `reliable` with thinned ACKs has nearly all of
// the reservation, and thinned ACKs alone are better than nothing done. The
// bounds leave room for a machine that is busy with other things; `make compare`
// is for the figures. `make soak` looks at BBR with few ACKs too.
func TestNarrowWayBack(t *testing.T) {
	roottest.Need(t)
	cases := []struct{ cc, thinRate string }{{"cubic", "auto"}, {"bbr", "8kbit"}}
	if os.Getenv("QOSPROXY_SOAK") != "1" {
		cases = cases[:1]
	}
	for _, c := range cases {
		t.Run(c.cc, func(t *testing.T) {
			o := defaults()
			o.binary, o.thinRate = boxtest.Program(t), c.thinRate
			o.ways, o.controls = []int64{50_000}, []string{c.cc}
			o.warmup, o.window = 3*time.Second, 4*time.Second
			o.logs = t.TempDir()
			o.say = t.Logf
			o.variants = nil
			for _, v := range variants() {
				// A rate that is meant for a box at the sender is not measured
				// without one.
				if v.Name == plain || v.Name == both || v.Name == thin && c.thinRate == "auto" {
					o.variants = append(o.variants, v)
				}
			}
			rows, err := compare(t.Context(), o)
			if err != nil {
				logs(t, o.logs)
				t.Fatal(err)
			}
			var table strings.Builder
			if err := writeTable(&table, rows); err != nil {
				t.Fatal(err)
			}
			t.Logf("\n%s", &table)
			check(t, rows)
		})
	}
}

func check(t *testing.T, rows []row) {
	t.Helper()
	by := map[string]row{}
	for _, r := range rows {
		by[r.Variant] = r
		if !r.Intact {
			t.Errorf("%s: what arrived is not what was sent", r.Variant)
		}
		if thinned := strings.Contains(r.Variant, thin); thinned != (r.Thinned > 0) {
			t.Errorf("%s: %d ACKs were dropped", r.Variant, r.Thinned)
		}
	}
	base := by[plain].Goodput
	if got := by[both].Goodput; got < 4*base || got < 10e6 {
		t.Errorf("with both %.2f Mbit/s, plain %.2f", got/1e6, base/1e6)
	}
	if r, ok := by[thin]; ok && r.Goodput < base {
		t.Errorf("with thinned ACKs alone %.2f Mbit/s, plain %.2f", r.Goodput/1e6, base/1e6)
	}
}

func logs(t *testing.T, dir string) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		t.Logf("%s: %v\n%s", file, err, text)
	}
}

// The boxes' configurations are valid, with and without a rate.
func TestConfigs(t *testing.T) {
	for _, rate := range []string{"", "auto", "8kbit"} {
		for _, v := range []boxValues{
			{Number: 1, Role: "sender", Capacity: capacity},
			{Number: 2, Role: "receiver", ThinRate: rate},
		} {
			v.Rate, v.State, v.Policies = reserved, "/var/lib/qosproxy", variants()
			text, err := configOf(v)
			if err != nil {
				t.Fatal(err)
			}
			c, err := config.Parse("box.yaml", []byte(text))
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			for _, p := range c.Policies {
				if p.ThinAcks != (v.Number == 2 && strings.Contains(p.Name, thin)) {
					t.Errorf("box %d, %s: thin_acks is %v", v.Number, p.Name, p.ThinAcks)
				}
			}
		}
	}
}
