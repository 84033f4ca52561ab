package intserv

import (
	"errors"
	"math"
	"testing"
)

var inf = math.Inf(1)

func good() TSpec { return TSpec{Rate: 1000, Bucket: 3000, Peak: 5000, MinUnit: 64, MaxPacket: 1500} }

// TestTSpecValidateRFC2215Section3_6 holds the bit patterns that must be refused.
func TestTSpecValidateRFC2215Section3_6(t *testing.T) {
	negZero := math.Copysign(0, -1)
	for _, tc := range []struct {
		name string
		edit func(*TSpec)
		want error
	}{
		{"good", func(*TSpec) {}, nil},
		{"p infinite", func(s *TSpec) { s.Peak = inf }, nil},
		{"largest rate", func(s *TSpec) { s.Rate = float64(float32(40e12)) }, nil},
		{"largest bucket", func(s *TSpec) { s.Bucket = float64(float32(250e9)) }, nil},
		{"m zero as Cisco sends it", func(s *TSpec) { s.MinUnit = 0 }, nil},
		{"M zero as Cisco sends it", func(s *TSpec) { s.MaxPacket = 0 }, nil},
		{"M huge as Cisco sends it", func(s *TSpec) { s.MaxPacket = 0x7fffffff }, nil},
		{"r NaN", func(s *TSpec) { s.Rate = math.NaN() }, ErrNotANumber},
		{"b NaN", func(s *TSpec) { s.Bucket = math.NaN() }, ErrNotANumber},
		{"p NaN", func(s *TSpec) { s.Peak = math.NaN() }, ErrNotANumber},
		{"r infinite", func(s *TSpec) { s.Rate = inf }, ErrInfinite},
		{"b infinite", func(s *TSpec) { s.Bucket = inf }, ErrInfinite},
		{"r negative", func(s *TSpec) { s.Rate = -1 }, ErrNegative},
		{"r negative zero", func(s *TSpec) { s.Rate = negZero }, ErrNegative},
		{"p negative infinity", func(s *TSpec) { s.Peak = -inf }, ErrNegative},
		{"p negative zero", func(s *TSpec) { s.Peak = negZero }, ErrNegative},
		{"r zero", func(s *TSpec) { s.Rate = 0 }, ErrRange},
		{"r exponent below 127", func(s *TSpec) { s.Rate = 0.999 }, ErrRange},
		{"b denormal", func(s *TSpec) { s.Bucket = 1e-40 }, ErrRange},
		{"r absurd", func(s *TSpec) { s.Rate = 1e30 }, ErrRange},
		{"b absurd", func(s *TSpec) { s.Bucket = 1e13 }, ErrRange},
		{"m above M", func(s *TSpec) { s.MinUnit = 1501 }, ErrUnits},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := good()
			tc.edit(&s)
			if err := s.Validate(); !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Errorf("Validate(%v) = %v, want %v", s, err, tc.want)
			}
		})
	}
}

// TestTSpecValidateStrictRFC2210Section3_1: m of zero is illegal.
func TestTSpecValidateStrictRFC2210Section3_1(t *testing.T) {
	if err := good().ValidateStrict(); err != nil {
		t.Errorf("good TSpec: %v", err)
	}
	for _, edit := range []func(*TSpec){
		func(s *TSpec) { s.MinUnit = 0 },
		func(s *TSpec) { s.MaxPacket = 0 },
		func(s *TSpec) { s.Peak = s.Rate - 1 },
	} {
		s := good()
		edit(&s)
		if err := s.ValidateStrict(); !errors.Is(err, ErrRange) {
			t.Errorf("ValidateStrict(%v) = %v, want ErrRange", s, err)
		}
	}
}

func TestTSpecWireIsStable(t *testing.T) {
	s := TSpec{Rate: 1e6 / 3, Bucket: 123456789.1, Peak: inf, MinUnit: 1, MaxPacket: 2}
	w := s.Wire()
	if w == s || w.Wire() != w || math.Abs(w.Rate/s.Rate-1) > 1e-6 {
		t.Errorf("Wire() = %v of %v", w, s)
	}
}

func TestLinkRate(t *testing.T) {
	s := good()
	if got := s.LinkRate(1000, 0); got != 1000 {
		t.Errorf("no overhead: %v", got)
	}
	if got := s.LinkRate(1000, 64); got != 2000 { // every packet m = 64 bytes: doubled
		t.Errorf("64 bytes on 64: %v", got)
	}
	s.MinUnit = 0
	if got := s.LinkRate(1000, AssumedMinUnit); got != 2000 {
		t.Errorf("m not stated: %v", got)
	}
}
