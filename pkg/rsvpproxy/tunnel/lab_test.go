package tunnel

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe/pipetest"
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
	*pipetest.Box
	routes func(dst netip.Addr) softstate.IfIndex
	table  *Table  // nil: knows nothing of tunnels
	limit  float64 // bytes/s that traffic control grants on ifRight; 0: any
	full   bool    // it grants nothing more on ifTun
}

func (b *box) Route(dst netip.Addr) (softstate.IfIndex, bool, bool) {
	if b.Local(dst) {
		return 0, true, true
	}
	return b.routes(dst), false, true
}

func (b *box) Aware(_ netip.Addr, out softstate.IfIndex) bool { return out != ifLAN }
func (b *box) Hop(softstate.IfIndex) intserv.Hop {
	return intserv.Hop{Bandwidth: 1e6, MTU: 1500, Latency: 100, ControlledLoad: &intserv.ServiceHop{}}
}

func (b *box) ReceiverProxy(i softstate.PathInfo) (softstate.ReserveSpec, bool) {
	return softstate.ReserveSpec{Style: wire.FF, FlowSpec: intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: i.TSpec}}, i.Out == ifLAN
}

type lab struct {
	pipetest.Clock
	t                *testing.T
	rng              *rand.Rand
	entry, mid, exit *box
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
	l := &lab{t: t, Clock: pipetest.Clock{Now: epoch}, rng: rand.New(rand.NewPCG(seed, 1))}
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
	b := &box{Box: pipetest.NewBox(l.t, &l.Clock, name, addrs), routes: routes}
	b.Node = softstate.New(softstate.Config{Refresh: 2 * time.Second}, b, l.rng)
	b.Send = func(s softstate.Send) {
		if b.table != nil {
			b.table.Outgoing(&s)
		}
		l.transmit(b, s)
	}
	b.Transmit = func(s softstate.Send) { l.transmit(b, s) }
	b.Refuses = func(r softstate.Reserve) bool {
		return b.limit > 0 && r.Out == ifRight && r.FlowSpec.TSpec.Rate > b.limit || b.full && r.Out == ifTun
	}
	return b
}

func (l *lab) tunnel(b *box, local, remote netip.Addr) {
	b.table = New(Config{Refresh: 2 * time.Second, Wait: time.Second}, b, l.rng)
	b.Table = func() pipetest.Table { return b.table }
	b.Effects(b.table.Set(l.Now, []Tunnel{tunnelOf(local, remote)}))
}

func (l *lab) transmit(b *box, s softstate.Send) {
	raw, err := s.Msg.Append(nil)
	if err != nil {
		l.t.Fatalf("%s: %+v: %v", b.Name, s.Msg, err)
	}
	m, err := wire.Parse(raw)
	if err != nil {
		l.t.Fatalf("%s: %x: %v", b.Name, raw, err)
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
	l.Later(time.Millisecond, func() {
		if !to.Node.Mine(m.Type, s.Dst) {
			l.t.Errorf("%s got %v to %v", to.Name, m.Type, s.Dst)
			return
		}
		to.Receive(softstate.Received{Iface: in, Src: s.Src, Dst: s.Dst, TTL: s.TTL, Msg: m})
	})
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
	out, err := l.entry.Node.AddSender(l.Now, softstate.Sender{Session: session(n), Filter: sender, TSpec: spec, In: ifLAN})
	if err != nil {
		l.t.Fatal(err)
	}
	l.entry.Perform(out)
}

func (l *lab) hang(n int) { l.entry.Perform(l.entry.Node.RemoveSender(l.Now, session(n), sender)) }

func (l *lab) state(b *box, s wire.Session, f wire.Filter) softstate.SessionView {
	v, _ := b.Node.Session(l.Now, s, f)
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
