package daemon

import (
	"slices"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// code is the DSCP that a reserved flow is marked with: its policy's mark, or
// what its service is mapped to, unless those behind the interface that it leaves by
// ask for another. What is marked and what admission counts is the same one. In an
// aggregate it is the aggregate's, which was chosen before.
func (t *trafficControl) code(ask *softstate.Reserve, s intserv.Service, p *config.Policy) uint8 {
	ours := t.ownCode(s, p)
	if l := t.heeds(int(ask.Out), p); l != nil && ask.Aggregate == nil {
		return networkDriven(ours, ask.DSCPs, l.cfg.SLS, t.config().CheckMark)
	}
	return ours
}

// ownCode is the same for who does not ask the network.
func (t *trafficControl) ownCode(s intserv.Service, p *config.Policy) uint8 {
	switch {
	case p != nil && p.Marked:
		return p.DSCP
	case s == intserv.Guaranteed:
		return t.config().Mapping.Guaranteed
	default:
		return t.config().Mapping.ControlledLoad
	}
}

// levelsOf are the service levels that a reservation counts in: an aggregate's own
// DSCP, which its packets carry already (RFC 3175 section 1.4.1; RFC 3140 for those
// that name a PHB, but for one without a standard code point), or those that its
// flows are marked with. It is one, unless senders that share the reservation have
// different policies.
func (t *trafficControl) levelsOf(r *reservation) []uint8 {
	switch s := r.ask.Session; {
	case s.Format == wire.FormatAggregate:
		return []uint8{s.DSCP}
	case s.Format == wire.FormatGenericAggregate && s.PHB&1 == 0:
		return []uint8{uint8(s.PHB >> 10)}
	}
	service := r.ask.FlowSpec.Service
	if len(r.keys) == 0 {
		return []uint8{t.code(&r.ask, service, nil)}
	}
	var list []uint8
	for _, key := range r.keys {
		if code := t.code(&r.ask, service, t.flows.policyOf(key)); !slices.Contains(list, code) {
			list = append(list, code)
		}
	}
	return list
}

// relevel counts a reservation in other levels when its marks have changed by a
// reload. It is in force, so that it is not refused there: its packets are marked
// so from now on. t.mu is held.
func (t *trafficControl) relevel(r *reservation) {
	was := r.levels
	if r.levels = t.levelsOf(r); slices.Equal(r.levels, was) || r.spent {
		return
	}
	if err := t.admit.Hold(r.request(r.flow)); err != nil {
		r.levels = was
		t.log.Error("ledger not changed", zap.Uint64("reservation", r.id), zap.Error(err))
	}
}
