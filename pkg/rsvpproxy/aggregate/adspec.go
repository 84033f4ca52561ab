package aggregate

import (
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// fromHere is the PATH of an aggregate that begins here, without what our own
// interface adds up to: the PATHs of the sessions that it carries tell of that, as
// they were sent by an RSVP router that does not aggregate (RFC 3175 section 2.1), and
// nothing is to be counted twice at the far edge. What is a minimum stays.
func fromHere(m *wire.Message) *wire.Message {
	if m.AdSpec == nil {
		return m
	}
	out, a := *m, m.AdSpec.Clone()
	a.General.Hops, a.General.Latency = 0, 0
	if g := a.Guaranteed; g != nil {
		g.Ctot, g.Csum, g.Dtot, g.Dsum = 0, 0, 0, 0
	}
	out.AdSpec = &a
	return &out
}

// across is an end-to-end ADSPEC behind the region (RFC 3175 sections 1.4.5 and
// 2.3). Without an aggregate nothing is known of the region, and too little is better
// told than too much.
func across(m *wire.Message, e *end) *wire.Message {
	if m.AdSpec == nil {
		return m
	}
	var inner *intserv.AdSpec
	if e != nil && e.here {
		inner = e.adspec
	}
	out := *m
	out.AdSpec = pipe.Across(m.AdSpec, inner, 0, e != nil && e.nonRSVP)
	if inner != nil { // it is no single hop
		out.AdSpec.General.Hops = min(m.AdSpec.General.Hops+inner.General.Hops, 1<<16-1)
	}
	return &out
}
