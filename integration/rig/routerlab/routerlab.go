// Package routerlab is three namespaces in a row, source - box - sink, for
// tests of what a router's kernel does with packets.
package routerlab

import (
	"net/netip"
	"testing"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

// Lab is source - box - sink. The box forwards both families by its interfaces
// in0 and out0; 10.1.0.0/24 and fd01::/64 are the source's side, 10.2.0.0/24
// and fd02::/64 the sink's, whose interfaces are eth0.
type Lab struct{ Source, Box, Sink *netns.NetNS }

// The hosts' addresses.
var (
	SourceAddr  = netip.MustParseAddr("10.1.0.2")
	SinkAddr    = netip.MustParseAddr("10.2.0.2")
	SourceAddr6 = netip.MustParseAddr("fd01::2")
	SinkAddr6   = netip.MustParseAddr("fd02::2")
)

// New makes a Lab, which goes with the test.
func New(t testing.TB) *Lab {
	t.Helper()
	roottest.Need(t)
	l := &Lab{}
	group := netns.NewGroup()
	for name, ns := range map[string]**netns.NetNS{"src": &l.Source, "box": &l.Box, "dst": &l.Sink} {
		n, err := netns.NewNamed(group + name)
		Must(t, err)
		t.Cleanup(func() { Must(t, n.Close()) })
		*ns = n
		Must(t, n.Up("lo"))
		// Else IPv6 waits a second for duplicates of the link-local addresses.
		Must(t, n.Sysctl("net.ipv6.conf.default.accept_dad", "0"))
	}
	p := func(s ...string) (out []netip.Prefix) {
		for _, x := range s {
			out = append(out, netip.MustParsePrefix(x))
		}
		return out
	}
	Must(t, netns.Veth(netns.End{NS: l.Source, Name: "eth0", Addrs: p("10.1.0.2/24", "fd01::2/64")},
		netns.End{NS: l.Box, Name: "in0", Addrs: p("10.1.0.1/24", "fd01::1/64")}))
	Must(t, netns.Veth(netns.End{NS: l.Sink, Name: "eth0", Addrs: p("10.2.0.2/24", "fd02::2/64")},
		netns.End{NS: l.Box, Name: "out0", Addrs: p("10.2.0.1/24", "fd02::1/64")}))
	Must(t, l.Box.Sysctl("net.ipv4.ip_forward", "1"))
	Must(t, l.Box.Sysctl("net.ipv6.conf.all.forwarding", "1"))
	Must(t, l.Source.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.1.0.1")))
	Must(t, l.Source.Route(netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd01::1")))
	Must(t, l.Sink.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.2.0.1")))
	Must(t, l.Sink.Route(netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd02::1")))
	return l
}

// Must ends a test that could not set up what it needs.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
