package intserv

import (
	"errors"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestRequiredRateRFC2212 has figures worked out by hand from the formula of
// RFC 2212, End-to-End Behavior.
func TestRequiredRateRFC2212(t *testing.T) {
	for _, tc := range []struct {
		r, b, p, m float64
		c, d       uint32
		w          time.Duration
		rate       float64
	}{
		{6000, 6000, 6000, 1500, 3000, 2000, time.Second, 6000},
		{10000, 5840, 125000, 1500, 6000, 4000, 200 * time.Millisecond, 52269.345},
		{8000, 32000, 8000, 1500, 1500, 1000, 250 * time.Millisecond, 12048.193},
		{125000, 20000, 1.25e6, 1500, 4500, 3600, 50 * time.Millisecond, 422560.113},
		{125000, 20000, inf, 1500, 4500, 3600, 50 * time.Millisecond, 528017.241},
	} {
		s := TSpec{Rate: tc.r, Bucket: tc.b, Peak: tc.p, MinUnit: 64, MaxPacket: uint32(tc.m)}
		rate, err := RequiredRate(s, tc.c, tc.d, tc.w)
		if err != nil || math.Abs(rate-tc.rate) > 0.001 {
			t.Errorf("%v: R = %.3f, %v, want %.3f", s, rate, err, tc.rate)
		}
		if bound, err := DelayBound(s, rate, tc.c, tc.d); err != nil || bound > tc.w+time.Microsecond {
			t.Errorf("%v: bound at R is %v, %v, want at most %v", s, bound, err, tc.w)
		}
	}
}

func TestDelayBoundRFC2212(t *testing.T) {
	s := TSpec{6000, 6000, 6000, 64, 1500}
	bound, err := DelayBound(s, 6000, 3000, 2000)
	if err != nil || bound != 752*time.Millisecond {
		t.Errorf("bound %v, %v, want 752ms", bound, err)
	}
	slack, err := SlackFor(s, 6000, 3000, 2000, time.Second)
	if err != nil || slack != 248000 {
		t.Errorf("slack %d, %v, want 248000", slack, err)
	}
	if _, err := SlackFor(s, 6000, 3000, 2000, 700*time.Millisecond); !errors.Is(err, ErrDelay) {
		t.Errorf("slack of a bound that is missed: %v", err)
	}
	for _, rate := range []float64{5999, 0, -1, math.NaN()} {
		if _, err := DelayBound(s, rate, 0, 0); !errors.Is(err, ErrDelay) {
			t.Errorf("rate %v: %v", rate, err)
		}
	}
	if _, err := RequiredRate(s, 0, 2000, 2*time.Millisecond); !errors.Is(err, ErrDelay) {
		t.Errorf("no time left: %v", err)
	}
}

// TestRequiredRateIsSmallest: the rate keeps the bound, and less does not.
func TestRequiredRateIsSmallest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := TSpec{
			Rate:      rapid.Float64Range(1e3, 1e7).Draw(t, "r"),
			Bucket:    rapid.Float64Range(1500, 1e6).Draw(t, "b"),
			MaxPacket: rapid.Uint32Range(40, 9000).Draw(t, "M"),
		}
		s.Peak = s.Rate * rapid.Float64Range(1, 100).Draw(t, "p/r")
		if rapid.Bool().Draw(t, "p unknown") {
			s.Peak = inf
		}
		c, d := rapid.Uint32Range(0, 20000).Draw(t, "C"), rapid.Uint32Range(0, 20000).Draw(t, "D")
		w := micros(d) + time.Duration(rapid.Int64Range(1e6, 1e9).Draw(t, "w"))
		rate, err := RequiredRate(s, c, d, w)
		if err != nil {
			t.Fatal(err)
		}
		const tolerance = 2 * time.Microsecond
		if bound, err := DelayBound(s, rate, c, d); err != nil || bound > w+tolerance {
			t.Errorf("%v: bound %v, %v, wanted %v", s, bound, err, w)
		}
		if less := rate * 0.99; less > s.Rate {
			if bound, err := DelayBound(s, less, c, d); err != nil || bound < w-tolerance {
				t.Errorf("%v: a smaller rate has bound %v, %v, wanted %v", s, bound, err, w)
			}
		}
	})
}
