package intserv

import (
	"errors"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// RFC 2212, Examples of Implementation: where the wanted delay is more than R = r
// needs, the rest is slack. Figures worked out by hand.
func TestRSpecForRFC2212(t *testing.T) {
	for _, tc := range []struct {
		r, b, p, m float64
		c, d       uint32
		w          time.Duration
		want       RSpec
	}{
		{6000, 6000, 6000, 1500, 3000, 2000, time.Second, RSpec{6000, 248000}},
		{10000, 5840, 125000, 1500, 6000, 4000, 200 * time.Millisecond, RSpec{52269.347, 0}},
		{8000, 32000, 8000, 1500, 1500, 1000, 250 * time.Millisecond, RSpec{12048.193, 0}},
		{125000, 20000, inf, 1500, 4500, 3600, 50 * time.Millisecond, RSpec{528017.25, 0}},
	} {
		s := TSpec{Rate: tc.r, Bucket: tc.b, Peak: tc.p, MinUnit: 64, MaxPacket: uint32(tc.m)}
		got, err := RSpecFor(s, ErrorTerms{Ctot: tc.c, Dtot: tc.d}, tc.w)
		if err != nil || math.Abs(got.Rate-tc.want.Rate) > 0.02 || got.Slack != tc.want.Slack {
			t.Errorf("%v within %v: %+v, %v, want %+v", s, tc.w, got, err, tc.want)
		}
	}
}

func TestRSpecForRefuses(t *testing.T) {
	good := TSpec{Rate: 10000, Bucket: 400, Peak: 20000, MinUnit: 64, MaxPacket: 400}
	for name, tc := range map[string]struct {
		t TSpec
		e ErrorTerms
		w time.Duration
	}{
		"no time left":             {good, ErrorTerms{Dtot: 50000}, 50 * time.Millisecond},
		"terms that are saturated": {good, ErrorTerms{Ctot: math.MaxUint32, Dtot: math.MaxUint32}, time.Hour},
		"no delay at all":          {good, ErrorTerms{}, 0},
		"negative":                 {good, ErrorTerms{}, -time.Second},
		"faster than any link":     {TSpec{Rate: 1, Bucket: 250e9, Peak: inf}, ErrorTerms{}, time.Nanosecond},
	} {
		if got, err := RSpecFor(tc.t, tc.e, tc.w); !errors.Is(err, ErrDelay) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, bad := range []float64{math.NaN(), -1, math.Inf(1), 0} {
		s := good
		s.Rate = bad
		if got, err := RSpecFor(s, ErrorTerms{}, time.Second); err == nil {
			t.Errorf("r = %v: %+v", bad, got)
		}
	}
}

// Whatever is promised is kept by the figures that the wire carries, and a
// rate noticeably smaller would not do.
func TestRSpecForProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rapid.Float64Range(1, 1e9).Draw(t, "r")
		m := rapid.Uint32Range(1, 65535).Draw(t, "M")
		s := TSpec{
			Rate: r, Bucket: float64(m) + rapid.Float64Range(0, 1e9).Draw(t, "b-M"),
			Peak: r * rapid.Float64Range(1, 1000).Draw(t, "p/r"), MinUnit: 1, MaxPacket: m,
		}
		if rapid.Bool().Draw(t, "no peak") {
			s.Peak = inf
		}
		e := ErrorTerms{Ctot: rapid.Uint32Range(0, 1<<20).Draw(t, "C"), Dtot: rapid.Uint32Range(0, 1<<20).Draw(t, "D")}
		w := time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "w"))
		got, err := RSpecFor(s, e, w)
		if err != nil {
			if least := w - micros(e.Dtot); least > time.Millisecond {
				t.Fatalf("%v left of %v for queues, refused: %v", least, w, err)
			}
			return
		}
		if float64(float32(got.Rate)) != got.Rate {
			t.Fatalf("R %v does not survive the wire", got.Rate)
		}
		bound, err := DelayBound(s, got.Rate, e.Ctot, e.Dtot)
		if err != nil || bound+micros(got.Slack) > w {
			t.Fatalf("R %v: bound %v and slack %d within %v: %v", got.Rate, bound, got.Slack, w, err)
		}
		if smaller := got.Rate * 0.999; smaller > s.Rate {
			if bound, err := DelayBound(s, smaller, e.Ctot, e.Dtot); err == nil && bound < w-time.Microsecond {
				t.Fatalf("R %v would do as well: %v within %v", smaller, bound, w)
			}
		}
		if err := (FlowSpec{Service: Guaranteed, TSpec: s.Wire(), RSpec: got}).Validate(); err != nil && got.Rate >= s.Wire().Rate {
			t.Fatal(err)
		}
	})
}

// RFC 2212: b + Csum + Dsum * R, and it never shrinks on the way.
func TestBufferRFC2212(t *testing.T) {
	s := TSpec{Rate: 10000, Bucket: 400, Peak: 20000, MinUnit: 64, MaxPacket: 400}
	if got := Buffer(s, 20000, ErrorTerms{Csum: 300, Dsum: 10_000, Ctot: 9999, Dtot: 999_999}); got != 400+300+200 {
		t.Errorf("buffer %v, want 900", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		term := func(name string) ErrorTerms {
			return ErrorTerms{Csum: rapid.Uint32().Draw(t, "C"+name), Dsum: rapid.Uint32().Draw(t, "D"+name)}
		}
		a, b := term("a"), term("b")
		rate := rapid.Float64Range(1, 40e12).Draw(t, "R")
		if both := Buffer(s, rate, a.Max(b)); both < Buffer(s, rate, a) || both < Buffer(s, rate, b) {
			t.Fatalf("%v and %v: %v", a, b, both)
		}
	})
}
