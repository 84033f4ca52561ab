package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/integration/rig/wire"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestReportGolden(t *testing.T) {
	good := newReport(madeUp())
	bad := madeUp()
	bad.results[3].transfer = transferOf(bad.results[3].phase, 1e6)
	bad.results[3].transfer.Sink.SHA256 = "0000"
	bad.results[3].boxes = [2]sample{}
	bad.results[3].boxes[0].problems = []string{"queue 102 (cheat) lost 3 packets: the box is too slow for this traffic"}
	bad.rsvp = rsvpCheck{skipped: "tshark is not installed"}
	bad.left = []string{"process 4711 in qp1-1-box1"}
	bad.wan[wire.AB].KernelDrops = 7
	bad.wan[wire.BA].LateFrames = 20
	bad.wan[wire.BA].MaxLateness = 14 * time.Millisecond
	for name, r := range map[string]*Report{"good": good, "bad": newReport(bad)} {
		var table, asJSON bytes.Buffer
		if err := errors.Join(r.WriteTable(&table), r.WriteJSON(&asJSON)); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".txt", table.Bytes())
		golden(t, name+".json", asJSON.Bytes())
		if r.Pass != (name == "good") {
			t.Errorf("%s: pass %v", name, r.Pass)
		}
		for line := range strings.Lines(table.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 && !strings.HasPrefix(line, "note: ") {
				t.Errorf("%s: a line of %d columns: %s", name, n, line)
			}
		}
	}
}

func TestEFReportGolden(t *testing.T) {
	bad := madeUpEF()
	bad.efs[1].admitted.Lost = 3
	bad.efs[3].admitted.Delay = bad.efs[1].admitted.Delay
	bad.efs[4].unadmitted.Lost = 0
	bad.efs[4].problems = []string{"box 1: queue 101 (first) lost 3 packets"}
	bad.rsvp = rsvpCheck{skipped: "tshark is not installed"}
	for name, m := range map[string]*measured{"voice-admit": madeUpEF(), "voice-admit-bad": bad} {
		r := newEFReport(m)
		var table, asJSON bytes.Buffer
		if err := errors.Join(r.WriteTable(&table), r.WriteJSON(&asJSON)); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".txt", table.Bytes())
		golden(t, name+".json", asJSON.Bytes())
		if r.Pass != (name == "voice-admit") {
			t.Errorf("%s: pass %v", name, r.Pass)
		}
		for line := range strings.Lines(table.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 && !strings.HasPrefix(line, "note: ") {
				t.Errorf("%s: a line of %d columns: %s", name, n, line)
			}
		}
	}
}

// The contract of design section 6: programs outside rely on these names.
func TestReportHasTheContractsNames(t *testing.T) {
	var out bytes.Buffer
	if err := newReport(madeUp()).WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var r struct {
		Scenario *string `json:"scenario"`
		Pass     *bool   `json:"pass"`
		Targets  []map[string]any
		Flows    []map[string]any
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Scenario == nil || *r.Scenario != "asymmetric" || r.Pass == nil || len(r.Targets) == 0 || len(r.Flows) == 0 {
		t.Errorf("%s", out.String())
	}
	for _, target := range r.Targets {
		for _, key := range []string{"name", "value", "unit", "target", "pass"} {
			if _, ok := target[key]; !ok {
				t.Errorf("target %v has no %q", target, key)
			}
		}
	}
}
