package daemon

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// keysOf are the flows that a reservation is for, as the kernel's table names
// them: by addresses and ports, or by addresses and SPI (RFC 2207). None for the
// null service, which asks for no treatment (RFC 2997), and for aggregates (RFC
// 3175, RFC 4860 section 3.1), which are named by a DSCP that their packets carry
// already. Their bandwidth is counted, so that nobody else is promised it. Where
// packets are classified by DSCP the class of theirs is as large as all of them (RFC
// 3175 section 1.4.1), by way of a key that is no packet's. There is no bound on
// delays in such a class.
func (t *trafficControl) keysOf(r *softstate.Reserve) ([]packet.FlowKey, *softstate.Refusal) {
	l := t.links().byIndex[int(r.Out)]
	shaped := l != nil && l.cfg.Capacity > 0
	switch format := r.Session.Format; {
	case r.FlowSpec.Service == intserv.Null:
		return nil, nil
	case format == wire.FormatGPI && slices.ContainsFunc(r.Filters, func(f wire.Filter) bool { return f.SPI == 0 }):
		// It would stand for all IPsec between the two hosts.
		return nil, &softstate.Refusal{
			Code: wire.ErrTrafficControl, Value: wire.TCServiceUnsupported, Text: "no packet has SPI 0 (RFC 4303 section 2.1)",
		}
	case format == wire.FormatPorts, format == wire.FormatGPI:
		return flowKeys(r.Session, r.Filters), nil
	case r.FlowSpec.Service == intserv.Guaranteed && shaped && r.Role != softstate.SenderProxy:
		// Where it begins, each flow in it has a class of its own.
		return nil, &softstate.Refusal{
			Code: wire.ErrTrafficControl, Value: wire.TCServiceUnsupported,
			Text: fmt.Sprintf("a delay bound needs a class, and there is none for an aggregate in this version (%s)", l.Name),
		}
	case l != nil && t.byDSCP(l.Name) && len(r.Filters) > 0:
		return []packet.FlowKey{aggregateKey(r)}, nil
	default:
		return nil, nil
	}
}

// isAggregate tells sessions between routers, which no host answers.
func isAggregate(s wire.Session) bool {
	return s.Format == wire.FormatAggregate || s.Format == wire.FormatGenericAggregate
}

// protoNone is the protocol of no packet (IANA: reserved).
const protoNone = 255

// aggregateKey stands for an aggregate in the tables of flows.
func aggregateKey(r *softstate.Reserve) packet.FlowKey {
	port := uint16(r.Session.DSCP)
	if r.Session.Format == wire.FormatGenericAggregate {
		port = r.Session.PHB
	}
	return packet.MakeKey(protoNone, netip.AddrPortFrom(r.Filters[0].Src, r.Session.DstPort), netip.AddrPortFrom(r.Session.Dst, port))
}
