package intserv

// Region is a part of the path whose routers do not speak RSVP, but of which is
// known what they add: a DiffServ region between two edges
// (RFC 2998 section 4.2).
type Region struct {
	Hops       uint32
	Bandwidth  float64        // bytes/s; 0: no less than that of the hop before it
	Latency    uint32         // microseconds up to its other edge; IndeterminateLatency: not known
	MTU        uint32         // bytes; 0: no less than that of the hop before it
	Guaranteed *GuaranteedHop // nil: it does not offer the service
}

// Across is a hop with the region behind it: what RFC 2215 would compose of both.
func (h Hop) Across(r Region) Hop {
	h.More = addSat(h.More, r.Hops)
	if h.Latency == IndeterminateLatency {
		h.Latency = r.Latency // who knows the region knows the link before it, too
	} else {
		h.Latency = addSat(h.Latency, r.Latency)
	}
	if r.Bandwidth > 0 {
		h.Bandwidth = min(h.Bandwidth, r.Bandwidth) // zero, unknown, sticks
	}
	if r.MTU > 0 {
		h.MTU = min(h.MTU, r.MTU)
	}
	if h.Guaranteed == nil || r.Guaranteed == nil {
		h.Guaranteed = nil
		return h
	}
	g := *h.Guaranteed
	g.C, g.D = addSat(g.C, r.Guaranteed.C), addSat(g.D, r.Guaranteed.D)
	if r.Bandwidth > 0 && g.Override.Set&ParamBandwidth != 0 {
		g.Override.Bandwidth = min(g.Override.Bandwidth, r.Bandwidth)
	}
	h.Guaranteed = &g
	return h
}

func (h Hop) hops() uint32 { return min(addSat(1, h.More), maxHops) }
