package daemon

import (
	"math"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/aggregate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// interior is what an interface is for aggregation (RFC 3175); nil: nothing.
func (k *link) interior() *aggregate.Interior {
	a := k.cfg.Aggregate
	if a == nil {
		return nil
	}
	return &aggregate.Interior{
		Name: k.Name, Iface: softstate.IfIndex(k.Index), Most: float64(a.Most), MTU: uint32(min(max(k.MTU, 0), math.MaxUint16)),
		Size: aggregate.Size{Step: float64(a.Step), High: a.High, Low: a.Low, Hold: a.Hold},
	}
}

// mapping is which aggregate a sender's packets are in (RFC 3175 section 1.4.3): that
// of the DSCP which they would be marked with here, by the policy that claims them or
// by the service. What service will be asked for is not known before RESV, but by the
// policy that will ask.
func (t *trafficControl) mapping(s wire.Session, f wire.Filter, service intserv.Service) uint8 {
	p := t.flows.policyOf(matchKey(s, f))
	if service == 0 && p != nil && p.Reserve != nil {
		service = serviceOf(p.Reserve.Service)
	}
	return t.ownCode(service, p)
}

// grantedPriority is what policy grants of the priority that a reservation asks for,
// which its aggregate has then too (RFC 3181): nothing if it would be refused.
func (t *trafficControl) grantedPriority(ask softstate.Reserve) softstate.Priority {
	now := &reservation{id: ask.ID, iface: t.links().name(int(ask.Out)), ask: ask}
	p := t.admit.Granted(admission.Request{
		Link: now.iface, FlowSpec: ask.FlowSpec, Senders: ask.SenderTSpec, Asker: t.asker(now),
		Priority: admission.Priority{Setup: ask.Priority.Preempting, Hold: ask.Priority.Defending},
	})
	return softstate.Priority{Preempting: p.Setup, Defending: p.Hold}
}

// aggregateRef names an aggregate for the API.
func aggregateRef(r rsvpproxy.Riding) *console.AggregateRef {
	return &console.AggregateRef{
		Src: r.Sender.Src.String(), Dst: r.Session.Dst.String(), DSCP: r.Session.DSCP, PHB: dscp.Name(r.Session.DSCP),
	}
}

// carries is what an aggregate has in it.
func carries(v *aggregate.View) *console.Carries {
	c := &console.Carries{Reservations: v.Flows, Waiting: v.Waiting, UsedBPS: uint64(v.Used * 8)}
	if f := v.FlowSpec; f != nil {
		c.ReservedBPS = uint64(f.Bandwidth() * 8)
	}
	if f := v.Asked; f != nil {
		c.AskedBPS = uint64(f.Bandwidth() * 8)
	}
	return c
}

// withAggregates completes the rows of sessions: those that begin here are rows of the
// machine already, those that end here are not in it.
func (d *Daemon) withAggregates(rows []console.SessionRow, v *rsvpproxy.View) []console.SessionRow {
	begin := map[rsvpproxy.Riding]*aggregate.View{}
	for i := range v.Aggregates {
		a := &v.Aggregates[i]
		if a.Ends {
			rows = append(rows, d.endRow(a))
		} else {
			begin[rsvpproxy.Riding{Session: a.Session, Sender: a.Sender}] = a
		}
	}
	for i := range v.Sessions {
		me := rsvpproxy.Riding{Session: v.Sessions[i].Session, Sender: v.Sessions[i].Sender}
		if a := begin[me]; a != nil {
			rows[i].Carries = carries(a)
		}
		if in, ok := v.Riding[me]; ok {
			rows[i].Aggregate = aggregateRef(in)
		}
	}
	return rows
}

// endRow is an aggregate that ends here, as a session whose receiver this box is.
func (d *Daemon) endRow(a *aggregate.View) console.SessionRow {
	row := console.SessionRow{
		Dst: a.Session.Dst.String(), Src: a.Sender.Src.String(), Format: wire.FormatAggregate.String(), Role: softstate.ReceiverProxy.String(),
		Interface: d.links.Load().name(int(a.Iface)), DSCP: a.Session.DSCP, PHB: dscp.Name(a.Session.DSCP),
		State: console.SessionInactive, AgeS: seconds(a.Age), Carries: carries(a),
	}
	if a.Path {
		row.State, row.TSpec, row.PrevHop = console.SessionPath, consoleTSpec(a.TSpec), hostText(a.Hop.Addr)
	}
	f := a.FlowSpec
	if f == nil {
		f = a.Asked
	}
	if f != nil {
		row.Style, row.Service, row.FlowSpec = "ff", f.Service.String(), consoleFlowSpec(f)
		row.State = console.SessionRequested
		if a.FlowSpec != nil {
			row.State = console.SessionReserved
		}
	}
	return row
}

// aggregationStats are the figures of aggregation; nil: no interface leads into a region.
func (d *Daemon) aggregationStats(c *aggregate.Counters) *console.AggregationStats {
	edge := false
	for i := range d.links.Load().list {
		edge = edge || d.links.Load().list[i].cfg.Aggregate != nil
	}
	if !edge && c.Held == 0 {
		return nil
	}
	return &console.AggregationStats{
		Begin: c.Begin, End: c.End, Carried: c.Carried, Riding: c.Riding, Changes: c.Changes,
		Held: c.Held, Granted: c.Granted, Refused: c.Refused, TimedOut: c.TimedOut, Withdrawn: c.Withdrawn, Failed: c.Failed,
		Needed: c.Needed, Asked: c.Asked, Strange: c.Strange, Unknown: c.Unknown, Full: c.Full,
	}
}
