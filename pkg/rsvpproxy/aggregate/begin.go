package aggregate

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// begin is an aggregate that begins here: this machine is its aggregator. Its PATH
// and its reservation are the machine's, as of any sender that it speaks for.
type begin struct {
	key       beginKey
	in        *Interior
	session   wire.Session
	sender    wire.Filter
	since     time.Time
	announced intserv.TSpec
	least     uint32            // the smallest m of those that are mapped to it
	installed *intserv.FlowSpec // nil: nothing yet
	mapped    int               // senders
	carried   map[uint64]*carried
	held      map[uint64]*carried // of carried: those that wait
	used      load                // of those that are granted
	idle      timer               // it ends
	over      timer               // those that have no room in it end
}

type beginKey struct {
	iface softstate.IfIndex
	dst   netip.Addr // the deaggregator
	dscp  uint8
}

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

// carried is an end-to-end reservation in an aggregate.
type carried struct {
	id      uint64
	session wire.Session
	filters []wire.Filter
	b       *begin
	granted load // zero: nothing yet
	before  load // granted before the last answer of traffic control
	placed  bool // traffic control knows of it, perhaps without an aggregate
	held    *softstate.Reserve
	wait    timer
}

func (t *Table) begins() []*begin {
	list := make([]*begin, 0, len(t.begin))
	for _, b := range t.begin {
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b *begin) int {
		return cmp.Or(cmp.Compare(a.key.iface, b.key.iface), a.key.dst.Compare(b.key.dst), cmp.Compare(a.key.dscp, b.key.dscp))
	})
	return list
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
		if e.to == nil || e.to.key.dst != b.key.dst {
			t.point(e, b)
		}
		t.rest(b)
		if !fresh {
			t.emit(Refresh{b.session, b.sender})
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
			t.emit(Reask{m.Session.Key(), f})
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
	for _, c := range inOrder(x.carried) {
		if c.b != b && x.aggregate(c.filters) == b {
			t.move(c, b)
		}
	}
}

// order lists the senders in an order that can be repeated.
func (x *entering) order() []wire.Filter {
	list := make([]wire.Filter, 0, len(x.senders))
	for f := range x.senders {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b wire.Filter) int {
		return cmp.Or(a.Src.Compare(b.Src), cmp.Compare(a.SrcPort, b.SrcPort), cmp.Compare(a.SPI, b.SPI), cmp.Compare(a.Label, b.Label))
	})
	return list
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

// beginOf finds or makes an aggregate. There may be no room for it, or its end may be
// none.
func (t *Table) beginOf(i *Interior, dst netip.Addr, dscp uint8) (b *begin, fresh bool) {
	k := beginKey{i.Iface, dst, dscp}
	if b = t.begin[k]; b != nil {
		return b, false
	}
	src := t.net.AddrTowards(i.Iface, dst)
	switch {
	case !usable(dst, src) || t.net.Local(dst):
		t.count.Strange++
		return nil, false
	case len(t.begin) >= t.cfg.Aggregates:
		t.count.Full++
		return nil, false
	}
	b = &begin{
		key: k, in: i, since: t.now, least: leastUnit, carried: map[uint64]*carried{}, held: map[uint64]*carried{},
		session: wire.Session{Format: wire.FormatAggregate, Dst: dst, DSCP: dscp},
		sender:  wire.Filter{Format: wire.FormatAggregate, Src: src}, // our PHOP too, as RFC 4860 section 4 wants it
	}
	b.idle.Owner, b.over.Owner = b, b
	t.begin[k] = b
	t.announce(b)
	t.rest(b)
	return b, true
}

// announce brings the PATH of an aggregate up to date. Its TSpec is as large as the
// aggregate may ever become, so that the deaggregator alone sizes it, and flows that
// come and go change no PATH (RFC 3175 section 2.4).
func (t *Table) announce(b *begin) {
	spec := intserv.TSpec{
		Rate: b.in.Most, Bucket: b.in.Most, Peak: math.Inf(1), // a second's worth of bursts
		MinUnit: min(b.least, max(b.in.MTU, 1)), MaxPacket: b.in.MTU,
	}.Wire()
	if spec == b.announced {
		return
	}
	b.announced = spec
	t.emit(Announce{softstate.Sender{Session: b.session, Filter: b.sender, TSpec: spec}})
}

// rest lets an aggregate that nobody needs end after a while: the next flow may come
// soon (RFC 4860 section 4 leaves it to policy).
func (t *Table) rest(b *begin) {
	if b.mapped > 0 || len(b.carried) > 0 {
		t.timers.Stop(&b.idle)
	} else if !b.idle.Armed() {
		t.timers.Set(&b.idle, t.now.Add(b.in.Size.Hold))
	}
}

func (b *begin) fire(t *Table, which *timer) {
	switch {
	case which == &b.idle:
		t.endBegin(b)
	default:
		t.trim(b)
	}
}

// endBegin is the end of an aggregate, and of what is carried in it.
func (t *Table) endBegin(b *begin) {
	t.timers.Stop(&b.idle)
	t.timers.Stop(&b.over)
	delete(t.begin, b.key)
	for _, x := range t.entering {
		for _, e := range x.senders {
			if e.to == b {
				e.to = nil
			}
		}
	}
	b.mapped = 0
	why := softstate.Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth, Text: b.name() + " has ended"}
	t.lose(b, why)
	for _, c := range inOrder(b.held) {
		t.refuse(c, why)
	}
	t.emit(Silence{b.session, b.sender})
}

func (b *begin) name() string {
	return fmt.Sprintf("the aggregate to %v with DSCP %d", b.key.dst, b.key.dscp)
}

// lose ends what is carried in an aggregate that has no reservation any more (RFC
// 3175 section 2.10), and with it the marks of its packets.
func (t *Table) lose(b *begin, why softstate.Refusal) {
	for _, c := range inOrder(b.carried) {
		t.withdraw(c, why)
	}
}

// withdraw leaves alone what is not in place yet, and waits.
func (t *Table) withdraw(c *carried, why softstate.Refusal) {
	if (c.granted == load{}) {
		return
	}
	if c.held != nil {
		t.refuse(c, why)
	}
	t.count.Withdrawn++
	t.emit(Withdraw{c.id, why}) // comes back as its end
}

// changed follows the reservation of an aggregate.
func (t *Table) changed(v softstate.Event) {
	for _, b := range t.begins() {
		if b.session != v.Session.Key() || b.sender != v.Sender {
			continue
		}
		b.installed = nil
		if !v.Gone && v.Reservation != 0 {
			flow := v.FlowSpec
			b.installed = &flow
		}
		if b.installed == nil {
			why := softstate.Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth, Text: b.name() + " has no reservation"}
			if f := v.Failure; f != nil {
				why.Code, why.Value = f.Code, f.Value
			}
			if b.used.flows > 0 {
				t.lose(b, why)
			}
			continue
		}
		t.settle(b)
	}
}

// carry takes a wish for a reservation by an interior interface; held: it waits.
func (t *Table) carry(r softstate.Reserve) (held bool) {
	x := t.entering[r.Session.Key()]
	var b *begin
	if x != nil {
		b = x.aggregate(r.Filters)
	}
	c := t.carried[r.ID]
	switch {
	case b == nil:
		if c != nil {
			t.uncarry(c) // it is one like others from now on
		}
		return false
	case c == nil && len(t.carried) >= t.cfg.Flows:
		t.count.Full++
		return false
	case c == nil:
		c = &carried{id: r.ID, session: r.Session.Key(), b: b}
		c.wait.Owner = c
		t.carried[r.ID], x.carried[r.ID], b.carried[r.ID] = c, c, c
		t.rest(b)
	}
	c.filters, c.held, c.placed = r.Filters, &r, c.placed || r.Change
	c.b.held[c.id] = c
	t.count.Held++
	t.timers.Set(&c.wait, t.now.Add(t.cfg.Wait))
	if c.b != b {
		t.move(c, b)
		return true
	}
	t.settle(b)
	return true
}

// move has a reservation ride in another aggregate: its session has another
// deaggregator, or another DSCP. Which of the two ends of the change comes first
// cannot be told, so that it has time to find its room there.
func (t *Table) move(c *carried, b *begin) {
	was := c.b
	delete(was.carried, c.id)
	delete(was.held, c.id)
	was.used = was.used.minus(c.granted)
	c.b = b
	b.carried[c.id] = c
	if c.held != nil {
		b.held[c.id] = c
	}
	b.used = b.used.plus(c.granted)
	t.rest(was)
	t.rest(b)
	t.settle(was)
	t.settle(b)
}

// settle grants what an aggregate carries by now, the oldest first.
func (t *Table) settle(b *begin) {
	for _, c := range inOrder(b.held) {
		want := loadOf(c.held.FlowSpec)
		if !carries(b.installed, b.used.minus(c.granted).plus(want)) {
			continue
		}
		r := *c.held
		session := b.session
		r.Aggregate = &session
		b.used = b.used.minus(c.granted).plus(want)
		c.before, c.granted, c.held = c.granted, want, nil
		c.placed = true
		delete(b.held, c.id)
		t.timers.Stop(&c.wait)
		t.count.Granted++
		t.emit(Grant{r})
	}
	if carries(b.installed, b.used) {
		t.timers.Stop(&b.over)
	} else if !b.over.Armed() {
		t.timers.Set(&b.over, t.now.Add(t.cfg.Wait))
	}
}

// trim ends those reservations for which an aggregate has become too small, the
// newest first.
func (t *Table) trim(b *begin) {
	why := softstate.Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth, Text: b.name() + " has become too small"}
	left := b.used
	for _, c := range slices.Backward(inOrder(b.carried)) {
		if carries(b.installed, left) {
			return
		}
		left = left.minus(c.granted)
		t.withdraw(c, why)
	}
}

func (c *carried) fire(t *Table, _ *timer) {
	t.count.TimedOut++
	t.refuse(c, softstate.Refusal{
		Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth,
		Text: fmt.Sprintf("%s did not have room within %v", c.b.name(), t.cfg.Wait),
	})
}

// refuse gives a wish up. What was carried before stays.
func (t *Table) refuse(c *carried, why softstate.Refusal) {
	c.held = nil
	delete(c.b.held, c.id)
	t.timers.Stop(&c.wait)
	t.count.Refused++
	if (c.granted == load{}) {
		t.uncarry(c)
	}
	t.emit(Refuse{c.id, why})
}

// takeBack is for what traffic control has refused all the same.
func (t *Table) takeBack(c *carried) {
	c.b.used = c.b.used.minus(c.granted).plus(c.before)
	c.granted = c.before
	if (c.granted == load{}) {
		t.uncarry(c)
	} else {
		t.settle(c.b)
	}
}

func (t *Table) uncarry(c *carried) {
	t.timers.Stop(&c.wait)
	delete(t.carried, c.id)
	delete(c.b.carried, c.id)
	delete(c.b.held, c.id)
	c.b.used = c.b.used.minus(c.granted)
	c.granted, c.held = load{}, nil
	if x := t.entering[c.session]; x != nil {
		delete(x.carried, c.id)
		t.tidy(c.session, x)
	}
	if t.begin[c.b.key] == c.b {
		t.rest(c.b)
		t.settle(c.b)
	}
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
