package rsvpproxy

import (
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/fair"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// take has the event loop receive an IP packet, without the loop.
func (p *Proxy) take(t *testing.T, now time.Time, pkt []byte) {
	t.Helper()
	v, err := packet.Parse(pkt)
	if err != nil {
		t.Fatal(err)
	}
	msg := v.Transport()
	p.receive(captured{at: now, iface: 1, src: v.Src(), dst: v.Dst(), ttl: v.TTL(), from: neighborOf(1, v.Src(), msg), message: msg})
}

// A neighbour is who holds state here: its messages are counted, and when the
// last one came. A stranger's are the interface's alone.
func TestNeighborsAndInterfaces(t *testing.T) {
	for _, reliable := range []bool{true, false} {
		p, _ := layered(t, reliable)
		now := time.Now()
		p.take(t, now, pathFrom(t, "10.9.0.7", 5004))
		p.take(t, now.Add(time.Second), pathFrom(t, "10.9.0.7", 5004))
		bad := pathFrom(t, "10.9.0.8", 5005)
		bad[len(bad)-1]++ // the checksum
		p.take(t, now, bad)
		list := p.neighbors(p.node)
		if len(list) != 1 {
			t.Fatalf("%+v", list)
		}
		n := list[0]
		if n.Addr != netip.MustParseAddr("10.9.0.7") || n.Iface != 1 || n.Senders != 1 || n.In.Of(wire.Path) != 2 || n.In.Total() != 2 || !n.Heard.Equal(now.Add(time.Second)) {
			t.Errorf("%+v", n)
		}
		if (n.Reduction != nil) != reliable {
			t.Errorf("reduction %+v", n.Reduction)
		}
		i := p.interfaces(now, p.node)[1]
		if i.In.Of(wire.Path) != 3 || i.PathsIn != 1 || i.Neighbors != 1 || i.Requests != 0 || i.Heard.IsZero() {
			t.Errorf("%+v", i)
		}
	}
}

// What the tally holds has a limit: neighbours that nothing depends on give way.
func TestTallyIsBounded(t *testing.T) {
	tl := newTally(2)
	msg := []byte{0x10, byte(wire.Resv)}
	from := func(i byte) *captured {
		return &captured{at: time.Now(), iface: 1, from: fair.Key{Iface: 1, Addr: netip.AddrFrom4([4]byte{10, 0, 0, i})}, message: msg}
	}
	none := func(softstate.IfIndex, netip.Addr) bool { return false }
	all := func(softstate.IfIndex, netip.Addr) bool { return true }
	tl.know(from(1), all)
	tl.know(from(2), all)
	tl.know(from(3), all)
	if len(tl.neighbors) != 2 || tl.neighbors[from(3).from] != nil {
		t.Errorf("%d neighbours", len(tl.neighbors))
	}
	tl.know(from(3), none)
	if len(tl.neighbors) != 1 || tl.neighbors[from(3).from] == nil {
		t.Errorf("%d neighbours", len(tl.neighbors))
	}
	tl.received(from(3))
	tl.sent(1, from(3).from.Addr, msg)
	tl.sent(1, netip.MustParseAddr("10.9.9.9"), []byte{0x10, 200})
	if n := tl.neighbors[from(3).from]; n.in.Of(wire.Resv) != 2 || n.out.Of(wire.Resv) != 1 {
		t.Errorf("%+v", n)
	}
	if i := tl.ifaces[1]; i.in.Total() != 1 || i.out.Total() != 2 || i.out.Of(200) != 1 {
		t.Errorf("%+v", i)
	}
}
