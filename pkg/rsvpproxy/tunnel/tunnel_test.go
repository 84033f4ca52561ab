package tunnel

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func (l *lab) wantState(n int, want softstate.State, boxes ...*box) {
	l.t.Helper()
	for _, b := range boxes {
		if v := l.state(b, session(n), sender); v.State != want {
			l.t.Errorf("%s, session %d: %v, want %v: %+v", b.Name, n, v.State, want, v)
		}
	}
}

// RFC 2746 sections 3.1.2, 4.1, 4.2.3, 4.2.4 and 6.4: the first end-to-end reservation makes
// the tunnel session, further ones let it grow, their ends let it shrink, and the
// last one ends it. Each is the sum, encapsulation included.
func TestSoftPipeRFC2746Section4_2(t *testing.T) {
	l := newLab(t, true, true)
	l.call(1, 10000)
	l.Run(300 * time.Millisecond)
	l.wantState(1, softstate.Reserved, l.entry, l.exit)
	l.wantTunnel(10000)
	l.call(2, 5000)
	l.call(3, 7000)
	l.Run(300 * time.Millisecond)
	l.wantState(3, softstate.Reserved, l.entry, l.exit)
	l.wantTunnel(22000)
	l.Run(30 * time.Second) // refreshes change nothing
	l.wantTunnel(22000)
	l.hang(2)
	l.Run(300 * time.Millisecond)
	l.wantTunnel(17000)
	l.hang(1)
	l.hang(3)
	l.Run(300 * time.Millisecond)
	l.wantTunnel(0)
	if c := l.entry.table.Counters(); c.Carried != 0 || c.Held != 3 || c.Granted != 3 || c.Refused != 0 || c.Tunnels != 1 {
		t.Errorf("%+v", c)
	}
	if len(l.entry.Granted) != 0 || len(l.mid.Granted) != 0 || len(l.exit.Granted) != 0 {
		t.Errorf("left: %v %v %v", l.entry.Granted, l.mid.Granted, l.exit.Granted)
	}
}

// RFC 2746 sections 2.3.1, 2.3.2 and 4.2.1 to 4.2.4: what the ends tell each other. The
// reservation is upstream only after the tunnel's own is there.
func TestBindingRFC2746Section4_2(t *testing.T) {
	l := newLab(t, true, true)
	l.call(1, 10000)
	l.Run(300 * time.Millisecond)
	first, bound, ends := -1, -1, 0
	for i, m := range l.overTunnel {
		switch m.Type {
		case wire.Path:
			a := m.TakeSessionAssoc()
			if a == nil {
				if bound >= 0 {
					t.Errorf("message %d: PATH without SESSION_ASSOC after the binding", i)
				}
				continue
			}
			if bound < 0 {
				bound = i
			}
			if a.Session.Key() != session(1) || a.Tunnel != (wire.Filter{Src: entryOuter}) {
				t.Errorf("%+v", a)
			}
		case wire.Resv:
			if first < 0 {
				first = i
			}
			if ends++; !m.TunnelEnd {
				t.Errorf("message %d: RESV without NODE_CHAR", i)
			}
		default:
		}
	}
	if first < 0 || bound < first || ends == 0 {
		t.Errorf("first RESV %d, first binding %d", first, bound)
	}
	for _, m := range l.seen {
		if m.Session.Protocol != 4 {
			continue
		}
		// The tunnel session's messages are ordinary ones.
		if m.TunnelEnd || m.TakeSessionAssoc() != nil || m.Session.Dst != exitOuter || m.Type == wire.Resv && (m.Style != wire.FF || len(m.Flows) != 1) {
			t.Errorf("%+v", m)
		}
	}
}

// RFC 2746 section 6.2: what the tunnel's way refuses is refused end to end, at
// the entry and to the receiver, and what was there before stays.
func TestRefusedRFC2746Section6_2(t *testing.T) {
	l := newLab(t, true, true)
	l.mid.limit = 20000
	l.call(1, 10000)
	l.Run(300 * time.Millisecond)
	l.call(2, 10000)
	l.Run(3 * time.Second)
	l.wantState(1, softstate.Reserved, l.entry, l.exit)
	l.wantTunnel(10000)
	if v := l.state(l.entry, session(2), sender); v.State == softstate.Reserved || v.State == softstate.Inactive {
		t.Errorf("at the entry: %+v", v)
	}
	if v := l.state(l.exit, session(2), sender); v.Failure == nil || v.Failure.Code != wire.ErrAdmission || v.Failure.Value != wire.AdmissionBandwidth {
		t.Errorf("at the exit: %+v", v)
	}
	if c := l.exit.table.Counters(); c.Failed == 0 {
		t.Errorf("%+v", c)
	}
	// When the first has gone there is room for the second.
	l.hang(1)
	l.Run(20 * time.Second)
	l.wantState(2, softstate.Reserved, l.entry, l.exit)
	l.wantTunnel(10000)
}

// RFC 2746 sections 1 and 4.2.2: an end that does not know of tunnels makes the
// tunnel a link like others, on which nothing waits.
func TestOneEndOnlyRFC2746Section1(t *testing.T) {
	for _, atEntry := range []bool{true, false} {
		l := newLab(t, atEntry, !atEntry)
		l.call(1, 10000)
		l.Run(300 * time.Millisecond)
		l.wantState(1, softstate.Reserved, l.entry, l.exit)
		l.wantTunnel(0)
		l.Run(20 * time.Second)
		l.wantState(1, softstate.Reserved, l.entry, l.exit)
		l.hang(1)
		l.Run(time.Second)
		if len(l.entry.Granted) != 0 {
			t.Errorf("left %v", l.entry.Granted)
		}
	}
}

// RFC 2746 sections 4.2.2 and 6.3: the tunnel's composed ADSPEC is that of one link of the
// end-to-end path; without a tunnel session the break bit is set.
func TestAdSpecRFC2746Section4_2_2(t *testing.T) {
	l := newLab(t, true, true)
	l.call(1, 10000)
	l.Run(2 * time.Millisecond) // PATH has crossed, nothing is bound
	v, ok := l.exit.Node.Inspect(session(1), sender, 0)
	if !ok || v.Report.AdSpec == nil || !v.Report.AdSpec.Break {
		t.Fatalf("%+v", v.Report.AdSpec)
	}
	l.Run(20 * time.Second)
	v, _ = l.exit.Node.Inspect(session(1), sender, 0)
	a := v.Report.AdSpec
	// Entry, and the tunnel as one hop: of its two links' latency, and of their MTU less the header.
	if a == nil || a.Break || a.General.Hops != 2 || a.General.Latency != 300 || a.General.MTU != 1500-overhead || a.ControlledLoad == nil || a.ControlledLoad.Break {
		t.Errorf("%+v", a)
	}
}

// RFC 2746 sections 4.2.4 and 6.4: r, b, p and R grow as if all packets were the smallest.
func TestEncapsulated(t *testing.T) {
	got := Encapsulated(intserv.TSpec{Rate: 1000, Bucket: 800, Peak: 2000, MinUnit: 80, MaxPacket: 1400}, 20)
	if want := (intserv.TSpec{Rate: 1250, Bucket: 1000, Peak: 2500, MinUnit: 100, MaxPacket: 1420}); got != want {
		t.Errorf("%+v", got)
	}
	got = Encapsulated(intserv.TSpec{Rate: 1000, Bucket: 800, Peak: math.Inf(1), MinUnit: 0, MaxPacket: math.MaxUint32}, 20)
	if want := (intserv.TSpec{Rate: 2000, Bucket: 1600, Peak: math.Inf(1), MinUnit: 40, MaxPacket: math.MaxUint32}); got != want {
		t.Errorf("%+v", got)
	}
	cl := intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: intserv.TSpec{Rate: 100, Bucket: 10, Peak: 100, MinUnit: 80, MaxPacket: 100}}
	gs := cl
	gs.Service, gs.RSpec = intserv.Guaranteed, intserv.RSpec{Rate: 300, Slack: 9}
	if f := sum([]intserv.FlowSpec{cl, cl}); f.Service != intserv.ControlledLoad || f.TSpec.Rate != 200 || f.RSpec.Rate != 0 {
		t.Errorf("%v", f)
	}
	f := sum([]intserv.FlowSpec{cl, gs})
	if f.Service != intserv.Guaranteed || f.TSpec.Rate != 200 || f.RSpec != (intserv.RSpec{Rate: 400}) {
		t.Errorf("%v", f)
	}
	if e := encapsulatedFlow(gs, 20); e.RSpec.Rate != 375 || e.RSpec.Slack != 9 {
		t.Errorf("%v", e)
	}
	if carries(cl, gs) || !carries(gs, cl) || !carries(f, gs) || carries(gs, f) {
		t.Error("carries")
	}
}

// With messages lost the two ends agree in the end, and everything is gone when
// the calls are.
func TestLossConverges(t *testing.T) {
	for range 30 {
		l := newLab(t, true, true)
		l.loss = 0.2
		l.call(1, 10000)
		l.call(2, 5000)
		l.Run(60 * time.Second)
		l.loss = 0
		l.Run(15 * time.Second)
		l.wantState(1, softstate.Reserved, l.entry, l.exit)
		l.wantState(2, softstate.Reserved, l.entry, l.exit)
		l.wantTunnel(15000)
		l.loss = 0.2
		l.hang(1)
		l.hang(2)
		l.Run(60 * time.Second)
		l.loss = 0
		l.Run(15 * time.Second)
		l.wantTunnel(0)
		for _, b := range []*box{l.entry, l.mid, l.exit} {
			if len(b.Granted) != 0 || len(b.Node.Sessions(l.Now)) != 0 {
				t.Errorf("%s: %v %v", b.Name, b.Granted, b.Node.Sessions(l.Now))
			}
		}
	}
}

// The other end falls silent: what waits is refused in time; what the tunnel
// session still had ends with its path state.
func TestSilentEnds(t *testing.T) {
	l := newLab(t, true, true)
	l.call(1, 10000)
	l.Run(time.Second)
	l.loss = 1
	l.call(1, 20000) // grows: RESV for it would have to come
	l.Run(60 * time.Second)
	if x := &l.exit.table.ends[ifTun].exit; !x.until.IsZero() || !x.refresh.IsZero() || len(x.asked) != 0 {
		t.Errorf("%+v", x)
	}
	l.wantTunnel(0)
}

// A tunnel that is taken out of the configuration gives everything back; who
// waited goes on without it.
func TestSetRemoves(t *testing.T) {
	l := newLab(t, true, true)
	l.exit.table.cfg.Flows = 0 // so that nothing is ever bound there
	l.call(1, 10000)
	l.Run(100 * time.Millisecond)
	l.wantState(1, softstate.Requested, l.entry)
	l.entry.Effects(l.entry.table.Set(l.Now, []Tunnel{tunnelOf(entryOuter, exitOuter)})) // as it was
	l.wantState(1, softstate.Requested, l.entry)
	l.entry.Effects(l.entry.table.Shutdown(l.Now))
	l.Run(100 * time.Millisecond)
	l.wantState(1, softstate.Reserved, l.entry)
	if v := l.entry.Node.Sessions(l.Now); len(v) != 1 {
		t.Errorf("%+v", v)
	}
	if c := l.entry.table.Counters(); c.Tunnels != 0 {
		t.Errorf("%+v", c)
	}
}

// There is a limit on what a tunnel session is made of; beyond it the tunnel is a
// link like others.
func TestFlowsAreLimited(t *testing.T) {
	l := newLab(t, true, true)
	l.entry.table.cfg.Flows = 2
	for n := range 4 {
		l.call(n, 1000)
	}
	l.Run(time.Second)
	for n := range 4 {
		l.wantState(n, softstate.Reserved, l.entry, l.exit)
	}
	if c := l.entry.table.Counters(); c.Carried != 2 || c.Full != 2 {
		t.Errorf("%+v", c)
	}
	l.wantTunnel(2000)
}

// A message that names another session or another sender binds nothing, and one
// of a stranger to our tunnel session changes nothing.
func TestForeignMessages(t *testing.T) {
	l := newLab(t, true, true)
	l.call(1, 10000)
	l.Run(time.Second)
	x := &l.exit.table.ends[ifTun].exit
	bound := len(x.bound)
	m := &wire.Message{
		Type: wire.Path, SendTTL: 9, Session: session(7), Hop: &wire.Hop{Addr: entryInner, LIH: 9}, TimeValues: &wire.TimeValues{Refresh: 2000},
		SenderTemplate: &sender, SenderTSpec: &tspec,
		Unknown: []wire.Object{wire.SessionAssoc{Session: session(8), Tunnel: wire.Filter{Src: entryOuter}}.Object()},
	}
	rx := softstate.Received{Iface: ifTun, Src: hostA, Dst: hostB, TTL: 9, Msg: m}
	if consumed, _ := l.exit.table.Incoming(l.Now, &rx); consumed || len(x.bound) != bound || len(rx.Msg.Unknown) != 0 || len(m.Unknown) != 1 {
		t.Errorf("%v, bound %v, %v", consumed, x.bound, rx.Msg.Unknown)
	}
	m.Unknown = []wire.Object{wire.SessionAssoc{Session: session(7), Tunnel: wire.Filter{Src: netip.MustParseAddr("192.0.2.99")}}.Object()}
	rx.Msg = m
	l.exit.table.Incoming(l.Now, &rx)
	if len(x.bound) != bound {
		t.Errorf("bound %v", x.bound)
	}
	hop := x.hop
	foreign := &wire.Message{
		Type: wire.Path, Session: wire.Session{Dst: exitOuter, Protocol: 4}, Hop: &wire.Hop{Addr: midRight, LIH: 77},
		SenderTemplate: &wire.Filter{Src: netip.MustParseAddr("192.0.2.99")}, SenderTSpec: &tspec,
	}
	rx = softstate.Received{Iface: ifOuter, Src: foreign.SenderTemplate.Src, Dst: exitOuter, Msg: foreign}
	if consumed, out := l.exit.table.Incoming(l.Now, &rx); !consumed || len(out) != 0 || x.hop != hop {
		t.Errorf("%v %v", consumed, out)
	}
	foreign.Type, foreign.Session.Protocol = wire.PathTear, 41
	if consumed, _ := l.exit.table.Incoming(l.Now, &rx); consumed {
		t.Error("another session was taken for the tunnel's")
	}
}

// The end of a reservation that was in place before it waited for the tunnel session is
// traffic control's to see.
func TestReleaseWhileItWaitsForTheTunnelSession(t *testing.T) {
	l := newLab(t, true, true)
	e := l.entry.table
	e.ends[ifTun].entry.capable = true
	r := softstate.Reserve{
		Session: session(1), Filters: []wire.Filter{sender}, Out: ifTun, SenderTSpec: tspec,
		FlowSpec: intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: tspec},
	}
	for _, before := range []bool{true, false} {
		r.ID++
		r.Change = before
		if held, _ := e.Reserve(l.Now, r); !held {
			t.Fatal("not held")
		}
		if unknown, _ := e.Release(l.Now, r.ID); unknown == before {
			t.Errorf("in place before %v, and traffic control never knew of it: %v", before, unknown)
		}
	}
}

// What traffic control refuses takes no room in the tunnel session, however often it is
// asked for; and what was there before stays.
func TestRefusedByTrafficControl(t *testing.T) {
	l := newLab(t, true, true)
	l.call(1, 10000)
	l.Run(300 * time.Millisecond)
	l.entry.full = true
	l.call(1, 20000)
	l.call(2, 5000)
	l.Run(60 * time.Second)
	l.wantState(1, softstate.Reserved, l.entry)
	if c := l.entry.table.Counters(); c.Granted < 3 || c.Carried > 2 {
		t.Errorf("%+v", c)
	}
	l.hang(1)
	l.hang(2)
	l.Run(time.Second)
	l.wantTunnel(0)
	if c := l.entry.table.Counters(); c.Carried != 0 || len(l.entry.Granted) != 0 {
		t.Errorf("%+v, %v", c, l.entry.Granted)
	}
}
