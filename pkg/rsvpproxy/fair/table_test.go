package fair

import (
	"net/netip"
	"testing"
	"time"
)

var epoch = time.Unix(1_700_000_000, 0)

func key(iface int, last byte) Key {
	return Key{iface, netip.AddrFrom4([4]byte{10, 9, 0, last})}
}

// flood has some neighbours send at their rates for d, and returns what was
// taken of each.
func flood(tb *Table, from time.Time, d time.Duration, rates map[Key]int) map[Key]int {
	taken, next := map[Key]int{}, map[Key]time.Time{}
	for k := range rates {
		next[k] = from
	}
	for now := from; now.Before(from.Add(d)); now = now.Add(50 * time.Microsecond) {
		for k, rate := range rates {
			if rate > 0 && !next[k].After(now) {
				next[k] = next[k].Add(time.Second / time.Duration(rate))
				if v := tb.Allow(now, k); v == Own || v == Borrowed {
					taken[k]++
				}
			}
		}
	}
	return taken
}

func know(tb *Table, keys ...Key) {
	for _, k := range keys {
		tb.Know(epoch, k)
	}
}

// A neighbour that floods takes what the others leave, and nothing of theirs.
func TestFloodTakesOnlyWhatIsLeft(t *testing.T) {
	tb := NewTable(1000, 10)
	quiet, other, loud := key(1, 1), key(1, 2), key(1, 3)
	know(tb, quiet, other, loud)
	flood(tb, epoch, time.Second, map[Key]int{loud: 20_000}) // the common tokens are gone
	got := flood(tb, epoch.Add(time.Second), 4*time.Second, map[Key]int{quiet: 200, other: 100, loud: 20_000})
	if got[quiet] != 800 || got[other] != 400 {
		t.Errorf("taken %v: the quiet ones sent 800 and 400", got)
	}
	if all := got[quiet] + got[other] + got[loud]; all > 4*1000+1000 || all < 3900 {
		t.Errorf("%d taken in 4 s of 1000 a second", all)
	}
}

// Alone, a neighbour has the whole rate.
func TestUnusedShareIsLent(t *testing.T) {
	tb := NewTable(1000, 10)
	a := key(1, 1)
	know(tb, a, key(1, 2), key(1, 3))
	flood(tb, epoch, time.Second, map[Key]int{a: 5000})
	if got := flood(tb, epoch.Add(time.Second), 4*time.Second, map[Key]int{a: 5000}); got[a] < 3900 || got[a] > 4300 {
		t.Errorf("%d of 4000 taken", got[a])
	}
}

// Strangers share one share, however many addresses they make up, and those of
// one interface are no concern of another's.
func TestStrangersShareOneShare(t *testing.T) {
	tb := NewTable(1000, 10)
	tb.SetInterfaces(1, 2)
	known := key(1, 1)
	know(tb, known)
	rates := map[Key]int{known: 200}
	newcomer := key(2, 1)
	rates[newcomer] = 100
	for i := byte(10); i < 110; i++ {
		rates[key(1, i)] = 200 // 20,000 a second in all
	}
	flood(tb, epoch, time.Second, rates)
	got := flood(tb, epoch.Add(time.Second), 4*time.Second, rates)
	if got[known] != 800 || got[newcomer] != 400 {
		t.Errorf("taken: %d of 800 and %d of 400", got[known], got[newcomer])
	}
	last := epoch.Add(5 * time.Second)
	for range 1500 { // more than all that can be left
		tb.Allow(last, key(1, 50))
	}
	if v := tb.Allow(last, key(1, 50)); v != Stranger {
		t.Errorf("verdict %v for a stranger among a flood", v)
	}
}

// The table is bounded: who comes late stays a stranger, until a neighbour has
// been silent for a while.
func TestTableIsBounded(t *testing.T) {
	tb := NewTable(100, 2)
	know(tb, key(1, 1), key(1, 2), key(1, 3))
	if n := tb.Known(); n != 2 {
		t.Fatalf("%d neighbours known, the limit is 2", n)
	}
	later := epoch.Add(stale + time.Second)
	tb.Know(later, key(1, 2))
	tb.Know(later, key(1, 3))
	if n := tb.Known(); n != 2 || tb.neighbors[key(1, 1)] != nil || tb.neighbors[key(1, 3)] == nil {
		t.Errorf("%d known; the silent one should have given way", n)
	}
	tb.Allow(later, key(1, 2))
	tb.Allow(later.Add(forget+time.Second), key(1, 2))
	if n := tb.Known(); n != 0 || tb.groups[1].known != 0 {
		t.Errorf("%d known, %d in their group: silence is forgotten", n, tb.groups[1].known)
	}
}

// Ever new neighbours on one interface, each with state for a moment, take the
// places of none on another: neither those that are taken nor those of newcomers.
func TestPlacesAreSharedAmongInterfaces(t *testing.T) {
	tb := NewTable(100, 80)
	tb.SetInterfaces(1, 2)
	now := epoch
	know(tb, key(2, 1))
	for i := range 1000 {
		tb.Know(now, Key{Iface: 1, Addr: netip.AddrFrom4([4]byte{10, 7, byte(i >> 8), byte(i)})})
		now = now.Add(100 * time.Millisecond)
	}
	if tb.neighbors[key(2, 1)] == nil || tb.Known() != 71 {
		t.Errorf("%d known after the flood", tb.Known())
	}
	for i := byte(1); i < 10; i++ {
		if tb.Know(now, key(2, i)); tb.neighbors[key(2, i)] == nil {
			t.Errorf("neighbour %d has no place", i)
		}
	}
}

func TestNoRateIsNoLimit(t *testing.T) {
	tb := NewTable(0, 1)
	tb.Know(epoch, key(1, 1))
	for range 10_000 {
		if v := tb.Allow(epoch, key(1, 1)); v != Own {
			t.Fatal(v)
		}
	}
}

// A clock that stands still or goes back gives no tokens.
func TestClockThatGoesBack(t *testing.T) {
	tb := NewTable(10, 1)
	taken := 0
	for i := range 1000 {
		if v := tb.Allow(epoch.Add(-time.Duration(i)*time.Second), key(1, 1)); v <= Borrowed {
			taken++
		}
	}
	if taken > 10 {
		t.Errorf("%d taken of 10", taken)
	}
}

func BenchmarkAllow(b *testing.B) {
	tb := NewTable(1000, 1000)
	for i := range 200 {
		tb.Know(epoch, key(1, byte(i)))
	}
	now := epoch
	for b.Loop() {
		now = now.Add(time.Microsecond)
		tb.Allow(now, key(1, 7))
	}
}
