package daemon

import (
	"maps"
	"math"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// An aggregator (RFC 3175) that comes back finds the treatments of flows that rode
// in aggregates. A treatment does not tell in which, nor whether in any. On an
// interface that leads into a region they are counted together, one entry for each
// DSCP, as an aggregate would be: when the aggregates come again, before what rides
// in them, they take the place of as much of that as they have room for. A flow that
// comes again without one takes its own.

// insideKey names what may have been one aggregate, or several.
type insideKey struct {
	iface string
	dscp  uint8
}

func (k insideKey) id() admission.ID {
	return admission.ID("left by an earlier process: " + k.iface + " inside " + dscp.Name(k.dscp))
}

// insides is what an earlier process left on interfaces that lead into a region.
type insides struct {
	flows map[admission.ID]plan.Treatment // by the entries of their own, which take nothing of the link
	sums  map[insideKey]inside
}

func newInsides() insides {
	return insides{map[admission.ID]plan.Treatment{}, map[insideKey]inside{}}
}

// inside is what has not come again, but for what aggregates that have come have
// room for.
type inside struct {
	flows      int
	rate       float64 // r
	bandwidth  float64 // R, where there is one
	bucket     float64
	unit       uint32 // the least m
	packet     uint32 // the largest M
	guaranteed bool
}

func insideOf(f intserv.FlowSpec) inside {
	return inside{
		rate: f.TSpec.Rate, bandwidth: f.Bandwidth(), bucket: f.TSpec.Bucket, unit: f.TSpec.MinUnit, packet: f.TSpec.MaxPacket,
		guaranteed: f.Service == intserv.Guaranteed,
	}
}

func (s inside) plus(o inside) inside {
	if s.flows == 0 {
		s.unit = o.unit
	}
	return inside{
		s.flows, s.rate + o.rate, s.bandwidth + o.bandwidth, s.bucket + o.bucket, min(s.unit, o.unit), max(s.packet, o.packet),
		s.guaranteed || o.guaranteed,
	}
}

func (s inside) minus(o inside) inside {
	s.rate, s.bandwidth, s.bucket = max(0, s.rate-o.rate), max(0, s.bandwidth-o.bandwidth), max(0, s.bucket-o.bucket)
	return s
}

func (s inside) flowSpec() intserv.FlowSpec {
	f := intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: intserv.TSpec{
		Rate: s.rate, Bucket: s.bucket, Peak: math.Inf(1), MinUnit: s.unit, MaxPacket: s.packet,
	}}
	if s.guaranteed {
		f.Service, f.RSpec.Rate = intserv.Guaranteed, max(s.bandwidth, s.rate)
	}
	return f
}

// leadsInside tells whether a treatment of an earlier process may have been of a flow
// in an aggregate. Flows to groups have none.
func (t *trafficControl) leadsInside(tr *plan.Treatment) bool {
	l := t.links().named(tr.Interface)
	return l != nil && l.cfg.Aggregate != nil && !tr.Key.DstAddr().IsMulticast()
}

// setInside counts what is left of a sum. t.mu is held.
func (t *trafficControl) setInside(k insideKey, s inside) {
	var err error
	if s.flows == 0 || s.bandwidth <= 0 {
		_, err = t.admit.Release(k.id())
	} else {
		err = t.admit.Hold(admission.Request{ID: k.id(), Link: k.iface, FlowSpec: s.flowSpec(), Level: k.dscp})
	}
	if err != nil {
		t.log.Error("what an earlier process left in aggregates is not counted as it is", zap.String("interface", k.iface), zap.Error(err))
	}
	if s.flows == 0 {
		delete(t.inside.sums, k)
	} else {
		t.inside.sums[k] = s
	}
}

// holdInside counts one that may be in an aggregate. t.mu is held.
func (t *trafficControl) holdInside(tr *plan.Treatment) {
	id := heldID(tr)
	if _, had := t.inside.flows[id]; had {
		return // it shares with others
	}
	t.inside.flows[id] = *tr
	k := insideKey{tr.Interface, tr.DSCP}
	s := t.inside.sums[k].plus(insideOf(flowOf(tr)))
	s.flows++
	t.setInside(k, s)
}

// dropInside ends that: it has come again in an aggregate that has room for it, and
// that took it off the sum, or it is taken off now. t.mu is held.
func (t *trafficControl) dropInside(id admission.ID, rides bool) {
	tr, ok := t.inside.flows[id]
	if !ok {
		return
	}
	delete(t.inside.flows, id)
	k := insideKey{tr.Interface, tr.DSCP}
	s := t.inside.sums[k]
	if s.flows--; !rides {
		s = s.minus(insideOf(flowOf(&tr)))
	}
	t.setInside(k, s)
}

// comeAgain takes a reservation's place off what is held inside, before admission is
// asked for it; back puts that back if it is refused. t.mu is held, and other boxes
// get nothing of it meanwhile.
func (t *trafficControl) comeAgain(now *reservation) (back func()) {
	if len(t.inside.flows) == 0 {
		return func() {}
	}
	flows, sums := map[admission.ID]plan.Treatment{}, map[insideKey]inside{}
	for _, id := range t.claimed(now.iface, now.keys) {
		if tr, ok := t.inside.flows[id]; ok {
			k := insideKey{tr.Interface, tr.DSCP}
			if _, ok := sums[k]; !ok {
				sums[k] = t.inside.sums[k]
			}
			flows[id] = tr
			t.dropInside(id, now.ask.Aggregate != nil)
		}
	}
	if k := (insideKey{now.iface, now.ask.Session.DSCP}); beginsHere(&now.ask) {
		if s, ok := t.inside.sums[k]; ok {
			sums[k] = s
			more := insideOf(now.ask.FlowSpec)
			if old := t.held[now.id]; old != nil {
				more = more.minus(insideOf(old.flow))
			}
			t.setInside(k, s.minus(more))
		}
	}
	return func() {
		maps.Copy(t.inside.flows, flows)
		for k, s := range sums {
			t.setInside(k, s)
		}
	}
}

// beginsHere tells whether a reservation is that of an aggregate of ours.
func beginsHere(r *softstate.Reserve) bool {
	return r.Session.Format == wire.FormatAggregate && (r.Role == softstate.SenderProxy || r.Role == softstate.BothProxy)
}

// flowOf is what a treatment was reserved for.
func flowOf(tr *plan.Treatment) intserv.FlowSpec {
	f := intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: intserv.TSpec{
		Rate: tr.Rate, Bucket: tr.Bucket, Peak: tr.Peak, MinUnit: tr.MinUnit, MaxPacket: tr.MaxPacket,
	}}
	if f.TSpec.Peak == 0 {
		f.TSpec.Peak = math.Inf(1)
	}
	if tr.Share > 0 {
		f.Service, f.RSpec = intserv.Guaranteed, intserv.RSpec{Rate: tr.Share}
	}
	return f
}
