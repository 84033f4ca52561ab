package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// End is one end of a veth pair.
type End struct {
	NS    *NetNS
	Name  string // interface name inside NS
	Addrs []netip.Prefix
	MTU   int // bytes, 0 keeps the kernel's 1500
	// Wire turns off what would let packets larger than the MTU or without a
	// checksum cross the pair: what leaves this end are the packets that a
	// cable would carry.
	Wire bool
}

// Veth joins two namespaces by a pair of interfaces and sets both up.
func Veth(a, b End) error {
	h, err := a.NS.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	pair := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: a.Name, MTU: a.MTU, TxQLen: -1},
		PeerName:      b.Name,
		PeerNamespace: netlink.NsFd(b.NS.FD()),
		PeerTxQLen:    -1, // 0 is no queue, which the kernel ends for good where a qdisc is set
	}
	if err := h.LinkAdd(pair); err != nil {
		return fmt.Errorf("veth %s/%s to %s/%s: %w", a.NS.name, a.Name, b.NS.name, b.Name, err)
	}
	for _, end := range []End{a, b} {
		if err := end.setUp(); err != nil {
			return fmt.Errorf("interface %s in %s: %w", end.Name, end.NS.name, err)
		}
	}
	return nil
}

func (e End) setUp() error {
	if e.Wire {
		if err := e.NS.Do(func() error { return offloadsOff(e.Name) }); err != nil {
			return err
		}
	}
	h, err := e.NS.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(e.Name)
	if err != nil {
		return err
	}
	if e.MTU != 0 {
		if err := h.LinkSetMTU(link, e.MTU); err != nil {
			return err
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return err
	}
	for _, prefix := range e.Addrs {
		addr := &netlink.Addr{IPNet: ipNet(prefix)}
		if prefix.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := h.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("address %s: %w", prefix, err)
		}
	}
	return nil
}

// Bridge makes a learning bridge over interfaces of the namespace that exist
// already. Netfilter does not see what it forwards.
func (n *NetNS) Bridge(name string, ports ...string) error {
	h, err := n.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	snooping := false
	bridge := &netlink.Bridge{
		LinkAttrs:         netlink.LinkAttrs{Name: name, TxQLen: -1},
		MulticastSnooping: &snooping,
	}
	if err := h.LinkAdd(bridge); err != nil {
		return fmt.Errorf("bridge %s in %s: %w", name, n.name, err)
	}
	for _, port := range ports {
		link, err := h.LinkByName(port)
		if err == nil {
			err = h.LinkSetMaster(link, bridge)
		}
		if err != nil {
			return fmt.Errorf("port %s of bridge %s in %s: %w", port, name, n.name, err)
		}
	}
	if err := h.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("bridge %s in %s: %w", name, n.name, err)
	}
	for _, key := range []string{"iptables", "ip6tables", "arptables"} {
		// Absent where br_netfilter is, and then there is nothing to turn off.
		if err := n.Sysctl("net/bridge/bridge-nf-call-"+key, "0"); err != nil && !IsAbsent(err) {
			return err
		}
	}
	return nil
}

// Up sets an interface up; "lo" is, in a new namespace, down.
func (n *NetNS) Up(name string) error {
	return n.set(name, "up", (*netlink.Handle).LinkSetUp)
}

// Down sets an interface down; its routes go.
func (n *NetNS) Down(name string) error {
	return n.set(name, "down", (*netlink.Handle).LinkSetDown)
}

// MTU sets an interface's MTU.
func (n *NetNS) MTU(name string, mtu int) error {
	return n.set(name, fmt.Sprintf("to an MTU of %d", mtu), func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetMTU(l, mtu) })
}

func (n *NetNS) set(name, state string, do func(*netlink.Handle, netlink.Link) error) error {
	h, err := n.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if err == nil {
		err = do(h, link)
	}
	if err != nil {
		return fmt.Errorf("set %s %s in %s: %w", name, state, n.name, err)
	}
	return nil
}

// Route adds a route; the zero prefix of a family is its default route.
func (n *NetNS) Route(dst netip.Prefix, via netip.Addr) error {
	return n.route(dst, via, (*netlink.Handle).RouteAdd)
}

// OnLink adds a route to addresses that are on an interface's link.
func (n *NetNS) OnLink(dst netip.Prefix, name string) error {
	h, err := n.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if err == nil {
		err = h.RouteAdd(&netlink.Route{Dst: ipNet(dst), LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK})
	}
	if err != nil {
		return fmt.Errorf("route to %s on %s in %s: %w", dst, name, n.name, err)
	}
	return nil
}

// Reroute has a route lead another way, by one change.
func (n *NetNS) Reroute(dst netip.Prefix, via netip.Addr) error {
	return n.route(dst, via, (*netlink.Handle).RouteReplace)
}

func (n *NetNS) route(dst netip.Prefix, via netip.Addr, do func(*netlink.Handle, *netlink.Route) error) error {
	h, err := n.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	if err := do(h, &netlink.Route{Dst: ipNet(dst), Gw: via.AsSlice()}); err != nil {
		return fmt.Errorf("route to %s via %s in %s: %w", dst, via, n.name, err)
	}
	return nil
}

// Neighbour tells each of two ends the other's Ethernet address for good, so
// that no ARP or neighbour discovery crosses what lies between them. Both ends
// need addresses of the same families.
func Neighbour(a, b End) error {
	for _, ends := range [][2]End{{a, b}, {b, a}} {
		mac, err := ends[1].NS.HardwareAddr(ends[1].Name)
		if err != nil {
			return err
		}
		if err := ends[0].learn(ends[1].Addrs, mac); err != nil {
			return fmt.Errorf("neighbour of %s in %s: %w", ends[0].Name, ends[0].NS.name, err)
		}
	}
	return nil
}

// learn adds permanent neighbour entries.
func (e End) learn(addrs []netip.Prefix, mac net.HardwareAddr) error {
	h, err := e.NS.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(e.Name)
	if err != nil {
		return err
	}
	for _, addr := range addrs {
		entry := &netlink.Neigh{
			LinkIndex:    link.Attrs().Index,
			State:        netlink.NUD_PERMANENT,
			IP:           addr.Addr().AsSlice(),
			HardwareAddr: mac,
		}
		if err := h.NeighSet(entry); err != nil {
			return err
		}
	}
	return nil
}

// handle opens rtnetlink inside the namespace.
func (n *NetNS) handle() (*netlink.Handle, error) {
	h, err := netlink.NewHandleAt(vnetns.NsHandle(n.FD()), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink in namespace %s: %w", n.name, err)
	}
	return h, nil
}

// HardwareAddr returns the Ethernet address of an interface.
func (n *NetNS) HardwareAddr(name string) (net.HardwareAddr, error) {
	h, err := n.handle()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s in %s: %w", name, n.name, err)
	}
	return link.Attrs().HardwareAddr, nil
}

// Has says whether the namespace has an interface.
func (n *NetNS) Has(name string) bool {
	h, err := n.handle()
	if err != nil {
		return false
	}
	defer h.Close()
	_, err = h.LinkByName(name)
	return err == nil
}

// IsAbsent tells that an error means "this kernel or namespace has no such thing".
func IsAbsent(err error) bool {
	return errors.Is(err, unix.ENOENT)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{
		IP:   p.Addr().AsSlice(),
		Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
	}
}
