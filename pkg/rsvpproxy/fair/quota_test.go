package fair

import (
	"math/rand/v2"
	"testing"
	"time"
)

// One interface takes all that it can get: the others still find their parts.
func TestQuotaKeepsAPartForEachInterface(t *testing.T) {
	for _, limit := range []int{4, 20, 1000, 100_000} {
		q := NewQuota(limit)
		q.SetInterfaces(0, 1, 2)
		for q.Take(1) {
		}
		part := max(1, limit/12)
		if got, want := q.Held(1), limit-2*part; got != want {
			t.Errorf("limit %d: a flood holds %d, want %d", limit, got, want)
		}
		for i := range 3 {
			for range part {
				if i != 1 && !q.Take(i) {
					t.Fatalf("limit %d: interface %d is refused with %d held", limit, i, q.Held(i))
				}
			}
			if q.Take(i) {
				t.Errorf("limit %d: interface %d has more than there is: %d in all", limit, i, q.All())
			}
		}
		if q.All() != limit {
			t.Errorf("limit %d: %d held", limit, q.All())
		}
	}
}

// With one interface, or before they are known, it is a limit like any other.
func TestQuotaOfOneInterface(t *testing.T) {
	q := NewQuota(3)
	for range 3 {
		if !q.Take(7) {
			t.Fatal("refused")
		}
	}
	if q.Take(7) || q.Take(8) {
		t.Error("above the limit")
	}
	q.Give(7, 1)
	if !q.Take(8) || q.Held(7) != 2 || q.Free(8) != 0 {
		t.Errorf("%+v", q)
	}
}

// Whatever is taken, given and moved, and however the interfaces change: never
// more than the limit, and whoever holds less than his part is never refused
// while nothing was moved to others beyond theirs.
func TestQuotaProperty(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		limit, ifaces := 1+rng.IntN(60), 1+rng.IntN(5)
		q, held, moves := NewQuota(limit), map[int]int{}, rng.IntN(2) == 0
		list := make([]int, ifaces)
		for i := range list {
			list[i] = i
		}
		q.SetInterfaces(list...)
		for range 500 {
			i, j := rng.IntN(ifaces), rng.IntN(ifaces)
			switch op := rng.IntN(8); {
			case op < 5:
				ok := q.Take(i)
				if ok {
					held[i]++
				} else if !moves && ifaces > 1 && held[i] < limit/(4*ifaces) {
					t.Fatalf("limit %d, %d interfaces: %d is refused and holds %d: %v", limit, ifaces, i, held[i], held)
				}
			case op < 7 && held[i] > 0:
				q.Give(i, 1)
				held[i]--
			case moves && held[i] > 0:
				q.Move(i, j)
				held[i]--
				held[j]++
			case moves && rng.IntN(20) == 0:
				q.SetInterfaces(list[:1+rng.IntN(ifaces)]...)
			}
			sum, beyond := 0, 0
			for k, n := range held {
				sum += n
				beyond += max(0, n-q.own(k))
				if q.Held(k) != n {
					t.Fatalf("interface %d: %d held, %d counted", k, n, q.Held(k))
				}
			}
			if sum > limit || q.All() != sum || q.beyond != beyond {
				t.Fatalf("limit %d: %d held, %d counted, %d beyond, %d counted", limit, sum, q.All(), beyond, q.beyond)
			}
		}
	}
}

func BenchmarkQuota(b *testing.B) {
	q := NewQuota(1000)
	q.SetInterfaces(0, 1, 2, 3)
	for b.Loop() {
		q.Take(2)
		q.Give(2, 1)
	}
}
