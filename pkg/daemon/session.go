package daemon

import (
	"net/netip"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// sessionOf is the RSVP session and sender of a flow (RFC 2205 section 1.2).
func sessionOf(key packet.FlowKey) (wire.Session, wire.Filter) {
	return wire.Session{Dst: key.DstAddr(), Protocol: key.Proto, DstPort: key.DstPort},
		wire.Filter{Src: key.SrcAddr(), SrcPort: key.SrcPort}
}

// flowKey is the five-tuple that a session and a filter stand for. Other formats
// have no ports: what they say instead is not part of the data's addresses.
func flowKey(s wire.Session, f wire.Filter) packet.FlowKey {
	if s.Format != wire.FormatPorts {
		s.DstPort, f.SrcPort = 0, 0
	}
	return packet.MakeKey(s.Protocol, netip.AddrPortFrom(f.Src, f.SrcPort), netip.AddrPortFrom(s.Dst, s.DstPort))
}

func flowKeys(s wire.Session, filters []wire.Filter) []packet.FlowKey {
	keys := make([]packet.FlowKey, 0, len(filters))
	for _, f := range filters {
		keys = append(keys, flowKey(s, f))
	}
	return keys
}
