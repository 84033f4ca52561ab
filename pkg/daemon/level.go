package daemon

import (
	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// code is the DSCP that a reserved flow is marked with: its policy's mark, or
// what its service is mapped to. What is marked and what admission counts is the
// same one.
func (t *trafficControl) code(s intserv.Service, p *config.Policy) uint8 {
	switch {
	case p != nil && p.Marked:
		return p.DSCP
	case s == intserv.Guaranteed:
		return t.config().Mapping.Guaranteed
	default:
		return t.config().Mapping.ControlledLoad
	}
}

// levelOf is the service level that a reservation counts in: an aggregate's own
// DSCP, which its packets carry already (RFC 3175 section 1.4.1; RFC 3140 for those
// that name a PHB, but for one without a standard code point), or the one that its flow is marked with. Of
// several senders that share it, the first says.
func (t *trafficControl) levelOf(r *reservation) uint8 {
	switch s := r.ask.Session; {
	case s.Format == wire.FormatAggregate:
		return s.DSCP
	case s.Format == wire.FormatGenericAggregate && s.PHB&1 == 0:
		return uint8(s.PHB >> 10)
	}
	if len(r.keys) == 0 {
		return t.code(r.ask.FlowSpec.Service, nil)
	}
	return t.code(r.ask.FlowSpec.Service, t.flows.policyOf(r.keys[0]))
}

// relevel counts a reservation in another level when its mark has changed by a
// reload. It is in force, so that it is not refused there: its packets are marked
// so from now on. t.mu is held.
func (t *trafficControl) relevel(r *reservation) {
	was := r.level
	if r.level = t.levelOf(r); r.level == was {
		return
	}
	if err := t.admit.Hold(r.request(r.flow)); err != nil {
		r.level = was
		t.log.Error("ledger not changed", zap.Uint64("reservation", r.id), zap.Error(err))
	}
}
