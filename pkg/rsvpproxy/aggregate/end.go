package aggregate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// end is an aggregate that ends here: this machine is its deaggregator. It is received
// here and not in the machine, since nobody behind this machine receives it.
type end struct {
	key     endKey
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

	parts   map[uint64]*part
	waiting map[uint64]*part // of parts: those without room for all that they want
	used    load             // of those that have room
	need    load             // of all
}

type endKey struct {
	iface softstate.IfIndex
	src   netip.Addr // the aggregator
	dscp  uint8
}

// leaving is an end-to-end session whose PATHs come out here.
type leaving struct {
	ways   map[wire.Filter]*way
	riders map[uint64]*rider
}

// way is the way of one of its senders: by which aggregator it came in.
type way struct {
	session wire.Session
	sender  wire.Filter
	iface   softstate.IfIndex
	src     netip.Addr // the aggregator
	hop     wire.Hop
	tspec   *intserv.TSpec
	last    *softstate.Received // its PATH, as long as that waits for an aggregate's ADSPEC
	told    bool                // it has gone on without one
	dscp    uint8               // of the aggregate that it waits for
	wait    timer
	life    timer // the machine may not have taken the PATH
}

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

func (t *Table) ends() []*end {
	list := make([]*end, 0, len(t.end))
	for _, e := range t.end {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *end) int {
		return cmp.Or(cmp.Compare(a.key.iface, b.key.iface), a.key.src.Compare(b.key.src), cmp.Compare(a.key.dscp, b.key.dscp))
	})
	return list
}

// leaves takes an end-to-end PATH that leaves the region (RFC 3175 section 2.3). held:
// it waits for the ADSPEC of an aggregate.
func (t *Table) leaves(i *Interior, rx *softstate.Received) (held bool) {
	m := rx.Msg
	if m.SenderTemplate == nil || m.Hop == nil || m.SenderTSpec == nil {
		return false // for the machine to refuse
	}
	w := t.wayOf(i, m)
	if w == nil {
		t.count.Unknown++
		rx.Msg = across(m, nil)
		return false
	}
	w.tspec = m.SenderTSpec
	dscp := t.net.DSCP(w.session, w.sender, 0)
	if x := t.leaving[w.session]; len(x.riders) > 0 {
		for _, r := range inOrder(x.riders) {
			if p := r.towards(w.src); p != nil && slices.Contains(r.filters, w.sender) {
				dscp = p.e.key.dscp
			}
		}
	}
	e := t.end[endKey{i.Iface, w.src, dscp}]
	if e != nil && e.here {
		t.arrive(w)
		rx.Msg = across(m, e)
		return false
	}
	if !usable(t.net.AddrTowards(i.Iface, w.src), w.src) {
		t.count.Unknown++
		rx.Msg = across(m, nil)
		return false
	}
	if e = t.endOf(i, w.src, dscp); e == nil {
		t.count.Unknown++
		rx.Msg = across(m, nil)
		return false
	}
	keep := *rx
	if w.last != nil && w.dscp != dscp {
		t.arrive(w)
	}
	if w.last == nil { // else it has waited already
		w.told = false
		t.timers.Set(&w.wait, t.now.Add(t.cfg.PathWait))
	}
	w.last, w.dscp = &keep, dscp
	e.paths[w] = true
	t.ask(w, dscp)
	t.pester(e)
	if w.told {
		t.count.Unknown++
		rx.Msg = across(m, nil)
		return false
	}
	return true
}

// wayOf notes by whom a sender's PATH came in; nil: there is no room to.
func (t *Table) wayOf(i *Interior, m *wire.Message) *way {
	k, f := m.Session.Key(), *m.SenderTemplate
	x := t.leaving[k]
	if x == nil {
		x = &leaving{ways: map[wire.Filter]*way{}, riders: map[uint64]*rider{}}
	}
	w := x.ways[f]
	if w == nil {
		if t.arriving >= t.cfg.Flows {
			t.count.Full++
			return nil
		}
		t.arriving++
		w = &way{session: k, sender: f, iface: i.Iface, src: m.Hop.Addr, hop: *m.Hop}
		w.wait.Owner, w.life.Owner = w, w
		t.timers.Set(&w.life, t.now.Add(t.lifetime(m)))
		x.ways[f] = w
		t.leaving[k] = x
		t.emit(Reask{k, f}) // there may be a reservation that has come another way so far
		return w
	}
	t.timers.Set(&w.life, t.now.Add(t.lifetime(m)))
	if w.iface != i.Iface || w.src != m.Hop.Addr { // another aggregator (RFC 3175 section 1.4.2)
		t.arrive(w)
		w.iface, w.src = i.Iface, m.Hop.Addr
		t.reseat(x)
	}
	w.hop = *m.Hop
	return w
}

// arrive forgets that a PATH waits.
func (t *Table) arrive(w *way) {
	if w.last == nil {
		return
	}
	if e := t.end[endKey{w.iface, w.src, w.dscp}]; e != nil {
		delete(e.paths, w)
		t.forget(e)
	}
	w.last, w.told = nil, false
	t.timers.Stop(&w.wait)
}

// fire sends a PATH on without an ADSPEC of the region. When that comes, it is
// corrected at once (RFC 3175 section 1.4.5).
func (w *way) fire(t *Table, which *timer) {
	if which == &w.life {
		x := t.leaving[w.session]
		t.forgetWay(x, w)
		t.reseat(x)
		return
	}
	w.told = true
	t.count.Unknown++
	rx := *w.last
	rx.Msg = across(rx.Msg, nil)
	t.emit(Deliver{rx})
}

// left is the end of a sender's PATHs, or of their coming out here.
func (t *Table) left(m *wire.Message, hidden bool) {
	f := *m.SenderTemplate
	x := t.leaving[m.Session.Key()]
	if x == nil || x.ways[f] == nil {
		return
	}
	w := x.ways[f]
	if hidden && (m.Hop == nil || *m.Hop != w.hop) { // PathTear by where it came in before
		return
	}
	if hidden && len(x.riders) > 0 { // the machine tells when the sender has ended
		t.arrive(w)
		return
	}
	t.forgetWay(x, w)
	t.reseat(x)
}

func (t *Table) forgetWay(x *leaving, w *way) {
	t.arrive(w)
	t.timers.Stop(&w.life)
	delete(x.ways, w.sender)
	t.arriving--
	if len(x.ways) == 0 && len(x.riders) == 0 {
		delete(t.leaving, w.session)
	}
}

// gone follows the end of a sender of the machine.
func (t *Table) gone(s wire.Session, f wire.Filter) {
	t.leave(s.Key(), f, 0)
	if x := t.leaving[s.Key()]; x != nil && x.ways[f] != nil {
		t.forgetWay(x, x.ways[f])
		t.reseat(x)
	}
}

// ask sends NEW-AGGREGATE-NEEDED for a sender (RFC 3175 sections 2.3 and 3.2).
func (t *Table) ask(w *way, dscp uint8) {
	src := t.net.AddrTowards(w.iface, w.src)
	if !src.IsValid() || w.tspec == nil {
		return
	}
	t.count.Needed++
	tspec, sender := *w.tspec, w.sender
	t.send(w.iface, src, w.src, &wire.Message{
		Type: wire.PathErr, Session: w.session, SenderTemplate: &sender, SenderTSpec: &tspec,
		ErrorSpec: &wire.ErrorSpec{Node: src, Code: wire.ErrNewAggregate}, Unknown: []wire.Object{wire.DClass(dscp)},
	})
}

func (t *Table) send(out softstate.IfIndex, src, dst netip.Addr, m *wire.Message) {
	m.SendTTL = softstate.DefaultTTL
	t.emit(Send{softstate.Send{Out: out, Src: src, Dst: dst, TTL: softstate.DefaultTTL, RouterAlert: m.Type.NeedsRouterAlert(), Msg: m}})
}

// endOf finds or makes an aggregate, whose PATH may have to come yet. nil: there is
// no room.
func (t *Table) endOf(i *Interior, src netip.Addr, dscp uint8) *end {
	k := endKey{i.Iface, src, dscp}
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
		e := t.end[endKey{i.Iface, f.Src, m.Session.DSCP}]
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
		t.emit(Deliver{r})
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

// lost tells those who ride in an aggregate that it is not there.
func (t *Table) lost(e *end, why softstate.Refusal) {
	e.have = nil
	why.Text = e.name() + ": " + why.Text
	for _, p := range inOrder(e.parts) {
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
		if w := x.ways[f]; w != nil && w.src == p.e.key.src && w.iface == p.e.key.iface {
			t.count.Failed++
			t.emit(Fail{p.r.session, f, why})
		}
	}
}

func (e *end) name() string {
	return fmt.Sprintf("the aggregate from %v with DSCP %d", e.key.src, e.key.dscp)
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
			t.emit(Deliver{rx})
		}
	}
	for _, p := range inOrder(e.parts) {
		r := p.r
		if r.held != nil {
			t.emit(Grant{*r.held})
		}
		t.unride(r)
	}
	t.forget(e)
}

// pester repeats NEW-AGGREGATE-NEEDED as long as somebody rides, or waits, and there
// is no PATH.
func (t *Table) pester(e *end) {
	if !e.here && (len(e.parts) > 0 || len(e.paths) > 0) && !e.refresh.Armed() {
		t.timers.Set(&e.refresh, t.now.Add(t.again(e.tries)))
		e.tries++
	}
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

// unsent lists the PATHs that wait, in an order that can be repeated.
func (e *end) unsent() []*way {
	list := make([]*way, 0, len(e.paths))
	for w := range e.paths {
		list = append(list, w)
	}
	slices.SortFunc(list, compareWays)
	return list
}

func compareWays(a, b *way) int {
	return cmp.Or(
		a.session.Dst.Compare(b.session.Dst), cmp.Compare(a.session.Protocol, b.session.Protocol), cmp.Compare(a.session.DstPort, b.session.DstPort),
		cmp.Compare(a.session.Format, b.session.Format), a.sender.Src.Compare(b.sender.Src), cmp.Compare(a.sender.SrcPort, b.sender.SrcPort),
		cmp.Compare(a.sender.SPI, b.sender.SPI), cmp.Compare(a.sender.Label, b.sender.Label),
	)
}

// someone is a sender that needs an aggregate.
func (t *Table) someone(e *end) (found *way) {
	better := func(w *way) {
		if found == nil || compareWays(w, found) < 0 {
			found = w
		}
	}
	for w := range e.paths {
		better(w)
	}
	for _, p := range e.parts {
		for _, f := range p.r.filters {
			if w := t.leaving[p.r.session].ways[f]; w != nil && w.src == e.key.src && w.iface == e.key.iface {
				better(w)
			}
		}
	}
	return found
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
	old.was = old.granted
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
	seats := map[*end]bool{}
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
		seats[e] = true
		if !e.here && e.parts[r.id] == nil {
			t.ask(w, dscp) // RFC 3175 section 2.6
		}
	}
	for _, p := range slices.Clone(r.parts) {
		if !seats[p.e] {
			t.vacate(p)
		}
	}
	list := make([]*end, 0, len(seats))
	for e := range seats {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *end) int {
		return cmp.Or(a.key.src.Compare(b.key.src), cmp.Compare(a.key.iface, b.key.iface), cmp.Compare(a.key.dscp, b.key.dscp))
	})
	for _, e := range list {
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
	for _, r := range inOrder(x.riders) {
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
		t.emit(Grant{held})
	}
	if r.unsent {
		r.unsent = false
		for _, f := range r.filters {
			t.emit(Resend{r.session, f})
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
	t.emit(Refuse{r.id, why})
	t.getOff(r)
}

// getOff takes a wish back that was not met, by us or by traffic control.
func (t *Table) getOff(r *rider) {
	r.granted = r.was
	if !r.granted {
		t.unride(r)
		return
	}
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
		if p.e.key.src == src {
			return p
		}
	}
	return nil
}

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
	if e.have == nil || *e.have != *e.asked {
		m.ResvConfirm = e.session.Dst
		t.timers.Set(&e.refresh, t.now.Add(t.again(e.tries)))
		e.tries++
	} else {
		t.timers.Set(&e.refresh, t.now.Add(t.again(slow)))
	}
	t.sendUp(e, m)
}

func (t *Table) message(e *end, typ wire.MsgType) *wire.Message {
	return &wire.Message{
		Type: typ, Session: e.session, Style: wire.FF,
		Hop:   &wire.Hop{Addr: t.net.AddrTowards(e.key.iface, e.hop.Addr), LIH: e.hop.LIH},
		Flows: []wire.FlowDescriptor{{Filters: []wire.Filter{e.sender}}},
	}
}

func (t *Table) sendUp(e *end, m *wire.Message) {
	if m.Hop.Addr.IsValid() { // else the interface has lost its address; the next refresh may find one
		t.send(e.key.iface, m.Hop.Addr, e.hop.Addr, m)
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
	for _, p := range inOrder(e.waiting) {
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
	for _, p := range inOrder(e.waiting) {
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
	for _, r := range inOrder(x.riders) {
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

// by says whether one of the senders that a RESV is about comes in by an aggregator,
// or none of them by any.
func (x *leaving) by(m *wire.Message, src netip.Addr) bool {
	hidden := false
	for f, w := range x.ways {
		if m.Style != wire.WF && !about(m, []wire.Filter{f}) {
			continue
		}
		if w.src == src {
			return true
		}
		hidden = true
	}
	return !hidden
}
