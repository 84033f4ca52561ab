package tunnel

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

var epoch = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

var addr = netip.MustParseAddr

// Addresses: A (10.1.0.2) and B (10.2.0.2) are hosts that know nothing of RSVP,
// behind the entry and the exit. Between the two are a tunnel (172.16.0.0/30) and,
// under it, a router that speaks RSVP.
var (
	hostA, hostB          = addr("10.1.0.2"), addr("10.2.0.2")
	entryOuter, midLeft   = addr("192.0.2.1"), addr("192.0.2.2")
	midRight, exitOuter   = addr("192.0.2.5"), addr("192.0.2.6")
	entryInner, exitInner = addr("172.16.0.1"), addr("172.16.0.2")
)

// Interfaces.
const (
	ifLAN   softstate.IfIndex = 1
	ifOuter softstate.IfIndex = 2 // of the middle: the left one
	ifRight softstate.IfIndex = 3 // of the middle
	ifTun   softstate.IfIndex = 9
)

// box is a node with its tunnels, joined as the event loop joins them.
type box struct {
	l        *lab
	name     string
	addrs    map[softstate.IfIndex]netip.Addr
	routes   func(dst netip.Addr) softstate.IfIndex
	node     *softstate.Node
	table    *Table  // nil: knows nothing of tunnels
	limit    float64 // bytes/s that traffic control grants on ifRight; 0: any
	granted  map[uint64]softstate.Reserve
	released []uint64
	queue    []softstate.Effect
	busy     bool
}

func (b *box) Route(dst netip.Addr) (softstate.IfIndex, bool, bool) {
	if b.Local(dst) {
		return 0, true, true
	}
	return b.routes(dst), false, true
}

func (b *box) Routes(_, _ netip.Addr, _ softstate.IfIndex) ([]softstate.IfIndex, bool) {
	return nil, false
}
func (b *box) Addr(i softstate.IfIndex) netip.Addr { return b.addrs[i] }
func (b *box) Addr6(softstate.IfIndex) netip.Addr  { return netip.Addr{} }

func (b *box) AddrTowards(i softstate.IfIndex, to netip.Addr) netip.Addr {
	if to.Is4() {
		return b.Addr(i)
	}
	return b.Addr6(i)
}
func (b *box) Aware(_ netip.Addr, out softstate.IfIndex) bool { return out != ifLAN }
func (b *box) Hop(softstate.IfIndex) intserv.Hop {
	return intserv.Hop{Bandwidth: 1e6, MTU: 1500, Latency: 100, ControlledLoad: &intserv.ServiceHop{}}
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
	return softstate.ReserveSpec{Style: wire.FF, FlowSpec: intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: i.TSpec}}, i.Out == ifLAN
}

type packet struct {
	at time.Time
	to *box
	rx softstate.Received
}

type lab struct {
	t                *testing.T
	now              time.Time
	rng              *rand.Rand
	entry, mid, exit *box
	wire             []packet
	loss             float64
	seen             []*wire.Message // everything that was sent
	overTunnel       []*wire.Message
}

const overhead = 20

func tunnelOf(local, remote netip.Addr) Tunnel {
	return Tunnel{Name: "tun0", Iface: ifTun, Local: local, Remote: remote, Protocol: 4, Overhead: overhead}
}

// newLab has tunnels known at both ends, or at those that are told.
func newLab(t *testing.T, atEntry, atExit bool) *lab {
	t.Helper()
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	l := &lab{t: t, now: epoch, rng: rand.New(rand.NewPCG(seed, 1))}
	right := func(dst netip.Addr) bool {
		return dst == hostB || dst == exitOuter || dst == midRight || dst == exitInner
	}
	l.entry = l.box("entry", map[softstate.IfIndex]netip.Addr{ifLAN: addr("10.1.0.1"), ifOuter: entryOuter, ifTun: entryInner}, func(dst netip.Addr) softstate.IfIndex {
		switch dst {
		case hostA:
			return ifLAN
		case hostB, exitInner:
			return ifTun
		default:
			return ifOuter
		}
	})
	l.mid = l.box("mid", map[softstate.IfIndex]netip.Addr{ifOuter: midLeft, ifRight: midRight}, func(dst netip.Addr) softstate.IfIndex {
		if right(dst) {
			return ifRight
		}
		return ifOuter
	})
	l.exit = l.box("exit", map[softstate.IfIndex]netip.Addr{ifLAN: addr("10.2.0.1"), ifOuter: exitOuter, ifTun: exitInner}, func(dst netip.Addr) softstate.IfIndex {
		switch dst {
		case hostB:
			return ifLAN
		case hostA, entryInner:
			return ifTun
		default:
			return ifOuter
		}
	})
	if atEntry {
		l.tunnel(l.entry, entryOuter, exitOuter)
	}
	if atExit {
		l.tunnel(l.exit, exitOuter, entryOuter)
	}
	return l
}

func (l *lab) box(name string, addrs map[softstate.IfIndex]netip.Addr, routes func(netip.Addr) softstate.IfIndex) *box {
	b := &box{l: l, name: name, addrs: addrs, routes: routes, granted: map[uint64]softstate.Reserve{}}
	b.node = softstate.New(softstate.Config{Refresh: 2 * time.Second}, b, l.rng)
	return b
}

func (l *lab) tunnel(b *box, local, remote netip.Addr) {
	b.table = New(Config{Refresh: 2 * time.Second, Wait: time.Second}, b, l.rng)
	b.effects(b.table.Set(l.now, []Tunnel{tunnelOf(local, remote)}))
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
			b.send(e)
		case softstate.Reserve:
			if b.table != nil {
				held, out := b.table.Reserve(b.l.now, e)
				b.effects(out)
				if held {
					continue
				}
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
			b.released = append(b.released, e.ID)
		case softstate.Event:
			if b.table != nil {
				b.effects(b.table.Event(b.l.now, e))
			}
		}
	}
}

// reserve is traffic control.
func (b *box) reserve(e softstate.Reserve) {
	if b.limit > 0 && e.Out == ifRight && e.FlowSpec.TSpec.Rate > b.limit {
		b.perform(b.node.ReserveResult(b.l.now, e.ID, &softstate.Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth}))
		return
	}
	b.granted[e.ID] = e
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
		case Grant:
			b.reserve(e.Reserve)
		case Refuse:
			why := e.Why
			b.perform(b.node.ReserveResult(now, e.ID, &why))
		case Fail:
			b.perform(b.node.CrossingFailed(now, e.Session, e.Sender, e.Why))
		case Send:
			b.transmit(e.Send)
		}
	}
}

func (b *box) send(s softstate.Send) {
	if b.table != nil {
		b.table.Outgoing(&s)
	}
	b.transmit(s)
}

func (b *box) transmit(s softstate.Send) {
	l := b.l
	raw, err := s.Msg.Append(nil)
	if err != nil {
		l.t.Fatalf("%s: %+v: %v", b.name, s.Msg, err)
	}
	m, err := wire.Parse(raw)
	if err != nil {
		l.t.Fatalf("%s: %x: %v", b.name, raw, err)
	}
	l.seen = append(l.seen, m)
	to, in := (*box)(nil), ifOuter
	switch {
	case b == l.entry && s.Out == ifTun:
		to, in = l.exit, ifTun
	case b == l.exit && s.Out == ifTun:
		to, in = l.entry, ifTun
	case b != l.mid && s.Out == ifOuter:
		if to = l.mid; b == l.exit {
			in = ifRight
		}
	case s.Out == ifOuter:
		to = l.entry
	case s.Out == ifRight:
		to = l.exit
	default:
		return // a host's LAN
	}
	if in == ifTun {
		l.overTunnel = append(l.overTunnel, m)
	}
	if l.rng.Float64() < l.loss {
		return
	}
	l.wire = append(l.wire, packet{
		at: l.now.Add(time.Millisecond), to: to,
		rx: softstate.Received{Iface: in, Src: s.Src, Dst: s.Dst, TTL: s.TTL, Msg: m},
	})
}

func (b *box) receive(rx softstate.Received) {
	if !b.node.Mine(rx.Msg.Type, rx.Dst) {
		b.l.t.Errorf("%s got %v to %v", b.name, rx.Msg.Type, rx.Dst)
		return
	}
	if b.table != nil {
		consumed, out := b.table.Incoming(b.l.now, &rx)
		b.effects(out)
		if consumed {
			return
		}
	}
	b.perform(b.node.Handle(b.l.now, rx))
}

// run lets time pass.
func (l *lab) run(d time.Duration) {
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
		for _, b := range []*box{l.entry, l.mid, l.exit} {
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
			p.to.receive(p.rx)
		}
		slices.SortStableFunc(l.wire, func(a, b packet) int { return a.at.Compare(b.at) })
		for _, b := range []*box{l.entry, l.mid, l.exit} {
			b.perform(b.node.Advance(l.now))
			if b.table != nil {
				b.effects(b.table.Advance(l.now))
			}
		}
	}
}

var tspec = intserv.TSpec{Rate: 12500, Bucket: 1600, Peak: 25000, MinUnit: 80, MaxPacket: 800}

func session(n int) wire.Session {
	return wire.Session{Dst: hostB, Protocol: 17, DstPort: uint16(5000 + n)}
}

var sender = wire.Filter{Src: hostA, SrcPort: 4000}

func (l *lab) call(n int, rate float64) {
	l.t.Helper()
	spec := tspec
	spec.Rate, spec.Peak = rate, 2*rate
	out, err := l.entry.node.AddSender(l.now, softstate.Sender{Session: session(n), Filter: sender, TSpec: spec, In: ifLAN})
	if err != nil {
		l.t.Fatal(err)
	}
	l.entry.perform(out)
}

func (l *lab) hang(n int) { l.entry.perform(l.entry.node.RemoveSender(l.now, session(n), sender)) }

func (l *lab) state(b *box, s wire.Session, f wire.Filter) softstate.SessionView {
	v, _ := b.node.Session(l.now, s, f)
	return v
}

// tunnelFlow is what the middle has reserved for the tunnel session.
func (l *lab) tunnelFlow() *intserv.FlowSpec {
	s, f := (&Tunnel{Local: entryOuter, Remote: exitOuter, Protocol: 4}).away()
	v := l.state(l.mid, s, f)
	if v.State != softstate.Reserved {
		return nil
	}
	return v.FlowSpec
}

func (l *lab) wantTunnel(rate float64) {
	l.t.Helper()
	f := l.tunnelFlow()
	if rate == 0 {
		if f != nil {
			l.t.Errorf("the tunnel session still has %v", f)
		}
		return
	}
	want := rate * (80 + overhead) / 80
	if f == nil || f.TSpec.Rate < want*0.9999 || f.TSpec.Rate > want*1.0001 || f.TSpec.MinUnit != 80+overhead {
		l.t.Errorf("the tunnel session has %v, want %g bytes/s", f, want)
	}
}
