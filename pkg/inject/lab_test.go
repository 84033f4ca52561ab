package inject

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/qosproxy/qosproxy/integration/rig/routerlab"
)

type lab struct{ *routerlab.Lab }

func newLab(t testing.TB) *lab { return &lab{routerlab.New(t)} }

func must(t testing.TB, err error) { t.Helper(); routerlab.Must(t, err) }

var (
	srcAddr  = routerlab.SourceAddr
	dstAddr  = routerlab.SinkAddr
	srcAddr6 = routerlab.SourceAddr6
	dstAddr6 = routerlab.SinkAddr6
)

func ifindex(name string) (int, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	return i.Index, nil
}

// neighbour makes the box know an address behind an interface.
func (l *lab) neighbour(dev string, addr netip.Addr, mac net.HardwareAddr) error {
	return l.Box.Do(func() error {
		link, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		return netlink.NeighAdd(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac,
		})
	})
}

// narrow lets 8 kbit/s out of an interface of the box and one packet wait.
func (l *lab) narrow(dev string) error {
	return l.Box.Do(func() error {
		link, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		return netlink.QdiscAdd(&netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       1000, Buffer: 2000 * 15625, Limit: 3000,
		})
	})
}

// worseRoute leads to a prefix directly out of an interface of the box, with a
// lower preference than the route that is there.
func (l *lab) worseRoute(dev string, dst netip.Prefix) error {
	return l.Box.Do(func() error {
		link, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{
			LinkIndex: link.Attrs().Index, Priority: 5000, Scope: netlink.SCOPE_LINK,
			Dst: &net.IPNet{IP: dst.Addr().AsSlice(), Mask: net.CIDRMask(dst.Bits(), dst.Addr().BitLen())},
		})
	})
}
