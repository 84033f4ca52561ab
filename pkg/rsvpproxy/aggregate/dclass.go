package aggregate

import (
	"slices"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// offers looks at an end-to-end RESV to an aggregator: its DCLASS tells in which
// aggregate it rides (RFC 3175 section 2.5), and it waits for room there. What
// DCLASS the receiver has sent is for routers behind the region, and the aggregator
// takes out all there is.
func (t *Table) offers(s *softstate.Send) (drop bool) {
	x := t.leaving[s.Msg.Session.Key()]
	if x == nil {
		return false
	}
	if !x.by(s.Msg, s.Dst) {
		return true // its data come in by another aggregator now
	}
	for _, r := range pipe.InOrder(x.riders) {
		p := r.towards(s.Dst)
		if p == nil || s.Msg.Style != wire.WF && !about(s.Msg, r.filters) {
			continue
		}
		if (p.load == load{}) {
			r.unsent = true
			return true
		}
		m := withoutDClass(s.Msg)
		m.Unknown = append([]wire.Object{wire.DClass(p.e.key.dscp)}, m.Unknown...)
		s.Msg = m
		return false
	}
	return false
}

func about(m *wire.Message, filters []wire.Filter) bool {
	return slices.ContainsFunc(m.Flows, func(d wire.FlowDescriptor) bool {
		return slices.ContainsFunc(d.Filters, func(f wire.Filter) bool { return slices.Contains(filters, f) })
	})
}

// classOf is what DCLASS in a RESV says: for all of it, which is how we say it, or for its
// first flow. Where the object belongs is not written (RFC 2996).
func classOf(m *wire.Message) (dscp uint8, ok bool) {
	lists := [][]wire.Object{m.Unknown}
	for i := range m.Flows {
		lists = append(lists, m.Flows[i].Unknown)
	}
	for _, list := range lists {
		if dscps, err := wire.FindDClass(list); err == nil && len(dscps) > 0 {
			return dscps[0], true
		}
	}
	return 0, false
}

// unclass takes DCLASS out of a RESV that leaves the region upstream (RFC 3175
// Appendix 1 (9)): it was for us.
func (t *Table) unclass(s *softstate.Send) {
	if x := t.entering[s.Msg.Session.Key()]; x != nil && len(x.carried) > 0 {
		s.Msg = withoutDClass(s.Msg)
	}
}

// withoutDClass is a copy of a RESV that has none.
func withoutDClass(m *wire.Message) *wire.Message {
	strip := func(list []wire.Object) []wire.Object {
		return slices.DeleteFunc(slices.Clone(list), func(o wire.Object) bool { return o.Class == wire.ClassDClass })
	}
	out := *m
	out.Unknown, out.Flows = strip(m.Unknown), slices.Clone(m.Flows)
	for i := range out.Flows {
		out.Flows[i].Unknown = strip(out.Flows[i].Unknown)
	}
	return &out
}
