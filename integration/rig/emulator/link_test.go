package emulator

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Unix(1_000_000, 0)

func after(d time.Duration) time.Time { return epoch.Add(d) }

func newLink(p Params) *Link { return New(p, rand.New(rand.NewPCG(1, 2))) }

// drain pops everything due by a time and returns when each was due.
func drain(l *Link, now time.Time) (due []time.Duration) {
	for {
		at, _ := l.Next()
		if _, _, ok := l.Pop(now); !ok {
			return due
		}
		due = append(due, at.Sub(epoch))
	}
}

func TestRateAndDelay(t *testing.T) {
	// 1,500 bytes at 12 Mbit/s take 1 ms.
	l := newLink(Params{Rate: 12_000_000, Delay: 50 * time.Millisecond})
	for range 3 {
		l.Push(epoch, make([]byte, 1500), Verdict{})
	}
	if due := drain(l, after(51*time.Millisecond-1)); due != nil {
		t.Errorf("delivered too early: %v", due)
	}
	got := fmt.Sprint(drain(l, after(time.Second)))
	if want := "[51ms 52ms 53ms]"; got != want {
		t.Errorf("due %s, want %s", got, want)
	}
	// The link has been idle: nothing is saved up.
	l.Push(after(time.Second), make([]byte, 750), Verdict{})
	if got, want := fmt.Sprint(drain(l, after(2*time.Second))), "[1.0505s]"; got != want {
		t.Errorf("due %s, want %s", got, want)
	}
}

func TestRateDoesNotDrift(t *testing.T) {
	const rate, size, n = 7_777_777, 999, 50_000
	l := newLink(Params{Rate: rate})
	for range n {
		l.Push(epoch, make([]byte, size), Verdict{})
		drain(l, after(time.Hour))
	}
	want := time.Duration(math.Round(n * size * 8 / float64(rate) * 1e9))
	if got := l.free.Sub(epoch); (got - want).Abs() > time.Microsecond {
		t.Errorf("%d frames take %s, want %s", n, got, want)
	}
}

func TestOverheadCountsOnTheWire(t *testing.T) {
	l := newLink(Params{Rate: 8_000, Overhead: 24})
	l.Push(epoch, make([]byte, 76), Verdict{})
	if got := drain(l, after(time.Second))[0]; got != 100*time.Millisecond {
		t.Errorf("sent after %s, want 100ms", got)
	}
}

func TestDropTailByBytes(t *testing.T) {
	// 64 kB at 256 kbit/s: 42 frames of 1,514 bytes, 1.987 s.
	l := newLink(Params{Rate: 256_000, Queue: 64_000})
	taken := 0
	for range 100 {
		if l.Push(epoch, make([]byte, 1514), Verdict{}) {
			taken++
		}
	}
	c := l.Counters()
	if taken != 42 || c.QueueDrops != 58 || c.MaxBacklogBytes != 42*1514 {
		t.Errorf("%d taken, counters %+v", taken, c)
	}
	if want := 41 * 1514 * 8 * time.Second / 256_000; c.MaxQueueDelay != want {
		t.Errorf("longest wait %s, want %s", c.MaxQueueDelay, want)
	}
	// A small frame fits where a large one did not.
	if !l.Push(epoch, make([]byte, 64), Verdict{}) {
		t.Error("a small frame was dropped")
	}
	// The first frame leaves after 47.3 ms and makes room for one more.
	if now := after(48 * time.Millisecond); !l.Push(now, make([]byte, 1400), Verdict{}) || l.Backlog(now) != 41*1514+64+1400 {
		t.Errorf("no room after the first frame left: backlog %d", l.Backlog(now))
	}
}

func TestDropTailByFrames(t *testing.T) {
	l := newLink(Params{Rate: 8_000, QueueFrames: 2})
	for i, want := range []bool{true, true, false} {
		if got := l.Push(epoch, make([]byte, 100), Verdict{}); got != want {
			t.Errorf("frame %d: taken %t, want %t", i, got, want)
		}
	}
	if !l.Push(after(100*time.Millisecond), make([]byte, 1), Verdict{}) {
		t.Error("no room after the first frame left")
	}
}

func TestEmptyQueueTakesAnyFrame(t *testing.T) {
	l := newLink(Params{Rate: 1_000_000, Queue: 100})
	if !l.Push(epoch, make([]byte, 1514), Verdict{}) || l.Push(epoch, make([]byte, 10), Verdict{}) {
		t.Error("want the first frame taken and the second dropped")
	}
}

func TestLossUsesTheTransmitter(t *testing.T) {
	l := newLink(Params{Rate: 8_000, Loss: 1})
	if l.Push(epoch, make([]byte, 100), Verdict{}) || l.Backlog(epoch) != 100 {
		t.Errorf("backlog %d after a lost frame, want 100", l.Backlog(epoch))
	}
	l.Set(Params{Rate: 8_000})
	l.Push(epoch, make([]byte, 100), Verdict{})
	if got := drain(l, after(time.Second))[0]; got != 200*time.Millisecond {
		t.Errorf("the frame behind a lost one is sent after %s, want 200ms", got)
	}
}

func TestLossRatios(t *testing.T) {
	const n = 200_000
	for name, c := range map[string]struct {
		p    Params
		want float64
	}{
		"single": {Params{Loss: 0.01}, 0.01},
		// Bad for 0.01/(0.01+0.09) of the time, half lost then.
		"burst": {Params{Burst: &GilbertElliott{ToBad: 0.01, ToGood: 0.09, Loss: 0.5}}, 0.05},
	} {
		l := newLink(c.p)
		for range n {
			l.Push(epoch, []byte{0}, Verdict{})
			l.Pop(epoch)
		}
		if got := float64(l.Counters().Losses) / n; math.Abs(got-c.want) > 0.1*c.want {
			t.Errorf("%s: loss %.4f, want %.4f", name, got, c.want)
		}
	}
}

func TestReorderedFrameIsOvertaken(t *testing.T) {
	l := newLink(Params{Delay: 10 * time.Millisecond, Reorder: 1, ReorderDelay: 3 * time.Millisecond})
	l.Push(epoch, []byte("late"), Verdict{})
	l.Set(Params{Delay: 10 * time.Millisecond})
	l.Push(after(time.Millisecond), []byte("next"), Verdict{})
	for _, want := range []string{"next", "late"} {
		if got, _, _ := l.Pop(after(time.Second)); string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestScript(t *testing.T) {
	l := newLink(Params{})
	if l.Push(epoch, []byte("a"), Verdict{Drop: true}) {
		t.Error("a frame that the script drops was taken")
	}
	l.Push(epoch, []byte("b"), Verdict{Duplicate: true, Delay: time.Second})
	if at, ok := l.Next(); !ok || at != after(time.Second) {
		t.Errorf("due at %s, want a second later", at)
	}
	if _, twice, ok := l.Pop(after(time.Second)); !ok || !twice {
		t.Error("the frame is not delivered twice")
	}
	if c := l.Counters(); c.ScriptDrops != 1 || c.Duplicated != 1 || c.Delivered != 2 {
		t.Errorf("counters %+v", c)
	}
}

func TestNothingGrowsWithoutLimit(t *testing.T) {
	for name, p := range map[string]Params{
		"on the wire":   {Delay: time.Hour},
		"queued":        {Rate: 1},
		"queued, lost ": {Rate: 1, Loss: 1},
	} {
		l := newLink(p)
		for range MaxInFlight + 10 {
			l.Push(epoch, []byte{0}, Verdict{})
		}
		if c := l.Counters(); c.QueueDrops != 10 {
			t.Errorf("%s: %d frames dropped, want 10", name, c.QueueDrops)
		}
	}
}

// Whatever the parameters, no frame is delivered early, twice without being
// asked, or forgotten, and without reordering none is overtaken.
func TestEveryFrameIsAccountedFor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		chance := rapid.SampledFrom([]float64{0, 0, 0.1, 0.5})
		p := Params{
			Rate:         rapid.SampledFrom([]int64{0, 64_000, 10_000_000}).Draw(t, "rate"),
			Delay:        time.Duration(rapid.IntRange(0, 1e8).Draw(t, "delay")),
			Queue:        rapid.SampledFrom([]int{0, 3_000, 64_000}).Draw(t, "queue"),
			Loss:         chance.Draw(t, "loss"),
			Duplicate:    chance.Draw(t, "duplicate"),
			Reorder:      chance.Draw(t, "reorder"),
			ReorderDelay: 5 * time.Millisecond,
		}
		l := New(p, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)))
		now, delivered, copies, last := epoch, 0, 0, -1
		sent := make([]time.Time, 300)
		pop := func(now time.Time) {
			for {
				at, _ := l.Next()
				frame, twice, ok := l.Pop(now)
				if !ok {
					return
				}
				i := int(frame[0])<<8 | int(frame[1])
				if at.Before(sent[i].Add(p.Delay)) || at.After(now) {
					t.Fatalf("frame %d sent at %s delivered for %s at %s", i, sent[i], at, now)
				}
				if p.Reorder == 0 && i <= last {
					t.Fatalf("frame %d after %d", i, last)
				}
				last = i
				delivered++
				if twice {
					copies++
				}
			}
		}
		for i := range sent {
			now = now.Add(time.Duration(rapid.IntRange(0, 5e6).Draw(t, "gap")))
			pop(now)
			frame := make([]byte, rapid.IntRange(2, 1514).Draw(t, "size"))
			frame[0], frame[1] = byte(i>>8), byte(i)
			sent[i] = now
			l.Push(now, frame, Verdict{})
			if b := l.Backlog(now); p.Queue > 0 && b > max(p.Queue, 1514) {
				t.Fatalf("backlog %d", b)
			}
		}
		pop(now.Add(24 * time.Hour))
		c := l.Counters()
		if l.InFlight() != 0 || int(c.Frames) != delivered+int(c.QueueDrops+c.Losses) || int(c.Duplicated) != copies {
			t.Fatalf("%d delivered, %d twice, counters %+v", delivered, copies, c)
		}
	})
}

func TestSeedDecidesEverything(t *testing.T) {
	run := func() Counters {
		l := newLink(Params{Loss: 0.1, Duplicate: 0.1, Reorder: 0.1, ReorderDelay: 1})
		for i := range 1000 {
			l.Push(after(time.Duration(i)), []byte{0}, Verdict{})
		}
		drain(l, after(time.Second))
		return l.Counters()
	}
	if a, b := run(), run(); a != b {
		t.Errorf("two runs differ: %+v, %+v", a, b)
	}
}

func TestHotPathAllocatesNothing(t *testing.T) {
	l := newLink(Params{Rate: 1_000_000_000, Delay: time.Millisecond, Queue: 1 << 20, Loss: 0.1, Duplicate: 0.1})
	now, frame := epoch, make([]byte, 1514)
	step := func() {
		now = now.Add(20 * time.Microsecond)
		l.Push(now, frame, Verdict{})
		l.Pop(now)
	}
	for range 1000 {
		step()
	}
	if n := testing.AllocsPerRun(1000, step); n != 0 {
		t.Errorf("%v allocations for a frame", n)
	}
}

func TestValidate(t *testing.T) {
	if err := (Params{Rate: 1, Delay: 1, Queue: 1, Loss: 1}).Validate(); err != nil {
		t.Error(err)
	}
	for _, p := range []Params{
		{Rate: -1},
		{Delay: -1},
		{Queue: -1},
		{QueueFrames: -1},
		{Loss: 1.1},
		{Loss: math.NaN()},
		{Reorder: 0.1},
		{Burst: &GilbertElliott{ToBad: -1}},
	} {
		if p.Validate() == nil {
			t.Errorf("%+v is accepted", p)
		}
	}
}

func BenchmarkLink(b *testing.B) {
	l := newLink(Params{Rate: 1_000_000_000, Delay: time.Millisecond, Queue: 1 << 20})
	now, frame := epoch, make([]byte, 1514)
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(12 * time.Microsecond)
		l.Push(now, frame, Verdict{})
		l.Pop(now)
	}
}
