package intserv

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// RFC 2998 section 4.2: what a region without RSVP adds is exported by the edge
// before it, as RFC 2215 composes it.
func TestAcrossRFC2998Section4_2(t *testing.T) {
	edge := Hop{
		Bandwidth: 2e6, Latency: IndeterminateLatency, MTU: 1500, ControlledLoad: &ServiceHop{},
		Guaranteed: &GuaranteedHop{ServiceHop: ServiceHop{Override: Params{Set: ParamBandwidth, Bandwidth: 1.5e6}}, C: 1, D: 11_000},
	}
	region := Region{Hops: 3, Bandwidth: 1e6, Latency: 20_000, MTU: 1400, Guaranteed: &GuaranteedHop{C: 1500, D: 1000}}
	got := NewAdSpec(Hop{Bandwidth: 1e7, Latency: 5000, MTU: 9000, ControlledLoad: &ServiceHop{}, Guaranteed: &GuaranteedHop{C: 10, D: 20}}).
		Compose(edge.Across(region))
	want := AdSpec{
		General:        Params{Set: AllParams, Hops: 5, Bandwidth: 1e6, Latency: 25_000, MTU: 1400},
		ControlledLoad: &ServiceAd{},
		Guaranteed: &GuaranteedAd{
			ServiceAd: ServiceAd{Override: Params{Set: ParamBandwidth, Bandwidth: 1e6}},
			Ctot:      1511, Csum: 1511, Dtot: 12_020, Dsum: 12_020,
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if edge.Guaranteed.C != 1 {
		t.Error("the edge's own hop was changed")
	}
	// Nothing is told of what is not known, and the services that are not known to
	// go through end here.
	if got := edge.Across(Region{Latency: IndeterminateLatency}); got.Guaranteed != nil || got.ControlledLoad == nil ||
		got.Bandwidth != 2e6 || got.MTU != 1500 || got.Latency != IndeterminateLatency || got.hops() != 1 {
		t.Errorf("%+v", got)
	}
	if got := (Hop{}).Across(region); got.Bandwidth != 0 || got.Guaranteed != nil {
		t.Errorf("an unknown bandwidth became a known one: %+v", got)
	}
	if got := (Hop{More: maxHops}).Across(region); got.hops() != maxHops {
		t.Errorf("%d hops", got.hops())
	}
}
