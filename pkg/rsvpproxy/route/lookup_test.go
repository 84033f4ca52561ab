package route

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// An answer serves for a moment, a change ends it, and what the kernel refuses
// is asked anew each time.
func TestLookup(t *testing.T) {
	ns := pair(t)
	table := NewTable()
	defer table.Close()
	now := time.Now()
	far, gateway, other := netip.MustParseAddr("10.7.0.1"), netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.1.0.3")
	lookup := func(dst netip.Addr, want netip.Addr, ok bool) Hop {
		t.Helper()
		var h Hop
		err := ns.Do(func() (err error) { h, err = table.Lookup(now, dst); return err })
		if ok != (err == nil) || ok != (h.Index != 0) || h.Gateway != want {
			t.Fatalf("%s: %+v, %v, want a gateway %v, %v", dst, h, err, want, ok)
		}
		return h
	}
	var none netip.Addr
	lookup(far, none, false)
	if h := lookup(netip.MustParseAddr("10.1.0.1"), none, true); !h.Local {
		t.Errorf("our own address: %+v", h)
	}
	lookup(gateway, none, true) // on the link
	if err := ns.Route(netip.MustParsePrefix("10.7.0.0/16"), gateway); err != nil {
		t.Fatal(err)
	}
	lookup(far, gateway, true)

	// A host route to another gateway: unseen for a moment, then or after Forget
	// seen.
	host := netip.MustParsePrefix("10.7.0.1/32")
	if err := ns.Route(host, other); err != nil {
		t.Fatal(err)
	}
	lookup(far, gateway, true)
	now = now.Add(fresh)
	lookup(far, other, true)
	table.Follow(true)
	lookup(far, other, true)
	now = now.Add(followed - 1)
	if err := ns.Do(func() error { return netlink.RouteDel(&netlink.Route{Dst: netlink.NewIPNet(far.AsSlice())}) }); err != nil {
		t.Fatal(err)
	}
	lookup(far, other, true) // until it is told
	table.Forget()
	lookup(far, gateway, true)

	for i := range 2 * maxAnswers {
		a := netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
		table.answers[a] = answer{at: now}
		if len(table.answers) > maxAnswers {
			break
		}
	}
	lookup(netip.MustParseAddr("10.7.255.255"), gateway, true)
	if n := len(table.answers); n != 1 {
		t.Errorf("%d answers are kept", n)
	}
	table.Forget()
	if n := len(table.answers); n != 0 {
		t.Errorf("%d answers are kept after Forget", n)
	}
}
