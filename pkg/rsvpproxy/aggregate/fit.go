package aggregate

import (
	"fmt"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// fit brings the size of an aggregate in line with what is needed of it.
func (t *Table) fit(e *end) {
	if !e.here {
		return
	}
	if e.exact && !t.now.Before(e.retry) {
		e.exact = false
	}
	have := measured(e.asked)
	want, low := e.in.Size.next(have, e.need, e.exact)
	switch {
	case !low:
		t.timers.Stop(&e.low)
	case !e.low.Armed():
		t.timers.Set(&e.low, t.now.Add(e.in.Size.Hold))
	}
	if e.need.flows > 0 {
		t.size(e, want)
	}
	t.seatAll(e)
	t.raise(e)
}

// shrink is the end of the time for which an aggregate was too large.
func (t *Table) shrink(e *end) {
	if e.need.flows == 0 {
		t.hangUp(e)
		return
	}
	e.exact = false
	t.size(e, e.in.Size.smaller(measured(e.asked), e.need))
	t.fit(e)
}

// size asks for an aggregate of a size, if that is another one.
func (t *Table) size(e *end, m measure) {
	spec := t.flowSpec(e, m)
	if e.asked != nil && spec == *e.asked {
		return
	}
	if e.have != nil && !growsTo(e.have, &spec) {
		e.have = &spec // what is given back is not ours any more
	}
	e.asked, e.tries = &spec, 0
	t.count.Changes++
	t.resv(e)
}

// growsTo says whether b is more than a in anything.
func growsTo(a, b *intserv.FlowSpec) bool {
	return b.TSpec.Rate > a.TSpec.Rate || b.TSpec.Bucket > a.TSpec.Bucket || b.Bandwidth() > a.Bandwidth() || b.Service != a.Service
}

// flowSpec is what is asked for. It is no more than the aggregator announces, which
// the routers in between would not give (RFC 3175 section 2.4).
func (t *Table) flowSpec(e *end, m measure) intserv.FlowSpec {
	f := intserv.FlowSpec{Service: intserv.ControlledLoad}
	f.TSpec = intserv.TSpec{
		Rate: min(m.rate, e.tspec.Rate), Bucket: min(m.bucket, e.tspec.Bucket), Peak: e.tspec.Peak,
		MinUnit: e.tspec.MinUnit, MaxPacket: e.tspec.MaxPacket,
	}
	if a := e.adspec; a != nil && a.General.MTU > 0 && (f.TSpec.MaxPacket == 0 || a.General.MTU < f.TSpec.MaxPacket) {
		f.TSpec.MaxPacket = a.General.MTU
	}
	if e.need.bounded > 0 || e.asked != nil && e.asked.Service == intserv.Guaranteed {
		f.Service = intserv.Guaranteed
		f.RSpec.Rate = max(m.bandwidth, f.TSpec.Rate)
	}
	return f.Wire()
}

// resv sends RESV, which wants to be confirmed until it is (RFC 3175 section 2.6).
func (t *Table) resv(e *end) {
	m := t.message(e, wire.Resv)
	m.TimeValues = &wire.TimeValues{Refresh: uint32(t.cfg.Refresh.Milliseconds())}
	flow := *e.asked
	m.Flows[0].FlowSpec = &flow
	if e.told = e.priority(); e.told != (softstate.Priority{}) {
		m.Policy = e.told.PolicyData()
	}
	if !e.confirmed() {
		m.ResvConfirm = e.session.Dst
		t.timers.Set(&e.refresh, t.now.Add(t.again(e.tries)))
		e.tries++
	} else {
		t.timers.Set(&e.refresh, t.now.Add(t.again(slow)))
	}
	t.sendUp(e, m)
}

func (t *Table) message(e *end, typ wire.MsgType) *wire.Message {
	return pipe.Upstream(typ, e.session, e.sender, t.net.AddrTowards(e.key.iface, e.hop.Addr), e.hop)
}

func (t *Table) sendUp(e *end, m *wire.Message) {
	if m.Hop.Addr.IsValid() { // else the interface has lost its address; the next refresh may find one
		t.emit(pipe.To(e.key.iface, m.Hop.Addr, e.hop.Addr, m))
	}
}

// hangUp ends the reservation of an aggregate, if there is one (RFC 4860 section 4).
func (t *Table) hangUp(e *end) {
	if e.asked == nil {
		return
	}
	t.count.Changes++
	t.sendUp(e, t.message(e, wire.ResvTear))
	e.asked, e.have, e.exact = nil, nil, false
	t.timers.Stop(&e.refresh)
	t.timers.Stop(&e.low)
}

// confirmed is ResvConf: the reservation reaches to the aggregator.
func (t *Table) confirmed(e *end, m *wire.Message) {
	if e.asked == nil {
		return
	}
	have := *e.asked
	if len(m.Flows) > 0 && m.Flows[0].FlowSpec != nil {
		have = *m.Flows[0].FlowSpec // an earlier one, if it is late
	}
	switch {
	case have == *e.asked:
		e.tries = 0
		t.timers.Set(&e.refresh, t.now.Add(t.again(slow)))
	case growsTo(e.asked, &have), e.have != nil && !growsTo(e.have, &have):
		return // of before it shrank, or of less than there is
	}
	e.have = &have
	t.seatAll(e)
}

// seatAll gives room to those that wait for it, the oldest first.
func (t *Table) seatAll(e *end) {
	if e.have == nil {
		return
	}
	for _, p := range pipe.InOrder(e.waiting) {
		if !p.ready() && carries(e.have, e.used.minus(p.load).plus(p.want)) {
			p.set(p.want, p.want)
			t.board(p.r)
		}
	}
}

// failed is ResvErr. What is needed and no more is tried before anybody is told.
func (t *Table) failed(e *end, m *wire.Message) {
	if e.asked == nil || m.ErrorSpec == nil {
		return
	}
	if len(m.Flows) > 0 && m.Flows[0].FlowSpec != nil && *m.Flows[0].FlowSpec != *e.asked {
		return // of an earlier one
	}
	if c := m.ErrorSpec.Code; c == wire.ErrNoPath || c == wire.ErrNoSender {
		t.pathGone(e, fmt.Sprintf("%v has no path state", m.ErrorSpec.Node)) // its aggregator has started anew
		return
	}
	why := softstate.Refusal{Code: m.ErrorSpec.Code, Value: m.ErrorSpec.Value, Text: fmt.Sprintf("refused by %v", m.ErrorSpec.Node)}
	e.retry = t.now.Add(e.in.Size.Hold)
	base := e.have
	if m.ErrorSpec.Flags&wire.InPlace == 0 {
		base = nil
	}
	if !e.exact && e.need.flows > 0 {
		e.exact = true
		want, _ := e.in.Size.next(measured(base), e.need, true)
		if spec := t.flowSpec(e, want); spec != *e.asked {
			if base == nil {
				t.lost(e, why)
			}
			t.size(e, want)
			return
		}
	}
	if base == nil {
		t.lost(e, why)
	}
	for _, p := range pipe.InOrder(e.waiting) {
		if !p.ready() && p.r.held != nil {
			t.turnAway(p.r, why)
		} else if !p.ready() {
			t.fail(p, why)
		}
	}
	// The routers on the way that had granted more are told what is left.
	if e.have != nil && e.asked != nil && *e.asked != *e.have {
		back := *e.have
		e.asked, e.tries = &back, 0
		t.resv(e)
	}
}
