// Package route asks the kernel where packets go and what the interfaces are.
// It reads, and changes nothing.
package route

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Link is what RSVP needs to know of an interface.
type Link struct {
	Index int
	Name  string
	MAC   string     // as it is on the wire; empty: none
	MTU   int        // bytes
	Addr4 netip.Addr // the global IPv4 address to be known by; invalid if there is none
	// Addr6 is the IPv6 address to be known by: a global one, else the link-local
	// one; invalid if there is none.
	Addr6 netip.Addr
	Addrs []netip.Addr // all addresses
	Own   []Own        // those that it may be known by, in the networks of several neighbours
	Up    bool
	// Tunnel is what the interface is the end of; nil: none, or it does not tell.
	Tunnel *Tunnel
	Kind   string // the kernel's name of the interface's type, such as veth or wireguard
}

// ErrNoLink is returned for an interface that does not exist.
var ErrNoLink = errors.New("no such interface")

// ByName reads an interface's state.
func ByName(name string) (Link, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
			return Link{}, fmt.Errorf("interface %s: %w", name, ErrNoLink)
		}
		return Link{}, fmt.Errorf("interface %s: %w", name, err)
	}
	a := l.Attrs()
	out := Link{Index: a.Index, Name: a.Name, MAC: string(a.HardwareAddr), MTU: a.MTU, Up: a.RawFlags&unix.IFF_UP != 0}
	out.Kind, out.Tunnel = l.Type(), tunnelOf(l)
	addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return Link{}, fmt.Errorf("addresses of %s: %w", name, err)
	}
	for i := range addrs {
		if ip, ok := netip.AddrFromSlice(addrs[i].IP); ok {
			out.Addrs = append(out.Addrs, ip.Unmap())
		}
	}
	out.Own = ownOf(addrs)
	return out.known(), nil
}
