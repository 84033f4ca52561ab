package aggregate

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// aggregateOf is the session of the aggregate from west to east.
func (l *lab) aggregateOf(dscp uint8) (wire.Session, wire.Filter) {
	return wire.Session{Format: wire.FormatAggregate, Dst: l.via.Addrs[ifIn], DSCP: dscp},
		wire.Filter{Format: wire.FormatAggregate, Src: l.west.Addrs[ifIn]}
}

func (l *lab) wantReserved(n int) {
	l.t.Helper()
	for _, b := range []*box{l.west, l.via} {
		if got := l.reserved(b); got != n {
			l.t.Errorf("%s has %d calls reserved, want %d", b.Name, got, n)
			for _, v := range b.Node.Sessions(l.Now) {
				l.t.Logf("%v %v: %v %v", v.Session, v.Sender, v.State, v.Error())
			}
		}
	}
}

// RFC 3175 sections 2.1 to 2.8 and Appendices 1 and 2: the first call makes an
// aggregate, the next ones ride in it, and the router in between sees nothing of them.
func TestWalkThroughRFC3175AppendixA(t *testing.T) {
	l := newLab(t)
	l.call(1, 10_000)
	l.Run(time.Second)
	l.wantReserved(1)
	s, f := l.aggregateOf(af31)
	mid := l.inMid()
	if len(mid) != 1 || mid[0].Session != s || mid[0].Sender != f {
		t.Fatalf("the middle has %+v", mid)
	}
	if got := mid[0].FlowSpec.TSpec.Rate; got != 50_000 {
		t.Errorf("the aggregate has %g bytes/s, want one block", got)
	}
	for _, typ := range l.mid.heard {
		if typ != wire.Path && typ != wire.Resv && typ != wire.ResvConf {
			t.Errorf("the middle has heard a %v", typ)
		}
	}
	c := l.east.table.Counters()
	if c.Needed != 1 || c.Changes != 1 || c.Unknown != 0 || l.west.table.Counters().Asked != 1 {
		t.Errorf("east %+v, west %+v", c, l.west.table.Counters())
	}
	for n := 2; n <= 4; n++ {
		l.call(n, 10_000)
		l.Run(200 * time.Millisecond)
	}
	l.Run(time.Second)
	l.wantReserved(4)
	if c = l.east.table.Counters(); c.Needed != 1 || c.Changes != 1 || c.Riding != 4 {
		t.Errorf("after three more calls: %+v", c)
	}
	if n := len(l.inMid()); n != 1 {
		t.Errorf("the middle has %d reservations", n)
	}
	// Section 3.1: those that routers look at were hidden, and only those.
	for _, typ := range []wire.MsgType{wire.Path, wire.PathTear, wire.ResvConf} {
		if l.plain[typ] != 0 {
			t.Errorf("%d %v crossed as protocol 46", l.plain[typ], typ)
		}
	}
	if l.hidden[wire.Path] == 0 || len(l.hidden) != 1 || l.plain[wire.Resv] == 0 {
		t.Errorf("hidden %v, plain %v", l.hidden, l.plain)
	}
	// Section 2.8: the aggregator marks them as DCLASS says, and counts them in the
	// aggregate.
	counted := 0
	for _, r := range l.west.Granted {
		if EndToEnd(r.Session) {
			if counted++; r.Aggregate == nil || *r.Aggregate != s || len(r.DSCPs) == 0 || r.DSCPs[0] != af31 {
				t.Errorf("%+v", r)
			}
		}
	}
	if counted != 4 {
		t.Errorf("%d calls", counted)
	}
}

// RFC 3175 Appendix 3 and section 1.4.4: above the high mark the aggregate grows, by
// blocks; below the low one it shrinks after a while; and with the last call it goes.
func TestWaterMarksRFC3175Section1_4_4(t *testing.T) {
	l := newLab(t)
	rate := func() float64 {
		if mid := l.inMid(); len(mid) == 1 {
			return mid[0].FlowSpec.TSpec.Rate
		}
		return 0
	}
	for n := 1; n <= 4; n++ {
		l.call(n, 10_000)
		l.Run(time.Second)
	}
	if got := rate(); got != 50_000 {
		t.Errorf("four calls: %g", got)
	}
	l.call(5, 10_000)
	l.Run(time.Second)
	if got := rate(); got != 100_000 { // 50 kB/s are 70 % of 71
		t.Errorf("five calls: %g", got)
	}
	for n := 6; n <= 9; n++ {
		l.call(n, 10_000)
	}
	l.Run(time.Second)
	if got := rate(); got != 100_000 {
		t.Errorf("up to the mark: %g", got)
	}
	l.call(10, 10_000)
	l.Run(time.Second)
	if got := rate(); got != 150_000 {
		t.Errorf("above the mark: %g", got)
	}
	l.wantReserved(10)
	for n := 4; n <= 10; n++ {
		l.hang(n)
	}
	l.Run(5 * time.Second)
	if got := rate(); got != 150_000 {
		t.Errorf("it shrinks at once: %g", got)
	}
	l.Run(6 * time.Second)
	if got := rate(); got != 50_000 {
		t.Errorf("it does not shrink: %g", got)
	}
	l.wantReserved(3)
	for n := 1; n <= 3; n++ {
		l.hang(n)
	}
	l.Run(30 * time.Second)
	for _, b := range l.boxes() {
		if n := len(b.Node.Sessions(l.Now)); n != 0 {
			t.Errorf("%s still has %d sessions", b.Name, n)
		}
		if b.table == nil {
			continue
		}
		if c := b.table.Counters(); c.Begin+c.End+c.Carried+c.Riding != 0 || len(b.table.entering)+len(b.table.leaving) != 0 {
			t.Errorf("%s: %+v", b.Name, c)
		}
	}
	if c := l.east.table.Counters(); c.Changes != 5 {
		t.Errorf("%d changes", c.Changes)
	}
}

// RFC 3175 section 1.4.5: the region's hops, latency and error terms are in the ADSPEC
// that leaves it, each once. The first PATH waits for them (section 2.3).
func TestAdSpecRFC3175Section1_4_5(t *testing.T) {
	l := newLab(t)
	var seen []softstate.PathInfo
	l.answer = func(i softstate.PathInfo) (softstate.ReserveSpec, bool) {
		if i.AdSpec != nil {
			seen = append(seen, i)
		}
		return softstate.ReserveSpec{}, false
	}
	l.call(1, 10_000)
	l.Run(time.Second)
	if len(seen) == 0 {
		t.Fatal("PATH has not come through")
	}
	for _, i := range seen { // west, middle, east
		a := i.AdSpec
		if a.Break || a.General.Hops != 3 || a.General.Latency != 300 || a.Guaranteed == nil || a.Guaranteed.Ctot != 300 || a.Guaranteed.Dtot != 3000 || a.Guaranteed.Break {
			t.Errorf("%+v %+v", a, a.Guaranteed)
		}
	}
}

// Without an aggregator that understands NEW-AGGREGATE-NEEDED, PATH goes on after a
// while; what is not known is told by the break bit (section 1.4.5: too little
// rather than too much), and corrected as soon as it is known.
func TestPathWithoutAggregate(t *testing.T) {
	l := newLab(t)
	var seen []intserv.AdSpec
	l.answer = func(i softstate.PathInfo) (softstate.ReserveSpec, bool) {
		if i.AdSpec != nil {
			seen = append(seen, *i.AdSpec)
		}
		return softstate.ReserveSpec{}, false
	}
	deaf := l.west.table
	// West hides, and takes no part beyond that.
	l.west.table = New(Config{Aggregates: -1, Flows: -1}, l.west, l.rng)
	l.interior(l.west, Interior{Iface: ifIn, Most: 1e6, MTU: 1500})
	l.call(1, 10_000)
	l.Run(900 * time.Millisecond)
	if len(seen) != 0 {
		t.Fatal("PATH did not wait")
	}
	l.Run(3 * time.Second)
	if len(seen) == 0 || !seen[0].Break {
		t.Fatalf("%+v", seen)
	}
	if c := l.east.table.Counters(); c.Needed < 2 || c.Unknown == 0 {
		t.Errorf("%+v", c)
	}
	l.west.table = deaf
	l.Run(4 * time.Second)
	if a := seen[len(seen)-1]; a.Break || a.General.Hops != 3 {
		t.Errorf("%+v", a)
	}
}

// RFC 3175 section 2.5: what the region has no room for is refused, with the error of
// who refused it, and what is there stays. It is tried without anything to spare
// first.
func TestRefusedInsideRFC3175Section2_5(t *testing.T) {
	l := newLab(t)
	l.mid.limit = 95_000
	for n := 1; n <= 9; n++ {
		l.call(n, 10_000)
		l.Run(300 * time.Millisecond)
	}
	l.Run(2 * time.Second)
	l.wantReserved(9)
	l.call(10, 10_000)
	l.Run(2 * time.Second)
	l.wantReserved(9)
	v := l.state(l.east, 10)
	if v.Failure == nil || v.Failure.Code != wire.ErrAdmission || v.Failure.Value != wire.AdmissionBandwidth {
		t.Errorf("%+v", v.Failure)
	}
	if n := len(l.inMid()); n != 1 {
		t.Errorf("the middle has %d reservations", n)
	}
	l.hang(1)
	l.Run(10 * time.Second) // the receiver's box tries again
	l.wantReserved(9)
	if l.state(l.west, 10).State != softstate.Reserved {
		t.Error("the tenth has not got the room of the first")
	}
}

// RFC 3175 sections 1.4.3 and 2.3: services have DSCPs, and aggregates of their own.
func TestServicesRFC3175Section1_4_3(t *testing.T) {
	l := newLab(t)
	l.answer = func(i softstate.PathInfo) (softstate.ReserveSpec, bool) {
		flow := intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: i.TSpec}
		if i.Session.DstPort%2 == 1 {
			flow.Service, flow.RSpec.Rate = intserv.Guaranteed, 2*i.TSpec.Rate
		}
		return softstate.ReserveSpec{Style: wire.FF, FlowSpec: flow}, true
	}
	for n := 1; n <= 4; n++ {
		l.call(n, 10_000)
	}
	l.Run(2 * time.Second)
	l.wantReserved(4)
	mid := l.inMid()
	if len(mid) != 2 || mid[0].Session.DSCP != af31 || mid[1].Session.DSCP != ef {
		t.Fatalf("%+v", mid)
	}
	if f := mid[1].FlowSpec; f.Service != intserv.Guaranteed || f.RSpec.Rate < 40_000 || mid[0].FlowSpec.Service != intserv.ControlledLoad {
		t.Errorf("%v, %v", mid[0].FlowSpec, f)
	}
	for _, r := range l.west.Granted {
		if EndToEnd(r.Session) && (r.FlowSpec.Service == intserv.Guaranteed) != (r.Aggregate.DSCP == ef) {
			t.Errorf("%v in %v", r.FlowSpec, r.Aggregate)
		}
	}
}

// RFC 3175 section 2.10: when the aggregate goes, those in it have nothing reserved
// any more, at either end, and are told; and when it comes again they have.
func TestLossOfTheAggregateRFC3175Section2_10(t *testing.T) {
	l := newLab(t)
	for n := 1; n <= 3; n++ {
		l.call(n, 10_000)
	}
	l.Run(2 * time.Second)
	l.wantReserved(3)
	// The middle loses its state, and has no room for a while.
	l.mid.Perform(l.mid.Node.Shutdown(l.Now))
	l.mid.limit = 1
	l.Run(time.Second)
	if n := l.reserved(l.west); n != 0 {
		t.Errorf("west still marks %d calls", n)
	}
	if c := l.west.table.Counters(); c.Withdrawn != 3 {
		t.Errorf("%+v", c)
	}
	if c := l.east.table.Counters(); c.Failed < 3 {
		t.Errorf("%+v", c)
	}
	l.mid.limit = 0
	l.Run(20 * time.Second)
	l.wantReserved(3)
	if v := l.state(l.east, 1); v.Failure != nil {
		t.Errorf("%v", v.Failure)
	}
}

// RFC 3175 section 1.4.2: another deaggregator is found by the next PATH, and the
// session moves to the aggregate that ends there. The aggregates' own routes do not
// change.
func TestRouteChangeRFC3175Section1_4_2(t *testing.T) {
	l := newLab(t)
	for n := 1; n <= 3; n++ {
		l.call(n, 10_000)
	}
	l.Run(2 * time.Second)
	l.wantReserved(3)
	l.via = l.east2
	l.Run(8 * time.Second)
	l.wantReserved(3)
	s, _ := l.aggregateOf(af31)
	for _, c := range l.west.table.carried {
		if c.b.session != s {
			t.Errorf("%v rides in %v", c.session, c.b.session)
		}
	}
	l.Run(60 * time.Second)
	if mid := l.inMid(); len(mid) != 1 || mid[0].Session != s {
		t.Errorf("%+v", mid)
	}
	if c := l.east.table.Counters(); c.End+c.Riding != 0 {
		t.Errorf("%+v", c)
	}
}

// The other direction: the senders of a session may be behind several aggregators. A
// shared reservation takes its part of each aggregate.
func TestSharedReservationOfTwoAggregators(t *testing.T) {
	for _, style := range []wire.Style{wire.WF, wire.SE, wire.FF} {
		l := newLab(t)
		l.style = style
		l.call(1, 10_000)
		l.Run(time.Second)
		l.callFrom(l.west2, hostC, 1, 10_000)
		l.Run(3 * time.Second)
		for _, b := range []*box{l.west, l.west2} {
			if l.reserved(b) != 1 {
				t.Errorf("%v: %s has %+v", style, b.Name, b.Node.Sessions(l.Now))
			}
		}
		if n := len(l.inMid()); n != 2 {
			t.Errorf("%v: the middle has %d aggregates", style, n)
		}
		l.hangFrom(l.west2, hostC, 1)
		l.Run(30 * time.Second)
		if mid := l.inMid(); len(mid) != 1 || l.reserved(l.west) != 1 {
			t.Errorf("%v: the middle has %+v", style, mid)
		}
	}
}

// A call that becomes larger waits for room, and keeps what it has if there is none.
func TestLargerCall(t *testing.T) {
	l := newLab(t)
	l.mid.limit = 100_000
	l.call(1, 10_000)
	l.Run(2 * time.Second)
	l.call(1, 60_000)
	l.Run(2 * time.Second)
	if f := l.state(l.west, 1).FlowSpec; f == nil || f.TSpec.Rate != 60_000 {
		t.Errorf("%v", f)
	}
	l.call(1, 150_000)
	l.Run(2 * time.Second)
	l.wantReserved(1)
	for _, r := range l.west.Granted {
		if EndToEnd(r.Session) && r.FlowSpec.TSpec.Rate > 100_000 {
			t.Errorf("%v", r.FlowSpec)
		}
	}
}

// What traffic control refuses outside of the region takes no room in the aggregate.
func TestRefusedOutside(t *testing.T) {
	l := newLab(t)
	l.east.limit = 25_000
	for n := 1; n <= 4; n++ {
		l.call(n, 10_000)
	}
	l.Run(time.Second)
	l.wantReserved(2)
	if c := l.east.table.Counters(); c.Riding != 2 {
		t.Errorf("%+v", c)
	}
}

// An aggregator that starts anew is told by the next RESV, one that ends here by the
// next PATH.
func TestRestarts(t *testing.T) {
	l := newLab(t)
	restart := func(b *box) {
		b.Node = softstate.New(softstate.Config{Refresh: 2 * time.Second, Quick: -1}, b, l.rng)
		b.Granted = map[uint64]softstate.Reserve{}
		l.edge(b)
	}
	calls := func() {
		for n := 1; n <= 3; n++ {
			l.call(n, 10_000)
		}
	}
	calls()
	l.Run(2 * time.Second)
	restart(l.east)
	l.Run(10 * time.Second)
	l.wantReserved(3)
	restart(l.west)
	calls()
	l.Run(10 * time.Second)
	l.wantReserved(3)
}

// Settings that change take effect; an interface that is not interior any more ends
// its aggregates, and calls go on as any others.
func TestSet(t *testing.T) {
	l := newLab(t)
	l.call(1, 10_000)
	l.Run(2 * time.Second)
	for _, b := range []*box{l.west, l.east} {
		l.interior(b)
	}
	l.Run(15 * time.Second)
	l.wantReserved(1)
	if mid := l.inMid(); len(mid) != 1 || !EndToEnd(mid[0].Session) {
		t.Errorf("%+v", mid)
	}
	for _, b := range []*box{l.west, l.east} {
		l.interior(b, Interior{Iface: ifIn, Most: 5e6, MTU: 1500, Size: l.size})
	}
	l.Run(30 * time.Second)
	l.wantReserved(1)
	if mid := l.inMid(); len(mid) != 1 || EndToEnd(mid[0].Session) {
		t.Errorf("%+v", mid)
	}
	for _, r := range l.west.Granted {
		if EndToEnd(r.Session) && r.Aggregate == nil {
			t.Errorf("%+v", r)
		}
	}
	for _, b := range []*box{l.west, l.east} {
		b.Effects(b.table.Shutdown(l.Now))
	}
}

// Everything that grows has a limit.
func TestLimits(t *testing.T) {
	l := newLab(t)
	for _, b := range []*box{l.west, l.east} {
		b.table = New(Config{Refresh: 2 * time.Second, Flows: 3, Aggregates: 1}, b, l.rng)
		l.interior(b, Interior{Iface: ifIn, Most: 5e6, MTU: 1500, Size: l.size})
	}
	for n := 1; n <= 6; n++ {
		l.call(n, 10_000)
	}
	l.Run(3 * time.Second)
	for _, b := range []*box{l.west, l.east} {
		c := b.table.Counters()
		if c.Full == 0 || c.Begin > 1 || c.End > 1 || c.Carried > 3 || c.Riding > 3 || b.table.senders > 3 || b.table.arriving > 3 {
			t.Errorf("%s: %+v", b.Name, c)
		}
	}
}

// A reservation that was made before its session was mapped, as after a restart, where
// RESV may come before PATH has gone in again, rides in the aggregate from the next
// RESV on.
func TestReservedBeforeItWasMapped(t *testing.T) {
	l := newLab(t)
	l.call(1, 10_000)
	l.Run(time.Second)
	w := l.west.table
	for id, r := range l.west.Granted {
		if EndToEnd(r.Session) {
			r.Aggregate = nil
			l.west.Granted[id] = r
			w.point(w.entering[session(1)].senders[sender(hostA)], nil)
			w.uncarry(w.carried[id])
		}
	}
	if c := w.Counters(); c.Carried != 0 {
		t.Fatalf("%+v", c)
	}
	l.Run(5 * time.Second)
	for _, r := range l.west.Granted {
		if EndToEnd(r.Session) && r.Aggregate == nil {
			t.Errorf("%+v", r)
		}
	}
	if c := w.Counters(); c.Carried != 1 {
		t.Errorf("%+v", c)
	}
}

// RFC 3175 section 2.5 and Appendix 1 (9): in the region DCLASS names the aggregate and
// nothing else, wherever in RESV it was; the aggregator takes it out.
func TestDClassRFC3175Section2_5(t *testing.T) {
	l := newLab(t)
	l.call(1, 10_000)
	l.Run(time.Second)
	resv := func(out softstate.IfIndex, to netip.Addr, all, one []wire.Object) *wire.Message {
		s := softstate.Send{Out: out, Dst: to, Msg: &wire.Message{
			Type: wire.Resv, Session: session(1), Style: wire.FF, Unknown: all,
			Flows: []wire.FlowDescriptor{{Filters: []wire.Filter{sender(hostA)}, Unknown: one}},
		}}
		b := l.west
		if out == ifIn {
			b = l.east
		}
		if b.table.Outgoing(l.Now, &s) {
			t.Fatal("not sent")
		}
		return s.Msg
	}
	others := []wire.Object{{Class: 200, CType: 1, Body: []byte{1, 2, 3, 4}}}
	for _, lists := range [][2][]wire.Object{{nil, nil}, {nil, {wire.DClass(34)}}, {{wire.DClass(34, 36)}, nil}, {{wire.DClass(34)}, {wire.DClass(36)}}} {
		all := append(slices.Clone(lists[0]), others...)
		m := resv(ifIn, l.west.Addrs[ifIn], all, lists[1])
		if dscp, ok := classOf(m); !ok || dscp != af31 || len(m.Unknown) != 2 || len(m.Flows[0].Unknown) != 0 {
			t.Errorf("%v: into the region %v, %v", lists, m.Unknown, m.Flows[0].Unknown)
		}
		m = resv(ifLAN, hostA, all, lists[1])
		if _, ok := classOf(m); ok || len(m.Unknown) != 1 {
			t.Errorf("%v: out of it %v, %v", lists, m.Unknown, m.Flows[0].Unknown)
		}
		if len(all) != len(lists[0])+1 {
			t.Error("the message of the machine was changed")
		}
	}
	for _, m := range []*wire.Message{
		{Unknown: []wire.Object{wire.DClass(af31)}}, {Flows: []wire.FlowDescriptor{{Unknown: []wire.Object{wire.DClass(af31)}}}},
	} {
		if dscp, ok := classOf(m); !ok || dscp != af31 {
			t.Errorf("%+v: %d, %v", m, dscp, ok)
		}
	}
}

// The end of a reservation that was in place before it waited for an aggregate is traffic
// control's to see, at either edge.
func TestReleaseWhileItWaitsForItsFirstAggregate(t *testing.T) {
	l := newLab(t)
	l.call(1, 10_000)
	l.Run(time.Second)
	for _, b := range []*box{l.west, l.east} {
		for id, r := range b.Granted {
			if !EndToEnd(r.Session) {
				continue
			}
			if c := b.table.carried[id]; c != nil {
				b.table.uncarry(c)
				c.b.installed = nil
			}
			if o := b.table.riders[id]; o != nil {
				e := o.parts[0].e
				b.table.unride(o)
				e.have = nil
			}
			r.Change = true
			if held, _ := b.table.Reserve(l.Now, r); !held {
				t.Fatalf("%s: not held", b.Name)
			}
			if unknown, _ := b.table.Release(l.Now, id); unknown {
				t.Errorf("%s: traffic control is not told", b.Name)
			}
			r.ID, r.Change = 1000, false
			if held, _ := b.table.Reserve(l.Now, r); !held {
				t.Fatalf("%s: not held", b.Name)
			}
			if unknown, _ := b.table.Release(l.Now, 1000); !unknown {
				t.Errorf("%s: traffic control is told of what it never had", b.Name)
			}
		}
	}
}
