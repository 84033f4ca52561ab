package intserv

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func hop() Hop {
	return Hop{
		Bandwidth: 1.25e6, Latency: 100, MTU: 1500, ControlledLoad: &ServiceHop{},
		Guaranteed: &GuaranteedHop{C: 1500, D: 1200},
	}
}

// RFC 2215 sections 3.2 and 3.5 among them.
func TestComposeRFC2215Section3(t *testing.T) {
	a := NewAdSpec(hop())
	second := hop()
	second.Bandwidth, second.Latency, second.MTU = 2.5e6, 20000, 1400
	got := a.Compose(second)
	want := AdSpec{
		General:        Params{Set: AllParams, Hops: 2, Bandwidth: 1.25e6, Latency: 20100, MTU: 1400},
		ControlledLoad: &ServiceAd{},
		Guaranteed:     &GuaranteedAd{Ctot: 3000, Csum: 3000, Dtot: 2400, Dsum: 2400},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !got.Equal(want) || got.Equal(a) {
		t.Error("Equal disagrees")
	}
	if a.General.Hops != 1 || a.Guaranteed.Ctot != 1500 {
		t.Error("the arriving ADSPEC was changed")
	}
}

// TestComposeLatencyRFC2215Section3_4: a sum above 2^32-2 is indeterminate, and
// indeterminate it stays.
func TestComposeLatencyRFC2215Section3_4(t *testing.T) {
	for _, tc := range []struct{ arrived, local, want uint32 }{
		{1, 2, 3},
		{math.MaxUint32 - 2, 1, math.MaxUint32 - 1},
		{math.MaxUint32 - 1, 1, IndeterminateLatency},
		{math.MaxUint32 - 1, 10, IndeterminateLatency},
		{IndeterminateLatency, 0, IndeterminateLatency},
		{5, IndeterminateLatency, IndeterminateLatency},
	} {
		h := hop()
		h.Latency = tc.arrived
		a := NewAdSpec(h)
		h.Latency = tc.local
		if got := a.Compose(h).General.Latency; got != tc.want {
			t.Errorf("%d + %d = %d, want %d", tc.arrived, tc.local, got, tc.want)
		}
	}
}

// TestComposeBandwidthRFC2215Section3_3: zero, unknown, is for the whole path.
func TestComposeBandwidthRFC2215Section3_3(t *testing.T) {
	h := hop()
	h.Bandwidth = 0
	if got := NewAdSpec(hop()).Compose(h).Compose(hop()).General.Bandwidth; got != 0 {
		t.Errorf("bandwidth %v", got)
	}
}

func TestComposeHopsSaturate(t *testing.T) {
	a := NewAdSpec(hop())
	a.General.Hops = maxHops
	if got := a.Compose(hop()).General.Hops; got != maxHops {
		t.Errorf("%d hops", got)
	}
}

// TestComposeBreakBitsRFC2210Section3_3: a service that the hop lacks gets its
// break bit, a gap in RSVP the global one, an unknown service always.
func TestComposeBreakBitsRFC2210Section3_3(t *testing.T) {
	a := NewAdSpec(hop())
	a.Unknown = []UnknownAd{{Service: 3, Body: []byte{1, 2, 3, 4}}, {Service: Null}}
	got := a.Compose(Hop{Bandwidth: 1, MTU: 1500, NonIS: true})
	if !got.Break || !got.ControlledLoad.Break || !got.Guaranteed.Break || !got.Unknown[0].Break || got.Unknown[1].Break {
		t.Errorf("break bits missing: %+v", got)
	}
	if d := cmp.Diff([]byte{1, 2, 3, 4}, got.Unknown[0].Body); d != "" {
		t.Error(d)
	}
	if a.Unknown[0].Break || a.ControlledLoad.Break {
		t.Error("the arriving ADSPEC was changed")
	}
	if again := got.Compose(hop()); !again.Break || !again.ControlledLoad.Break {
		t.Error("a break bit was cleared")
	}
	if _, ok := got.For(ControlledLoad); ok {
		t.Error("broken service is offered")
	}
}

// TestComposeAbsentRFC2210Section3_3_3: a fragment that is absent stays absent.
func TestComposeAbsentRFC2210Section3_3_3(t *testing.T) {
	a := NewAdSpec(Hop{Bandwidth: 1e6, MTU: 1500, ControlledLoad: &ServiceHop{}})
	got := a.Compose(hop())
	if got.Guaranteed != nil {
		t.Error("guaranteed service was added")
	}
	if _, ok := got.For(Guaranteed); ok {
		t.Error("absent service is offered")
	}
}

// TestComposeGuaranteedRFC2210Section3_3_3: an empty fragment is expanded with
// its break bit kept; reshaping restarts the sums.
func TestComposeGuaranteedRFC2210Section3_3_3(t *testing.T) {
	a := AdSpec{Guaranteed: &GuaranteedAd{Empty: true, ServiceAd: ServiceAd{Break: true}}}
	h := hop()
	g := a.Compose(h).Guaranteed
	if g.Empty || !g.Break || g.Ctot != 1500 || g.Dsum != 1200 {
		t.Errorf("expanded: %+v", g)
	}
	b := NewAdSpec(hop())
	h.Guaranteed.Reshapes = true
	if g := b.Compose(h).Guaranteed; g.Ctot != 3000 || g.Csum != 1500 || g.Dtot != 2400 || g.Dsum != 1200 {
		t.Errorf("reshaped: %+v", g)
	}
	b.Guaranteed.Ctot = math.MaxUint32
	if g := b.Compose(h).Guaranteed; g.Ctot != math.MaxUint32 {
		t.Errorf("Ctot wrapped to %d", g.Ctot)
	}
}

// TestComposeOverrideRFC2210Section3_3_5 walks the section's pseudo code: an
// override on either side meets the other's override, or its default.
func TestComposeOverrideRFC2210Section3_3_5(t *testing.T) {
	withOverride := func(bandwidth float64) Hop {
		h := hop()
		h.ControlledLoad = &ServiceHop{Override: Params{Set: ParamBandwidth, Bandwidth: bandwidth}}
		return h
	}
	for _, tc := range []struct {
		name          string
		first, second Hop
		want          Params
	}{
		{"none", hop(), hop(), Params{}},
		{"arrived against default", withOverride(2e6), hop(), Params{Set: ParamBandwidth, Bandwidth: 1.25e6}},
		{"arrived smaller", withOverride(1e6), hop(), Params{Set: ParamBandwidth, Bandwidth: 1e6}},
		{"local against arrived default", hop(), withOverride(5e5), Params{Set: ParamBandwidth, Bandwidth: 5e5}},
		{"both", withOverride(7e5), withOverride(9e5), Params{Set: ParamBandwidth, Bandwidth: 7e5}},
	} {
		got := NewAdSpec(tc.first).Compose(tc.second)
		if d := cmp.Diff(tc.want, got.ControlledLoad.Override); d != "" {
			t.Errorf("%s: %s", tc.name, d)
		}
	}
	got := NewAdSpec(hop()).Compose(withOverride(5e5))
	if p, ok := got.For(ControlledLoad); !ok || p.Bandwidth != 5e5 || p.MTU != 1500 || p.Hops != 2 {
		t.Errorf("For: %+v %v", p, ok)
	}
}

func TestAdSpecValidate(t *testing.T) {
	for _, tc := range []struct {
		bandwidth float64
		want      error
	}{
		{0, nil},
		{1e9, nil},
		{inf, ErrInfinite},
		{-1, ErrNegative},
		{math.Copysign(0, -1), ErrNegative},
		{math.NaN(), ErrNotANumber},
	} {
		a := NewAdSpec(hop())
		a.General.Bandwidth = tc.bandwidth
		if err := a.Validate(); !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%v: %v, want %v", tc.bandwidth, err, tc.want)
		}
	}
	a := NewAdSpec(hop())
	a.Guaranteed.Override = Params{Set: ParamBandwidth, Bandwidth: math.NaN()}
	if err := a.Validate(); !errors.Is(err, ErrNotANumber) {
		t.Errorf("override: %v", err)
	}
}

func TestAdSpecEqualAndClone(t *testing.T) {
	full := func() AdSpec {
		a := NewAdSpec(hop())
		a.Extra, a.Guaranteed.Extra, a.ControlledLoad.Extra = []byte{1}, []byte{2}, []byte{3}
		a.Unknown = []UnknownAd{{Service: 6, Body: []byte{4}}}
		return a
	}
	for name, edit := range map[string]func(*AdSpec){
		"break":           func(a *AdSpec) { a.Break = true },
		"general":         func(a *AdSpec) { a.General.MTU = 1 },
		"extra":           func(a *AdSpec) { a.Extra[0]++ },
		"no guaranteed":   func(a *AdSpec) { a.Guaranteed = nil },
		"Csum":            func(a *AdSpec) { a.Guaranteed.Csum++ },
		"guaranteed's":    func(a *AdSpec) { a.Guaranteed.Extra[0]++ },
		"no CL":           func(a *AdSpec) { a.ControlledLoad = nil },
		"CL break":        func(a *AdSpec) { a.ControlledLoad.Break = true },
		"CL's":            func(a *AdSpec) { a.ControlledLoad.Extra[0]++ },
		"unknown's":       func(a *AdSpec) { a.Unknown[0].Body[0]++ },
		"unknown's break": func(a *AdSpec) { a.Unknown[0].Break = true },
	} {
		a := full()
		c := a.Clone()
		edit(&c)
		if c.Equal(a) || a.Equal(c) {
			t.Errorf("%s: equal", name)
		}
		if !a.Equal(full()) {
			t.Errorf("%s: the clone shares it", name)
		}
	}
}

func TestOverrideOfAllParams(t *testing.T) {
	all := Params{Set: AllParams, Hops: 3, Bandwidth: 1, Latency: 2, MTU: 576}
	h := hop()
	h.Guaranteed.Override = all
	a := NewAdSpec(h)
	if p, ok := a.For(Guaranteed); !ok || p != all {
		t.Errorf("%+v %v", p, ok)
	}
	want := Params{Set: AllParams, Hops: 4, Bandwidth: 1, Latency: 102, MTU: 576}
	if got := a.Compose(hop()).Guaranteed.Override; got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// SamePath overlooks bandwidths, wherever they stand, and nothing else.
func TestSamePath(t *testing.T) {
	h := hop()
	h.ControlledLoad = &ServiceHop{Override: Params{Set: ParamBandwidth, Bandwidth: 7}}
	a := NewAdSpec(h)
	for name, change := range map[string]struct {
		f    func(*AdSpec)
		same bool
	}{
		"nothing":                   {func(*AdSpec) {}, true},
		"general bandwidth":         {func(o *AdSpec) { o.General.Bandwidth++ }, true},
		"guaranteed bandwidth":      {func(o *AdSpec) { o.Guaranteed.Override.Bandwidth++ }, true},
		"controlled-load bandwidth": {func(o *AdSpec) { o.ControlledLoad.Override.Bandwidth++ }, true},
		"MTU":                       {func(o *AdSpec) { o.General.MTU-- }, false},
		"Dtot":                      {func(o *AdSpec) { o.Guaranteed.Dtot++ }, false},
		"break bit":                 {func(o *AdSpec) { o.Break = !o.Break }, false},
		"no fragment":               {func(o *AdSpec) { o.ControlledLoad = nil }, false},
	} {
		o := a.Clone()
		change.f(&o)
		before := o.Clone()
		if got := a.SamePath(o); got != change.same || o.SamePath(a) != got {
			t.Errorf("%s: %v", name, got)
		}
		if !o.Equal(before) {
			t.Errorf("%s: the ADSPEC was changed", name)
		}
	}
}
