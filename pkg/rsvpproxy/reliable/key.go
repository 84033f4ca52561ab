package reliable

import (
	"net/netip"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// stateKey names the piece of state that a message is about: what orders
// messages (RFC 2961 section 4.5) and what a tear ends.
type stateKey struct {
	kind    wire.MsgType // Path or Resv
	session wire.Session // without flags
	filter  wire.Filter  // zero for a shared style
	// Of what we send where several neighbours get the same: which one.
	out softstate.IfIndex
	dst netip.Addr
}

// keys returns what m is about; nothing for a message that is no part of state.
func keys(m *wire.Message) []stateKey {
	s := m.Session.Key()
	switch m.Type {
	case wire.Path, wire.PathTear, wire.PathErr:
		if m.SenderTemplate == nil {
			return nil
		}
		return []stateKey{{kind: wire.Path, session: s, filter: *m.SenderTemplate}}
	case wire.Resv, wire.ResvTear, wire.ResvErr:
		if m.Style != wire.FF {
			return []stateKey{{kind: wire.Resv, session: s}}
		}
		var list []stateKey
		for i := range m.Flows {
			for _, f := range m.Flows[i].Filters {
				list = append(list, stateKey{kind: wire.Resv, session: s, filter: f})
			}
		}
		return list
	default:
		return nil
	}
}

// sentKey is the key of what is sent. PATH of a unicast session goes one way at a
// time: on another one it takes the place of that on the first. RESV may go to
// several previous hops (RFC 2205 section 3.1.3).
func sentKey(k stateKey, out softstate.IfIndex, dst netip.Addr) stateKey {
	switch {
	case k.kind == wire.Path && k.session.Dst.IsMulticast():
		k.out = out
	case k.kind == wire.Resv:
		k.out, k.dst = out, dst
	}
	return k
}

// neighborKey names a neighbour: its address on one of our interfaces.
type neighborKey struct {
	iface softstate.IfIndex
	addr  netip.Addr
}

// generator is the address that made a message's MESSAGE_ID (RFC 2961 section 4.5).
func generator(m *wire.Message, p Packet) netip.Addr {
	if m.Hop != nil {
		return m.Hop.Addr
	}
	return p.Src
}
