package netstack

import (
	"container/heap"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// event is something that happens at a time. Of those at the same time the
// first that was asked for comes first, so a seed's schedule is always the same.
type event struct {
	at  time.Duration
	n   int
	run func() // nil: called off
}

type queue []*event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].n < q[j].n
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*event)) }
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

// world is one schedule: virtual time, the two hosts and what is between them.
//
// A stack handles segments in goroutines of its own. Nothing else happens while
// they work (see host.settle), but they read the clock and set timers, so these
// two have a lock.
type world struct {
	t      testing.TB
	rng    *rand.Rand
	a, b   *host
	boxes  []*box
	checks *checks
	fails  int
	steps  int
	isnA   packet.Seq // for the trace
	isnB   packet.Seq

	mu     sync.Mutex
	now    time.Duration
	events queue
	n      int
}

func (w *world) time() time.Time { return epoch.Add(w.now) }

// after has run called. It may be called off by setting the event's run to nil
// under the lock.
func (w *world) after(d time.Duration, run func()) *event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.afterLocked(d, run)
}

func (w *world) afterLocked(d time.Duration, run func()) *event {
	w.n++
	e := &event{at: w.now + max(d, 0), n: w.n, run: run}
	heap.Push(&w.events, e)
	return e
}

// next takes the next event that was not called off, if it is due until then.
func (w *world) next(until time.Duration) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.events) > 0 && w.events[0].at <= until {
		e := heap.Pop(&w.events).(*event)
		if run := e.run; run != nil {
			w.now, e.run = e.at, nil
			return run
		}
	}
	w.now = max(w.now, until)
	return nil
}

// run handles events until the time, or until done says so.
func (w *world) run(until time.Duration, done func() bool) bool {
	for {
		w.settle()
		if done != nil && done() {
			return true
		}
		if w.steps++; w.steps > 2_000_000 {
			w.fail("no end in sight")
		}
		if w.fails > 0 {
			return false
		}
		run := w.next(until)
		if run == nil {
			return false
		}
		run()
	}
}

// settle lets the hosts do all that there is to do at this time.
func (w *world) settle() {
	for w.a.settle() || w.b.settle() {
	}
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	if w.fails++; w.fails <= 3 {
		w.t.Errorf("at %v: "+format, append([]any{w.now}, args...)...)
	}
}

// clock is the world's time for one stack.
type clock struct {
	w *world
	h *host
}

// Now implements tcpip.Clock.
func (c *clock) Now() time.Time {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return c.w.time()
}

// NowMonotonic implements tcpip.Clock. It is never zero, which would mean
// that something never happened.
func (c *clock) NowMonotonic() tcpip.MonotonicTime {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return tcpip.MonotonicTime{}.Add(time.Hour + c.w.now)
}

// AfterFunc implements tcpip.Clock.
func (c *clock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	t := &timer{c: c}
	t.f = func() {
		c.h.timers--
		c.h.busy = true
		f()
	}
	t.Reset(d)
	return t
}

type timer struct {
	c *clock
	f func()
	e *event
}

// Stop implements tcpip.Timer.
func (t *timer) Stop() bool {
	t.c.w.mu.Lock()
	defer t.c.w.mu.Unlock()
	return t.stop()
}

func (t *timer) stop() bool {
	was := t.e != nil && t.e.run != nil
	if was {
		t.e.run = nil
		t.c.h.timers--
	}
	t.e = nil
	return was
}

// Reset implements tcpip.Timer.
func (t *timer) Reset(d time.Duration) {
	t.c.w.mu.Lock()
	defer t.c.w.mu.Unlock()
	t.stop()
	t.c.h.timers++
	t.e = t.c.w.afterLocked(d, t.f)
}
