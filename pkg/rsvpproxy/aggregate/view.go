package aggregate

import (
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// View is what there is to see of an aggregate.
type View struct {
	Session wire.Session
	Sender  wire.Filter
	Iface   softstate.IfIndex // inside
	// Ends: here, else it begins here.
	Ends bool
	// Path: the deaggregator has PATH of it.
	Path  bool
	Hop   wire.Hop      // previous, of one that ends here
	TSpec intserv.TSpec // that PATH announces
	// FlowSpec is what is in place, and Asked what is asked for; nil: nothing. Of one
	// that begins here they are the same.
	FlowSpec, Asked *intserv.FlowSpec
	Flows           int     // reservations that ride in it
	Waiting         int     // ... and that wait for room
	Used            float64 // by them, in bytes/s
	Age             time.Duration
}

// Views lists all aggregates that begin or end here.
func (t *Table) Views(now time.Time) []View {
	list := make([]View, 0, len(t.begin)+len(t.end))
	for _, b := range inKeyOrder(t.begin) {
		v := View{
			Session: b.session, Sender: b.sender, Iface: b.key.iface, Path: true, TSpec: b.announced,
			FlowSpec: b.installed, Asked: b.installed, Used: b.used.bandwidth, Flows: b.used.flows, Age: now.Sub(b.since),
		}
		v.Waiting = len(b.held)
		list = append(list, v)
	}
	for _, e := range inKeyOrder(t.end) {
		v := View{
			Session: e.session, Sender: e.sender, Iface: e.key.iface, Ends: true, Path: e.here, Hop: e.hop, TSpec: e.tspec,
			FlowSpec: e.have, Asked: e.asked, Used: e.used.bandwidth, Flows: e.used.flows, Age: now.Sub(e.since),
		}
		if !e.here {
			v.Session = wire.Session{Format: wire.FormatAggregate, Dst: t.net.AddrTowards(e.key.iface, e.key.far), DSCP: e.key.dscp}
		}
		v.Waiting = len(e.waiting)
		list = append(list, v)
	}
	return list
}

// Riding names the aggregates that a sender's reservation is in: the one that ends
// here, or the one that begins here, whichever there is.
func (t *Table) Riding(s wire.Session, f wire.Filter) (session wire.Session, sender wire.Filter, ok bool) {
	k := s.Key()
	if x := t.entering[k]; x != nil {
		for _, c := range x.carried {
			if (c.granted != load{}) && slices.Contains(c.filters, f) {
				return c.b.session, c.b.sender, true
			}
		}
	}
	if x := t.leaving[k]; x != nil && x.ways[f] != nil {
		for _, r := range x.riders {
			if p := r.towards(x.ways[f].src); p != nil && slices.Contains(r.filters, f) && (p.load != load{}) && p.e.here {
				return p.e.session, p.e.sender, true
			}
		}
	}
	return wire.Session{}, wire.Filter{}, false
}
