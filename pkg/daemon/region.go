package daemon

import (
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// regionOf is what the configuration says of a region in the units of ADSPEC;
// nil: nothing.
func regionOf(c *config.Region) *intserv.Region {
	if c == nil {
		return nil
	}
	g := &intserv.Region{
		Hops: uint32(c.Hops), Bandwidth: float64(c.Bandwidth), MTU: uint32(c.MTU), Latency: intserv.IndeterminateLatency,
	}
	if c.Latency >= 0 {
		g.Latency = uint32(c.Latency.Microseconds())
	}
	if c.Guaranteed {
		g.Guaranteed = &intserv.GuaranteedHop{C: uint32(c.C), D: uint32(c.D.Microseconds())}
	}
	return g
}
