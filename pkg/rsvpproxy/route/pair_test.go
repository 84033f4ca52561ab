package route

import (
	"net/netip"
	"testing"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

// pair returns a namespace with eth0 at 10.1.0.1/24; at the other end of the
// cable is 10.1.0.2.
func pair(t *testing.T) *netns.NetNS {
	t.Helper()
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
	return ns[0]
}
