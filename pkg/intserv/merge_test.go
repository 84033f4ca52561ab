package intserv

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func tspecs(t *rapid.T, label string) TSpec {
	return rapid.Custom(func(t *rapid.T) TSpec {
		s := TSpec{
			Rate:      float64(rapid.IntRange(1, 50).Draw(t, "r")),
			Bucket:    float64(rapid.IntRange(1, 50).Draw(t, "b")),
			Peak:      float64(rapid.IntRange(1, 50).Draw(t, "p")),
			MinUnit:   rapid.Uint32Range(0, 4).Draw(t, "m"),
			MaxPacket: rapid.Uint32Range(4, 8).Draw(t, "M"),
		}
		if rapid.IntRange(0, 4).Draw(t, "unstated") == 0 {
			s.MaxPacket = 0
		}
		if rapid.IntRange(0, 4).Draw(t, "infinite") == 0 {
			s.Peak = inf
		}
		return s
	}).Draw(t, label)
}

// TestTSpecMergeRFC2211Section8 has the section's rules in one pair: the merge
// takes the smallest M, the sum and the least common TSpec the largest, the
// minimum of unordered TSpecs the larger b and the smaller m.
func TestTSpecMergeRFC2211Section8(t *testing.T) {
	a := TSpec{Rate: 100, Bucket: 2000, Peak: 300, MinUnit: 64, MaxPacket: 1500}
	b := TSpec{Rate: 200, Bucket: 1000, Peak: inf, MinUnit: 40, MaxPacket: 576}
	for _, tc := range []struct {
		name      string
		got, want TSpec
	}{
		{"merge", a.Merge(b), TSpec{200, 2000, inf, 40, 576}},
		{"least common", a.LeastCommon(b), TSpec{200, 2000, inf, 40, 1500}},
		{"sum", a.Add(b), TSpec{300, 3000, inf, 40, 1500}},
		{"minimum", a.Min(b), TSpec{100, 2000, 300, 40, 576}},
		{"greatest lower bound", a.GLB(b), TSpec{100, 1000, 300, 64, 576}},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, tc.got, tc.want)
		}
	}
	if o := a.Compare(b); o != Unordered {
		t.Errorf("order: %v", o)
	}
}

// TestTSpecMinOfOrderedRFC2211Section8: of two ordered TSpecs the minimum is
// simply the smaller, with its larger m.
func TestTSpecMinOfOrderedRFC2211Section8(t *testing.T) {
	small := TSpec{100, 1000, 300, 64, 576}
	large := TSpec{100, 2000, 300, 40, 1500}
	if small.Compare(large) != Less || large.Compare(small) != Greater || small.Compare(small) != Equal {
		t.Fatal("not ordered as they should be")
	}
	if small.Min(large) != small || large.Min(small) != small {
		t.Error("minimum is not the smaller one")
	}
}

func TestTSpecUnstatedPacketSize(t *testing.T) {
	a, b := good(), good()
	b.MaxPacket = 0
	if got := a.Merge(b).MaxPacket; got != 1500 {
		t.Errorf("merge: M = %d", got)
	}
	if got := a.Add(b).MaxPacket; got != 0 {
		t.Errorf("sum: M = %d", got)
	}
	if !b.Covers(a) || a.Covers(b) {
		t.Error("no limit must order above a limit")
	}
}

// RFC 2205 section 3.11.6.
func TestTSpecLattice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := tspecs(t, "a"), tspecs(t, "b"), tspecs(t, "c")
		for name, op := range map[string]func(x, y TSpec) TSpec{
			"merge": TSpec.Merge, "least common": TSpec.LeastCommon, "add": TSpec.Add, "glb": TSpec.GLB,
		} {
			if op(a, b) != op(b, a) {
				t.Errorf("%s: order of two matters", name)
			}
			if op(op(a, b), c) != op(a, op(b, c)) {
				t.Errorf("%s: order of three matters", name)
			}
		}
		if a.Min(b) != b.Min(a) {
			t.Error("minimum: order matters")
		}
		if l := a.LeastCommon(b); !l.Covers(a) || !l.Covers(b) {
			t.Errorf("%v covers not both", l)
		}
		if g := a.GLB(b); !a.Covers(g) || !b.Covers(g) {
			t.Errorf("%v is not below both", g)
		}
		if a.Covers(c) && b.Covers(c) && !a.GLB(b).Covers(c) {
			t.Error("a lower bound above the greatest")
		}
		if a.Covers(b) && b.Covers(a) != (a == b) {
			t.Error("equal in order, but different")
		}
	})
}

func flow(s Service, t TSpec, r RSpec) FlowSpec { return FlowSpec{s, t, r} }

// TestFlowSpecMergeRFC2212: R is the largest, S the smallest.
func TestFlowSpecMergeRFC2212(t *testing.T) {
	a := flow(Guaranteed, good(), RSpec{2000, 500})
	b := flow(Guaranteed, good(), RSpec{3000, 900})
	got, err := a.Merge(b)
	if want := (RSpec{3000, 500}); err != nil || got.RSpec != want {
		t.Errorf("merge: %v, %v", got, err)
	}
	if got, err := a.GLB(b); err != nil || got.RSpec != (RSpec{2000, 900}) {
		t.Errorf("greatest lower bound: %v, %v", got, err)
	}
	if a.Compare(b) != Unordered {
		t.Error("more rate with more slack must be unordered")
	}
}

// TestFlowSpecServicesRFC2210Section2_2: services do not mix in a session.
func TestFlowSpecServicesRFC2210Section2_2(t *testing.T) {
	a := flow(Guaranteed, good(), RSpec{2000, 0})
	b := flow(ControlledLoad, good(), RSpec{})
	if _, err := a.Merge(b); !errors.Is(err, ErrServiceConflict) {
		t.Errorf("merge: %v", err)
	}
	if _, err := a.GLB(b); !errors.Is(err, ErrServiceConflict) {
		t.Errorf("GLB: %v", err)
	}
	if a.Covers(b) || a.StrictlyAbove(b) {
		t.Error("services were compared")
	}
}

func TestFlowSpecValidateRFC2212(t *testing.T) {
	for _, tc := range []struct {
		name string
		f    FlowSpec
		want error
	}{
		{"controlled load", flow(ControlledLoad, good(), RSpec{}), nil},
		{"guaranteed", flow(Guaranteed, good(), RSpec{1000, 0}), nil},
		{"R below r", flow(Guaranteed, good(), RSpec{999, 0}), ErrRange},
		{"R infinite", flow(Guaranteed, good(), RSpec{inf, 0}), ErrInfinite},
		{"general is no service", flow(General, good(), RSpec{}), ErrService},
		{"null service", flow(Null, TSpec{MaxPacket: 1500}, RSpec{}), nil},
		{"null service with a token bucket", flow(Null, good(), RSpec{}), ErrRange},
		{"null service without M", flow(Null, TSpec{}, RSpec{}), ErrRange},
		{"null service with R", flow(Null, TSpec{MaxPacket: 1500}, RSpec{1000, 0}), ErrRange},
		{"no service of ours", flow(7, good(), RSpec{}), ErrService},
	} {
		if err := tc.f.Validate(); !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

// TestFlowSpecInstalledRFC2210Section3_2_1: the installed m is the smallest of
// all even when the smaller TSpec has the larger one; R stays the receiver's.
func TestFlowSpecInstalledRFC2210Section3_2_1(t *testing.T) {
	f := flow(Guaranteed, TSpec{500, 3000, 5000, 100, 1500}, RSpec{4000, 7})
	got := f.Installed(good())
	if want := flow(Guaranteed, TSpec{500, 3000, 5000, 64, 1500}, RSpec{4000, 7}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if f.Installed(TSpec{}) != f {
		t.Error("nothing announced must leave the request")
	}
	cisco := flow(ControlledLoad, TSpec{6000, 6000, 6000, 0, 0}, RSpec{})
	got = cisco.Installed(TSpec{6000, 6000, 6000, 0, 0x7fffffff})
	if want := (TSpec{6000, 6000, 6000, 0, 0x7fffffff}); got.TSpec != want {
		t.Errorf("Cisco: %v, want %v", got.TSpec, want)
	}
}

// TestFlowSpecStrictlyAboveRFC2205Section3_5: equal in one component is not above.
func TestFlowSpecStrictlyAboveRFC2205Section3_5(t *testing.T) {
	a := flow(ControlledLoad, TSpec{2, 2, 2, 1, 9}, RSpec{})
	b := flow(ControlledLoad, TSpec{1, 1, 1, 1, 9}, RSpec{})
	if !a.StrictlyAbove(b) || b.StrictlyAbove(a) || a.StrictlyAbove(a) {
		t.Error("plain case")
	}
	b.TSpec.Bucket = 2
	if a.StrictlyAbove(b) {
		t.Error("equal bucket")
	}
	b.TSpec.Bucket, a.TSpec.Peak = 1, inf
	if !a.StrictlyAbove(b) || b.StrictlyAbove(a) {
		t.Error("one peak is not known")
	}
	b.TSpec.Peak = inf
	if !a.StrictlyAbove(b) || b.StrictlyAbove(a) || a.StrictlyAbove(a) {
		t.Error("no peak is known")
	}
}

func TestSum(t *testing.T) {
	if Sum() != (TSpec{}) || Sum(good()) != good() {
		t.Error("none or one")
	}
	if got := Sum(good(), good(), good()); got.Rate != 3000 || got.Bucket != 9000 || got.MinUnit != 64 {
		t.Errorf("three: %v", got)
	}
}

func TestBandwidthAndStrings(t *testing.T) {
	g := flow(Guaranteed, good(), RSpec{2000, 7})
	c := flow(ControlledLoad, good(), RSpec{})
	if g.Bandwidth() != 2000 || c.Bandwidth() != 1000 {
		t.Errorf("bandwidth %v, %v", g.Bandwidth(), c.Bandwidth())
	}
	for got, want := range map[string]string{
		g.String():          "guaranteed r=1000 b=3000 p=5000 m=64 M=1500 R=2000 S=7",
		c.String():          "controlled-load r=1000 b=3000 p=5000 m=64 M=1500",
		Unordered.String():  "unordered",
		Greater.String():    "greater",
		Service(9).String(): "service-9",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	g.RSpec.Rate = 1e6 / 3
	if w := g.Wire(); w == g || w.Wire() != w {
		t.Error("wire form is not stable")
	}
}

func TestServiceNames(t *testing.T) {
	for _, s := range []Service{Guaranteed, ControlledLoad} {
		if got, err := ParseService(s.String()); err != nil || got != s {
			t.Errorf("%v: %v, %v", s, got, err)
		}
	}
	if _, err := ParseService("general"); err == nil {
		t.Error("general is no service to ask for")
	}
}
