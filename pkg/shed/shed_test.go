package shed

import (
	"testing"
	"time"
)

// queue is a queue of 8192 packets with a worker that handles so many a second.
type queue struct {
	t       *testing.T
	p       Policy
	now     time.Time
	r       Reading
	waiting float64
	handled float64
	flows   int     // that come to it
	each    float64 // packets a second of each
	let     int     // connections let go
	most    float64 // fullest
}

const length = 8192

func newQueue(t *testing.T, flows int, each float64) *queue {
	return &queue{t: t, now: time.Unix(1e9, 0), flows: flows, each: each}
}

// run is d of time with a worker of some speed. What is let go has gone lag later.
func (q *queue) run(d, lag time.Duration, speed float64) {
	q.t.Helper()
	const tick = 20 * time.Millisecond
	var going []int
	pending := 0
	for end := q.now.Add(d); q.now.Before(end); q.now = q.now.Add(tick) {
		q.waiting += float64(q.flows) * q.each * tick.Seconds()
		did := min(q.waiting, speed*tick.Seconds())
		q.waiting -= did
		q.handled += did
		if q.waiting > length {
			q.r.Lost += uint64(q.waiting - length)
			q.waiting = length
		}
		q.most = max(q.most, q.waiting/length)
		q.r.Waiting, q.r.Fill, q.r.Handled, q.r.Flows = uint64(q.waiting), q.waiting/length, uint64(q.handled), q.flows
		n := q.p.Look(q.now, q.r)
		n = min(n, q.flows-pending)
		q.let += n
		pending += n
		going = append(going, n)
		if k := len(going) - int(lag/tick) - 1; k >= 0 {
			q.flows -= going[k]
			pending -= going[k]
		}
	}
	q.flows -= pending
}

// Twice what the worker can do: no packet is lost, and about half of the connections
// are let go, one first, however long they take to go.
func TestTwiceTheLoad(t *testing.T) {
	for _, tt := range []struct {
		flows int
		each  float64
		lag   time.Duration
	}{
		{10, 1000, 0}, {200, 50, 40 * time.Millisecond}, {200, 100, 100 * time.Millisecond}, {2000, 5, 200 * time.Millisecond},
	} {
		q := newQueue(t, tt.flows, tt.each)
		q.run(time.Minute, tt.lag, float64(tt.flows)*tt.each/2)
		if q.r.Lost > 0 {
			t.Errorf("%+v: %d packets lost", tt, q.r.Lost)
		}
		if q.let < tt.flows/2 || q.let > tt.flows*3/4 {
			t.Errorf("%+v: %d connections let go", tt, q.let)
		}
		if q.p.Pressed() || q.most < high {
			t.Errorf("%+v: pressed at the end: %v, at most %.2f full", tt, q.p.Pressed(), q.most)
		}
		t.Logf("%+v: %d let go, at most %.2f full", tt, q.let, q.most)
	}
}

// A worker that can do what comes lets nobody go, even if it stalls now and then.
func TestStallsAreNoOverload(t *testing.T) {
	q := newQueue(t, 100, 50)
	for range 50 {
		q.run(2*time.Second, 0, 20_000)
		q.run(260*time.Millisecond, 0, 0)
	}
	if q.let > 0 || !q.p.Open(q.now) {
		t.Errorf("%d let go, at most %.2f full", q.let, q.most)
	}
}

// The first step lets one go, the next ones more, and never more than a few at once;
// it is a bounded rate.
func TestStepsGrow(t *testing.T) {
	var p Policy
	now := time.Unix(1e9, 0)
	var steps []int
	sum := 0
	var lost uint64
	for range 50 { // a second, in which nothing helps
		lost += 1000
		if n := p.Look(now, Reading{Waiting: 5000, Fill: 1, Flows: 10_000, Lost: lost}); n > 0 {
			steps = append(steps, n)
			sum += n
		}
		now = now.Add(20 * time.Millisecond)
	}
	want := []int{1, 2, 4, 8, 16, 32, 64, 64}
	for i, n := range want {
		if steps[i] != n {
			t.Fatalf("%v, want %v", steps, want)
		}
	}
	if sum > 50*most {
		t.Errorf("%d in a second", sum)
	}
}

// While the worker has not answered nothing is asked of it, and nothing counts as let
// go: as soon as it has, the next one is.
func TestNothingIsLetGoUnasked(t *testing.T) {
	var p Policy
	now := time.Unix(1e9, 0)
	r := Reading{Waiting: 5000, Fill: 1, Flows: 10, Lost: 1}
	look := func(asked bool) int {
		now = now.Add(20 * time.Millisecond)
		r.Asked = asked
		r.Lost += 100
		return p.Look(now, r)
	}
	if n := look(false); n != 1 {
		t.Fatalf("%d are let go first", n)
	}
	for range 20 { // longer than what was let go takes to go
		if n := look(true); n != 0 || !p.Pressed() {
			t.Fatalf("%d are let go that nobody hears of", n)
		}
	}
	if n := look(false); n != 2 {
		t.Errorf("%d are let go when the worker has answered", n)
	}
}

// Packets that are lost are pressure whatever else is read.
func TestLossIsPressure(t *testing.T) {
	var p Policy
	now := time.Unix(1e9, 0)
	p.Look(now, Reading{Waiting: 100, Fill: 0.06, Lost: 7})
	if p.Pressed() {
		t.Error("what was lost before it looked counts")
	}
	if n := p.Look(now.Add(quickly), Reading{Waiting: 500, Fill: 0.06, Lost: 8}); n != 1 || !p.Pressed() {
		t.Errorf("%d let go for a packet that was lost", n)
	}
}

// A queue that is never full, and where packets wait for long all the same, is
// overloaded.
func TestLateIsPressure(t *testing.T) {
	q := newQueue(t, 20, 10)
	q.waiting = 300 // a worker of 100 packets a second: seconds of waiting
	q.run(5*time.Second, 0, 100)
	if q.let == 0 {
		t.Error("packets wait for seconds and nobody is let go")
	}
}

// New connections are taken again some time after the pressure, and later if it
// comes back soon; after a quiet minute it is as it was.
func TestOpensAfterQuiet(t *testing.T) {
	var p Policy
	now := time.Unix(1e9, 0)
	pass := func(d time.Duration, r Reading) {
		for end := now.Add(d); now.Before(end); now = now.Add(20 * time.Millisecond) {
			r.Handled = p.last.Handled + 100
			p.Look(now, r)
		}
	}
	opens := func() (after time.Duration) {
		begin := now
		for !p.Open(now) {
			pass(100*time.Millisecond, Reading{})
			if now.Sub(begin) > 5*time.Minute {
				t.Fatal("never again")
			}
		}
		return now.Sub(begin)
	}
	over := Reading{Waiting: 7000, Fill: 0.9}
	if !p.Open(now) {
		t.Error("closed before it began")
	}
	for _, want := range []time.Duration{quietLeast, 2 * quietLeast, 4 * quietLeast, quietMost, quietMost} {
		pass(100*time.Millisecond, over)
		if p.Open(now) {
			t.Error("open under pressure")
		}
		if got := opens(); got < want || got > want+calm+time.Second {
			t.Errorf("it opens after %s, want %s", got, want)
		}
	}
	pass(quietMost+time.Second, Reading{})
	pass(100*time.Millisecond, over)
	if got := opens(); got < quietLeast || got > quietLeast+calm+time.Second {
		t.Errorf("after a quiet minute it opens after %s", got)
	}
}

// The kernel's counters may begin anew, and readings come late or twice.
func TestOddReadings(t *testing.T) {
	var p Policy
	now := time.Unix(1e9, 0)
	for _, r := range []Reading{{}, {Handled: 1000}, {Handled: 1}, {Waiting: 10}, {Handled: 5, Lost: 0}} {
		if n := p.Look(now, r); n != 0 {
			t.Errorf("%+v: %d let go", r, n)
		}
		p.Look(now, r)
		now = now.Add(time.Minute)
	}
}
