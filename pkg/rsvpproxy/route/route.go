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
	MTU   int        // bytes
	Addr4 netip.Addr // first global IPv4 address; invalid if there is none
	// Addr6 is the IPv6 address to be known by: a global one, else the link-local
	// one; invalid if there is none.
	Addr6 netip.Addr
	Addrs []netip.Addr // all addresses
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
	out := Link{Index: a.Index, Name: a.Name, MTU: a.MTU, Up: a.RawFlags&unix.IFF_UP != 0}
	out.Kind, out.Tunnel = l.Type(), tunnelOf(l)
	addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return Link{}, fmt.Errorf("addresses of %s: %w", name, err)
	}
	best := 0
	for _, addr := range addrs {
		ip, ok := netip.AddrFromSlice(addr.IP)
		if !ok {
			continue
		}
		ip = ip.Unmap()
		out.Addrs = append(out.Addrs, ip)
		switch {
		case ip.Is6() && merit(addr) > best:
			out.Addr6, best = ip, merit(addr)
		case ip.Is4() && addr.Scope == unix.RT_SCOPE_UNIVERSE && !out.Addr4.IsValid():
			out.Addr4 = ip
		}
	}
	return out, nil
}

// merit ranks IPv6 addresses to be known by, 0: not at all. Neighbours keep the
// address and answer to it, so that it has to last.
func merit(a netlink.Addr) int {
	const short = unix.IFA_F_TEMPORARY | unix.IFA_F_DEPRECATED | unix.IFA_F_TENTATIVE
	switch {
	case a.Flags&unix.IFA_F_DADFAILED != 0:
		return 0
	case a.Scope == unix.RT_SCOPE_UNIVERSE && a.Flags&short == 0:
		return 3
	case a.Scope == unix.RT_SCOPE_UNIVERSE:
		return 2
	case a.Scope == unix.RT_SCOPE_LINK:
		return 1
	default:
		return 0
	}
}
