package aggregate

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// rider is an end-to-end reservation.
type rider struct {
	id      uint64
	session wire.Session
	filters []wire.Filter
	parts   []*part // of each aggregator behind which it has senders
	held    *softstate.Reserve
	granted bool
	was     bool // granted, before the last wish
	placed  bool // traffic control knows of it
	unsent  bool // its RESV could not be sent
	wait    timer
	// priority is what policy grants it, before what that was before the last wish.
	priority, before softstate.Priority
}

// part is what a reservation takes of one aggregate.
type part struct {
	r    *rider
	e    *end
	load load // that it has room for; zero: nothing yet
	want load
	// What they were before the last wish, which may be taken back.
	was, wanted load
}

// set changes what a part has and wants. What it wants less of stays its own until
// that is decided.
func (p *part) set(has, wants load) {
	e := p.e
	e.need, e.used = e.need.minus(p.claim()), e.used.minus(p.load)
	p.load, p.want = has, wants
	if p.ready() {
		delete(e.waiting, p.r.id)
	} else {
		e.waiting[p.r.id] = p
	}
	e.need, e.used = e.need.plus(p.claim()), e.used.plus(p.load)
}

// claim is what the aggregate has to have room for.
func (p *part) claim() load {
	if p.ready() {
		return p.load
	}
	return p.want
}

// ready says whether there is room for all that is wanted.
func (p *part) ready() bool { return p.want.within(p.load) }

// lost tells those who ride in an aggregate that it is not there.
func (t *Table) lost(e *end, why softstate.Refusal) {
	e.have = nil
	why.Text = e.name() + ": " + why.Text
	for _, p := range pipe.InOrder(e.parts) {
		if (p.load == load{}) {
			continue
		}
		p.set(load{}, p.want)
		p.was = load{}
		t.fail(p, why)
	}
}

func (t *Table) fail(p *part, why softstate.Refusal) {
	p.r.unsent = true
	x := t.leaving[p.r.session]
	for _, f := range p.r.filters {
		if w := x.ways[f]; w != nil && w.src == p.e.key.far && w.iface == p.e.key.iface {
			t.count.Failed++
			t.emit(pipe.Fail{Session: p.r.session, Sender: f, Why: why})
		}
	}
}

// ride takes a wish for a reservation whose senders come out of the region; held: it
// waits (RFC 3175 section 2.5).
func (t *Table) ride(r softstate.Reserve) (held bool) {
	x := t.leaving[r.Session.Key()]
	old := t.riders[r.ID]
	if x == nil || r.FlowSpec.Service == intserv.Null || !slices.ContainsFunc(r.Filters, func(f wire.Filter) bool { return x.ways[f] != nil }) {
		if old != nil {
			t.unride(old)
		}
		return false
	}
	if old == nil {
		if len(t.riders) >= t.cfg.Flows {
			t.count.Full++
			return false
		}
		old = &rider{id: r.ID, session: r.Session.Key()}
		old.wait.Owner = old
		t.riders[r.ID], x.riders[r.ID] = old, old
	}
	old.filters, old.held, old.placed = r.Filters, &r, old.placed || r.Change
	old.was, old.before, old.priority = old.granted, old.priority, t.net.Priority(r)
	for _, p := range old.parts {
		p.was, p.wanted = p.load, p.want
	}
	t.timers.Set(&old.wait, t.now.Add(t.cfg.Wait))
	if !t.seat(x, old, loadOf(r.FlowSpec), r.FlowSpec.Service) {
		t.unride(old)
		return false
	}
	t.count.Held++
	if old.held != nil { // else it has found its room already
		t.board(old)
	}
	return true
}

// seat gives a reservation its part in each aggregate that it needs; false: there is
// no room for one.
func (t *Table) seat(x *leaving, r *rider, want load, service intserv.Service) bool {
	seats := map[key]*end{}
	for _, f := range r.filters {
		w := x.ways[f]
		if w == nil {
			continue
		}
		i := t.ifs[w.iface]
		dscp := t.net.DSCP(w.session, w.sender, service)
		if i == nil || !usable(t.net.AddrTowards(w.iface, w.src), w.src) {
			return false
		}
		e := t.endOf(i, w.src, dscp)
		if e == nil {
			return false
		}
		seats[e.key] = e
		if !e.here && e.parts[r.id] == nil {
			t.ask(w, dscp) // RFC 3175 section 2.6
		}
	}
	for _, p := range slices.Clone(r.parts) {
		if seats[p.e.key] == nil {
			t.vacate(p)
		}
	}
	for _, e := range inKeyOrder(seats) {
		p := e.parts[r.id]
		if p == nil {
			p = &part{r: r, e: e}
			e.parts[r.id] = p
			r.parts = append(r.parts, p)
		}
		p.set(p.load, want)
		t.fit(e)
		t.pester(e)
	}
	return true
}

func (t *Table) vacate(p *part) {
	e, r := p.e, p.r
	p.set(load{}, load{})
	delete(e.parts, r.id)
	r.parts = slices.DeleteFunc(r.parts, func(o *part) bool { return o == p })
	t.fit(e)
	t.forget(e)
}

// reseat follows the senders of a session that come by other aggregators now, or by
// none.
func (t *Table) reseat(x *leaving) {
	for _, r := range pipe.InOrder(x.riders) {
		if len(r.parts) == 0 {
			continue
		}
		want, service := r.parts[0].want, intserv.ControlledLoad
		if want.bounded > 0 {
			service = intserv.Guaranteed
		}
		if t.seat(x, r, want, service) {
			t.board(r)
		}
	}
}

// board looks whether a reservation has all the room that it needs.
func (t *Table) board(r *rider) {
	for _, p := range r.parts {
		if !p.ready() {
			return
		}
	}
	for _, p := range r.parts {
		if p.load != p.want { // less
			p.set(p.want, p.want)
			t.fit(p.e)
		}
	}
	if r.held != nil {
		held := *r.held
		r.held, r.granted, r.placed = nil, true, true
		t.timers.Stop(&r.wait)
		t.count.Granted++
		t.emit(pipe.Grant{Reserve: held})
	}
	if r.unsent {
		r.unsent = false
		for _, f := range r.filters {
			t.emit(pipe.Resend{Session: r.session, Sender: f})
		}
	}
}

func (r *rider) fire(t *Table, _ *timer) {
	t.count.TimedOut++
	name := ""
	for _, p := range r.parts {
		if !p.ready() {
			name = p.e.name()
		}
	}
	t.turnAway(r, softstate.Refusal{
		Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth, Text: fmt.Sprintf("%s did not have room within %v", name, t.cfg.Wait),
	})
}

// turnAway refuses a wish. What rode before goes on.
func (t *Table) turnAway(r *rider, why softstate.Refusal) {
	r.held = nil
	t.timers.Stop(&r.wait)
	t.count.Refused++
	t.emit(pipe.Refuse{ID: r.id, Why: why})
	t.getOff(r)
}

// getOff takes a wish back that was not met, by us or by traffic control.
func (t *Table) getOff(r *rider) {
	r.granted = r.was
	if !r.granted {
		t.unride(r)
		return
	}
	r.priority = r.before
	for _, p := range slices.Clone(r.parts) {
		if (p.wanted == load{}) {
			t.vacate(p)
			continue
		}
		if carries(p.e.have, p.e.used.minus(p.load).plus(p.was)) {
			p.set(p.was, p.wanted)
		} else { // others have what it gave up
			p.set(p.load, p.wanted)
		}
		t.fit(p.e)
	}
}

func (t *Table) unride(r *rider) {
	t.timers.Stop(&r.wait)
	r.held = nil
	delete(t.riders, r.id)
	for _, p := range slices.Clone(r.parts) {
		t.vacate(p)
	}
	if x := t.leaving[r.session]; x != nil {
		delete(x.riders, r.id)
		if len(x.ways) == 0 && len(x.riders) == 0 {
			delete(t.leaving, r.session)
		}
	}
}

// towards is the part of a reservation that is for senders behind an aggregator.
func (r *rider) towards(src netip.Addr) *part {
	for _, p := range r.parts {
		if p.e.key.far == src {
			return p
		}
	}
	return nil
}
