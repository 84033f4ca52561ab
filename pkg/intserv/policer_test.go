package intserv

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPolicerRFC2211Section7(t *testing.T) {
	// Controlled load: rT+b, from a bucket that is full at the start.
	s := TSpec{Rate: 1000, Bucket: 3000, Peak: inf, MinUnit: 100, MaxPacket: 1500}
	p := NewPolicer(s, 0)
	for _, step := range []struct {
		at   time.Duration
		n    uint32
		want bool
		why  string
	}{
		{0, 1501, false, "larger than M"},
		{0, 1500, true, "first half of b"},
		{0, 1500, true, "second half of b"},
		{0, 1, false, "nothing left"},
		{99 * time.Millisecond, 1, false, "99 bytes earned, counts as m = 100"},
		{100 * time.Millisecond, 1, true, "100 bytes earned"},
		{50 * time.Millisecond, 1, false, "time ran backwards"},
		{time.Hour, 1500, true, "full again"},
		{time.Hour, 1500, true, "no fuller than b"},
		{time.Hour, 100, false, "no fuller than b"},
	} {
		if got := p.Conform(step.at, step.n); got != step.want {
			t.Errorf("%v, %d bytes: %v (%s)", step.at, step.n, got, step.why)
		}
	}
}

func TestPolicerPeakRFC2212(t *testing.T) {
	s := TSpec{Rate: 1000, Bucket: 30000, Peak: 10000, MinUnit: 0, MaxPacket: 1000}
	p := NewPolicer(s, 0)
	if !p.Conform(0, 1000) || p.Conform(0, 1) {
		t.Error("at once no more than M")
	}
	if !p.Conform(100*time.Millisecond, 1000) || p.Conform(100*time.Millisecond, 1) {
		t.Error("then at the peak rate")
	}
	if token, peak := p.Tokens(); token != 28100 || peak != 0 {
		t.Errorf("tokens %v %v", token, peak)
	}
}

// TestPolicerBoundRFC2212 checks the definition on every interval: what conforms
// is never more than M + min(pT, rT+b-M), and a packet is refused only where
// taking it would break the bound for some interval that ends with it.
func TestPolicerBoundRFC2212(t *testing.T) {
	type packet struct {
		at time.Duration
		n  float64
	}
	rapid.Check(t, func(t *rapid.T) {
		s := TSpec{
			Rate:      float64(rapid.IntRange(100, 1000).Draw(t, "r")),
			Bucket:    float64(rapid.IntRange(200, 2000).Draw(t, "b")),
			Peak:      float64(rapid.IntRange(1000, 5000).Draw(t, "p")),
			MinUnit:   rapid.Uint32Range(0, 50).Draw(t, "m"),
			MaxPacket: rapid.Uint32Range(50, 200).Draw(t, "M"),
		}
		p := NewPolicer(s, 0)
		var passed []packet
		now := time.Duration(0)
		fits := func(next packet, slack float64) bool {
			sum := 0.0
			for _, from := range slices.Backward(append(passed, next)) {
				sum += from.n
				dt, m := (next.at - from.at).Seconds(), float64(s.MaxPacket)
				if sum > m+min(s.Peak*dt, s.Rate*dt+s.Bucket-m)+slack {
					return false
				}
			}
			return true
		}
		for range rapid.IntRange(1, 60).Draw(t, "packets") {
			now += time.Duration(rapid.IntRange(0, 50).Draw(t, "gap")) * time.Millisecond
			n := rapid.Uint32Range(1, s.MaxPacket).Draw(t, "length")
			next := packet{now, float64(max(n, s.MinUnit))}
			const rounding = 1e-6
			if p.Conform(now, n) {
				if !fits(next, rounding) {
					t.Fatalf("%v: %d bytes at %v passed above the bound", s, n, now)
				}
				passed = append(passed, next)
			} else if fits(next, -rounding) {
				t.Fatalf("%v: %d bytes at %v refused within the bound", s, n, now)
			}
		}
	})
}

func TestPolicerAllocatesNothing(t *testing.T) {
	p := NewPolicer(good(), 0)
	now := time.Duration(0)
	if n := testing.AllocsPerRun(1000, func() { now += time.Millisecond; p.Conform(now, 100) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
