package demo

import (
	"strings"
	"testing"
	"time"
)

// Each way to miss a target misses that one and no other.
func TestTargets(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(m *measured)
		missed string // start of the target's name, "" for none
	}{
		"all well":                {func(*measured) {}, ""},
		"just enough":             {func(m *measured) { m.results[2].transfer = transferOf(m.results[2].phase, 0.9501*carries) }, ""},
		"just too little":         {func(m *measured) { m.results[2].transfer = transferOf(m.results[2].phase, 0.9499*carries) }, "goodput with boxes, cubic, realtime"},
		"good without boxes too":  {func(m *measured) { m.results[1].transfer = transferOf(m.results[1].phase, 0.51*carries) }, "goodput without boxes, bbr"},
		"call good without boxes": {func(m *measured) { m.before = call(750, 0, m.unloaded.Delay.P50, m.unloaded.Delay.P99) }, "call without boxes"},
		"call late without boxes": {func(m *measured) { m.before = call(750, 0, 150*time.Millisecond, 150*time.Millisecond) }, ""},
		"one packet lost":         {func(m *measured) { m.after.Lost = 1 }, "voice lost"},
		"late":                    {func(m *measured) { m.after.Delay.P99 = m.unloaded.Delay.P99 + 10_001*time.Microsecond }, "voice p99"},
		"not too late":            {func(m *measured) { m.after.Delay.P99 = m.unloaded.Delay.P99 + 10*time.Millisecond }, ""},
		"another digest":          {func(m *measured) { m.results[3].transfer.Sink.SHA256 = "x" }, "reliable transfers"},
		"a byte missing":          {func(m *measured) { m.results[5].transfer.Sink.Bytes-- }, "reliable transfers"},
		"no end":                  {func(m *measured) { m.results[5].transfer.Sink.Ended = false }, "reliable transfers"},
		"realtime may lose":       {func(m *measured) { m.results[2].transfer.Sink.Ended = false }, ""},
		"a bad RSVP message":      {func(m *measured) { m.rsvp.faulty = []string{"x"} }, "RSVP messages"},
		"no RSVP message":         {func(m *measured) { m.rsvp = rsvpCheck{} }, "RSVP messages"},
		"no tshark":               {func(m *measured) { m.rsvp = rsvpCheck{skipped: "tshark is not installed"} }, ""},
		"a qdisc stays":           {func(m *measured) { m.changed = []string{"qdisc"} }, "changes that the boxes left"},
		"a process stays":         {func(m *measured) { m.left = []string{"process 1"} }, "things left behind"},
	} {
		m := madeUp()
		c.spoil(m)
		var missed []string
		for _, target := range targets(m) {
			if !target.Pass {
				missed = append(missed, target.Name)
			}
		}
		if c.missed == "" && len(missed) > 0 || c.missed != "" && (len(missed) != 1 || !strings.HasPrefix(missed[0], c.missed)) {
			t.Errorf("%s: missed %q, want %q", name, missed, c.missed)
		}
		if newReport(m).Pass != (c.missed == "") {
			t.Errorf("%s: the report does not say so", name)
		}
	}
}

// A connection that stood late without boxes is measured over the same seconds
// of its phase.
func TestGoodputOfALateConnection(t *testing.T) {
	m := madeUp()
	r := &m.results[0]
	r.connected = 3 * time.Second
	r.transfer.Sink.Series = make([]int64, 70)
	for i := range r.transfer.Sink.Series[20:] { // from 2 s of the connection, 5 s of the phase
		r.transfer.Sink.Series[20+i] = 12_500
	}
	if got := r.goodput(); got != 1e6 {
		t.Errorf("goodput %v, want 1e6", got)
	}
}
