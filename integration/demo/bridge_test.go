package demo

import (
	"slices"
	"strings"
	"testing"
)

// What hosts could notice of a bridge misses a target, each its own; and if nobody has
// looked, nothing is known.
func TestUnseenTargets(t *testing.T) {
	all := []string{"at A and B, from an Ethernet", "at A and B, with a TTL", "in the hosts' neighbour tables", "on the boxes, while"}
	for _, c := range []struct {
		found  unseen
		missed []string
	}{
		{unseen{frames: 1000}, nil},
		{unseen{frames: 1000, strangers: 1}, all[:1]},
		{unseen{frames: 1000, ttls: 1}, all[1:2]},
		{unseen{frames: 1000, entries: []string{"A: 10.2.0.2 is at 02:00:00:00:00:01"}}, all[2:3]},
		{unseen{frames: 1000, addresses: []string{"box 1 has 10.9.0.1/24"}}, all[3:]},
		{unseen{}, all},
	} {
		m := madeUp()
		m.unseen = &c.found
		r := newReport(m)
		var missed []string
		for _, target := range r.Targets {
			if !target.Pass {
				missed = append(missed, target.Name)
			}
		}
		same := slices.EqualFunc(missed, c.missed, strings.HasPrefix)
		if !same || r.Pass != (len(missed) == 0) || r.Scenario != bridge {
			t.Errorf("%+v: missed %q, want %q; %s", c.found, missed, c.missed, r.Scenario)
		}
		told := strings.Join(r.Notes, "\n")
		for _, line := range slices.Concat(c.found.entries, c.found.addresses) {
			if !strings.Contains(told, line) {
				t.Errorf("the notes do not say %q", line)
			}
		}
		var table strings.Builder
		if err := r.WriteTable(&table); err != nil || !strings.Contains(table.String(), "bridges without addresses") {
			t.Errorf("%v\n%s", err, &table)
		}
	}
}

// The witness tells a host's frame from others, and a host's TTL.
func TestWitness(t *testing.T) {
	frame := func(src, ttl, protocol byte) []byte {
		f := make([]byte, 60)
		f[11], f[12], f[14], f[14+8], f[14+9] = src, 8, 0x45, ttl, protocol
		return f
	}
	w := &witness{hosts: map[[6]byte]string{{5: 1}: "A", {5: 2}: "B"}, found: &unseen{}}
	const tcp, igmp, rsvp = 6, 2, 46
	for _, f := range [][]byte{frame(1, 64, tcp), frame(2, 64, tcp), frame(1, 1, igmp), frame(1, 63, rsvp), make([]byte, 10)} {
		if w.look(f) {
			t.Error("a frame is kept")
		}
	}
	if w.found.strangers != 0 || w.found.ttls != 0 || w.found.frames != 4 || w.found.examples != nil {
		t.Errorf("of hosts' frames: %+v", w.found)
	}
	arp := frame(3, 0, 0)
	arp[13] = 6
	for _, f := range [][]byte{frame(3, 64, tcp), frame(1, 63, tcp), arp} {
		w.look(f)
	}
	if w.found.strangers != 2 || w.found.ttls != 1 || len(w.found.examples) != 3 {
		t.Errorf("%+v", w.found)
	}
}
