package route

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What the kernel answers is understood as another implementation understands
// it: routes by a gateway and on the link, of both families, a gateway of the
// other family, our own addresses, and those that lead nowhere.
// RFC 2205 section 3.11.4, route query.
func TestAskAgreesWithLibrary(t *testing.T) {
	ns := pair(t)
	parse := func(s string) *net.IPNet {
		_, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := ns.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		i := l.Attrs().Index
		a, err := netlink.ParseAddr("2001:db8:1::1/64")
		if err != nil {
			return err
		}
		a.Flags = unix.IFA_F_NODAD
		return errors.Join(
			netlink.AddrAdd(l, a),
			netlink.RouteAdd(&netlink.Route{LinkIndex: i, Dst: parse("10.7.0.0/16"), Gw: net.ParseIP("10.1.0.2")}),
			netlink.RouteAdd(&netlink.Route{LinkIndex: i, Dst: parse("2001:db8:7::/48"), Gw: net.ParseIP("2001:db8:1::2")}),
			netlink.RouteAdd(&netlink.Route{
				LinkIndex: i, Dst: parse("10.8.0.0/16"),
				Via: &netlink.Via{AddrFamily: unix.AF_INET6, Addr: net.ParseIP("2001:db8:1::2")},
			}),
			netlink.RouteAdd(&netlink.Route{Type: unix.RTN_UNREACHABLE, Dst: parse("10.9.0.0/16")}),
			netlink.RouteAdd(&netlink.Route{Type: unix.RTN_BLACKHOLE, Dst: parse("2001:db8:9::/48")}),
		)
	}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		"10.7.0.1", "10.1.0.2", "10.1.0.1", "10.8.3.4", "10.9.0.1", "192.0.2.1", "127.0.0.1",
		"2001:db8:7::5", "2001:db8:1::7", "2001:db8:1::1", "2001:db8:9::1", "2001:db8:ffff::1",
	} {
		dst := netip.MustParseAddr(s)
		k := asker{fd: -1}
		var got, want Hop
		var err, lib error
		if err := ns.Do(func() error {
			got, err = k.ask(dst)
			k.close()
			var routes []netlink.Route
			if routes, lib = netlink.RouteGet(dst.AsSlice()); len(routes) == 0 {
				return nil
			}
			r := routes[0]
			want = Hop{Index: r.LinkIndex, Local: r.Type == unix.RTN_LOCAL, Gateway: address(r.Gw)}
			if via, ok := r.Via.(*netlink.Via); ok {
				want.Gateway = address(via.Addr)
			}
			if r.Type == unix.RTN_BLACKHOLE || r.Type == unix.RTN_UNREACHABLE {
				lib = errNoRoute
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if (err == nil) != (lib == nil) || err == nil && got != want {
			t.Errorf("%s: %+v, %v; the library says %+v, %v", s, got, err, want, lib)
		}
	}
}

// Each set-up of a session asks.
func TestAskAllocatesNothing(t *testing.T) {
	ns := pair(t)
	k := asker{fd: -1}
	dst := netip.MustParseAddr("10.1.0.2")
	if err := ns.Do(func() error {
		_, err := k.ask(dst) // opens the socket
		if n := testing.AllocsPerRun(100, func() {
			if _, e := k.ask(dst); e != nil {
				err = e
			}
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	k.close()
}

// FuzzParseHop: nothing that could be read from the socket makes it fail but by
// an error.
func FuzzParseHop(f *testing.F) {
	k := asker{}
	f.Add(k.question(netip.MustParseAddr("10.1.0.2")))
	k.question(netip.MustParseAddr("2001:db8::1"))
	b := append([]byte(nil), k.question(netip.MustParseAddr("10.1.0.2"))...)
	native.PutUint16(b[4:], unix.RTM_NEWROUTE)
	f.Add(b)
	f.Add([]byte{20, 0, 0, 0, unix.NLMSG_ERROR, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x9b, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < unix.SizeofNlMsghdr {
			return
		}
		h, err := parseHop(b)
		if err != nil && h != (Hop{}) {
			t.Errorf("%+v with %v", h, err)
		}
	})
}
