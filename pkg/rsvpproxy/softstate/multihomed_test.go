package softstate

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// secondEnv is an environment whose interfaces have a second address each, for
// the neighbours of these tests.
type secondEnv struct{ *testEnv }

var (
	leftSecond  = netip.MustParseAddr("192.0.2.102")
	rightSecond = netip.MustParseAddr("198.51.100.101")
)

func (e secondEnv) AddrTowards(i IfIndex, to netip.Addr) netip.Addr {
	switch {
	case i == left && to == prevHop:
		return leftSecond
	case i == right && (to == dstHost || to == nextHop): // the one by way of the other
		return rightSecond
	default:
		return e.addrs[i]
	}
}

func (e secondEnv) Local(a netip.Addr) bool {
	return a == leftSecond || a == rightSecond || e.testEnv.Local(a)
}

// On an interface with several addresses each message names the one that its
// receiver can answer to, in the hop as in the IP source, and what comes to any
// of them is ours (RFC 2205 sections 3.1.3, 3.1.4 and 3.3).
func TestSeveralAddressesRFC2205Section3_3(t *testing.T) {
	n := New(Config{}, secondEnv{newEnv()}, rand.New(rand.NewPCG(1, 1)))
	now := epoch
	in := func(iface IfIndex, src, dst netip.Addr, m *wire.Message) []Effect {
		t.Helper()
		return n.Handle(now, Received{Iface: iface, Src: src, Dst: dst, TTL: 60, Msg: m})
	}
	if s := onlySend(t, in(left, srcHost, dstHost, pathMsg()), wire.Path); s.Msg.Hop.Addr != rightSecond {
		t.Errorf("PATH names the hop %s, want %s", s.Msg.Hop.Addr, rightSecond)
	}
	es := in(right, nextHop, rightSecond, resvMsg())
	id := only[Reserve](t, es).ID
	s := onlySend(t, n.ReserveResult(now, id, nil), wire.Resv)
	if s.Src != leftSecond || s.Msg.Hop.Addr != leftSecond || s.Dst != prevHop {
		t.Errorf("RESV from %s with the hop %s to %s, want %s", s.Src, s.Msg.Hop.Addr, s.Dst, leftSecond)
	}
	// The previous hop answers to that address, and complains to it.
	fail := &wire.Message{
		Type: wire.ResvErr, Session: sess, Hop: &wire.Hop{Addr: prevHop, LIH: uint32(left)}, Style: wire.FF,
		ErrorSpec: &wire.ErrorSpec{Node: prevHop, Code: wire.ErrAdmission, Value: 2},
		Flows:     []wire.FlowDescriptor{{FlowSpec: &flow, Filters: []wire.Filter{filter}}},
	}
	s = onlySend(t, in(left, prevHop, leftSecond, fail), wire.ResvErr)
	if s.Src != rightSecond || s.Msg.Hop.Addr != rightSecond || s.Dst != nextHop {
		t.Errorf("ResvErr from %s with the hop %s, want %s", s.Src, s.Msg.Hop.Addr, rightSecond)
	}
	// Tears have the hop of what they take back, or it would not be found.
	now = now.Add(time.Second)
	tear := resvMsg()
	tear.Type, tear.TimeValues = wire.ResvTear, nil
	if s = onlySend(t, in(right, nextHop, rightAdr, tear), wire.ResvTear); s.Msg.Hop.Addr != leftSecond || s.Src != leftSecond {
		t.Errorf("ResvTear from %s with the hop %s, want %s", s.Src, s.Msg.Hop.Addr, leftSecond)
	}
	end := pathMsg()
	end.Type, end.TimeValues = wire.PathTear, nil
	if s = onlySend(t, in(left, srcHost, dstHost, end), wire.PathTear); s.Msg.Hop.Addr != rightSecond {
		t.Errorf("PathTear names the hop %s, want %s", s.Msg.Hop.Addr, rightSecond)
	}
	// None of ours is a neighbour's.
	loop := pathMsg()
	loop.Hop.Addr = rightSecond
	if es := in(left, srcHost, dstHost, loop); len(es) != 0 {
		t.Errorf("a PATH of our own address is taken: %v", es)
	}
}

// A RESV to a further previous hop names the address that this one is told, too.
func TestFurtherHopOfSeveralAddressesRFC2205Section3_3(t *testing.T) {
	r := newRig(t, Config{})
	r.n = New(Config{Quick: -1}, secondEnv{r.env}, rand.New(rand.NewPCG(1, 1)))
	r.path()
	r.grant(r.in(right, nextHop, rightSecond, resvMsg()))
	r.path(via(secondHop)) // prevHop stands beside it now
	r.path()
	want := map[netip.Addr]netip.Addr{prevHop: leftSecond, secondHop: leftAddr}
	check := func(kind wire.MsgType, es []Effect) {
		t.Helper()
		seen := map[netip.Addr]bool{}
		for _, s := range sends(es, kind) {
			seen[s.Dst] = true
			if s.Src != want[s.Dst] || s.Msg.Hop.Addr != s.Src {
				t.Errorf("%v to %s from %s with the hop %s, want %s", kind, s.Dst, s.Src, s.Msg.Hop.Addr, want[s.Dst])
			}
		}
		if len(seen) != 2 {
			t.Errorf("%v went to %v", kind, seen)
		}
	}
	check(wire.Resv, r.run(2*DefaultRefresh))
	tear := resvMsg()
	tear.Type, tear.TimeValues = wire.ResvTear, nil
	check(wire.ResvTear, r.in(right, nextHop, rightSecond, tear))
}
