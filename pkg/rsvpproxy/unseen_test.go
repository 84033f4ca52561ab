package rsvpproxy

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/fair"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// learned is what a bridge has seen of pairs of addresses.
type learned map[packet.FlowKey]packet.Frame

func (l learned) Frame(k *packet.FlowKey, f *packet.Frame) (ok bool) {
	*f, ok = l[*k]
	return ok
}

// wires keeps what a bridge sends.
type wires struct{ sent []wired }

type wired struct {
	via      int
	like     packet.FlowKey
	src, dst netip.Addr
	ttl      uint8
	msg      *wire.Message
}

func (w *wires) SendVia(b []byte, via int) error { return w.SendLike(b, via, packet.FlowKey{}) }

func (w *wires) SendLike(b []byte, via int, like packet.FlowKey) error {
	v, err := packet.Parse(b)
	if err != nil {
		return err
	}
	m, err := wire.ParseWith(v.Transport(), wire.AllFormats)
	if err == nil {
		w.sent = append(w.sent, wired{via, like, v.Src(), v.Dst(), v.TTL(), m})
	}
	return err
}

const testHandle = 0x9a5f0000

var (
	hostA, hostB = netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.2.0.2")
	unseenFlow   = wire.Session{Dst: hostB, Protocol: 17, DstPort: 9}
	unseenFilter = wire.Filter{Src: hostA, SrcPort: 8}
	unseenTSpec  = intserv.TSpec{Rate: 1000, Bucket: 1000, Peak: 2000, MinUnit: 64, MaxPacket: 1500}
)

// unseenBox is a bridge with the hosts' side on port 1 and the network's on port 2.
func unseenBox(t *testing.T) (*Proxy, *wires, learned) {
	t.Helper()
	w, l := &wires{}, learned{}
	p := New(Config{
		Node: softstate.Config{Transparent: true, Bridge: true, Handle: testHandle, IPv6: true}, Reliable: true, FollowRoutes: true,
	}, Hooks{
		Send: w, Frames: l, Log: zap.NewNop(), Event: func(softstate.Event) {}, Traffic: grantAll{},
		ReceiverProxy: func(i softstate.PathInfo) (softstate.ReserveSpec, bool) {
			return softstate.ReserveSpec{FlowSpec: intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: i.TSpec}}, true
		},
	})
	p.SetInterfaces([]Interface{
		{Link: route.Link{Index: 1, Name: "lan0", MTU: 1500, Up: true}, Hosts: true, Bandwidth: 1e6},
		{Link: route.Link{Index: 2, Name: "wan0", MTU: 1500, Up: true}, Bandwidth: 1e6},
	})
	p.runCommands()
	return p, w, l
}

type grantAll struct{}

func (grantAll) Reserve(softstate.Reserve) *softstate.Refusal { return nil }
func (grantAll) Release(uint64)                               {}
func (grantAll) Torn(uint64)                                  {}

func unseenMessage(typ wire.MsgType, hop netip.Addr, lih uint32) *wire.Message {
	m := &wire.Message{Type: typ, SendTTL: 60, Session: unseenFlow, Hop: &wire.Hop{Addr: hop, LIH: lih}, TimeValues: &wire.TimeValues{Refresh: 30000}}
	flow := intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: unseenTSpec}
	switch typ {
	case wire.Path, wire.PathTear, wire.PathErr:
		f, ts := unseenFilter, unseenTSpec
		m.SenderTemplate, m.SenderTSpec = &f, &ts
	default:
		m.Style = wire.FF
		m.Flows = []wire.FlowDescriptor{{FlowSpec: &flow, Filters: []wire.Filter{unseenFilter}}}
	}
	switch typ {
	case wire.PathErr, wire.ResvErr, wire.ResvConf:
		m.TimeValues, m.ErrorSpec = nil, &wire.ErrorSpec{Node: hop, Code: wire.ErrAdmission, Value: 2}
	case wire.PathTear, wire.ResvTear:
		m.TimeValues = nil
	default:
	}
	if typ == wire.PathErr || typ == wire.ResvConf {
		m.Hop = nil
	}
	if typ == wire.ResvConf {
		m.ErrorSpec.Code, m.ErrorSpec.Value, m.ResvConfirm = 0, 0, hostB
	}
	if typ == wire.ResvTear {
		m.Flows[0].FlowSpec = nil
	}
	return m
}

func unseenPacket(t *testing.T, src, dst netip.Addr, m *wire.Message, change ...func([]byte) []byte) []byte {
	t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		b = f(b)
	}
	d := datagram{src: src, dst: dst, ttl: 60, alert: m.Type.NeedsRouterAlert(), payload: b}
	if b, err = d.append(nil); err != nil {
		t.Fatal(err)
	}
	return b
}

// capture gives a packet to the box, and to its machine if it takes it.
func capture(t *testing.T, p *Proxy, b []byte, port int) bool {
	t.Helper()
	if !p.Capture(time.Now(), b, port) {
		return false
	}
	p.receive(<-p.in)
	return true
}

// RSVP of hosts and routers on both sides, by a box without an address: what it says
// has their addresses, its own handle, and the way of the flow; what is said to them
// because of it comes to it, by the right port alone.
func TestUnseenBoxTakesWhatItHasCaused(t *testing.T) {
	p, w, _ := unseenBox(t)
	ours := func(port int) uint32 { return uint32(port) ^ (testHandle | 1<<31) }
	router := netip.MustParseAddr("192.0.2.9")

	// Nothing is known yet: what neighbours say to each other is none of ours.
	for _, typ := range []wire.MsgType{wire.Resv, wire.ResvTear, wire.PathErr, wire.ResvErr, wire.ResvConf} {
		for port := 1; port <= 2; port++ {
			if capture(t, p, unseenPacket(t, router, hostA, unseenMessage(typ, router, 7)), port) {
				t.Errorf("%v that nothing of ours has caused was taken at port %d", typ, port)
			}
		}
	}
	if !capture(t, p, unseenPacket(t, hostA, hostB, unseenMessage(wire.Path, hostA, 5)), 1) {
		t.Fatal("PATH not taken")
	}
	path := w.sent[len(w.sent)-1]
	if path.via != 2 || path.src != hostA || path.ttl != 60 || path.msg.SendTTL != 60 || *path.msg.Hop != (wire.Hop{Addr: hostA, LIH: ours(2)}) {
		t.Errorf("PATH %+v %+v", path, path.msg.Hop)
	}
	if path.like != (packet.FlowKey{Src: hostA.As16(), Dst: hostB.As16()}) {
		t.Errorf("PATH is like %+v", path.like)
	}
	// The router answers, in its own name.
	if !capture(t, p, unseenPacket(t, router, hostA, unseenMessage(wire.Resv, router, ours(2))), 2) {
		t.Fatal("RESV with our handle not taken")
	}
	v := p.node.Sessions(time.Now())
	if len(v) != 1 || v[0].PrevHop != hostA || v[0].NextHop != router {
		t.Fatalf("%+v", v)
	}
	p.perform(p.node.ReserveResult(time.Now(), v[0].Reservation, nil))
	resv := w.sent[len(w.sent)-1]
	if resv.via != 1 || resv.src != router || resv.dst != hostA || *resv.msg.Hop != (wire.Hop{Addr: router, LIH: 5}) {
		t.Errorf("RESV %+v %+v", resv, resv.msg.Hop)
	}
	if resv.like != (packet.FlowKey{Src: hostB.As16(), Dst: hostA.As16()}) {
		t.Errorf("RESV is like %+v", resv.like)
	}
	for _, tt := range []struct {
		name     string
		typ      wire.MsgType
		src, dst netip.Addr
		hop      netip.Addr
		lih      uint32
		port     int
		want     bool
	}{
		{"error of the host, to who has asked it", wire.ResvErr, hostA, router, hostA, 5, 1, true},
		{"our own, come back", wire.ResvErr, hostA, router, hostA, ours(2), 2, false},
		{"error of the router", wire.PathErr, router, hostA, router, 0, 2, true},
		{"our own, come back", wire.PathErr, router, hostA, router, 0, 1, false},
		{"confirmation", wire.ResvConf, hostA, router, hostA, 0, 1, true},
		{"confirmation from the wrong side", wire.ResvConf, hostA, router, hostA, 0, 2, false},
		{"a next hop without handles", wire.Resv, router, hostA, router, 0, 2, true},
		{"a handle of the box before us", wire.Resv, router, hostA, router, 77, 2, true}, // and not done
		{"our own RESV, come back", wire.Resv, router, hostA, router, 5, 1, false},
		{"to somebody else", wire.Resv, router, netip.MustParseAddr("10.1.0.3"), router, 77, 2, false},
	} {
		m := unseenMessage(tt.typ, tt.hop, tt.lih)
		if got := p.Capture(time.Now(), unseenPacket(t, tt.src, tt.dst, m), tt.port); got != tt.want {
			t.Errorf("%s: taken %v, want %v", tt.name, got, tt.want)
		}
	}
	other := unseenMessage(wire.PathErr, router, 0)
	other.Session.DstPort++
	if p.Capture(time.Now(), unseenPacket(t, router, hostA, other), 2) {
		t.Error("an error about another session was taken")
	}
	if n := p.node.Counters().Dropped; n[softstate.DropLoop] != 0 {
		t.Errorf("%v", n)
	}
}

// Our own PATH comes back: from the other side, or out of a loop. It is nobody's.
func TestUnseenBoxKnowsItsOwnPath(t *testing.T) {
	p, w, _ := unseenBox(t)
	capture(t, p, unseenPacket(t, hostA, hostB, unseenMessage(wire.Path, hostA, 5)), 1)
	back := w.sent[0].msg
	for port := 1; port <= 2; port++ {
		capture(t, p, unseenPacket(t, hostA, hostB, back), port)
	}
	v := p.node.Sessions(time.Now())
	if len(v) != 1 || v[0].In != 1 || v[0].PrevHop != hostA || p.node.Counters().Dropped[softstate.DropLoop] != 2 || len(w.sent) != 1 {
		t.Errorf("%+v, %v, %d sent", v, p.node.Counters().Dropped, len(w.sent))
	}
}

// What a box in between does not understand, or could not say again, goes by: signed
// messages (RFC 2747), MPLS tunnels (RFC 3209), acknowledgments (RFC 2961), traces
// (RFC 2745), broken ones. It is for who they are addressed to to complain.
func TestUnseenBoxLetsTheRestGoBy(t *testing.T) {
	p, _, l := unseenBox(t)
	path := unseenMessage(wire.Path, hostA, 5)
	signed := func(b []byte) []byte {
		object := append([]byte{0, 36, 4, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1}, make([]byte, 16)...)
		b = append(append(append([]byte(nil), b[:8]...), object...), b[8:]...)
		b[2], b[3] = 0, 0
		b[6], b[7] = byte(len(b)>>8), byte(len(b))
		return b
	}
	tunnel := func(b []byte) []byte { b[2], b[3], b[8+3] = 0, 0, 7; return b } // LSP_TUNNEL_IPv4
	broken := func(b []byte) []byte { b[7] -= 4; return b }
	typed := func(t wire.MsgType) func([]byte) []byte {
		return func(b []byte) []byte { b[1], b[2], b[3] = byte(t), 0, 0; return b }
	}
	for name, change := range map[string]func([]byte) []byte{
		"signed": signed, "LSP tunnel": tunnel, "broken": broken, "hello": typed(20), "ack": typed(wire.Ack),
		"bundle": typed(wire.Bundle), "trace": typed(wire.DiagRequest), "unknown": typed(77),
	} {
		if p.Capture(time.Now(), unseenPacket(t, hostA, hostB, path, change), 1) {
			t.Errorf("%s: taken", name)
		}
	}
	if c := p.CaptureCounters(); c.Signed != 1 || c.Foreign < 3 || c.Passed != 8 || c.Taken != 0 {
		t.Errorf("%+v", c)
	}
	// Its neighbours may have RFC 2961: it is taken without, and nothing is answered.
	id := *path
	id.Flags, id.MessageID = wire.RefreshReduction, &wire.MessageID{Epoch: 7, ID: 3, AckDesired: true}
	if !capture(t, p, unseenPacket(t, hostA, hostB, &id), 1) || len(p.node.Sessions(time.Now())) != 1 {
		t.Error("PATH with a MESSAGE_ID is not understood")
	}
	// The receiver is behind the port that the PATH came by.
	l[packet.FlowKey{Src: hostB.As16(), Dst: hostA.As16()}] = packet.Frame{Port: 1}
	if p.Capture(time.Now(), unseenPacket(t, hostA, hostB, path), 1) {
		t.Error("PATH between hosts of one side was taken")
	}
	if p.Capture(time.Now(), unseenPacket(t, hostA, hostB, path), 3) {
		t.Error("PATH by a port that is none of ours was taken")
	}
}

// A PATH to a group leaves by all other ports, as its data do.
func TestUnseenBoxFloodsGroups(t *testing.T) {
	p, w, _ := unseenBox(t)
	p.SetInterfaces([]Interface{
		{Link: route.Link{Index: 1, MTU: 1500, Up: true}}, {Link: route.Link{Index: 2, MTU: 1500, Up: true}}, {Link: route.Link{Index: 4, MTU: 1500, Up: true}},
	})
	p.runCommands()
	m := unseenMessage(wire.Path, hostA, 5)
	m.Session.Dst = netip.MustParseAddr("239.1.1.1")
	if !capture(t, p, unseenPacket(t, hostA, m.Session.Dst, m), 2) {
		t.Fatal("not taken")
	}
	ports := map[int]bool{}
	for _, s := range w.sent {
		ports[s.via] = s.msg.Type == wire.Path
	}
	if len(w.sent) != 2 || !ports[1] || !ports[4] {
		t.Errorf("sent by %v", ports)
	}
}

// There is no address that a trace could be answered to, and the box says so.
func TestUnseenBoxDoesNotTrace(t *testing.T) {
	p, _, _ := unseenBox(t)
	if _, err := p.Trace(t.Context(), TraceQuery{Dst: hostB}); err == nil {
		t.Error("a trace was begun")
	}
}

// Messages are captured while the event loop runs: a hundred sessions are set up and
// torn down, and every answer to a name of ours is taken (for the race detector).
func TestUnseenBoxConcurrently(t *testing.T) {
	p, _, _ := unseenBox(t)
	p.hooks.Send = discard{}
	p.hooks.ReceiverProxy = func(softstate.PathInfo) (softstate.ReserveSpec, bool) { return softstate.ReserveSpec{}, false }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	router := netip.MustParseAddr("192.0.2.9")
	const sessions = 100
	each := func(typ wire.MsgType, hop netip.Addr, lih uint32, f func(*wire.Message)) {
		for i := range sessions {
			m := unseenMessage(typ, hop, lih)
			m.Session.DstPort = uint16(1000 + i)
			f(m)
		}
	}
	take := func(src, dst netip.Addr, port int) func(*wire.Message) {
		return func(m *wire.Message) {
			if !p.Capture(time.Now(), unseenPacket(t, src, dst, m), port) {
				t.Errorf("%v went by", m.Type)
			}
		}
	}
	wait := func(what string, ok func(v View) bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			v, err := p.View()
			switch {
			case err != nil:
				t.Fatal(err)
			case ok(v):
				return
			case time.Now().After(end):
				t.Fatalf("%s: %+v", what, v.Counters)
			}
		}
	}
	each(wire.Path, hostA, 5, take(hostA, hostB, 1))
	wait("path state", func(v View) bool { return v.Counters.Senders == sessions })
	each(wire.Resv, router, uint32(2)^(testHandle|1<<31), take(router, hostA, 2))
	wait("reservations", func(v View) bool {
		n := 0
		for i := range v.Sessions {
			if v.Sessions[i].State == softstate.Reserved && v.Sessions[i].NextHop == router {
				n++
			}
		}
		return n == sessions
	})
	each(wire.PathErr, router, 0, take(router, hostA, 2))
	each(wire.ResvErr, hostA, 5, take(hostA, router, 1))
	each(wire.PathTear, hostA, 5, take(hostA, hostB, 1))
	wait("the end", func(v View) bool { return v.Counters.Senders == 0 })
	if u := p.Unseen(); u.Names < 2*sessions || u.NamesFull != 0 {
		t.Errorf("%+v", u)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type discard struct{}

func (discard) SendVia([]byte, int) error { return nil }

// More PATHs of unknown hosts than the rate allows go by: the box is none for them.
// Others' state stays whole.
func TestUnseenBoxLetsStrangersGoBy(t *testing.T) {
	p, _, _ := unseenBox(t)
	p.share = fair.NewTable(10, 100)
	p.share.SetInterfaces(1, 2)
	now := time.Now()
	taken := 0
	for i := range 50 {
		src := netip.AddrFrom4([4]byte{10, 1, 7, byte(1 + i)})
		m := unseenMessage(wire.Path, src, 5)
		m.SenderTemplate.Src = src
		if p.Capture(now, unseenPacket(t, src, hostB, m), 1) {
			taken++
		}
	}
	c := p.CaptureCounters()
	if taken == 0 || taken > 20 || c.Strangers != uint64(50-taken) || c.Passed != c.Strangers || int(c.Taken) != taken {
		t.Errorf("%d taken: %+v", taken, c)
	}
	// What is said to a name of ours does not reach the host of that name.
	if !p.Capture(now, unseenPacket(t, hostB, hostA, unseenMessage(wire.Resv, hostB, uint32(1)^(testHandle|1<<31))), 1) {
		t.Error("RESV to us went by")
	}
}
