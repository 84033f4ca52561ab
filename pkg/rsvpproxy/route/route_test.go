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

// A neighbour answers to the address that we are known by, so that a lasting
// global one is better than others, and a link-local one serves only where there
// is nothing else.
func TestMerit(t *testing.T) {
	address := func(s string, flags, scope int) netlink.Addr {
		return netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(s)}, Flags: flags, Scope: scope}
	}
	rising := []netlink.Addr{
		address("fe80::2", unix.IFA_F_DADFAILED, unix.RT_SCOPE_LINK),
		address("fe80::1", unix.IFA_F_PERMANENT, unix.RT_SCOPE_LINK),
		address("2001:db8::7", unix.IFA_F_TEMPORARY, unix.RT_SCOPE_UNIVERSE),
		address("2001:db8::1", 0, unix.RT_SCOPE_UNIVERSE),
	}
	for i := range rising[1:] {
		if merit(rising[i]) >= merit(rising[i+1]) {
			t.Errorf("%v is no worse than %v", rising[i], rising[i+1])
		}
	}
	for _, flag := range []int{unix.IFA_F_DEPRECATED, unix.IFA_F_TENTATIVE} {
		if merit(address("2001:db8::1", flag, unix.RT_SCOPE_UNIVERSE)) != merit(rising[2]) {
			t.Errorf("flag %#x is ignored", flag)
		}
	}
	if merit(rising[0]) != 0 {
		t.Error("an address that another node has is taken")
	}
}

func TestByNameTellsAddresses(t *testing.T) {
	roottest.Need(t)
	n, err := netns.NewNamed(netns.NewGroup() + "addr")
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
	if err := netns.Veth(netns.End{NS: n, Name: "only0"}, netns.End{NS: n, Name: "both0", Addrs: []netip.Prefix{p("10.1.0.1/24"), p("10.1.0.9/24"), p("fd00:1::1/64")}}); err != nil {
		t.Fatal(err)
	}
	var only, both Link
	if err := n.Do(func() (err error) {
		if only, err = ByName("only0"); err == nil {
			both, err = ByName("both0")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if !only.Addr6.IsLinkLocalUnicast() || only.Addr4.IsValid() {
		t.Errorf("%+v, want the link-local address alone", only)
	}
	if both.Addr6 != netip.MustParseAddr("fd00:1::1") || both.Addr4 != netip.MustParseAddr("10.1.0.1") {
		t.Errorf("%+v, want the global addresses", both)
	}
	if len(both.Addrs) != 4 || !slices.Contains(both.Addrs, netip.MustParseAddr("10.1.0.9")) {
		t.Errorf("addresses %v, want all four", both.Addrs)
	}
}
