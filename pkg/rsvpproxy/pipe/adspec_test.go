package pipe

import (
	"testing"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// RFC 2746 section 4.2.2: a pipe is one hop with what its own ADSPEC has summed up,
// less what encapsulation takes of the MTU, and with the services that it has.
func TestHopRFC2746Section4_2_2(t *testing.T) {
	in := intserv.AdSpec{
		General:    intserv.Params{Set: intserv.AllParams, Hops: 3, Bandwidth: 1e5, Latency: 7, MTU: 9000},
		Guaranteed: &intserv.GuaranteedAd{Ctot: 100, Dtot: 20, Csum: 50, Dsum: 10},
	}
	h := hop(&in, 40, true)
	if h.MTU != 8960 || h.Bandwidth != 1e5 || h.Latency != 7 || !h.NonIS || h.ControlledLoad != nil || h.Guaranteed.C != 100 || h.Guaranteed.D != 20 {
		t.Errorf("%+v", h)
	}
}

// RFC 3175 section 1.4.5: of a way of which nothing is known too little is told rather
// than too much.
func TestAcrossTheUnknownRFC3175Section1_4_5(t *testing.T) {
	a := intserv.NewAdSpec(intserv.Hop{Bandwidth: 1e6, MTU: 1500, ControlledLoad: &intserv.ServiceHop{}})
	if out := Across(&a, nil, 0, false); !out.Break || a.Break || out.General.Hops != a.General.Hops {
		t.Errorf("%+v of %+v", out, a)
	}
	if out := Across(&a, &a, 0, false); out.Break || out.General.Hops != a.General.Hops+1 {
		t.Errorf("%+v of %+v", out, a)
	}
}
