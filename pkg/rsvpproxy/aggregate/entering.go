package aggregate

import (
	"maps"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// entering is an end-to-end session whose PATHs go in here.
type entering struct {
	senders map[wire.Filter]*entry
	carried map[uint64]*carried
}

// entry is one of its senders.
type entry struct {
	iface softstate.IfIndex
	tspec *intserv.TSpec
	to    *begin // nil: not known yet
}

// enters follows the PATHs that go in here.
func (t *Table) enters(s *softstate.Send) {
	m := s.Msg
	if m.SenderTemplate == nil {
		return
	}
	if m.Type != wire.Path {
		if m.Type == wire.PathTear {
			t.leave(m.Session.Key(), *m.SenderTemplate, s.Out)
		}
		return
	}
	k := m.Session.Key()
	x := t.entering[k]
	if x == nil {
		x = &entering{senders: map[wire.Filter]*entry{}, carried: map[uint64]*carried{}}
		t.entering[k] = x
	}
	e := x.senders[*m.SenderTemplate]
	switch {
	case e == nil && t.senders >= t.cfg.Flows:
		t.count.Full++
		t.tidy(k, x)
		return
	case e == nil:
		e = &entry{iface: s.Out}
		x.senders[*m.SenderTemplate] = e
		t.senders++
	case e.iface != s.Out: // it leads to another deaggregator
		t.point(e, nil)
		e.iface = s.Out
	}
	e.tspec = m.SenderTSpec
}

// leave is the end of a sender: of the one that goes in by an interface, if that is
// told.
func (t *Table) leave(k wire.Session, f wire.Filter, by softstate.IfIndex) {
	x := t.entering[k]
	if x == nil {
		return
	}
	if e := x.senders[f]; e != nil && (by == 0 || e.iface == by) {
		t.point(e, nil)
		delete(x.senders, f)
		t.senders--
	}
	t.tidy(k, x)
}

func (t *Table) tidy(k wire.Session, x *entering) {
	if len(x.senders) == 0 && len(x.carried) == 0 {
		delete(t.entering, k)
	}
}

// point maps a sender to an aggregate, nil: to none.
func (t *Table) point(e *entry, b *begin) {
	was := e.to
	if was == b {
		return
	}
	if e.to = b; b != nil {
		b.mapped++
		if e.tspec != nil && e.tspec.MinUnit > 0 && e.tspec.MinUnit < b.least {
			b.least = e.tspec.MinUnit
			t.announce(b)
		}
		t.rest(b)
	}
	if was != nil {
		was.mapped--
		t.rest(was)
	}
}

// needed is NEW-AGGREGATE-NEEDED (RFC 3175 sections 2.4 and 3.2): the sender is mapped
// to the DSCP that DCLASS tells, at the node that ERROR_SPEC tells. No state goes by it
// (section 2.3), and nobody upstream has to know. It comes again if PATH was lost.
func (t *Table) needed(i *Interior, rx *softstate.Received) {
	m := rx.Msg
	t.count.Asked++
	var e *entry
	if x := t.entering[m.Session.Key()]; x != nil && m.SenderTemplate != nil {
		e = x.senders[*m.SenderTemplate]
	}
	dscps, err := wire.FindDClass(m.Unknown)
	if e == nil || e.iface != i.Iface || err != nil || len(dscps) == 0 {
		t.count.Strange++
		return
	}
	for _, d := range dscps {
		b, fresh := t.beginOf(i, m.ErrorSpec.Node, d)
		if b == nil {
			return
		}
		if e.to == nil || e.to.key.far != b.key.far {
			t.point(e, b)
		}
		t.rest(b)
		if !fresh {
			t.emit(pipe.Refresh{Session: b.session, Sender: b.sender})
		}
	}
}

// maps follows an end-to-end RESV, whose DCLASS tells in which aggregate it rides
// (RFC 3175 section 2.8). Without one it is a reservation like others.
func (t *Table) maps(i *Interior, rx *softstate.Received) {
	m := rx.Msg
	x := t.entering[m.Session.Key()]
	if x == nil || m.Hop == nil {
		return
	}
	var b *begin
	if dscp, ok := classOf(m); ok {
		b, _ = t.beginOf(i, m.Hop.Addr, dscp)
	}
	point := func(f wire.Filter) {
		e := x.senders[f]
		if e == nil || e.iface != i.Iface || e.to == b {
			return
		}
		if e.to == nil || b == nil { // it was reserved without an aggregate, or is to be
			t.emit(pipe.Reask{Session: m.Session.Key(), Sender: f})
		}
		t.point(e, b)
	}
	if m.Style == wire.WF {
		for _, f := range x.order() {
			point(f)
		}
	}
	for j := range m.Flows {
		for _, f := range m.Flows[j].Filters {
			point(f)
		}
	}
	if b == nil {
		return
	}
	for _, c := range pipe.InOrder(x.carried) {
		if c.b != b && x.aggregate(c.filters) == b {
			t.move(c, b)
		}
	}
}

// order lists the senders in an order that can be repeated.
func (x *entering) order() []wire.Filter {
	return slices.SortedFunc(maps.Keys(x.senders), wire.Filter.Compare)
}

// aggregate is the one that a reservation for senders is to ride in, nil if they are
// mapped to none.
func (x *entering) aggregate(filters []wire.Filter) *begin {
	for _, f := range filters {
		if e := x.senders[f]; e != nil && e.to != nil {
			return e.to
		}
	}
	return nil
}
