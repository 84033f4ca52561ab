package pipe

import "github.com/qosproxy/qosproxy/pkg/intserv"

// Across is an end-to-end ADSPEC behind a pipe whose own is inner: that of one hop
// (RFC 2746 section 4.2.2, RFC 3175 section 1.4.5). overhead is what the packets grow
// by in it, nonRSVP says that routers without RSVP are on its way. Without inner
// nothing is known of that way, and the break bit is set.
func Across(a, inner *intserv.AdSpec, overhead uint32, nonRSVP bool) *intserv.AdSpec {
	var out intserv.AdSpec
	if inner == nil {
		out = a.Clone()
		out.Break = true
	} else {
		out = a.Compose(hop(inner, overhead, nonRSVP))
	}
	return &out
}

// hop is a whole path as one hop.
func hop(a *intserv.AdSpec, overhead uint32, nonRSVP bool) intserv.Hop {
	mtu := a.General.MTU
	if mtu > overhead {
		mtu -= overhead
	}
	h := intserv.Hop{Bandwidth: a.General.Bandwidth, Latency: a.General.Latency, MTU: mtu, NonIS: nonRSVP || a.Break}
	if c := a.ControlledLoad; c != nil && !c.Break {
		h.ControlledLoad = &intserv.ServiceHop{Override: c.Override}
	}
	if g := a.Guaranteed; g != nil && !g.Break {
		h.Guaranteed = &intserv.GuaranteedHop{ServiceHop: intserv.ServiceHop{Override: g.Override}, C: g.Ctot, D: g.Dtot}
	}
	return h
}
