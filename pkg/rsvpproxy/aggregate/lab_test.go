package aggregate

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
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
	l       *lab
	name    string
	addrs   map[softstate.IfIndex]netip.Addr
	node    *softstate.Node
	table   *Table // nil: knows nothing of aggregation
	limit   float64
	granted map[uint64]softstate.Reserve
	queue   []softstate.Effect
	busy    bool
	heard   []wire.MsgType // by the machine
	errors  []*wire.ErrorSpec
	events  []softstate.Event
	wishes  []softstate.Reserve // that traffic control was asked for
	refuses wire.Session        // that it does not take
}

func (b *box) Route(dst netip.Addr) (softstate.IfIndex, bool, bool) {
	if b.Local(dst) {
		return 0, true, true
	}
	return b.l.route(b, dst), false, true
}

func (b *box) Routes(_, _ netip.Addr, _ softstate.IfIndex) ([]softstate.IfIndex, bool) {
	return nil, false
}
func (b *box) Addr(i softstate.IfIndex) netip.Addr                      { return b.addrs[i] }
func (b *box) Addr6(softstate.IfIndex) netip.Addr                       { return netip.Addr{} }
func (b *box) AddrTowards(i softstate.IfIndex, _ netip.Addr) netip.Addr { return b.Addr(i) }
func (b *box) Aware(_ netip.Addr, out softstate.IfIndex) bool           { return out != ifLAN }

func (b *box) Hop(softstate.IfIndex) intserv.Hop {
	return intserv.Hop{
		Bandwidth: 1e7, MTU: 1500, Latency: 100, ControlledLoad: &intserv.ServiceHop{}, Guaranteed: &intserv.GuaranteedHop{C: 100, D: 1000},
	}
}

func (b *box) Local(a netip.Addr) bool {
	for _, o := range b.addrs {
		if o == a {
			return true
		}
	}
	return false
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
	at     time.Time
	to     *box
	in     softstate.IfIndex
	src    netip.Addr
	dst    netip.Addr
	ttl    uint8
	hidden bool
	raw    []byte
}

type lab struct {
	t                             *testing.T
	now                           time.Time
	rng                           *rand.Rand
	west, west2, mid, east, east2 *box
	wire                          []packet
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
		t: t, now: epoch, rng: rand.New(rand.NewPCG(seed, 1)), style: wire.FF, plain: map[wire.MsgType]int{}, hidden: map[wire.MsgType]int{},
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
	b := &box{l: l, name: name, addrs: addrs, granted: map[uint64]softstate.Reserve{}}
	b.node = softstate.New(softstate.Config{Refresh: 2 * time.Second, Quick: -1}, b, l.rng)
	return b
}

func (l *lab) edge(b *box) {
	b.table = New(Config{Refresh: 2 * time.Second, Wait: 3 * time.Second, PathWait: time.Second}, b, l.rng)
	l.interior(b, Interior{Name: "in", Iface: ifIn, Size: l.size, Most: 5e6, MTU: 1500})
}

func (l *lab) interior(b *box, list ...Interior) { b.effects(b.table.Set(l.now, list)) }

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

// perform is what the event loop does: what comes of an effect is done after
// those that were there before.
func (b *box) perform(list []softstate.Effect) {
	b.queue = append(b.queue, list...)
	if b.busy {
		return
	}
	b.busy = true
	defer func() { b.busy = false }()
	for len(b.queue) > 0 {
		e := b.queue[0]
		b.queue = b.queue[1:]
		switch e := e.(type) {
		case softstate.Send:
			if b.table != nil && b.table.Outgoing(b.l.now, &e) {
				continue
			}
			b.transmit(e)
		case softstate.Reserve:
			if b.table != nil {
				held, out := b.table.Reserve(b.l.now, e)
				if !held {
					b.reserve(e)
				}
				b.effects(out)
				continue
			}
			b.reserve(e)
		case softstate.Release:
			if b.table != nil {
				unknown, out := b.table.Release(b.l.now, e.ID)
				b.effects(out)
				if unknown {
					continue
				}
			}
			if _, ok := b.granted[e.ID]; !ok {
				b.l.t.Errorf("%s: release of %d, which was never granted", b.name, e.ID)
			}
			delete(b.granted, e.ID)
		case softstate.Event:
			b.events = append(b.events, e)
			if b.table != nil {
				b.effects(b.table.Event(b.l.now, e))
			}
		}
	}
}

// reserve is traffic control: an aggregate's limit is that of its link; what rides in
// one is counted there.
func (b *box) reserve(e softstate.Reserve) {
	b.wishes = append(b.wishes, e)
	total := e.FlowSpec.Bandwidth()
	for id, r := range b.granted {
		if id != e.ID && r.Out == e.Out && r.Aggregate == nil {
			total += r.FlowSpec.Bandwidth()
		}
	}
	if b.limit > 0 && total > b.limit && e.Aggregate == nil || b.refuses == e.Session {
		if b.table != nil {
			b.effects(b.table.Result(b.l.now, e.ID, false))
		}
		b.perform(b.node.ReserveResult(b.l.now, e.ID, &softstate.Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth}))
		return
	}
	b.granted[e.ID] = e
	if b.table != nil {
		b.effects(b.table.Result(b.l.now, e.ID, true))
	}
	b.perform(b.node.ReserveResult(b.l.now, e.ID, nil))
}

func (b *box) effects(list []Effect) {
	now := b.l.now
	for _, e := range list {
		switch e := e.(type) {
		case Announce:
			out, err := b.node.AddSender(now, e.Sender)
			if err != nil {
				b.l.t.Fatal(err)
			}
			b.perform(out)
		case Silence:
			b.perform(b.node.RemoveSender(now, e.Session, e.Sender))
		case Refresh:
			b.perform(b.node.SendPath(now, e.Session, e.Sender))
		case Resend:
			b.perform(b.node.SendResv(now, e.Session, e.Sender))
		case Reask:
			b.perform(b.node.ReserveAgain(now, e.Session, e.Sender))
		case Grant:
			b.reserve(e.Reserve)
		case Refuse:
			why := e.Why
			b.perform(b.node.ReserveResult(now, e.ID, &why))
		case Withdraw:
			b.perform(b.node.Withdraw(now, e.ID, e.Why))
		case Fail:
			b.perform(b.node.CrossingFailed(now, e.Session, e.Sender, e.Why))
		case Deliver:
			b.handle(e.Received)
		case Send:
			b.transmit(e.Send)
		}
	}
}

func (b *box) transmit(s softstate.Send) {
	raw, err := s.Msg.Append(nil)
	if err != nil {
		b.l.t.Fatalf("%s: %+v: %v", b.name, s.Msg, err)
	}
	if s.TTL != s.Msg.SendTTL {
		b.l.t.Errorf("%s: %v leaves with TTL %d and says %d", b.name, s.Msg.Type, s.TTL, s.Msg.SendTTL)
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
	p.at, p.to, p.in = l.now.Add(time.Millisecond), to, in
	l.wire = append(l.wire, p)
}

func (l *lab) parse(raw []byte) *wire.Message {
	m, err := wire.ParseWith(raw, wire.AllFormats)
	if err != nil {
		l.t.Fatalf("%x: %v", raw, err)
	}
	return m
}

// arrive is what the capture of messages does, or forwarding.
func (b *box) arrive(p packet) {
	m := b.l.parse(p.raw)
	out := b.l.route(b, p.dst)
	mine := !p.hidden && b.node.Mine(m.Type, p.dst)
	if p.hidden && b.table != nil && b.table.Interior(p.in) {
		mine = b.Local(p.dst) || !b.table.Interior(out)
	}
	if !mine {
		p.ttl--
		b.l.carry(b, out, p)
		return
	}
	rx := softstate.Received{Iface: p.in, Src: p.src, Dst: p.dst, TTL: p.ttl, Hidden: p.hidden, Msg: m}
	if b.table != nil {
		consumed, list := b.table.Incoming(b.l.now, &rx)
		b.effects(list)
		if consumed {
			return
		}
	}
	b.handle(rx)
}

func (b *box) handle(rx softstate.Received) {
	b.heard = append(b.heard, rx.Msg.Type)
	if rx.Msg.ErrorSpec != nil {
		b.errors = append(b.errors, rx.Msg.ErrorSpec)
	}
	b.perform(b.node.Handle(b.l.now, rx))
}

// run lets time pass.
func (l *lab) run(d time.Duration) {
	l.t.Helper()
	end := l.now.Add(d)
	for {
		next := end
		earlier := func(at time.Time, ok bool) {
			if ok && at.Before(next) {
				next = at
			}
		}
		if len(l.wire) > 0 {
			earlier(l.wire[0].at, true)
		}
		for _, b := range l.boxes() {
			earlier(b.node.NextDeadline())
			if b.table != nil {
				earlier(b.table.NextDeadline())
			}
		}
		if next.After(l.now) {
			l.now = next
		}
		if !l.now.Before(end) {
			return
		}
		for len(l.wire) > 0 && !l.wire[0].at.After(l.now) {
			p := l.wire[0]
			l.wire = l.wire[1:]
			p.to.arrive(p)
		}
		slices.SortStableFunc(l.wire, func(a, b packet) int { return a.at.Compare(b.at) })
		for _, b := range l.boxes() {
			b.perform(b.node.Advance(l.now))
			if b.table != nil {
				b.effects(b.table.Advance(l.now))
				b.check()
			}
		}
	}
}

// check is what holds at any time: what rides in an aggregate has room in it, and the
// sums are sums.
func (b *box) check() {
	b.l.t.Helper()
	for _, o := range b.table.begins() {
		var sum load
		for _, c := range o.carried {
			sum = sum.plus(c.granted)
		}
		if !near(sum, o.used) {
			b.l.t.Fatalf("%s at %v: %s: %+v in use, which are %+v", b.name, b.l.now.Sub(epoch), o.name(), o.used, sum)
		}
		if !carries(o.installed, sum) && !o.over.Armed() {
			b.l.t.Fatalf("%s at %v: %s: %+v in %v", b.name, b.l.now.Sub(epoch), o.name(), sum, o.installed)
		}
	}
	for _, e := range b.table.ends() {
		var used, need load
		for _, p := range e.parts {
			used, need = used.plus(p.load), need.plus(p.claim())
		}
		if !near(used, e.used) || !near(need, e.need) {
			b.l.t.Fatalf("%s at %v: %s: used %+v is %+v, need %+v is %+v", b.name, b.l.now.Sub(epoch), e.name(), e.used, used, e.need, need)
		}
		if !carries(e.have, used) {
			b.l.t.Fatalf("%s at %v: %s: %+v in %v", b.name, b.l.now.Sub(epoch), e.name(), used, e.have)
		}
		if e.used.flows > e.need.flows {
			b.l.t.Fatalf("%s: %s: %+v of %+v", b.name, e.name(), e.used, e.need)
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
	out, err := b.node.AddSender(l.now, softstate.Sender{Session: session(n), Filter: sender(host), TSpec: spec, In: ifLAN})
	if err != nil {
		l.t.Fatal(err)
	}
	b.perform(out)
}

func (l *lab) hang(n int) { l.hangFrom(l.west, hostA, n) }

func (l *lab) hangFrom(b *box, host netip.Addr, n int) {
	b.perform(b.node.RemoveSender(l.now, session(n), sender(host)))
}

func (l *lab) state(b *box, n int) softstate.SessionView {
	v, _ := b.node.Session(l.now, session(n), sender(hostA))
	return v
}

// reserved says how many of the calls from A are reserved at a box.
func (l *lab) reserved(b *box) (n int) {
	for _, v := range b.node.Sessions(l.now) {
		if EndToEnd(v.Session) && v.State == softstate.Reserved {
			n++
		}
	}
	return n
}

// inMid are the reservations of the router in the middle.
func (l *lab) inMid() (list []softstate.SessionView) {
	for _, v := range l.mid.node.Sessions(l.now) {
		if v.State == softstate.Reserved {
			list = append(list, v)
		}
	}
	return list
}
