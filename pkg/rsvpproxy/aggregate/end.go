package aggregate

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// end is an aggregate that ends here: this machine is its deaggregator. It is received
// here and not in the machine, since nobody behind this machine receives it.
type end struct {
	key     key // far: the aggregator
	in      *Interior
	session wire.Session
	sender  wire.Filter
	since   time.Time

	// Path state.
	here    bool
	life    timer
	hop     wire.Hop
	nonRSVP bool
	tspec   intserv.TSpec
	adspec  *intserv.AdSpec
	paths   map[*way]bool // end-to-end PATHs that wait for it

	// The reservation: what was asked for, and what was confirmed.
	asked, have *intserv.FlowSpec
	refresh     timer // of RESV, or as long as there is no PATH of NEW-AGGREGATE-NEEDED
	tries       int   // of what was not answered
	low         timer // it shrinks
	exact       bool  // there was no more to be had than what is needed
	retry       time.Time
	told        softstate.Priority // by the last RESV

	parts   map[uint64]*part
	waiting map[uint64]*part // of parts: those without room for all that they want
	used    load             // of those that have room
	need    load             // of all
}

// endOf finds or makes an aggregate, whose PATH may have to come yet. nil: there is
// no room.
func (t *Table) endOf(i *Interior, src netip.Addr, dscp uint8) *end {
	k := key{i.Iface, src, dscp}
	if e := t.end[k]; e != nil {
		return e
	}
	if len(t.end) >= t.cfg.Aggregates {
		t.count.Full++
		return nil
	}
	e := &end{
		key: k, in: i, since: t.now, paths: map[*way]bool{}, parts: map[uint64]*part{}, waiting: map[uint64]*part{},
		sender: wire.Filter{Format: wire.FormatAggregate, Src: src},
	}
	e.life.Owner, e.refresh.Owner, e.low.Owner = e, e, e
	t.end[k] = e
	return e
}

// forget forgets an aggregate of which nothing is left.
func (t *Table) forget(e *end) {
	if e.here || len(e.parts) > 0 || len(e.paths) > 0 || t.end[e.key] != e {
		return
	}
	for _, w := range []*timer{&e.life, &e.refresh, &e.low} {
		t.timers.Stop(w)
	}
	delete(t.end, e.key)
}

// received is a message of an aggregate session to this machine.
func (t *Table) received(i *Interior, rx *softstate.Received) {
	m := rx.Msg
	if m.Type == wire.Path {
		t.path(i, rx)
		return
	}
	for _, f := range named(m) {
		e := t.end[key{i.Iface, f.Src, m.Session.DSCP}]
		if e == nil || !e.here || e.session.Key() != m.Session.Key() {
			continue
		}
		switch m.Type {
		case wire.PathTear:
			if m.Hop != nil && *m.Hop == e.hop {
				t.pathGone(e, "its aggregator has ended it")
			}
		case wire.ResvConf:
			t.confirmed(e, m)
		case wire.ResvErr:
			t.failed(e, m)
		default: // a RESV for what we receive is nobody's
		}
	}
}

// named lists the senders that a message is about.
func named(m *wire.Message) (list []wire.Filter) {
	if m.SenderTemplate != nil {
		return []wire.Filter{*m.SenderTemplate}
	}
	for i := range m.Flows {
		list = append(list, m.Flows[i].Filters...)
	}
	return list
}

// path is PATH of an aggregate.
func (t *Table) path(i *Interior, rx *softstate.Received) {
	m := rx.Msg
	if m.SenderTemplate == nil || m.Hop == nil || m.SenderTSpec == nil || !usable(m.SenderTemplate.Src, m.Session.Dst) {
		return
	}
	e := t.endOf(i, m.SenderTemplate.Src, m.Session.DSCP)
	if e == nil {
		return
	}
	fresh := !e.here || e.session != m.Session.Key() || e.hop != *m.Hop
	if !e.here {
		e.tries = 0
	}
	e.here, e.session, e.hop = true, m.Session.Key(), *m.Hop
	e.nonRSVP, e.tspec, e.adspec = rx.TTL != m.SendTTL, *m.SenderTSpec, m.AdSpec
	t.timers.Set(&e.life, t.now.Add(t.lifetime(m)))
	for _, w := range e.unsent() {
		r := *w.last
		r.Msg = across(r.Msg, e)
		t.arrive(w)
		t.emit(pipe.Deliver{Received: r})
	}
	if fresh && e.asked != nil { // the way has changed: it is asked for there at once
		t.resv(e)
	}
	t.fit(e)
}

// pathGone is the end of an aggregate's path state: its reservation has gone with it
// (RFC 2205 section 3.1.5), and what rides in it has none (RFC 3175 section 2.10).
func (t *Table) pathGone(e *end, why string) {
	if e.asked != nil {
		t.count.Changes++
	}
	e.here, e.adspec, e.asked, e.exact = false, nil, nil, false
	t.timers.Stop(&e.life)
	t.timers.Stop(&e.refresh)
	t.timers.Stop(&e.low)
	t.lost(e, softstate.Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth, Text: why})
	t.pester(e)
	t.forget(e)
}

func (e *end) name() string {
	return fmt.Sprintf("the aggregate from %v with DSCP %d", e.key.far, e.key.dscp)
}

// endEnd ends an aggregate for want of its interface or address. Those who wait for
// it have their way without.
func (t *Table) endEnd(e *end) {
	t.hangUp(e)
	e.here = false
	for _, w := range e.unsent() {
		rx := *w.last
		rx.Msg = across(rx.Msg, nil)
		told := w.told
		t.arrive(w)
		if !told {
			t.emit(pipe.Deliver{Received: rx})
		}
	}
	for _, p := range pipe.InOrder(e.parts) {
		r := p.r
		if r.held != nil {
			t.emit(pipe.Grant{Reserve: *r.held})
		}
		t.unride(r)
	}
	t.forget(e)
}

func (e *end) fire(t *Table, which *timer) {
	switch which {
	case &e.life:
		t.pathGone(e, "its PATH has not been refreshed")
	case &e.low:
		t.shrink(e)
	case &e.refresh:
		switch w := t.someone(e); {
		case e.here && e.asked != nil:
			t.resv(e)
		case !e.here && w != nil:
			t.ask(w, e.key.dscp)
			t.pester(e)
		}
	}
}
