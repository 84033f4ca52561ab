package daemon

import (
	"fmt"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// keysOf are the flows that a reservation is for, as the kernel's table names
// them: by addresses and ports. None for what it cannot tell apart, and for the
// null service, which asks for no treatment (RFC 2997):
//
//   - Packets that an SPI names (RFC 2207) would need a class each. Where the
//     interface is shaped, and so every flow has to be put into its class, they are
//     refused; elsewhere there are no classes, and the reservation is counted.
//   - Aggregates (RFC 3175, RFC 4860 section 3.1) are named by a DSCP that their
//     packets carry already. Their bandwidth is counted, so that nobody else is promised it; there
//     is no class for a DSCP in this version, and so no bound on delays.
func (t *trafficControl) keysOf(r *softstate.Reserve) ([]packet.FlowKey, *softstate.Refusal) {
	l := t.links().byIndex[int(r.Out)]
	shaped := l != nil && l.cfg.Capacity > 0
	unsupported := func(format string, args ...any) ([]packet.FlowKey, *softstate.Refusal) {
		return nil, &softstate.Refusal{
			Code: wire.ErrTrafficControl, Value: wire.TCServiceUnsupported, Text: fmt.Sprintf(format, args...),
		}
	}
	switch format := r.Session.Format; {
	case r.FlowSpec.Service == intserv.Null:
		return nil, nil
	case format == wire.FormatPorts:
		return flowKeys(r.Session, r.Filters), nil
	case format == wire.FormatGPI && shaped:
		return unsupported("packets cannot be told apart by their SPI on a shaped interface in this version (%s)", l.Name)
	case r.FlowSpec.Service == intserv.Guaranteed && shaped:
		return unsupported("a delay bound needs a class, and there is none for an aggregate in this version (%s)", l.Name)
	default:
		return nil, nil
	}
}

// isAggregate tells sessions between routers, which no host answers.
func isAggregate(s wire.Session) bool {
	return s.Format == wire.FormatAggregate || s.Format == wire.FormatGenericAggregate
}
