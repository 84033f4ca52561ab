package tunnel

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// exit is the exit of a tunnel: the tunnel session is received here.
type exit struct {
	bound map[wire.Session]time.Time // end-to-end sessions that the tunnel session is for, until when
	flows map[flowID]flow            // reserved by those who come out of the tunnel

	// Path state of the tunnel session.
	until   time.Time // zero: none
	hop     wire.Hop
	iface   softstate.IfIndex
	nonRSVP bool
	tspec   intserv.TSpec
	adspec  *intserv.AdSpec

	refresh  time.Time // of RESV; zero: none is sent
	asked    map[flowID]intserv.FlowSpec
	accepted map[flowID]intserv.FlowSpec // confirmed
	refused  map[flowID]intserv.FlowSpec // not to be asked for before retry
	retry    time.Time
}

// flowID tells reservations apart: in a shared style senders have one together.
type flowID struct {
	session     wire.Session
	reservation uint64
}

type flow struct {
	spec    intserv.FlowSpec // encapsulated
	senders []wire.Filter
}

func newExit() exit {
	return exit{bound: map[wire.Session]time.Time{}, flows: map[flowID]flow{}, refused: map[flowID]intserv.FlowSpec{}}
}

// crossed looks at a PATH that came out of the tunnel (RFC 2746 section 4.2.2).
func (t *Table) crossed(e *end, rx *softstate.Received) {
	m := *rx.Msg
	rx.Msg = &m
	session, x := m.Session.Key(), &e.exit
	_, tunnel := e.home()
	if a := m.TakeSessionAssoc(); a != nil && a.Session.Key() == session && a.Tunnel == tunnel {
		if _, known := x.bound[session]; known || len(x.bound) < t.cfg.Flows {
			x.bound[session] = t.now.Add(t.lifetime(&m))
		} else {
			t.count.Full++
		}
	}
	_, bound := x.bound[session]
	if !bound {
		t.count.Unbound++
	}
	// Where there is no tunnel session the tunnel is a hop without RSVP. A session that
	// is not bound yet is told of the one that there is (step 1).
	if m.AdSpec != nil {
		m.AdSpec = pipe.Across(m.AdSpec, x.adspec, e.Overhead, x.nonRSVP)
	}
	t.ask(e)
}

// received is a message of the tunnel session to this end.
func (t *Table) received(e *end, rx *softstate.Received) {
	m, x := rx.Msg, &e.exit
	_, sender := e.home()
	switch m.Type {
	case wire.Path:
		if m.SenderTemplate == nil || *m.SenderTemplate != sender || m.Hop == nil || m.SenderTSpec == nil {
			return
		}
		moved := x.hop != *m.Hop || x.iface != rx.Iface || x.until.IsZero()
		x.until = t.now.Add(t.lifetime(m))
		x.hop, x.iface, x.nonRSVP, x.adspec = *m.Hop, rx.Iface, rx.TTL != m.SendTTL, m.AdSpec
		x.tspec = *m.SenderTSpec
		if moved {
			x.asked = nil
		}
		t.ask(e)
	case wire.PathTear:
		if m.SenderTemplate != nil && *m.SenderTemplate == sender && m.Hop != nil && *m.Hop == x.hop {
			x.forget()
		}
	case wire.ResvConf:
		if x.asked != nil {
			x.accepted = maps.Clone(x.asked)
		}
	case wire.ResvErr:
		t.failed(e, m)
	default: // a RESV for what we receive is nobody's
	}
}

// forget is the end of path state: the reservation has gone with it (RFC 2205
// section 3.1.5).
func (x *exit) forget() {
	x.until, x.refresh, x.asked, x.accepted, x.adspec = time.Time{}, time.Time{}, nil, nil, nil
}

// reserved follows the reservations of those who come out of the tunnel.
func (t *Table) reserved(e *end, v softstate.Event) {
	x, session := &e.exit, v.Session.Key()
	before := len(x.flows)
	for id, f := range x.flows {
		if id.session == session && slices.Contains(f.senders, v.Sender) && (v.Gone || id.reservation != v.Reservation) {
			f.senders = slices.DeleteFunc(slices.Clone(f.senders), func(s wire.Filter) bool { return s == v.Sender })
			x.flows[id] = f
			if len(f.senders) == 0 {
				delete(x.flows, id)
				delete(x.refused, id)
			}
		}
	}
	if !v.Gone && v.Reservation != 0 {
		id := flowID{session, v.Reservation}
		f := x.flows[id]
		if f.senders == nil && before >= t.cfg.Flows {
			t.count.Full++
			return
		}
		f.spec = encapsulatedFlow(v.FlowSpec, e.Overhead)
		if !slices.Contains(f.senders, v.Sender) {
			f.senders = append(f.senders, v.Sender)
		}
		x.flows[id] = f
		if was, ok := x.refused[id]; ok && was != f.spec {
			delete(x.refused, id) // another wish
		}
	}
	t.ask(e)
}

// wanted is what the tunnel session has to carry. What was there before stays
// (RFC 2746 section 4.2.3). What is new waits until the entry has announced that
// much: the way between would give, and confirm, no more than the entry's TSpec,
// and refuse the rest when it comes.
func (x *exit) wanted() map[flowID]intserv.FlowSpec {
	out, fresh := map[flowID]intserv.FlowSpec{}, []flowID(nil)
	var total intserv.TSpec // r and b alone
	for id, f := range x.flows {
		_, bound := x.bound[id.session]
		_, refused := x.refused[id]
		was, had := x.accepted[id]
		if bound && had {
			out[id], total = was, plus(total, was.TSpec, 1)
		}
		if bound && !refused && (!had || was != f.spec) {
			fresh = append(fresh, id)
		}
	}
	slices.SortFunc(fresh, byAge)
	for _, id := range fresh {
		spec, was := x.flows[id].spec, out[id]
		with := plus(plus(total, was.TSpec, -1), spec.TSpec, 1)
		if covers(was.TSpec, spec.TSpec) || covers(x.tspec, with) {
			out[id], total = spec, with
		}
	}
	return out
}

func byAge(a, b flowID) int { return cmp.Compare(a.reservation, b.reservation) }

// ask brings the RESV of the tunnel session in line with that, at once.
func (t *Table) ask(e *end) {
	x := &e.exit
	if x.until.IsZero() {
		return
	}
	want := x.wanted()
	if len(want) == 0 {
		t.hangUp(e)
		return
	}
	if x.asked != nil && maps.Equal(want, x.asked) {
		return
	}
	x.asked = want
	t.sendResv(e)
}

func (t *Table) sendResv(e *end) {
	x := &e.exit
	flows := slices.SortedFunc(maps.Values(x.asked), func(a, b intserv.FlowSpec) int { return cmp.Compare(a.TSpec.Rate, b.TSpec.Rate) })
	total := sum(flows)
	m := t.message(e, wire.Resv)
	m.TimeValues = &wire.TimeValues{Refresh: uint32(t.cfg.Refresh.Milliseconds())}
	m.Flows[0].FlowSpec = &total
	if !maps.Equal(x.asked, x.accepted) {
		m.ResvConfirm = e.Local // RFC 2746 section 4.2.3
	}
	x.refresh = t.now.Add(softstate.Jitter(t.rng, t.cfg.Refresh))
	t.send(e, m)
}

func (t *Table) message(e *end, typ wire.MsgType) *wire.Message {
	session, sender := e.home()
	x := &e.exit
	return pipe.Upstream(typ, session, sender, t.net.AddrTowards(x.iface, x.hop.Addr), x.hop)
}

func (t *Table) send(e *end, m *wire.Message) {
	if x := &e.exit; m.Hop.Addr.IsValid() { // else the interface has lost its address; the next refresh may find one
		t.emit(pipe.To(x.iface, m.Hop.Addr, x.hop.Addr, m))
	}
}

// hangUp ends the reservation of the tunnel session, if there is one.
func (t *Table) hangUp(e *end) {
	x := &e.exit
	if x.refresh.IsZero() {
		return
	}
	t.send(e, t.message(e, wire.ResvTear))
	x.refresh, x.asked, x.accepted = time.Time{}, nil, nil
}

// failed maps an error of the tunnel session to the end-to-end reservations that
// were not confirmed, or if all were to all of them (RFC 2746 sections 4.2.3 and 6.2).
func (t *Table) failed(e *end, m *wire.Message) {
	x := &e.exit
	if m.ErrorSpec == nil || x.asked == nil {
		return
	}
	guilty := map[flowID]intserv.FlowSpec{}
	for id, f := range x.asked {
		if was, ok := x.accepted[id]; !ok || was != f {
			guilty[id] = f
		}
	}
	if len(guilty) == 0 {
		guilty, x.accepted = x.asked, nil
	}
	x.retry = t.now.Add(t.cfg.Refresh)
	for _, id := range slices.SortedFunc(maps.Keys(guilty), byAge) {
		x.refused[id] = guilty[id]
		for _, f := range x.flows[id].senders {
			t.count.Failed++
			t.emit(pipe.Fail{Session: id.session, Sender: f, Why: softstate.Refusal{Code: m.ErrorSpec.Code, Value: m.ErrorSpec.Value, Text: "in the tunnel " + e.Name}})
		}
	}
	t.ask(e)
}

func (t *Table) advanceExit(e *end) {
	x := &e.exit
	due := func(at time.Time) bool { return !at.IsZero() && !t.now.Before(at) }
	if due(x.until) {
		x.forget()
	}
	if due(x.retry) {
		x.retry = time.Time{}
		clear(x.refused)
		t.ask(e)
	}
	if due(x.refresh) {
		maps.DeleteFunc(x.bound, func(_ wire.Session, until time.Time) bool { return due(until) })
		x.refresh = t.now.Add(t.cfg.Refresh)
		if want := x.wanted(); len(want) == 0 {
			t.hangUp(e)
		} else {
			x.asked = want
			t.sendResv(e)
		}
	}
}
