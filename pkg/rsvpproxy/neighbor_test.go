package rsvpproxy

import (
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/fair"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// pathFrom is an IP packet with a PATH from a host, sent by a neighbour.
func pathFrom(t *testing.T, hop string, port uint16) []byte {
	t.Helper()
	src, dst := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.2.0.2")
	m := &wire.Message{
		Type: wire.Path, SendTTL: 9,
		Session: wire.Session{Dst: dst, Protocol: 17, DstPort: port},
		Hop:     &wire.Hop{Addr: netip.MustParseAddr(hop)}, TimeValues: &wire.TimeValues{Refresh: 30000},
		SenderTemplate: &wire.Filter{Src: src, SrcPort: 8},
		SenderTSpec:    &intserv.TSpec{Rate: 1000, Bucket: 1000, Peak: 2000, MinUnit: 64, MaxPacket: 1500},
	}
	payload, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := (&datagram{src: src, dst: dst, ttl: 9, payload: payload}).append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The neighbour of a PATH is its previous hop, not the host whose address it
// comes from; whatever a message has instead of one, nothing is read beyond it.
func TestNeighborOf(t *testing.T) {
	src := netip.MustParseAddr("10.1.0.2")
	hop := netip.MustParseAddr("10.9.0.7")
	path := pathFrom(t, "10.9.0.7", 5004)[20:]
	if k := neighborOf(3, src, path); k != (fair.Key{Iface: 3, Addr: hop}) {
		t.Errorf("neighbour %v of a PATH", k)
	}
	resv := append([]byte(nil), path...)
	resv[1] = byte(wire.Resv)
	if k := neighborOf(3, src, resv); k.Addr != src {
		t.Errorf("neighbour %v of a RESV", k)
	}
	for n := 8; n < len(path); n++ {
		if k := neighborOf(3, src, path[:n:n]); k.Addr != src && k.Addr != hop {
			t.Errorf("neighbour %v of %d bytes", k, n)
		}
	}
	bad := append([]byte(nil), path...)
	bad[8], bad[9] = 0, 0 // an object without a length
	if k := neighborOf(3, src, bad); k.Addr != src {
		t.Errorf("neighbour %v of an object without a length", k)
	}
}

// One neighbour floods; what another sends within its share reaches the
// protocol, and once it holds state it has its share for itself.
func TestCaptureIsFair(t *testing.T) {
	logs, observed := observer.New(zap.InfoLevel)
	p := New(Config{Rate: 100, Node: softstate.Config{Limits: softstate.Limits{Sessions: 1000}}}, Hooks{
		Send: &catcher{}, Log: zap.New(logs), Event: func(softstate.Event) {},
		ReceiverProxy: func(softstate.PathInfo) (softstate.ReserveSpec, bool) { return softstate.ReserveSpec{}, false },
	})
	p.SetInterfaces([]Interface{
		{Link: route.Link{Index: 1, MTU: 1500, Addr4: netip.MustParseAddr("10.9.0.1")}},
		{Link: route.Link{Index: 2, MTU: 1500, Addr4: netip.MustParseAddr("10.9.1.1")}},
	})
	now := time.Now()
	drain := func() (taken map[netip.Addr]int) {
		taken = map[netip.Addr]int{}
		for len(p.in) > 0 {
			c := <-p.in
			taken[c.from.Addr]++
			p.receive(c)
		}
		return taken
	}
	quiet, loud := netip.MustParseAddr("10.9.0.7"), netip.MustParseAddr("10.9.0.8")
	mine, flood := pathFrom(t, quiet.String(), 5004), pathFrom(t, loud.String(), 5005)
	p.Capture(now, mine, 1)
	p.Capture(now, flood, 1)
	if got := drain(); got[quiet] != 1 || got[loud] != 1 || p.share.Known() != 2 {
		t.Fatalf("taken %v, %d neighbours known", got, p.share.Known())
	}
	garbage := append([]byte(nil), flood...)
	garbage[22]++ // the checksum
	all := map[netip.Addr]int{}
	for range 4000 { // 4 s
		now = now.Add(time.Millisecond)
		for range 10 {
			p.Capture(now, flood, 1)
			p.Capture(now, garbage, 1)
		}
		if now.Nanosecond()/1_000_000%100 == 0 {
			p.Capture(now, mine, 1)
		}
		for a, n := range drain() {
			all[a] += n
		}
	}
	if all[quiet] != 40 {
		t.Errorf("taken %v: the quiet neighbour sent 40", all)
	}
	c := p.CaptureCounters()
	if c.Limited < 79_000 || c.Strangers != 0 || c.Overflow != 0 {
		t.Errorf("counters %+v", c)
	}
	lines := observed.FilterMessage("rsvp message refused").All()
	if n := len(lines); n != 1 {
		t.Errorf("%d lines about one kind of garbage of one neighbour in 4 s, want one", n)
	} else if f := lines[0].ContextMap(); f["kind"] != "checksum" || f["from"] != loud.String() {
		t.Errorf("logged %v", f)
	}
}

// Who makes up hops on one interface fills no table for another: its neighbours
// find a place with the machine, with RFC 2961 and with the shares of the rate.
func TestMadeUpHopsStayOnTheirInterface(t *testing.T) {
	p := New(Config{Rate: 1_000_000, Reliable: true, Node: softstate.Config{Limits: softstate.Limits{Sessions: 60_000, Neighbors: 120}}}, Hooks{
		Send: &catcher{}, Log: zap.NewNop(), Event: func(softstate.Event) {},
		ReceiverProxy: func(softstate.PathInfo) (softstate.ReserveSpec, bool) { return softstate.ReserveSpec{}, false },
	})
	p.SetInterfaces([]Interface{
		{Link: route.Link{Index: 1, MTU: 1500, Addr4: netip.MustParseAddr("10.9.0.1")}},
		{Link: route.Link{Index: 2, MTU: 1500, Addr4: netip.MustParseAddr("10.9.1.1")}},
	})
	p.runCommands()
	now := time.Now()
	take := func(iface int, hop netip.Addr, port uint16) {
		t.Helper()
		p.Capture(now, pathFrom(t, hop.String(), port), iface)
		for len(p.in) > 0 {
			p.receive(<-p.in)
		}
	}
	for i := range 1000 {
		take(1, netip.AddrFrom4([4]byte{10, 9, byte(4 + i>>8), byte(i)}), uint16(10_000+i))
	}
	if c := p.node.Counters(); c.Dropped[softstate.DropLimitPath] < 800 {
		t.Fatalf("that was no flood: %+v", c)
	}
	for i := range 9 {
		hop := netip.AddrFrom4([4]byte{10, 9, 1, byte(10 + i)})
		take(2, hop, uint16(5000+i))
		if !p.node.Neighbor(2, hop) {
			t.Errorf("neighbour %d is refused", i)
		}
		known := p.share.Known()
		if p.share.Know(now, fair.Key{Iface: 2, Addr: hop}); p.share.Known() != known {
			t.Errorf("neighbour %d had no share of the rate", i)
		}
	}
	found := 0
	for _, v := range p.layer.Neighbors() {
		if v.Iface == 2 && v.Heard {
			found++
		}
	}
	if found != 9 {
		t.Errorf("RFC 2961 knows %d of 9 neighbours", found)
	}
}

// What a neighbour borrows does not fill the queue to the protocol: the second
// half of it is there for own shares.
func TestBorrowedMessagesLeaveRoom(t *testing.T) {
	p, now := testProxy(3*captureQueue), time.Now()
	p.SetInterfaces([]Interface{
		{Link: route.Link{Index: 1, Addr4: netip.MustParseAddr("10.9.0.1")}}, {Link: route.Link{Index: 2}}, {Link: route.Link{Index: 3}}, {Link: route.Link{Index: 4}},
	})
	m := message(t, wire.Path, "10.2.0.2")
	for range 3 * captureQueue {
		p.Capture(now, m, 1)
	}
	if n := len(p.in); n != captureQueue*3/4 { // its interface's own share
		t.Errorf("%d messages of a flood wait in a queue of %d", n, captureQueue)
	}
	before := len(p.in)
	if p.Capture(now, m, 2); len(p.in) != before+1 {
		t.Error("no room for a message of another interface")
	}
}
