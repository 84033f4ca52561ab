package rsvpproxy

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/integration/rig/mroute"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/roottest"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

var (
	testGroup  = netip.MustParseAddr("239.1.2.3")
	testSource = netip.MustParseAddr("10.1.0.2")
)

// Where multicast routes cannot be read, groups are refused; where there is no
// entry, they go nowhere.
func TestRoutesWithoutMulticastRouting(t *testing.T) {
	p := testProxy(0)
	if _, ok := p.env.Routes(testGroup, testSource, 1); ok {
		t.Error("a group is accepted and can never be followed")
	}
	if p.env.Forwards(testSource, testGroup, 1) {
		t.Error("it is forwarded")
	}
}

// The kernel's entries tell where a group's PATH goes (RFC 2205 section 3.9), and
// their thresholds how far: it does not pass where its data do not.
func TestGroupPathKeepsToThresholdsRFC2205Section3_9(t *testing.T) {
	roottest.Need(t)
	n, err := netns.NewNamed(netns.NewGroup() + "mc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := netns.Veth(netns.End{NS: n, Name: "in0"}, netns.End{NS: n, Name: "out0"}); err != nil {
		t.Fatal(err)
	}
	r, err := mroute.New(n, false, 5, "in0", "out0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := r.Set(mroute.Route{Source: testSource, Group: testGroup, In: "in0", Out: []string{"out0"}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sent := 0
	p := New(Config{FollowRoutes: true}, Hooks{Send: senderFunc(func([]byte) error { sent++; return nil }), Log: zap.NewNop()})
	index := map[string]softstate.IfIndex{}
	if err := n.Do(func() error {
		for _, name := range []string{"in0", "out0"} {
			i, err := net.InterfaceByName(name)
			if err != nil {
				return err
			}
			index[name] = softstate.IfIndex(i.Index)
		}
		p.followGroups(ctx)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	outs, ok := p.env.Routes(testGroup, testSource, index["in0"])
	if !ok || !slices.Equal(outs, []softstate.IfIndex{index["out0"]}) || !p.env.Forwards(testSource, testGroup, index["in0"]) {
		t.Errorf("%v, %v, want by %d", outs, ok, index["out0"])
	}
	if outs, ok := p.env.Routes(testGroup, testSource, index["out0"]); !ok || len(outs) != 0 {
		t.Errorf("%v, %v from where it is not expected", outs, ok)
	}
	for _, tt := range []struct {
		ttl  uint8
		dst  netip.Addr
		sent int
	}{{4, testGroup, 0}, {5, testGroup, 1}, {255, testGroup, 1}, {1, netip.MustParseAddr("10.2.0.2"), 1}} {
		sent = 0
		p.send(softstate.Send{
			Out: index["out0"], Src: testSource, Dst: tt.dst, TTL: tt.ttl, RouterAlert: true,
			Msg: &wire.Message{
				Type: wire.PathTear, SendTTL: tt.ttl, Session: wire.Session{Dst: tt.dst, Protocol: 17, DstPort: 9},
				Hop: &wire.Hop{Addr: netip.MustParseAddr("10.9.0.1")}, SenderTemplate: &wire.Filter{Src: testSource, SrcPort: 8},
			},
		})
		if sent != tt.sent {
			t.Errorf("TTL %d to %s: %d sent, want %d", tt.ttl, tt.dst, sent, tt.sent)
		}
	}
	if c := p.SendCounters(); c.Scoped != 1 || c.Sent != 3 || c.Errors != 0 {
		t.Errorf("%+v", c)
	}
}

// RFC 2205 section 3.6: a change of a group's routes repairs the group's sessions
// after W, without waiting for the refresh.
func TestGroupRepairRFC2205Section3_6(t *testing.T) {
	roottest.Need(t)
	n, err := netns.NewNamed(netns.NewGroup() + "mr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	p4 := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	if err := netns.Veth(netns.End{NS: n, Name: "in0", Addrs: p4("10.1.0.1/24")}, netns.End{NS: n, Name: "out0", Addrs: p4("10.2.0.1/24")}); err != nil {
		t.Fatal(err)
	}
	r, err := mroute.New(n, false, 1, "in0", "out0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	sent := make(chan struct{}, 16)
	p := New(Config{FollowRoutes: true, Node: softstate.Config{Refresh: time.Hour, Quick: -1, Repair: 100 * time.Millisecond}}, Hooks{
		Send: senderFunc(func([]byte) error { sent <- struct{}{}; return nil }), Log: zap.NewNop(), Event: func(softstate.Event) {},
		ReceiverProxy: func(softstate.PathInfo) (softstate.ReserveSpec, bool) { return softstate.ReserveSpec{}, false },
	})
	var list []Interface
	var in int
	if err := n.Do(func() error {
		for _, name := range []string{"in0", "out0"} {
			l, err := route.ByName(name)
			if err != nil {
				return err
			}
			list = append(list, Interface{Link: l, Hosts: name == "in0"})
			if name == "in0" {
				in = l.Index
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	p.SetInterfaces(list)
	p.Abandon()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Do(func() error { return p.Run(ctx) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	session := wire.Session{Dst: testGroup, Protocol: 17, DstPort: 9}
	refused := make(chan error, 1)
	add := func() error {
		return p.AddSender(softstate.Sender{
			Session: session, Filter: wire.Filter{Src: testSource, SrcPort: 8}, In: softstate.IfIndex(in), TTL: 8,
			TSpec: intserv.TSpec{Rate: 1000, Bucket: 1000, Peak: 2000, MinUnit: 64, MaxPacket: 1500},
		}, func(err error) { refused <- err })
	}
	if err := add(); err != nil {
		t.Fatal(err)
	}
	// Without an entry there is a session, and no PATH.
	if v, err := p.View(); err != nil || len(v.Sessions) != 1 {
		t.Fatalf("%+v, %v", v.Sessions, err)
	}
	select {
	case <-sent:
		t.Fatal("PATH went where nobody listens")
	case err := <-refused:
		t.Fatal(err)
	default:
	}
	if err := r.Set(mroute.Route{Source: testSource, Group: testGroup, In: "in0", Out: []string{"out0"}}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-sent:
	case <-time.After(10 * time.Second):
		t.Fatal("the new branch got no PATH; the next refresh is an hour away")
	}
}
