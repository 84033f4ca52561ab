// Package bridgelab is three namespaces in a row, source - box - sink, for tests
// of what a bridge's kernel does with frames.
package bridgelab

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/routerlab"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

// Lab is source - box - sink. The box has no address: its ports in0 and out0 are in
// the bridge br0, and netfilter sees the IP packets that it forwards, tagged ones
// too. The hosts have the addresses of routerlab, on one network, on eth0.
type Lab struct{ Source, Box, Sink *netns.NetNS }

// Names of the box's interfaces.
const (
	Bridge = "br0"
	In     = "in0"
	Out    = "out0"
)

// New makes a Lab, which goes with the test.
func New(t testing.TB) *Lab {
	t.Helper()
	roottest.Need(t)
	l := &Lab{}
	group := netns.NewGroup()
	for name, ns := range map[string]**netns.NetNS{"src": &l.Source, "box": &l.Box, "dst": &l.Sink} {
		n, err := netns.NewNamed(group + name)
		routerlab.Must(t, err)
		t.Cleanup(func() { routerlab.Must(t, n.Close()) })
		*ns = n
		routerlab.Must(t, n.Up("lo"))
	}
	on := func(a, b netip.Addr) []netip.Prefix {
		return []netip.Prefix{netip.PrefixFrom(a, 8), netip.PrefixFrom(b, 8)}
	}
	routerlab.Must(t, errors.Join(
		l.Box.Sysctl("net.ipv6.conf.default.disable_ipv6", "1"),
		netns.Veth(netns.End{NS: l.Source, Name: "eth0", Addrs: on(routerlab.SourceAddr, routerlab.SourceAddr6), Wire: true},
			netns.End{NS: l.Box, Name: In, Wire: true}),
		netns.Veth(netns.End{NS: l.Sink, Name: "eth0", Addrs: on(routerlab.SinkAddr, routerlab.SinkAddr6), Wire: true},
			netns.End{NS: l.Box, Name: Out, Wire: true}),
	))
	routerlab.Must(t, errors.Join(
		l.Box.Bridge(Bridge, In, Out),
		l.Box.Sysctl("net.bridge.bridge-nf-call-iptables", "1"),
		l.Box.Sysctl("net.bridge.bridge-nf-call-ip6tables", "1"),
		l.Box.Sysctl("net.bridge.bridge-nf-filter-vlan-tagged", "1"),
	))
	return l
}

// Index is the index of an interface of the box.
func (l *Lab) Index(t testing.TB, name string) (index int) {
	t.Helper()
	routerlab.Must(t, l.Box.Do(func() error {
		i, err := net.InterfaceByName(name)
		if err == nil {
			index = i.Index
		}
		return err
	}))
	return index
}
