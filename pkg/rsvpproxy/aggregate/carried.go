package aggregate

import (
	"fmt"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

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

// lose ends what is carried in an aggregate that has no reservation any more (RFC
// 3175 section 2.10), and with it the marks of its packets.
func (t *Table) lose(b *begin, why softstate.Refusal) {
	for _, c := range pipe.InOrder(b.carried) {
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
	t.emit(pipe.Withdraw{ID: c.id, Why: why}) // comes back as its end
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
	for _, c := range pipe.InOrder(b.held) {
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
		t.emit(pipe.Grant{Reserve: r})
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
	for _, c := range slices.Backward(pipe.InOrder(b.carried)) {
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
	t.emit(pipe.Refuse{ID: c.id, Why: why})
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
