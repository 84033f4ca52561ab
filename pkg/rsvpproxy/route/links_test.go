package route

import (
	"context"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// An address that comes, one that goes and an interface that goes down are told;
// the channel closes with its context.
func TestSubscribeLinks(t *testing.T) {
	ns := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var changes <-chan struct{}
	if err := ns.Do(func() (err error) {
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
		if err := ns.Do(change(tt.f)); err != nil {
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
