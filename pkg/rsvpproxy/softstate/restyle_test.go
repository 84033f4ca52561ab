package softstate

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// The receivers' taking back is told apart from all other ends: only there the
// same flows may be reserved again in the next moment.
func TestReleaseTellsWhatWasTakenBack(t *testing.T) {
	r := newRig(t, Config{})
	r.reserved()
	if e := only[Release](t, r.in(right, nextHop, rightAdr, resvTear())); !e.Torn {
		t.Error("ResvTear: not told as taken back")
	}
	r.grant(r.resv())
	if e := only[Release](t, r.in(left, srcHost, dstHost, pathTear())); e.Torn {
		t.Error("PathTear: told as taken back")
	}
	r = newRig(t, Config{})
	r.reserved()
	if e := only[Release](t, r.run(1000*time.Second)); e.Torn {
		t.Error("silence: told as taken back")
	}
}

// A second sender has the receiver proxy turn from wildcard to fixed filter. On
// its own node the first sender's reservation is changed in place; on the others
// it is taken back and there again within the time that admission takes. A third
// sender, and senders that go, change nothing for it. It does not matter whose port
// is the lower.
func TestSimSecondSenderChangesTheStyle(t *testing.T) {
	for name, step := range map[string]int{"higher ports": 1, "lower ports": -1} {
		t.Run(name, func(t *testing.T) { testSecondSender(t, step) })
	}
}

func testSecondSender(t *testing.T, step int) {
	s := newSim(t, 1, 4, Config{})
	s.delay = 1 // in order
	last := s.nodes[3]
	last.env.proxy = func(i PathInfo) (ReserveSpec, bool) {
		spec, ok := sayYes(i)
		spec.Auto = true
		return spec, ok
	}
	one, two, three := simSender(0), simSender(0), simSender(0)
	two.Filter.SrcPort += uint16(step)
	three.Filter.SrcPort += uint16(2 * step)
	s.add(one)
	s.run(time.Second)
	s.wantAll(Reserved, 4)

	torn := make([]int, len(s.nodes))
	for i, n := range s.nodes {
		n.seen = func(e Effect) {
			if r, ok := e.(Release); ok {
				torn[i]++
				if !r.Torn {
					t.Errorf("node %d: a release that is no taking back", i)
				}
			}
		}
	}
	without := make([]time.Duration, len(s.nodes))
	watch := func(d time.Duration) {
		const tick = time.Millisecond
		for range d / tick {
			s.run(tick)
			for i, n := range s.nodes {
				if v, _ := n.n.Session(s.now, one.Session, one.Filter); v.State != Reserved {
					without[i] += tick
				}
			}
		}
	}
	s.add(two)
	watch(3 * time.Second)
	s.wantAll(Reserved, 8)
	for i, n := range s.nodes {
		v, _ := n.n.Session(s.now, one.Session, one.Filter)
		if v.Style != wire.FF {
			t.Errorf("node %d: style %s", i, v.Style)
		}
		hops := time.Duration(len(s.nodes) - 1 - i)
		if most := hops * 25 * time.Millisecond; without[i] > most || torn[i] != min(int(hops), 1) {
			t.Errorf("node %d: without a reservation for %v, want at most %v; taken back %d times", i, without[i], most, torn[i])
		}
	}
	t.Logf("without a reservation, from the first node on: %v", without)

	clear(torn)
	clear(without)
	s.add(three)
	watch(3 * time.Second)
	for i, n := range s.nodes {
		n.seen = nil
		if torn[i] != 0 || without[i] != 0 {
			t.Errorf("node %d: a third sender took back %d reservations, %v without", i, torn[i], without[i])
		}
	}
	for _, x := range []Sender{two, three} {
		s.nodes[0].do(s.nodes[0].n.RemoveSender(s.now, x.Session, x.Filter))
	}
	watch(40 * time.Second)
	s.wantAll(Reserved, 4)
	for i, n := range s.nodes {
		if v, _ := n.n.Session(s.now, one.Session, one.Filter); v.Style != wire.FF || without[i] != 0 {
			t.Errorf("node %d: alone again: style %s, %v without", i, v.Style, without[i])
		}
	}
}
