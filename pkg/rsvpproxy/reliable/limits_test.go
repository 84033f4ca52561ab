package reliable

import (
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Nothing grows without a limit, and beyond it RFC 2205 goes on.
func TestLimits(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{Neighbors: 3, Sent: 5, Received: 5}})
	for i := range 20 {
		if s := r.send(path(i)); len(s) != 1 || (s[0].Msg.MessageID == nil) != (i >= 5) {
			t.Fatalf("message %d: %+v", i, s)
		}
		if r.received(i, wire.MessageID{Epoch: 1, ID: uint32(i), AckDesired: true}) != 1 {
			t.Fatalf("message %d was not handed on", i)
		}
	}
	if c := r.l.Counters(); c.Sent > 5 || c.Received > 5 || c.LimitSent == 0 || c.LimitReceived == 0 {
		t.Errorf("%+v", c)
	}
	r = newRig(t, Config{Limits: Limits{Neighbors: 3}})
	for i := range 100 {
		r.received(i, wire.MessageID{Epoch: 1, ID: 1}, func(m *wire.Message) { m.Hop.Addr = linkAddr(100, i+1) })
	}
	if c := r.l.Counters(); c.Neighbors > 3 || c.Received > 3 || c.LimitNeighbors != 97 {
		t.Errorf("%+v", c)
	}
}

// A flood of neighbours on one interface, each with something to keep, takes no
// place from those on others: they are acknowledged, and their Srefresh counts.
// The next hops that sessions make us guess take none from those that speak.
func TestFloodOfNeighborsStaysOnItsInterface(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{Neighbors: 100, Received: 200}})
	r.n.unsure = true
	r.l.SetInterfaces(left, right)
	flood := func(n int) {
		t.Helper()
		for i := range n {
			r.received(i, wire.MessageID{Epoch: 1, ID: 1}, func(m *wire.Message) {
				m.Hop.Addr = netip.AddrFrom4([4]byte{172, 30, byte(i >> 8), byte(i)})
				m.Session.Dst = netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)})
				m.TimeValues.Refresh = 1<<32 - 1
			})
			m := path(i)
			m.Session.Dst = netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)})
			r.send(m)
		}
	}
	flood(1000)
	if c := r.l.Counters(); c.LimitNeighbors < 1500 || c.Neighbors > 200 {
		t.Fatalf("that was no flood: %+v", c)
	}
	for i := range 12 { // the part of an interface
		from := netip.AddrFrom4([4]byte{172, 16, 2, byte(100 + i)})
		m := path(i)
		m.Flags, m.Hop.Addr, m.MessageID = 1, from, &wire.MessageID{Epoch: 7, ID: 9, AckDesired: true}
		if in, _ := r.in(right, srcHost, dstHost, m); len(in) != 1 {
			t.Fatalf("neighbour %d is not heard", i)
		}
		out, _ := r.run(100 * time.Millisecond)
		if got := acksTo(out, from); len(got) != 1 || got[0].Nack {
			t.Fatalf("neighbour %d gets %+v", i, got)
		}
	}
	flood(500)
	for i := range 12 {
		from := netip.AddrFrom4([4]byte{172, 16, 2, byte(100 + i)})
		s := &wire.Message{Type: wire.Srefresh, Flags: 1, SendTTL: 255, Lists: []wire.MessageIDList{{Epoch: 7, IDs: []wire.ListedID{{ID: 9}}}}}
		if in, _ := r.in(right, from, linkAddr(2, 1), s); len(in) != 1 {
			t.Errorf("the Srefresh of neighbour %d stands for %d messages", i, len(in))
		}
	}
}

func acksTo(list []softstate.Send, to netip.Addr) (acks []wire.MessageIDAck) {
	for _, s := range list {
		if s.Dst == to {
			acks = append(acks, s.Msg.Acks...)
		}
	}
	return acks
}
