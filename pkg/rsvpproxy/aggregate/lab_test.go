package aggregate

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe/pipetest"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

var fixedSeed = flag.Uint64("aggregate.seed", 0, "seed of the simulations; 0: a new one each time")

var epoch = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

var addr = netip.MustParseAddr

// The lab: hosts A and C behind two aggregators, a router that speaks RSVP and knows
// nothing of aggregation, and two deaggregators in front of host B, one of which has
// the route.
//
//	A (10.1.0.2) - west  \              / east  \
//	                      mid (interior)          B (10.2.0.2)
//	C (10.3.0.2) - west2 /              \ east2 /
var hostA, hostB, hostC = addr("10.1.0.2"), addr("10.2.0.2"), addr("10.3.0.2")

// Interfaces: the edges have a LAN and one inside; those of the middle are named after
// who is behind them.
const (
	ifLAN  softstate.IfIndex = 1
	ifIn   softstate.IfIndex = 2
	toWest softstate.IfIndex = 11 + iota - 2
	toWest2
	toEast
	toEast2
)

// EF and AF31 are the DSCPs of guaranteed service and controlled load.
const ef, af31 = 46, 26

// box is a node with its aggregates, joined as the event loop joins them.
type box struct {
	*pipetest.Box
	l       *lab
	table   *Table // nil: knows nothing of aggregation
	limit   float64
	heard   []wire.MsgType      // by the machine
	wishes  []softstate.Reserve // that traffic control was asked for
	refuses wire.Session        // that it does not take
}

func (b *box) Route(dst netip.Addr) (softstate.IfIndex, bool, bool) {
	if b.Local(dst) {
		return 0, true, true
	}
	return b.l.route(b, dst), false, true
}

func (b *box) Aware(_ netip.Addr, out softstate.IfIndex) bool { return out != ifLAN }

func (b *box) Hop(softstate.IfIndex) intserv.Hop {
	return intserv.Hop{
		Bandwidth: 1e7, MTU: 1500, Latency: 100, ControlledLoad: &intserv.ServiceHop{}, Guaranteed: &intserv.GuaranteedHop{C: 100, D: 1000},
	}
}

func (b *box) ReceiverProxy(i softstate.PathInfo) (softstate.ReserveSpec, bool) {
	if i.Out != ifLAN {
		return softstate.ReserveSpec{}, false
	}
	if b.l.answer != nil {
		return b.l.answer(i)
	}
	return softstate.ReserveSpec{Style: b.l.style, FlowSpec: intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: i.TSpec}}, true
}

func (b *box) Priority(r softstate.Reserve) softstate.Priority { return r.Priority }

// DSCP is the mapping policy.
func (b *box) DSCP(_ wire.Session, _ wire.Filter, s intserv.Service) uint8 {
	if s == intserv.Guaranteed {
		return ef
	}
	return af31
}

type packet struct {
	src    netip.Addr
	dst    netip.Addr
	ttl    uint8
	hidden bool
	raw    []byte
}

type lab struct {
	pipetest.Clock
	t                             *testing.T
	rng                           *rand.Rand
	west, west2, mid, east, east2 *box
	loss                          float64
	via                           *box // the deaggregator that has the route to B
	style                         wire.Style
	answer                        func(softstate.PathInfo) (softstate.ReserveSpec, bool)
	plain                         map[wire.MsgType]int // end-to-end messages in the region of protocol 46
	hidden                        map[wire.MsgType]int // ... and of 134
	size                          Size
}

func newLab(t *testing.T) *lab {
	t.Helper()
	seed := *fixedSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d: again with -aggregate.seed=%[1]d", seed)
		}
	})
	l := &lab{
		t: t, Clock: pipetest.Clock{Now: epoch}, rng: rand.New(rand.NewPCG(seed, 1)), style: wire.FF, plain: map[wire.MsgType]int{}, hidden: map[wire.MsgType]int{},
		size: Size{Step: 50_000, High: 0.9, Low: 0.5, Hold: 10 * time.Second},
	}
	l.west = l.box("west", map[softstate.IfIndex]netip.Addr{ifLAN: addr("10.1.0.1"), ifIn: addr("192.0.2.1")})
	l.west2 = l.box("west2", map[softstate.IfIndex]netip.Addr{ifLAN: addr("10.3.0.1"), ifIn: addr("192.0.2.5")})
	l.east = l.box("east", map[softstate.IfIndex]netip.Addr{ifLAN: addr("10.2.0.1"), ifIn: addr("192.0.2.9")})
	l.east2 = l.box("east2", map[softstate.IfIndex]netip.Addr{ifLAN: addr("10.2.0.3"), ifIn: addr("192.0.2.13")})
	l.mid = l.box("mid", map[softstate.IfIndex]netip.Addr{
		toWest: addr("192.0.2.2"), toWest2: addr("192.0.2.6"), toEast: addr("192.0.2.10"), toEast2: addr("192.0.2.14"),
	})
	l.via = l.east
	for _, b := range []*box{l.west, l.west2, l.east, l.east2} {
		l.edge(b)
	}
	return l
}

func (l *lab) box(name string, addrs map[softstate.IfIndex]netip.Addr) *box {
	b := &box{Box: pipetest.NewBox(l.t, &l.Clock, name, addrs), l: l}
	b.Node = softstate.New(softstate.Config{Refresh: 2 * time.Second, Quick: -1}, b, l.rng)
	b.Transmit, b.Refuses = b.transmit, b.refuse
	b.Send = func(s softstate.Send) {
		if b.table == nil || !b.table.Outgoing(l.Now, &s) {
			b.transmit(s)
		}
	}
	b.Handle = func(rx softstate.Received) {
		b.heard = append(b.heard, rx.Msg.Type)
		b.Perform(b.Node.Handle(l.Now, rx))
	}
	return b
}

func (l *lab) edge(b *box) {
	b.table = New(Config{Refresh: 2 * time.Second, Wait: 3 * time.Second, PathWait: time.Second}, b, l.rng)
	b.Table = func() pipetest.Table { return b.table }
	b.Check = b.check
	l.interior(b, Interior{Name: "in", Iface: ifIn, Size: l.size, Most: 5e6, MTU: 1500})
}

func (l *lab) interior(b *box, list ...Interior) { b.Effects(b.table.Set(l.Now, list)) }

func (l *lab) boxes() []*box { return []*box{l.west, l.west2, l.mid, l.east, l.east2} }

// route is where a box sends packets to.
func (l *lab) route(b *box, dst netip.Addr) softstate.IfIndex {
	owner := map[netip.Addr]*box{hostA: l.west, hostC: l.west2, hostB: l.via}[dst]
	for _, o := range l.boxes() {
		if o.Local(dst) {
			owner = o
		}
	}
	switch {
	case b == l.mid:
		return map[*box]softstate.IfIndex{l.west: toWest, l.west2: toWest2, l.east: toEast, l.east2: toEast2}[owner]
	case owner == b:
		return ifLAN
	default:
		return ifIn
	}
}

// peer is who is behind an interface.
func (l *lab) peer(b *box, out softstate.IfIndex) (*box, softstate.IfIndex) {
	back := map[*box]softstate.IfIndex{l.west: toWest, l.west2: toWest2, l.east: toEast, l.east2: toEast2}
	if b == l.mid {
		for o, i := range back {
			if i == out {
				return o, ifIn
			}
		}
	}
	if out == ifIn {
		return l.mid, back[b]
	}
	return nil, 0
}

// refuse is traffic control: an aggregate's limit is that of its link; what rides in
// one is counted there.
func (b *box) refuse(e softstate.Reserve) bool {
	b.wishes = append(b.wishes, e)
	total := e.FlowSpec.Bandwidth()
	for id, r := range b.Granted {
		if id != e.ID && r.Out == e.Out && r.Aggregate == nil {
			total += r.FlowSpec.Bandwidth()
		}
	}
	return b.limit > 0 && total > b.limit && e.Aggregate == nil || b.refuses == e.Session
}

func (b *box) transmit(s softstate.Send) {
	raw, err := s.Msg.Append(nil)
	if err != nil {
		b.l.t.Fatalf("%s: %+v: %v", b.Name, s.Msg, err)
	}
	if s.TTL != s.Msg.SendTTL {
		b.l.t.Errorf("%s: %v leaves with TTL %d and says %d", b.Name, s.Msg.Type, s.TTL, s.Msg.SendTTL)
	}
	b.l.carry(b, s.Out, packet{src: s.Src, dst: s.Dst, ttl: s.TTL, hidden: s.Hidden, raw: raw})
}

// carry is a link.
func (l *lab) carry(b *box, out softstate.IfIndex, p packet) {
	to, in := l.peer(b, out)
	if to == nil {
		return // a host's LAN
	}
	if m := l.parse(p.raw); EndToEnd(m.Session) {
		if p.hidden {
			l.hidden[m.Type]++
		} else {
			l.plain[m.Type]++
		}
	}
	if l.rng.Float64() < l.loss {
		return
	}
	l.Later(time.Millisecond, func() { to.arrive(in, p) })
}

func (l *lab) parse(raw []byte) *wire.Message {
	m, err := wire.ParseWith(raw, wire.AllFormats)
	if err != nil {
		l.t.Fatalf("%x: %v", raw, err)
	}
	return m
}

// arrive is what the capture of messages does, or forwarding.
func (b *box) arrive(in softstate.IfIndex, p packet) {
	m := b.l.parse(p.raw)
	out := b.l.route(b, p.dst)
	mine := !p.hidden && b.Node.Mine(m.Type, p.dst)
	if p.hidden && b.table != nil && b.table.Interior(in) {
		mine = b.Local(p.dst) || !b.table.Interior(out)
	}
	if !mine {
		p.ttl--
		b.l.carry(b, out, p)
		return
	}
	b.Receive(softstate.Received{Iface: in, Src: p.src, Dst: p.dst, TTL: p.ttl, Hidden: p.hidden, Msg: m})
}

// check is what holds at any time: what rides in an aggregate has room in it, and the
// sums are sums.
func (b *box) check() {
	b.l.t.Helper()
	for _, o := range inKeyOrder(b.table.begin) {
		var sum load
		for _, c := range o.carried {
			sum = sum.plus(c.granted)
		}
		if !near(sum, o.used) {
			b.l.t.Fatalf("%s at %v: %s: %+v in use, which are %+v", b.Name, b.l.Now.Sub(epoch), o.name(), o.used, sum)
		}
		if !carries(o.installed, sum) && !o.over.Armed() {
			b.l.t.Fatalf("%s at %v: %s: %+v in %v", b.Name, b.l.Now.Sub(epoch), o.name(), sum, o.installed)
		}
	}
	for _, e := range inKeyOrder(b.table.end) {
		var used, need load
		for _, p := range e.parts {
			used, need = used.plus(p.load), need.plus(p.claim())
		}
		if !near(used, e.used) || !near(need, e.need) {
			b.l.t.Fatalf("%s at %v: %s: used %+v is %+v, need %+v is %+v", b.Name, b.l.Now.Sub(epoch), e.name(), e.used, used, e.need, need)
		}
		if !carries(e.have, used) {
			b.l.t.Fatalf("%s at %v: %s: %+v in %v", b.Name, b.l.Now.Sub(epoch), e.name(), used, e.have)
		}
		if e.used.flows > e.need.flows {
			b.l.t.Fatalf("%s: %s: %+v of %+v", b.Name, e.name(), e.used, e.need)
		}
	}
}

func near(a, b load) bool {
	close := func(x, y float64) bool { return x-y < 1e-6*(1+x+y) && y-x < 1e-6*(1+x+y) }
	return close(a.rate, b.rate) && close(a.bandwidth, b.bandwidth) && close(a.bucket, b.bucket) && a.flows == b.flows && a.bounded == b.bounded
}

var tspec = intserv.TSpec{Rate: 10_000, Bucket: 1600, Peak: 25000, MinUnit: 80, MaxPacket: 800}

func session(n int) wire.Session {
	return wire.Session{Dst: hostB, Protocol: 17, DstPort: uint16(5000 + n)}
}

func sender(host netip.Addr) wire.Filter { return wire.Filter{Src: host, SrcPort: 4000} }

// call starts a flow from A to B.
func (l *lab) call(n int, rate float64) { l.callFrom(l.west, hostA, n, rate) }

func (l *lab) callFrom(b *box, host netip.Addr, n int, rate float64) {
	l.t.Helper()
	spec := tspec
	spec.Rate, spec.Peak = rate, 2*rate
	out, err := b.Node.AddSender(l.Now, softstate.Sender{Session: session(n), Filter: sender(host), TSpec: spec, In: ifLAN})
	if err != nil {
		l.t.Fatal(err)
	}
	b.Perform(out)
}

func (l *lab) hang(n int) { l.hangFrom(l.west, hostA, n) }

func (l *lab) hangFrom(b *box, host netip.Addr, n int) {
	b.Perform(b.Node.RemoveSender(l.Now, session(n), sender(host)))
}

func (l *lab) state(b *box, n int) softstate.SessionView {
	v, _ := b.Node.Session(l.Now, session(n), sender(hostA))
	return v
}

// reserved says how many of the calls from A are reserved at a box.
func (l *lab) reserved(b *box) (n int) {
	for _, v := range b.Node.Sessions(l.Now) {
		if EndToEnd(v.Session) && v.State == softstate.Reserved {
			n++
		}
	}
	return n
}

// inMid are the reservations of the router in the middle.
func (l *lab) inMid() (list []softstate.SessionView) {
	for _, v := range l.mid.Node.Sessions(l.Now) {
		if v.State == softstate.Reserved {
			list = append(list, v)
		}
	}
	return list
}
