package netns

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// NeighbourEntry is a line of the tables of ARP and neighbour discovery.
type NeighbourEntry struct {
	Addr netip.Addr
	MAC  net.HardwareAddr // empty while nobody has answered
}

// Neighbours reads the tables of ARP and neighbour discovery of an interface, but for
// groups, whose Ethernet addresses nobody has to tell.
func (n *NetNS) Neighbours(name string) (entries []NeighbourEntry, err error) {
	h, err := n.handle()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s in %s: %w", name, n.name, err)
	}
	list, err := h.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("neighbours of %s in %s: %w", name, n.name, err)
	}
	for _, e := range list {
		addr, ok := netip.AddrFromSlice(e.IP)
		if addr = addr.Unmap(); ok && !addr.IsMulticast() {
			entries = append(entries, NeighbourEntry{Addr: addr, MAC: e.HardwareAddr})
		}
	}
	return entries, nil
}

// Addresses lists all addresses of the namespace's interfaces, but for those of
// its loopback.
func (n *NetNS) Addresses() (addrs []netip.Prefix, err error) {
	h, err := n.handle()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	list, err := h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("addresses in %s: %w", n.name, err)
	}
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ip = ip.Unmap(); ok && !ip.IsLoopback() {
			ones, _ := a.Mask.Size()
			addrs = append(addrs, netip.PrefixFrom(ip, ones))
		}
	}
	return addrs, nil
}
