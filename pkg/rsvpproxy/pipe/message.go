package pipe

import (
	"net/netip"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Upstream is a message of a session that ends here to its previous hop, by our
// address towards that. A pipe has one sender, and fixed filter style.
func Upstream(typ wire.MsgType, s wire.Session, f wire.Filter, from netip.Addr, hop wire.Hop) *wire.Message {
	return &wire.Message{
		Type: typ, Session: s, Style: wire.FF, Hop: &wire.Hop{Addr: from, LIH: hop.LIH},
		Flows: []wire.FlowDescriptor{{Filters: []wire.Filter{f}}},
	}
}

// To sends a message that begins here.
func To(out softstate.IfIndex, src, dst netip.Addr, m *wire.Message) Send {
	m.SendTTL = softstate.DefaultTTL
	return Send{Send: softstate.Send{Out: out, Src: src, Dst: dst, TTL: softstate.DefaultTTL, RouterAlert: m.Type.NeedsRouterAlert(), Msg: m}}
}
