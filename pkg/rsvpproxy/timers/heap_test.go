package timers

import (
	"math/rand/v2"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// A list that is searched from end to end fires the same timers at the same
// times, whatever is set, moved and stopped in between.
func TestHeapIsAList(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var h Heap[int]
	list := make([]Timer[int], 200)
	want := map[int]time.Time{}
	for i := range list {
		list[i].Owner = i
	}
	now := epoch
	for range 50_000 {
		tm := &list[rng.IntN(len(list))]
		at := now.Add(time.Duration(rng.IntN(2000)-100) * time.Millisecond)
		switch rng.IntN(5) {
		case 0:
			h.Stop(tm)
			delete(want, tm.Owner)
		case 1:
			h.Sooner(tm, at)
			if was, set := want[tm.Owner]; !set || at.Before(was) {
				want[tm.Owner] = at
			}
		case 2:
			now = now.Add(time.Duration(rng.IntN(50)) * time.Millisecond)
			last := time.Time{}
			for d := h.Due(now); d != nil; d = h.Due(now) {
				if at, set := want[d.Owner]; !set || !at.Equal(d.At()) || at.After(now) || at.Before(last) || d.Armed() {
					t.Fatalf("timer %d fired for %v, wanted %v, %v", d.Owner, d.At(), at, set)
				}
				last = d.At()
				delete(want, d.Owner)
			}
			for i, at := range want {
				if !at.After(now) {
					t.Fatalf("timer %d did not fire", i)
				}
			}
		default:
			h.Set(tm, at)
			want[tm.Owner] = at
		}
		seen := 0
		if err := h.Check(func(tm *Timer[int]) error { seen++; return nil }); err != nil {
			t.Fatal(err)
		}
		next, some := h.Next()
		if seen != len(want) || h.Len() != len(want) || some != (len(want) > 0) {
			t.Fatalf("%d timers, Len %d, want %d", seen, h.Len(), len(want))
		}
		for _, at := range want {
			if at.Before(next) {
				t.Fatalf("next is %v, want %v", next, at)
			}
		}
	}
}

func TestHeapAllocatesNothing(t *testing.T) {
	var h Heap[int]
	var list [100]Timer[int]
	for i := range list {
		h.Set(&list[i], epoch.Add(time.Duration(i)))
	}
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		i++
		tm := &list[i%len(list)]
		h.Stop(tm)
		h.Set(tm, epoch.Add(time.Duration(i*7919%1000)))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// One operation is a refresh at a node with 200,000 timers: the first fires and
// is set again, another is prolonged.
func BenchmarkRefresh200k(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	var h Heap[int]
	list := make([]Timer[int], 200_000)
	const period = 30 * time.Second
	for i := range list {
		h.Set(&list[i], epoch.Add(time.Duration(rng.Int64N(int64(period)))))
	}
	for b.Loop() {
		now, _ := h.Next()
		t := h.Due(now)
		h.Set(t, now.Add(period/2+time.Duration(rng.Int64N(int64(period)))))
		h.Set(&list[rng.IntN(len(list))], now.Add(5*period))
	}
}
