package daemon

import (
	"slices"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// RFC 2998 section 5.2: a reservation by hand is not marked as best effort, network
// control, or what has no reservation (a policy of the rig marks AF21 so). One that is
// in place when a reload gives its mark to others stays, and status tells of it.
func TestHandMarksRFC2998Section5_2(t *testing.T) {
	r := testHands(t, t.TempDir())
	for _, mark := range []string{"default", "le", "cs1", "cs6", "cs7", "af21"} {
		a := ask(4000)
		a.Mark = console.Text(mark)
		if _, err := r.reserve(a); err == nil || !strings.HasPrefix(err.Error(), "mark: "+mark+" is ") || len(r.list()) > 0 {
			t.Errorf("%s: %v, %d reservations", mark, err, len(r.list()))
		}
	}
	a := ask(4000)
	a.Excess = "ef"
	if _, err := r.reserve(a); err == nil || !strings.HasPrefix(err.Error(), "excess: ef is what reserved traffic has") || len(r.list()) > 0 {
		t.Errorf("excess: %v, %d reservations", err, len(r.list()))
	}
	for sport, mark := range map[uint16]string{4001: "ef", 4002: "af11", 4003: "af11"} {
		a := ask(sport)
		a.Mark = console.Text(mark)
		if _, err := r.reserve(a); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.wrongMarks(); len(got) != 0 {
		t.Errorf("%q", got)
	}
	c := *r.config()
	c.Policies = append(slices.Clip(c.Policies), config.Policy{Name: "new", Line: 7, Marked: true, Named: true, DSCP: 10})
	r.config = func() *config.Config { return &c }
	if got := r.wrongMarks(); len(got) != 1 || !strings.Contains(got[0], "policy new (line 7) marks") || !strings.HasSuffix(got[0], "(and 1 more)") {
		t.Errorf("%q", got)
	}
}
