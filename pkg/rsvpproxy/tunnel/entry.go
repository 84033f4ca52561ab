package tunnel

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// entry is the entry of a tunnel: what goes in, and how much is reserved for it.
type entry struct {
	capable   bool // the other end sends NODE_CHAR with the T bit
	carried   map[uint64]*carried
	sessions  map[wire.Session]int // of carried
	announced intserv.TSpec        // of the tunnel session; zero: none
	installed *intserv.FlowSpec    // of the tunnel session; nil: nothing yet
}

// carried is one end-to-end reservation on the tunnel interface.
type carried struct {
	id       uint64
	session  wire.Session
	filters  []wire.Filter
	flow     intserv.FlowSpec // encapsulated, that traffic control has granted; zero: none yet
	tspec    intserv.TSpec
	before   intserv.FlowSpec // that is back in force if traffic control refuses flow
	beforeT  intserv.TSpec
	placed   bool               // traffic control knows of it, perhaps from before the tunnel session
	held     *softstate.Reserve // waits for the tunnel session
	want     intserv.FlowSpec   // of held
	wantT    intserv.TSpec
	deadline time.Time
}

func newEntry() entry {
	return entry{carried: map[uint64]*carried{}, sessions: map[wire.Session]int{}}
}

func (e *entry) has(s wire.Session) bool { return e.sessions[s.Key()] > 0 }

// Reserve looks at a wish for a reservation before traffic control does. held: it
// waits for the tunnel session, and comes back as [pipe.Grant] or [pipe.Refuse].
func (t *Table) Reserve(now time.Time, r softstate.Reserve) (held bool, out []pipe.Effect) {
	e := t.ends[r.Out]
	if e == nil {
		return false, nil
	}
	t.now = now
	c := e.entry.carried[r.ID]
	if c == nil {
		if !e.entry.capable {
			return false, nil // the tunnel is a link like others (RFC 2746 section 1, type 1)
		}
		if len(e.entry.carried) >= t.cfg.Flows {
			t.count.Full++
			return false, nil
		}
		c = &carried{id: r.ID, session: r.Session.Key()}
		e.entry.carried[r.ID] = c
		e.entry.sessions[c.session]++
	}
	c.filters, c.held, c.placed, c.deadline = r.Filters, &r, c.placed || r.Change, now.Add(t.cfg.Wait)
	c.want, c.wantT = encapsulatedFlow(r.FlowSpec, e.Overhead), Encapsulated(r.SenderTSpec, e.Overhead)
	t.count.Held++
	t.announce(e)
	t.settle(e)
	for _, f := range c.filters { // so that the other end learns of the binding at once
		t.emit(pipe.Refresh{Session: r.Session, Sender: f})
	}
	return true, t.flush()
}

// Result tells what traffic control said to a wish that was granted.
func (t *Table) Result(now time.Time, id uint64, granted bool) []pipe.Effect {
	t.now = now
	if granted {
		return nil
	}
	for _, e := range t.ends {
		if c := e.entry.carried[id]; c != nil && c.held == nil {
			if c.flow, c.tspec = c.before, c.beforeT; c.flow == zeroFlow {
				t.drop(e, c)
			}
			t.announce(e)
			t.settle(e)
		}
	}
	return t.flush()
}

// Release looks at the end of a reservation before traffic control does, which
// never knew of one that is unknown.
func (t *Table) Release(now time.Time, id uint64) (unknown bool, out []pipe.Effect) {
	t.now = now
	for _, e := range t.ends {
		if c := e.entry.carried[id]; c != nil {
			unknown = !c.placed
			t.drop(e, c)
			t.announce(e)
			t.settle(e)
			return unknown, t.flush()
		}
	}
	return false, nil
}

func (t *Table) drop(e *end, c *carried) {
	delete(e.entry.carried, c.id)
	if e.entry.sessions[c.session]--; e.entry.sessions[c.session] == 0 {
		delete(e.entry.sessions, c.session)
	}
}

// announce brings the PATH of the tunnel session in line with what is carried
// and what is waited for (RFC 2746 sections 4.2.1 and 4.2.4).
func (t *Table) announce(e *end) {
	var list []intserv.TSpec
	for _, c := range e.entry.carried {
		switch {
		case c.held != nil && c.flow != zeroFlow:
			list = append(list, c.tspec.Merge(c.wantT)) // until it is decided, both
		case c.held != nil:
			list = append(list, c.wantT)
		default:
			list = append(list, c.tspec)
		}
	}
	if len(list) == 0 {
		t.silence(e)
		return
	}
	slices.SortFunc(list, func(a, b intserv.TSpec) int { return cmp.Compare(a.Rate, b.Rate) }) // floats add up alike each time
	total := intserv.Sum(list...).Wire()
	if total == e.entry.announced {
		return
	}
	e.entry.announced = total
	session, sender := e.away()
	t.emit(pipe.Announce{Sender: softstate.Sender{Session: session, Filter: sender, TSpec: total}})
}

func (t *Table) silence(e *end) {
	if e.entry.announced == (intserv.TSpec{}) {
		return
	}
	e.entry.announced, e.entry.installed = intserv.TSpec{}, nil
	session, sender := e.away()
	t.emit(pipe.Silence{Session: session, Sender: sender})
}

// settle grants what the tunnel session carries by now, the oldest first.
func (t *Table) settle(e *end) {
	if e.entry.installed == nil {
		return
	}
	list := pipe.InOrder(e.entry.carried)
	for _, c := range list {
		if c.held == nil {
			continue
		}
		need := []intserv.FlowSpec{c.want}
		for _, o := range list {
			if o != c && o.flow != zeroFlow {
				need = append(need, o.flow)
			}
		}
		if carries(*e.entry.installed, sum(need)) {
			held := *c.held
			c.before, c.beforeT = c.flow, c.tspec
			c.flow, c.tspec, c.held, c.placed = c.want, c.wantT, nil, true
			t.count.Granted++
			t.emit(pipe.Grant{Reserve: held})
		}
	}
	t.announce(e)
}

// tunnelChanged follows the reservation of the tunnel session.
func (t *Table) tunnelChanged(e *end, v softstate.Event) {
	e.entry.installed = nil
	if !v.Gone && v.Reservation != 0 {
		flow := v.FlowSpec
		e.entry.installed = &flow
	}
	t.settle(e)
	if v.Failure == nil {
		return
	}
	// An error of the tunnel session is one of those that wait for it (section 6.2).
	for _, c := range pipe.InOrder(e.entry.carried) {
		if c.held != nil {
			t.refuse(e, c, softstate.Refusal{
				Code: v.Failure.Code, Value: v.Failure.Value, Text: fmt.Sprintf("tunnel %s: %s", e.Name, v.Failure),
			})
		}
	}
}

// refuse gives a wish up. What was carried before stays.
func (t *Table) refuse(e *end, c *carried, why softstate.Refusal) {
	id := c.held.ID
	c.held = nil
	t.count.Refused++
	if c.flow == zeroFlow {
		t.drop(e, c)
	}
	t.emit(pipe.Refuse{ID: id, Why: why})
	t.announce(e)
}

func (t *Table) advanceEntry(e *end) {
	for _, c := range pipe.InOrder(e.entry.carried) {
		if c.held != nil && !t.now.Before(c.deadline) {
			t.count.TimedOut++
			t.refuse(e, c, softstate.Refusal{
				Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth,
				Text: fmt.Sprintf("the reservation of tunnel %s did not grow within %v", e.Name, t.cfg.Wait),
			})
		}
	}
}
