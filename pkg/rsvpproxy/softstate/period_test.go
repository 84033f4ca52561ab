package softstate

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// RFC 2205 section 3.7: R is each interface's own, in what is announced and in
// what is done.
func TestRefreshOfInterfacesRFC2205Section3_7(t *testing.T) {
	r := newRig(t, Config{})
	r.n.SetInterfaceRefresh(right, 5*time.Second)
	r.n.SetInterfaceRefresh(left, 80*time.Second)
	es := r.path()
	if p := onlySend(t, es, wire.Path).Msg.TimeValues.Period(); p != 5*time.Second {
		t.Errorf("PATH with R %v", p)
	}
	es = r.grant(r.resv())
	if p := onlySend(t, es, wire.Resv).Msg.TimeValues.Period(); p != 80*time.Second {
		t.Errorf("RESV with R %v", p)
	}
	es = r.run(60 * time.Second)
	if paths, resvs := len(sends(es, wire.Path)), len(sends(es, wire.Resv)); paths < 9 || paths > 20 || resvs > 1 {
		t.Errorf("in a minute %d PATH and %d RESV", paths, resvs)
	}
	// A longer one is approached (section 3.7 (5)), the node's own is the default.
	r.n.SetInterfaceRefresh(right, 0)
	if p := r.view(); p.State != Reserved {
		t.Fatal(p.State)
	}
	for last := 5 * time.Second; last < 30*time.Second; {
		r.path()
		at, _ := r.n.NextDeadline()
		r.now = at
		for _, s := range sends(r.n.Advance(at), wire.Path) {
			got := s.Msg.TimeValues.Period()
			if got > time.Duration(float64(last)*1.3)+time.Second {
				t.Fatalf("R %v after %v", got, last)
			}
			last = max(last, got)
		}
	}
}

// PATH that goes out of several interfaces keeps to the shortest of their R.
func TestRefreshOfTheShortest(t *testing.T) {
	r := newRig(t, Config{})
	r.n.SetInterfaceRefresh(right, 50*time.Second)
	r.n.SetInterfaceRefresh(other, 7*time.Second)
	r.env.groups = func(_, _ addrT, _ IfIndex) []IfIndex { return []IfIndex{right, other} }
	es := r.path(func(m *wire.Message) { m.Session.Dst = anyGroup })
	for _, s := range sends(es, wire.Path) {
		if s.Msg.TimeValues.Period() != 7*time.Second {
			t.Errorf("%v", s.Msg.TimeValues)
		}
	}
}
