package intserv

import (
	"cmp"
	"fmt"
	"math"
)

// Hop is what one network element contributes to an ADSPEC: the local values
// of its outgoing interface.
type Hop struct {
	Bandwidth      float64        // bytes/s; 0: not told
	Latency        uint32         // microseconds; IndeterminateLatency: not known
	MTU            uint32         // bytes
	NonIS          bool           // a hop without RSVP was crossed to get here (RFC 2205 section 3.8)
	More           uint32         // hops that it stands for besides itself, see Across
	ControlledLoad *ServiceHop    // nil: not offered
	Guaranteed     *GuaranteedHop // nil: not offered
}

// ServiceHop is what a hop tells about one service: values that differ from the
// general ones.
type ServiceHop struct {
	Override Params
}

// GuaranteedHop is a hop's contribution to guaranteed service (RFC 2212,
// Exported Information).
type GuaranteedHop struct {
	ServiceHop
	C        uint32 // rate-dependent error term, bytes
	D        uint32 // rate-independent error term, microseconds
	Reshapes bool   // flows are reshaped here: Csum and Dsum begin anew
}

// maxHops is the largest count of a 16-bit field (RFC 2210 section 3.3.2).
const maxHops = 1<<16 - 1

// NewAdSpec returns the ADSPEC that a PATH carries out of the first hop, with
// the fragments of the services the hop offers (RFC 2210 section 3.3.3: the
// creator sets its local values).
func NewAdSpec(h Hop) AdSpec {
	a := AdSpec{
		Break:   h.NonIS,
		General: Params{Set: AllParams, Hops: h.hops(), Bandwidth: h.Bandwidth, Latency: h.Latency, MTU: h.MTU},
	}
	if h.ControlledLoad != nil {
		a.ControlledLoad = &ServiceAd{Override: h.ControlledLoad.Override}
	}
	if g := h.Guaranteed; g != nil {
		a.Guaranteed = &GuaranteedAd{
			ServiceAd: ServiceAd{Override: g.Override},
			Ctot:      g.C, Csum: g.C, Dtot: g.D, Dsum: g.D,
		}
	}
	return a
}

// Compose returns the ADSPEC as it leaves hop h, having arrived as a (RFC 2210
// section 3.3.5, the composition rules of RFC 2215). a is not changed.
func (a AdSpec) Compose(h Hop) AdSpec {
	arrived := a.General
	local := Params{Set: AllParams, Hops: h.hops(), Bandwidth: h.Bandwidth, Latency: h.Latency, MTU: h.MTU}

	out := a.Clone()
	out.Break = a.Break || h.NonIS
	out.General = compose(arrived, local)
	if c := out.ControlledLoad; c != nil {
		if h.ControlledLoad == nil {
			c.Break = true
		} else {
			c.Override = override(c.Override, arrived, h.ControlledLoad.Override, local)
		}
	}
	if g := out.Guaranteed; g != nil {
		if h.Guaranteed == nil {
			g.Break = true
		} else {
			g.compose(*h.Guaranteed)
			g.Override = override(g.Override, arrived, h.Guaranteed.Override, local)
		}
	}
	for i := range out.Unknown {
		// The null service has nothing that a hop could fail to offer (RFC 2997).
		out.Unknown[i].Break = out.Unknown[i].Break || out.Unknown[i].Service != Null
	}
	return out
}

func (g *GuaranteedAd) compose(h GuaranteedHop) {
	g.Empty = false // an empty fragment is expanded, its break bit stays
	g.Ctot, g.Dtot = addSat(g.Ctot, h.C), addSat(g.Dtot, h.D)
	if h.Reshapes {
		g.Csum, g.Dsum = 0, 0
	}
	g.Csum, g.Dsum = addSat(g.Csum, h.C), addSat(g.Dsum, h.D)
}

// compose applies RFC 2215's rules to what is set on the arriving side.
func compose(arrived, local Params) Params {
	out := Params{Set: arrived.Set}
	if out.Set&ParamHops != 0 {
		out.Hops = min(addSat(arrived.Hops, local.Hops), maxHops)
	}
	if out.Set&ParamBandwidth != 0 {
		out.Bandwidth = min(arrived.Bandwidth, local.Bandwidth) // zero, unknown, sticks
	}
	if out.Set&ParamLatency != 0 {
		out.Latency = addSat(arrived.Latency, local.Latency) // indeterminate sticks
	}
	if out.Set&ParamMTU != 0 {
		out.MTU = min(arrived.MTU, local.MTU)
	}
	return out
}

// override composes service-specific values: on either side the service's own
// value counts where there is one, the general value where not.
func override(arrived, general, ours, local Params) Params {
	set := arrived.Set | ours.Set
	if set == 0 {
		return arrived
	}
	a := pick(arrived, general)
	a.Set = set
	return compose(a, pick(ours, local))
}

// pick takes from special what it sets, and the rest from general.
func pick(special, general Params) Params {
	out := general
	if special.Set&ParamHops != 0 {
		out.Hops = special.Hops
	}
	if special.Set&ParamBandwidth != 0 {
		out.Bandwidth = special.Bandwidth
	}
	if special.Set&ParamLatency != 0 {
		out.Latency = special.Latency
	}
	if special.Set&ParamMTU != 0 {
		out.MTU = special.MTU
	}
	return out
}

// For returns the parameters that hold for service s: the general ones with
// the service's own on top. ok is false when s must not be asked for: no
// fragment, or broken somewhere on the path.
func (a AdSpec) For(s Service) (p Params, ok bool) {
	switch {
	case s == ControlledLoad && a.ControlledLoad != nil:
		return pick(a.ControlledLoad.Override, a.General), !a.ControlledLoad.Break
	case s == Guaranteed && a.Guaranteed != nil:
		return pick(a.Guaranteed.Override, a.General), !a.Guaranteed.Break && !a.Guaranteed.Empty
	}
	return a.General, false
}

// Validate refuses bandwidths that are no numbers (RFC 2215 section 3.3).
func (a AdSpec) Validate() error {
	err := checkBandwidth("path bandwidth", a.General)
	if a.ControlledLoad != nil {
		err = cmp.Or(err, checkBandwidth("controlled-load path bandwidth", a.ControlledLoad.Override))
	}
	if a.Guaranteed != nil {
		err = cmp.Or(err, checkBandwidth("guaranteed path bandwidth", a.Guaranteed.Override))
	}
	return err
}

func checkBandwidth(name string, p Params) error {
	v := p.Bandwidth
	switch {
	case p.Set&ParamBandwidth == 0:
		return nil
	case math.IsNaN(v):
		return fmt.Errorf("%s: %w", name, ErrNotANumber)
	case math.Signbit(v):
		return fmt.Errorf("%s: %g: %w", name, v, ErrNegative)
	case math.IsInf(v, 1):
		return fmt.Errorf("%s: %w", name, ErrInfinite)
	}
	return nil
}

// addSat adds with a clamp at 2^32-1 (RFC 2212, RFC 2215 section 3.4).
func addSat(a, b uint32) uint32 {
	if s := a + b; s >= a {
		return s
	}
	return math.MaxUint32
}
