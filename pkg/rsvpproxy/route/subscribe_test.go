package route

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// The kernel's changes come, those of one moment together, and the channel
// closes with its context.
// RFC 2205 section 3.11.4, route change notification.
func TestSubscribe(t *testing.T) {
	ns := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var changes <-chan []netip.Prefix
	if err := ns.Do(func() (err error) {
		changes, err = Subscribe(ctx)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.7.0.0/16"), netip.MustParsePrefix("10.8.0.0/16"), netip.MustParsePrefix("0.0.0.0/0")}
	for _, dst := range want {
		if err := ns.Route(dst, netip.MustParseAddr("10.1.0.2")); err != nil {
			t.Fatal(err)
		}
	}
	got := next(t, changes)
	for _, dst := range want {
		if !slices.Contains(got, dst) {
			t.Errorf("%v is missing in %v", dst, got)
		}
	}
	// An interface that goes down takes its IPv4 routes along, and the kernel
	// says so of the interface only.
	if err := ns.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(link)
	}); err != nil {
		t.Fatal(err)
	}
	for got = next(t, changes); !slices.Contains(got, everything()[0]); got = next(t, changes) {
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

func next(t *testing.T, changes <-chan []netip.Prefix) []netip.Prefix {
	t.Helper()
	select {
	case list, open := <-changes:
		if !open {
			t.Fatal("closed")
		}
		return list
	case <-time.After(5 * time.Second):
		t.Fatal("no change was told")
		return nil
	}
}

// Many changes become one; what the kernel dropped is everything.
func TestCollectIsBounded(t *testing.T) {
	updates, out := make(chan netlink.RouteUpdate), make(chan []netip.Prefix)
	go func() {
		for i := range 3 * maxChanges {
			updates <- update(t, i)
		}
		close(updates)
	}()
	go func() {
		defer close(out)
		collect(t.Context(), updates, nil, out)
	}()
	rounds := 0
	for list := range out {
		rounds++
		if len(list) > maxChanges || len(list) == 2 && list[0].Bits() != 0 {
			t.Errorf("%v", list)
		}
	}
	if rounds == 0 {
		t.Error("nothing was told")
	}
}

func update(t *testing.T, i int) netlink.RouteUpdate {
	t.Helper()
	p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16)
	n, err := netlink.ParseIPNet(p.String())
	if err != nil {
		t.Fatal(err)
	}
	return netlink.RouteUpdate{Route: netlink.Route{Dst: n}}
}
