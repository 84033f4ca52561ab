package aggregate

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

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
		for _, r := range pipe.InOrder(x.riders) {
			if p := r.towards(w.src); p != nil && slices.Contains(r.filters, w.sender) {
				dscp = p.e.key.dscp
			}
		}
	}
	e := t.end[key{i.Iface, w.src, dscp}]
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
		t.emit(pipe.Reask{Session: k, Sender: f}) // there may be a reservation that has come another way so far
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
	if e := t.end[key{w.iface, w.src, w.dscp}]; e != nil {
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
	t.emit(pipe.Deliver{Received: rx})
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
	t.emit(pipe.To(w.iface, src, w.src, &wire.Message{
		Type: wire.PathErr, Session: w.session, SenderTemplate: &sender, SenderTSpec: &tspec,
		ErrorSpec: &wire.ErrorSpec{Node: src, Code: wire.ErrNewAggregate}, Unknown: []wire.Object{wire.DClass(dscp)},
	}))
}

// pester repeats NEW-AGGREGATE-NEEDED as long as somebody rides, or waits, and there
// is no PATH.
func (t *Table) pester(e *end) {
	if !e.here && (len(e.parts) > 0 || len(e.paths) > 0) && !e.refresh.Armed() {
		t.timers.Set(&e.refresh, t.now.Add(t.again(e.tries)))
		e.tries++
	}
}

// unsent lists the PATHs that wait, in an order that can be repeated.
func (e *end) unsent() []*way {
	return slices.SortedFunc(maps.Keys(e.paths), compareWays)
}

func compareWays(a, b *way) int {
	return cmp.Or(a.session.Compare(b.session), a.sender.Compare(b.sender))
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
			if w := t.leaving[p.r.session].ways[f]; w != nil && w.src == e.key.far && w.iface == e.key.iface {
				better(w)
			}
		}
	}
	return found
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
