package aggregate

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Calls come and go while messages are lost, the route to their receiver changes, and
// the middle has no room or loses all it knows. What holds at any time is looked at
// after each step (box.check); when all is quiet, every call is in place, in one
// aggregate for each aggregator that has the priority of the most important, and when the calls have ended nothing is left anywhere.
func TestSimulation(t *testing.T) {
	for round := range 18 {
		t.Run(fmt.Sprintf("round%d", round), func(t *testing.T) { simulate(t, round) })
	}
}

func simulate(t *testing.T, round int) {
	l := newLab(t)
	styles := []wire.Style{wire.FF, wire.WF, wire.SE}
	l.style = styles[round%len(styles)]
	priorities := map[int]softstate.Priority{}
	for n := range 8 {
		setup := uint16(l.rng.IntN(5))
		priorities[n] = softstate.Priority{Preempting: setup, Defending: setup + uint16(l.rng.IntN(3))}
	}
	l.important(priorities)
	type caller struct {
		b    *box
		host int
		n    int
	}
	up := map[caller]bool{}
	hosts := []*box{l.west, l.west2}
	addrs := []int{0, 1}
	host := func(i int) (b *box) { return hosts[i] }
	l.loss = 0.15 * l.rng.Float64()
	for range 60 {
		c := caller{host: addrs[l.rng.IntN(2)], n: l.rng.IntN(8)}
		c.b = host(c.host)
		from := hostA
		if c.host == 1 {
			from = hostC
		}
		switch l.rng.IntN(12) {
		case 0:
			if l.via = l.east; l.rng.IntN(2) == 0 {
				l.via = l.east2
			}
		case 1:
			l.mid.limit = float64(l.rng.IntN(4)) * 60_000
		case 2:
			l.mid.Perform(l.mid.Node.Shutdown(l.Now))
		case 3:
			l.interior(l.via, Interior{Iface: ifIn, Most: 5e6, MTU: 1500, Size: l.size})
		case 4, 5, 6, 7:
			if up[c] {
				l.hangFrom(c.b, from, c.n)
				delete(up, c)
			}
		default:
			l.callFrom(c.b, from, c.n, float64(5000*(1+l.rng.IntN(4))))
			up[c] = true
		}
		l.Run(time.Duration(l.rng.Int64N(int64(3 * time.Second))))
	}
	l.loss, l.mid.limit = 0, 0
	l.Run(2 * time.Minute)
	for i, b := range hosts {
		want := 0
		for c := range up {
			if c.host == i {
				want++
			}
		}
		if got := l.reserved(b); got != want {
			t.Errorf("round %d, %v: %s has %d of %d calls", round, l.style, b.Name, got, want)
			for _, v := range b.Node.Sessions(l.Now) {
				t.Logf("%v %v: %v %v", v.Session, v.Sender, v.State, v.Error())
			}
		}
	}
	for _, v := range l.inMid() {
		if EndToEnd(v.Session) || v.Session.Dst != l.via.Addrs[ifIn] {
			t.Errorf("round %d: the middle has %v of %v", round, v.Session, v.Sender)
		}
	}
	for i, b := range hosts {
		var want, got softstate.Priority
		for c := range up {
			if c.host == i {
				want = higher(want, priorities[c.n])
			}
		}
		for _, v := range l.inMid() {
			if v.Sender.Src == b.Addrs[ifIn] && v.Priority != nil {
				got = higher(got, *v.Priority)
			}
		}
		if got != want {
			t.Errorf("round %d, %v: the aggregate of %s has %+v, and what rides in it %+v", round, l.style, b.Name, got, want)
		}
	}
	if n := len(l.inMid()); n > 2 {
		t.Errorf("round %d: the middle has %d aggregates", round, n)
	}
	for c := range up {
		from := hostA
		if c.host == 1 {
			from = hostC
		}
		l.hangFrom(c.b, from, c.n)
	}
	l.Run(2 * time.Minute)
	for _, b := range l.boxes() {
		if n := len(b.Node.Sessions(l.Now)) + len(b.Granted); n != 0 {
			t.Errorf("round %d: %s still has %d sessions and reservations", round, b.Name, n)
		}
		if b.table == nil {
			continue
		}
		c := b.table.Counters()
		if c.Begin+c.End+c.Carried+c.Riding+len(b.table.entering)+len(b.table.leaving)+b.table.senders+b.table.arriving+b.table.timers.Len() != 0 {
			t.Errorf("round %d: %s still has %+v, %d and %d sessions, %d and %d senders, %d timers", round, b.Name, c,
				len(b.table.entering), len(b.table.leaving), b.table.senders, b.table.arriving, b.table.timers.Len())
		}
	}
}

// RFC 3175 sections 1.4.4 and 4, the figure of the issue: flows come as a Poisson
// process and stay for exponential times, a hundred of them at once on the average.
// However many they are, the aggregate changes seldom; and no more is set aside than
// the water marks say.
func TestPoissonArrivalsRFC3175Section4(t *testing.T) {
	const (
		perSecond = 2.0
		mean      = 50 * time.Second
		length    = 20 * time.Minute
		rate      = 10_000
	)
	l := newLab(t)
	l.size = Size{}.withDefaults()
	slow := func(b *box) {
		b.Node = softstate.New(softstate.Config{Refresh: 30 * time.Second, Quick: -1}, b, l.rng)
		b.table = New(Config{Refresh: 30 * time.Second}, b, l.rng)
		l.interior(b, Interior{Iface: ifIn, Most: 1e7, MTU: 1500})
	}
	slow(l.west)
	slow(l.east)
	exp := func(mean time.Duration) time.Duration {
		return time.Duration(-math.Log(1-l.rng.Float64()) * float64(mean))
	}
	type ending struct {
		at time.Time
		n  int
	}
	var calls []ending
	end := l.Now.Add(length)
	next, n, most := l.Now, 0, 0
	var used, size, span float64
	for l.Now.Before(end) {
		due, which := next, -1
		for i, c := range calls {
			if c.at.Before(due) {
				due, which = c.at, i
			}
		}
		dt := due.Sub(l.Now)
		if e := inKeyOrder(l.east.table.end); len(e) == 1 && e[0].have != nil && l.Now.Sub(epoch) > 3*time.Minute {
			used += e[0].used.rate * dt.Seconds()
			size += e[0].have.TSpec.Rate * dt.Seconds()
			span += dt.Seconds()
		}
		l.Run(dt)
		if which >= 0 {
			l.hang(calls[which].n)
			calls = append(calls[:which], calls[which+1:]...)
			continue
		}
		l.call(n, rate)
		calls = append(calls, ending{l.Now.Add(exp(mean)), n})
		n++
		most = max(most, len(calls))
		next = l.Now.Add(exp(time.Duration(float64(time.Second) / perSecond)))
	}
	c := l.east.table.Counters()
	per := float64(c.Changes) / float64(n)
	t.Logf("%d flows, at most %d at once; %d changes of the aggregate: %.4f a flow; %.0f of %.0f bytes/s in use on the average (%.0f %%)",
		n, most, c.Changes, per, used/span, size/span, 100*used/size)
	if n < 2000 || per > 0.02 {
		t.Errorf("%d changes for %d flows", c.Changes, n)
	}
	if used/size < l.size.Low {
		t.Errorf("%.0f %% in use: too much is set aside", 100*used/size)
	}
	if c.Refused != 0 {
		t.Errorf("%d flows were refused", c.Refused)
	}
}
