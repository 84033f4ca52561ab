package nft

import (
	"net/netip"
	"os"
	"testing"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// needRoot skips a test that changes namespaces, unless the machine is one that
// has to be able to run it.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("QOSPROXY_REQUIRE_ROOT") == "1" {
		t.Fatal("this test needs root, and QOSPROXY_REQUIRE_ROOT=1")
	}
	t.Skip("needs root")
}

// lab is source - box - sink. The box forwards both families; 10.1.0.0/24 and
// fd01::/64 are the source's side, 10.2.0.0/24 and fd02::/64 the sink's.
type lab struct{ source, box, sink *netns.NetNS }

var (
	srcAddr  = netip.MustParseAddr("10.1.0.2")
	dstAddr  = netip.MustParseAddr("10.2.0.2")
	srcAddr6 = netip.MustParseAddr("fd01::2")
	dstAddr6 = netip.MustParseAddr("fd02::2")
)

func newLab(t testing.TB) *lab {
	t.Helper()
	needRoot(t)
	l := &lab{}
	group := netns.NewGroup()
	for name, ns := range map[string]**netns.NetNS{"src": &l.source, "box": &l.box, "dst": &l.sink} {
		n, err := netns.NewNamed(group + name)
		must(t, err)
		t.Cleanup(func() { must(t, n.Close()) })
		*ns = n
		must(t, n.Up("lo"))
		// Else IPv6 waits a second for duplicates of the link-local addresses.
		must(t, n.Sysctl("net.ipv6.conf.default.accept_dad", "0"))
	}
	p := func(s ...string) (out []netip.Prefix) {
		for _, x := range s {
			out = append(out, netip.MustParsePrefix(x))
		}
		return out
	}
	must(t, netns.Veth(netns.End{NS: l.source, Name: "eth0", Addrs: p("10.1.0.2/24", "fd01::2/64")},
		netns.End{NS: l.box, Name: "in0", Addrs: p("10.1.0.1/24", "fd01::1/64")}))
	must(t, netns.Veth(netns.End{NS: l.sink, Name: "eth0", Addrs: p("10.2.0.2/24", "fd02::2/64")},
		netns.End{NS: l.box, Name: "out0", Addrs: p("10.2.0.1/24", "fd02::1/64")}))
	must(t, l.box.Sysctl("net.ipv4.ip_forward", "1"))
	must(t, l.box.Sysctl("net.ipv6.conf.all.forwarding", "1"))
	must(t, l.source.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.1.0.1")))
	must(t, l.source.Route(netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd01::1")))
	must(t, l.sink.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.2.0.1")))
	must(t, l.sink.Route(netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd02::1")))
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
