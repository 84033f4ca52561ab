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

// flowKey is the flow that a session and a filter stand for: by its five-tuple,
// or with the flow label for the source port (RFC 2205 Appendix A.9), or by its
// SPI, where the session's port is virtual (RFC 2207 section 3). Aggregates are
// not told apart by their packets' headers beyond the addresses.
func flowKey(s wire.Session, f wire.Filter) packet.FlowKey {
	switch s.Format {
	case wire.FormatPorts:
		if f.Format == wire.FormatFlowLabel {
			key := packet.MakeKey(s.Protocol, netip.AddrPortFrom(f.Src, 0), netip.AddrPortFrom(s.Dst, s.DstPort))
			key.Label = f.Label
			return key
		}
		if s.Protocol == packet.ProtoESP || s.Protocol == packet.ProtoAH {
			s.DstPort, f.SrcPort = 0, 0 // they have none, and an SPI stands in their place
		}
	case wire.FormatGPI:
		return packet.SPIKey(s.Protocol, f.Src, s.Dst, f.SPI)
	default:
		s.DstPort, f.SrcPort = 0, 0
	}
	return packet.MakeKey(s.Protocol, netip.AddrPortFrom(f.Src, f.SrcPort), netip.AddrPortFrom(s.Dst, s.DstPort))
}

// matchKey is the same as policies see it: what has no ports has none, whatever
// stands in their place.
func matchKey(s wire.Session, f wire.Filter) packet.FlowKey {
	key := flowKey(s, f)
	if key.SPI() != 0 {
		key.SrcPort, key.DstPort = 0, 0
	}
	key.Label = 0
	return key
}

func flowKeys(s wire.Session, filters []wire.Filter) []packet.FlowKey {
	keys := make([]packet.FlowKey, 0, len(filters))
	for _, f := range filters {
		keys = append(keys, flowKey(s, f))
	}
	return keys
}
