package aggregate

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// important has the receivers give priorities by the number of the call; what the
// middle is asked for is noted.
func (l *lab) important(by map[int]softstate.Priority) {
	l.answer = func(i softstate.PathInfo) (softstate.ReserveSpec, bool) {
		out := softstate.ReserveSpec{Style: l.style, FlowSpec: intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: i.TSpec}}
		if p, ok := by[int(i.Session.DstPort)-5000]; ok {
			out.Priority = &p
		}
		return out, true
	}
}

func (l *lab) wantPriority(when string, setup, hold uint16) {
	l.t.Helper()
	mid := l.inMid()
	if len(mid) != 1 {
		l.t.Fatalf("%s: the middle has %+v", when, mid)
	}
	var got softstate.Priority
	if p := mid[0].Priority; p != nil {
		got = *p
	}
	if want := (softstate.Priority{Preempting: setup, Defending: hold}); got != want {
		l.t.Errorf("%s: the aggregate has %+v, want %+v", when, got, want)
	}
}

// RFC 3181 section 5.1: an aggregate has the highest setup and, separately, the
// highest hold priority of what rides in it, at each router of the region. What comes
// raises it at once, what goes lowers it with a refresh.
func TestPriorityOfAnAggregateRFC3181Section5_1(t *testing.T) {
	l := newLab(t)
	l.important(map[int]softstate.Priority{2: {Preempting: 2, Defending: 8}, 3: {Preempting: 5, Defending: 6}})
	refreshed := func() { l.Run(4 * time.Second) }
	l.call(1, 5_000)
	l.Run(200 * time.Millisecond)
	l.wantPriority("a call of none", 0, 0)
	changes := l.east.table.Counters().Changes
	l.call(2, 5_000)
	l.Run(100 * time.Millisecond)
	l.wantPriority("at once", 2, 8)
	l.call(3, 5_000)
	refreshed()
	l.wantPriority("with another", 5, 8)
	if r := l.west.Granted; len(r) != 4 {
		t.Errorf("%d reservations at the aggregator", len(r))
	}
	for _, r := range l.west.Granted {
		if IsAggregate(r.Session) && r.Priority != (softstate.Priority{Preempting: 5, Defending: 8}) {
			t.Errorf("at the aggregator it has %+v", r.Priority)
		}
	}
	if got := l.east.table.Counters().Changes; got != changes {
		t.Errorf("its size has changed %d times", got-changes)
	}
	l.hang(2)
	refreshed()
	l.wantPriority("the first has gone", 5, 6)
	l.hang(3)
	refreshed()
	l.wantPriority("both have gone", 0, 0)
	l.wantReserved(1)
}

// What an aggregate grows for decides whom it may preempt: for room ahead of need
// nobody, and what rides in it already has no part in that.
func TestPriorityToGrowRFC3181Section4(t *testing.T) {
	l := newLab(t)
	l.important(map[int]softstate.Priority{1: {Preempting: 9, Defending: 9}, 6: {Preempting: 6, Defending: 7}, 7: {Preempting: 3, Defending: 3}})
	l.mid.limit = 60_000
	for n := 1; n <= 5; n++ {
		l.call(n, 10_000)
		l.Run(time.Second)
	}
	l.wantReserved(5)
	l.mid.wishes = nil
	l.call(6, 10_000)
	l.Run(200 * time.Millisecond)
	l.wantReserved(6)
	l.call(7, 10_000)
	l.Run(200 * time.Millisecond)
	var setups []uint16
	for _, r := range l.mid.wishes {
		if r.FlowSpec.TSpec.Rate >= 59_999 {
			setups = append(setups, r.Priority.Preempting)
		}
		if r.Priority.Defending != 9 {
			t.Errorf("%g bytes/s with %+v", r.FlowSpec.TSpec.Rate, r.Priority)
		}
	}
	if len(setups) < 2 || setups[0] != 6 || setups[len(setups)-1] != 3 && setups[len(setups)-2] != 3 {
		t.Errorf("asked for with %v", setups)
	}
	// Room ahead of need.
	l.mid.limit, l.mid.wishes = 0, nil
	l.Run(30 * time.Second)
	for _, r := range l.mid.wishes {
		if r.FlowSpec.TSpec.Rate > 75_000 && r.Change {
			if r.Priority.Preempting != 0 {
				t.Errorf("%g bytes/s ahead of need with %+v", r.FlowSpec.TSpec.Rate, r.Priority)
			}
			return
		}
	}
	t.Errorf("it has not grown: %+v", l.mid.wishes)
}

// Of a wish that is refused and not made again nothing is left.
func TestPriorityThatIsRefused(t *testing.T) {
	l := newLab(t)
	l.important(map[int]softstate.Priority{2: {Preempting: 4, Defending: 4}})
	l.call(1, 5_000)
	l.Run(time.Second)
	l.east.refuses = session(2)
	l.call(2, 5_000)
	l.Run(6 * time.Second)
	l.wantReserved(1)
	l.hang(2)
	l.Run(4 * time.Second)
	l.wantPriority("refused at the deaggregator", 0, 0)
	l.wantReserved(1)
}
