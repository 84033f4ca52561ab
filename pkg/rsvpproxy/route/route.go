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
	Addr6 netip.Addr // first global IPv6 address; invalid if there is none
	Up    bool
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
	addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return Link{}, fmt.Errorf("addresses of %s: %w", name, err)
	}
	for _, addr := range addrs {
		ip, ok := netip.AddrFromSlice(addr.IP)
		ip = ip.Unmap()
		switch {
		case !ok || addr.Scope != unix.RT_SCOPE_UNIVERSE:
		case ip.Is4() && !out.Addr4.IsValid():
			out.Addr4 = ip
		case ip.Is6() && !out.Addr6.IsValid():
			out.Addr6 = ip
		}
	}
	return out, nil
}
