package route

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

func kernelAddr(s string, flags, scope int) netlink.Addr {
	ip, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	return netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: n.Mask}, Flags: flags, Scope: scope}
}

func linkOf(list ...netlink.Addr) Link { return Link{Own: ownOf(list)}.known() }

// A neighbour is told the address in its own network: of several on a link it may
// know no way to the others (RFC 2205 section 3.3 has the hop's address be the one
// that RESV is sent to).
func TestAddrTowardsRFC2205Section3_3(t *testing.T) {
	far := kernelAddr("10.5.0.1/32", 0, unix.RT_SCOPE_UNIVERSE)
	_, peer, _ := net.ParseCIDR("10.6.0.9/32")
	far.Peer = peer
	l := linkOf(
		kernelAddr("10.1.0.1/24", 0, unix.RT_SCOPE_UNIVERSE),
		kernelAddr("10.1.0.9/24", unix.IFA_F_SECONDARY, unix.RT_SCOPE_UNIVERSE),
		kernelAddr("10.2.0.1/24", 0, unix.RT_SCOPE_UNIVERSE),
		kernelAddr("10.2.0.129/25", 0, unix.RT_SCOPE_UNIVERSE),
		kernelAddr("10.3.0.1/24", 0, unix.RT_SCOPE_LINK), // not to be told anybody else
		far,
		kernelAddr("fe80::1/64", 0, unix.RT_SCOPE_LINK),
		kernelAddr("fd00:1::1/64", 0, unix.RT_SCOPE_UNIVERSE),
		kernelAddr("fd00:2::7/64", unix.IFA_F_TEMPORARY, unix.RT_SCOPE_UNIVERSE),
		kernelAddr("fd00:2::1/64", 0, unix.RT_SCOPE_UNIVERSE),
	)
	for _, c := range []struct {
		to, want string
		near     bool
	}{
		{"10.1.0.2", "10.1.0.1", true},
		{"10.2.0.2", "10.2.0.1", true},
		{"10.2.0.200", "10.2.0.129", true}, // the longest prefix
		{"10.3.0.2", "10.1.0.1", false},
		{"10.6.0.9", "10.5.0.1", true},
		{"192.0.2.1", "10.1.0.1", false},
		{"fd00:1::2", "fd00:1::1", true},
		{"fd00:2::2", "fd00:2::1", true},
		{"fd00:3::2", "fd00:1::1", false},
		{"fe80::2", "fd00:1::1", false}, // a global address is known to all
	} {
		a, near := l.AddrTowards(netip.MustParseAddr(c.to))
		if a != netip.MustParseAddr(c.want) || near != c.near {
			t.Errorf("towards %s: %s, %t; want %s, %t", c.to, a, near, c.want, c.near)
		}
	}
	one := linkOf(kernelAddr("10.1.0.1/24", 0, unix.RT_SCOPE_UNIVERSE), kernelAddr("fe80::1/64", 0, unix.RT_SCOPE_LINK),
		kernelAddr("fd00:1::1/64", 0, unix.RT_SCOPE_UNIVERSE))
	for _, a := range []string{"10.9.9.9", "fd00:9::9"} {
		if !l.Multihomed(netip.MustParseAddr(a)) || one.Multihomed(netip.MustParseAddr(a)) {
			t.Errorf("towards %s: a choice where there is none, or the other way round", a)
		}
	}
	only := linkOf(kernelAddr("fe80::1/64", 0, unix.RT_SCOPE_LINK))
	if a, _ := only.AddrTowards(netip.MustParseAddr("fd00:1::2")); a != netip.MustParseAddr("fe80::1") {
		t.Errorf("%s, want the link-local address where there is no other", a)
	}
	if a, _ := only.AddrTowards(netip.MustParseAddr("10.1.0.2")); a.IsValid() {
		t.Errorf("%s as an IPv4 address", a)
	}
}

// Neighbours have the address in their state: others that come do not take its
// place, one that goes is followed by the next.
func TestAddressStaysWhileItExists(t *testing.T) {
	old6, new6 := kernelAddr("fd00:1::1/64", 0, unix.RT_SCOPE_UNIVERSE), kernelAddr("fd00:1::2/64", 0, unix.RT_SCOPE_UNIVERSE)
	old4, new4 := kernelAddr("10.1.0.1/24", 0, unix.RT_SCOPE_UNIVERSE), kernelAddr("10.2.0.1/24", 0, unix.RT_SCOPE_UNIVERSE)
	was := linkOf(old4, old6)
	now := linkOf(new4, new6, old4, old6) // the kernel tells the newest IPv6 address first
	if now.Addr4 != netip.MustParseAddr("10.2.0.1") || now.Addr6 != netip.MustParseAddr("fd00:1::2") {
		t.Fatalf("%+v: this proves nothing", now)
	}
	now = now.Since(&was)
	if now.Addr4 != was.Addr4 || now.Addr6 != was.Addr6 {
		t.Errorf("known by %s and %s, want %s and %s", now.Addr4, now.Addr6, was.Addr4, was.Addr6)
	}
	if a, _ := now.AddrTowards(netip.MustParseAddr("fd00:1::9")); a != was.Addr6 {
		t.Errorf("in a network with two of ours: %s, want %s", a, was.Addr6)
	}
	gone := linkOf(new4, new6).Since(&now)
	if gone.Addr4 != netip.MustParseAddr("10.2.0.1") || gone.Addr6 != netip.MustParseAddr("fd00:1::2") {
		t.Errorf("%+v, want the addresses that are left", gone)
	}
	old6.Flags = unix.IFA_F_DEPRECATED
	if better := linkOf(new6, old6).Since(&was); better.Addr6 != netip.MustParseAddr("fd00:1::2") {
		t.Errorf("%s is deprecated and still told", better.Addr6)
	}
}

// The same of addresses as the kernel has them, point-to-point ones included.
func TestByNameTellsNetworks(t *testing.T) {
	roottest.Need(t)
	n, err := netns.NewNamed(netns.NewGroup() + "nets")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := n.Sysctl("net.ipv6.conf.default.accept_dad", "0"); err != nil {
		t.Fatal(err)
	}
	p := netip.MustParsePrefix
	addrs := []netip.Prefix{p("10.1.0.1/24"), p("10.2.0.1/24"), p("10.2.0.9/24"), p("fd00:1::1/64"), p("fd00:2::1/64")}
	if err := netns.Veth(netns.End{NS: n, Name: "one0", Addrs: addrs}, netns.End{NS: n, Name: "two0"}); err != nil {
		t.Fatal(err)
	}
	var l Link
	if err := n.Do(func() error {
		link, err := netlink.LinkByName("one0")
		if err == nil {
			_, peer, _ := net.ParseCIDR("10.6.0.9/32")
			err = netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 5, 0, 1), Mask: net.CIDRMask(32, 32)}, Peer: peer})
		}
		if err == nil {
			l, err = ByName("one0")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{"10.1.0.2": "10.1.0.1", "10.2.0.2": "10.2.0.1", "10.6.0.9": "10.5.0.1", "fd00:1::2": "fd00:1::1", "fd00:2::2": "fd00:2::1"} {
		if a, near := l.AddrTowards(netip.MustParseAddr(to)); !near || a != netip.MustParseAddr(want) {
			t.Errorf("towards %s: %s, %t; want %s of %+v", to, a, near, want, l.Own)
		}
	}
	if !slices.Contains(l.Addrs, netip.MustParseAddr("10.2.0.9")) || len(l.Addrs) != 7 {
		t.Errorf("addresses %v, want seven", l.Addrs)
	}
}
