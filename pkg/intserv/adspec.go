package intserv

import (
	"bytes"
	"slices"
)

// Param is a set of general characterization parameters.
type Param uint8

// The members of a Param set; in brackets the composed parameter's number on
// the wire (RFC 2215 section 3).
const (
	ParamHops      Param = 1 << iota // NUMBER_OF_IS_HOPS (4)
	ParamBandwidth                   // AVAILABLE_PATH_BANDWIDTH (6)
	ParamLatency                     // MINIMUM_PATH_LATENCY (8)
	ParamMTU                         // PATH_MTU (10)

	AllParams = ParamHops | ParamBandwidth | ParamLatency | ParamMTU
)

// IndeterminateLatency is the latency that nobody knows (RFC 2215 section 3.4).
const IndeterminateLatency = 1<<32 - 1

// Params are general characterization parameters (RFC 2215 section 3). In an
// override only those in Set count.
type Params struct {
	Set       Param
	Hops      uint32  // integrated-services hops
	Bandwidth float64 // bytes/s; 0: unknown
	Latency   uint32  // microseconds; IndeterminateLatency: unknown
	MTU       uint32  // bytes
}

// ServiceAd is what an ADSPEC tells about one service.
type ServiceAd struct {
	Break    bool   // some hop does not have the service
	Override Params // values that replace the general ones (RFC 2210 section 3.3.5)
	Extra    []byte // parameters not understood, as they came
}

// GuaranteedAd is the guaranteed-service fragment (RFC 2210 section 3.3.3).
type GuaranteedAd struct {
	ServiceAd
	Empty      bool   // header only: no hop that has the service was met yet
	Ctot, Csum uint32 // bytes; since the sender, since the last reshaping
	Dtot, Dsum uint32 // microseconds
}

// UnknownAd is the fragment of a service not known here. Only its break bit
// may be touched.
type UnknownAd struct {
	Service Service
	Break   bool
	Body    []byte
}

// AdSpec is what the path advertises about itself in PATH messages (RFC 2210
// section 3.3). A nil fragment means that the service must not be asked for.
type AdSpec struct {
	Break          bool // some hop knows no integrated services: all below is unreliable
	General        Params
	Extra          []byte // general parameters not understood, as they came
	Guaranteed     *GuaranteedAd
	ControlledLoad *ServiceAd
	Unknown        []UnknownAd // ascending service number
}

// Clone returns a copy that shares nothing with a.
func (a AdSpec) Clone() AdSpec {
	a.Extra = slices.Clone(a.Extra)
	if a.Guaranteed != nil {
		g := *a.Guaranteed
		g.Extra = slices.Clone(g.Extra)
		a.Guaranteed = &g
	}
	if a.ControlledLoad != nil {
		c := *a.ControlledLoad
		c.Extra = slices.Clone(c.Extra)
		a.ControlledLoad = &c
	}
	a.Unknown = slices.Clone(a.Unknown)
	for i := range a.Unknown {
		a.Unknown[i].Body = slices.Clone(a.Unknown[i].Body)
	}
	return a
}

// Equal says whether a and o tell the same.
func (a AdSpec) Equal(o AdSpec) bool {
	return a.Break == o.Break && a.General == o.General && bytes.Equal(a.Extra, o.Extra) &&
		a.Guaranteed.equal(o.Guaranteed) && a.ControlledLoad.equal(o.ControlledLoad) &&
		slices.EqualFunc(a.Unknown, o.Unknown, func(x, y UnknownAd) bool {
			return x.Service == y.Service && x.Break == y.Break && bytes.Equal(x.Body, y.Body)
		})
}

// SamePath says whether a and o tell the same but for the bandwidth, which
// changes with the load of the path and not with the path.
func (a AdSpec) SamePath(o AdSpec) bool { return a.Equal(o) || a.unloaded().Equal(o.unloaded()) }

// unloaded is a without bandwidths, for comparison.
func (a AdSpec) unloaded() AdSpec {
	a.General.Bandwidth = 0
	if a.Guaranteed != nil {
		g := *a.Guaranteed
		g.Override.Bandwidth = 0
		a.Guaranteed = &g
	}
	if a.ControlledLoad != nil {
		c := *a.ControlledLoad
		c.Override.Bandwidth = 0
		a.ControlledLoad = &c
	}
	return a
}

func (s *ServiceAd) equal(o *ServiceAd) bool {
	if s == nil || o == nil {
		return s == o
	}
	return s.Break == o.Break && s.Override == o.Override && bytes.Equal(s.Extra, o.Extra)
}

func (g *GuaranteedAd) equal(o *GuaranteedAd) bool {
	if g == nil || o == nil {
		return g == o
	}
	return g.Empty == o.Empty && g.Ctot == o.Ctot && g.Csum == o.Csum && g.Dtot == o.Dtot &&
		g.Dsum == o.Dsum && g.ServiceAd.equal(&o.ServiceAd)
}
