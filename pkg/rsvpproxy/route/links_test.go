package route

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

// An address that comes, one that goes and an interface that goes down are told;
// the channel closes with its context.
func TestSubscribeLinks(t *testing.T) {
	roottest.Need(t)
	group := netns.NewGroup()
	var ns [2]*netns.NetNS
	for i, name := range []string{"a", "b"} {
		n, err := netns.NewNamed(group + name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		})
		ns[i] = n
	}
	if err := netns.Veth(
		netns.End{NS: ns[0], Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}},
		netns.End{NS: ns[1], Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.0.2/24")}},
	); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var changes <-chan struct{}
	if err := ns[0].Do(func() (err error) {
		changes, err = SubscribeLinks(ctx)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	change := func(f func(l netlink.Link, a *netlink.Addr) error) func() error {
		return func() error {
			l, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			a, err := netlink.ParseAddr("10.1.0.9/24")
			if err != nil {
				return err
			}
			return f(l, a)
		}
	}
	for _, tt := range []struct {
		name string
		f    func(l netlink.Link, a *netlink.Addr) error
	}{
		{"address comes", func(l netlink.Link, a *netlink.Addr) error { return netlink.AddrAdd(l, a) }},
		{"address goes", func(l netlink.Link, a *netlink.Addr) error { return netlink.AddrDel(l, a) }},
		{"down", func(l netlink.Link, _ *netlink.Addr) error { return netlink.LinkSetDown(l) }},
	} {
		for empty := false; !empty; { // what is left of the change before
			select {
			case <-changes:
			case <-time.After(3 * settle):
				empty = true
			}
		}
		if err := ns[0].Do(change(tt.f)); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		select {
		case _, open := <-changes:
			if !open {
				t.Fatalf("%s: closed", tt.name)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: not told", tt.name)
		}
	}
	cancel()
	for {
		select {
		case _, open := <-changes:
			if !open {
				return
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the channel is not closed")
		}
	}
}
