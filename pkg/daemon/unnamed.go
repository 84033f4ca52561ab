package daemon

import (
	"fmt"
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
// already. Their bandwidth is counted, so that nobody else is promised it; there
// is no class for a DSCP in this version, and so no bound on delays.
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
	default:
		return nil, nil
	}
}

// isAggregate tells sessions between routers, which no host answers.
func isAggregate(s wire.Session) bool {
	return s.Format == wire.FormatAggregate || s.Format == wire.FormatGenericAggregate
}
