package route

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Own is an address that an interface may be known by.
type Own struct {
	Addr netip.Addr
	// Net is the network that neighbours are in; of a point-to-point address the
	// far end's.
	Net   netip.Prefix
	Merit int // see merit
}

// ownOf lists the addresses that an interface may be known by, the best first.
// Among equals the kernel's order decides: of IPv4 the oldest is the first, of
// IPv6 the newest.
func ownOf(list []netlink.Addr) (out []Own) {
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		if m := merit(a); ok && m > 0 {
			out = append(out, Own{ip.Unmap(), networkOf(a), m})
		}
	}
	slices.SortStableFunc(out, func(a, b Own) int { return cmp.Compare(b.Merit, a.Merit) })
	return out
}

func networkOf(a netlink.Addr) netip.Prefix {
	n := a.IPNet
	if a.Peer != nil {
		n = a.Peer
	}
	ip, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), bits).Masked()
}

// Since has what was known of the interface go on: an address that it was known
// by stays the one as long as there is no better, and those of one network keep
// their order. Neighbours have it in their state (RFC 2205 section 3.1.3).
func (l Link) Since(was *Link) Link {
	place := func(o Own) int {
		if i := slices.IndexFunc(was.Own, func(w Own) bool { return w.Addr == o.Addr }); i >= 0 {
			return i
		}
		return len(was.Own)
	}
	l.Own = slices.Clone(l.Own)
	slices.SortStableFunc(l.Own, func(a, b Own) int {
		return cmp.Or(cmp.Compare(b.Merit, a.Merit), cmp.Compare(place(a), place(b)))
	})
	return l.known()
}

// known fills in the addresses to be known by.
func (l Link) known() Link {
	l.Addr4, l.Addr6 = netip.Addr{}, netip.Addr{}
	for _, o := range l.Own {
		switch {
		case o.Addr.Is4() && !l.Addr4.IsValid():
			l.Addr4 = o.Addr
		case o.Addr.Is6() && !l.Addr6.IsValid():
			l.Addr6 = o.Addr
		}
	}
	return l
}

// AddrTowards is the address to be known by to a neighbour: the one in its
// network, which near says that there is, else the one for all others. A
// link-local neighbour is told the global address, if there is one.
func (l *Link) AddrTowards(neighbor netip.Addr) (a netip.Addr, near bool) {
	if !neighbor.IsLinkLocalUnicast() {
		best := -1
		for i := range l.Own {
			if o := &l.Own[i]; o.Net.Bits() > best && o.Net.Contains(neighbor) {
				a, best = o.Addr, o.Net.Bits()
			}
		}
		if best >= 0 {
			return a, true
		}
	}
	if neighbor.Is4() {
		return l.Addr4, false
	}
	return l.Addr6, false
}

// Multihomed says whether there is a choice of addresses of a family.
func (l *Link) Multihomed(like netip.Addr) bool {
	n := 0
	for i := range l.Own {
		if a := l.Own[i].Addr; a.Is4() == like.Is4() && (a.Is4() || !a.IsLinkLocalUnicast()) {
			n++
		}
	}
	return n > 1
}

// merit ranks addresses to be known by, 0: not at all. Neighbours keep the
// address and answer to it, so that it has to last.
func merit(a netlink.Addr) int {
	const short = unix.IFA_F_TEMPORARY | unix.IFA_F_DEPRECATED | unix.IFA_F_TENTATIVE
	switch v4 := a.IP.To4() != nil; {
	case a.Flags&unix.IFA_F_DADFAILED != 0, v4 && a.Scope != unix.RT_SCOPE_UNIVERSE:
		return 0
	case v4 && a.Flags&unix.IFA_F_SECONDARY != 0: // it goes with the primary one, or takes its place
		return 2
	case a.Scope == unix.RT_SCOPE_UNIVERSE && a.Flags&short == 0, v4:
		return 3
	case a.Scope == unix.RT_SCOPE_UNIVERSE:
		return 2
	case a.Scope == unix.RT_SCOPE_LINK:
		return 1
	default:
		return 0
	}
}
