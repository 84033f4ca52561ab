package daemon

import (
	"slices"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// networkDriven is the mark that DCLASS asks for in the place of ours (RFC 2998
// section 3.2.2: network driven mapping). It may name several code points, in an order
// that means nothing (RFC 2996 section 2), such as the drop precedences of an AF
// class. If ours is one of them it is as good as any; else it is the lowest, which
// of an AF class is dropped last. Where there is a contract those that are in it come
// first. What a policy's reservations could not be marked with, nobody can ask for:
// best effort, network control, and what is given to traffic without a reservation.
func networkDriven(ours uint8, heard []uint8, contract []config.ServiceLevel, refused func(uint8) error) uint8 {
	heard = slices.DeleteFunc(slices.Clone(heard), func(c uint8) bool { return refused(c) != nil })
	sold := slices.DeleteFunc(slices.Clone(heard), func(c uint8) bool {
		return !slices.ContainsFunc(contract, func(l config.ServiceLevel) bool { return l.Class == c })
	})
	if len(sold) > 0 {
		heard = sold
	}
	if len(heard) == 0 || slices.Contains(heard, ours) {
		return ours
	}
	return slices.Min(heard)
}

// heeds is the interface whose DCLASS counts for packets that leave by it, and that a
// policy may have a mark for; nil: it does not count.
func (t *trafficControl) heeds(out int, p *config.Policy) *link {
	l := t.links().byIndex[out]
	over := t.config().Mapping.DClass
	switch {
	case l == nil, l.cfg.DClass == config.DClassDrop, over == config.DClassIgnore, over == config.DClassMapping && p != nil && p.Named:
		return nil
	default:
		return l
	}
}

// countForeign counts the code points that a request names in vain.
func (t *trafficControl) countForeign(r *softstate.Reserve) {
	if r.Aggregate != nil || t.heeds(int(r.Out), nil) == nil {
		return
	}
	for _, code := range r.DSCPs {
		if t.config().CheckMark(code) != nil {
			t.foreign.add()
		}
	}
}

// upstreamMark is what RESV tells upstream of how packets are to be marked that leave by an
// interface (RFC 2996 section 1.1).
func (t *trafficControl) upstreamMark(m softstate.Marking) (codes []uint8, ours bool) {
	l := t.links().byIndex[int(m.Out)]
	switch {
	case l == nil:
		return nil, false
	case l.cfg.DClass == config.DClassDrop:
		return nil, true
	case l.cfg.DClass == config.DClassPass, isAggregate(m.Session), m.Service == intserv.Null:
		return nil, false // an aggregate's packets are known by their mark
	}
	ask := softstate.Reserve{Session: m.Session, Out: m.Out, DSCPs: m.Heard}
	for _, key := range flowKeys(m.Session, m.Filters) {
		if code := t.code(&ask, m.Service, t.flows.policyOf(key)); !slices.Contains(codes, code) {
			codes = append(codes, code)
		}
	}
	return codes, true
}
