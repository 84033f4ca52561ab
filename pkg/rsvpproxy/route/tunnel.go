package route

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Tunnel is what a tunnel's interface tells of it.
type Tunnel struct {
	Local, Remote netip.Addr // of the outer header
	Protocol      uint8      // of the outer packets
	Overhead      uint32     // bytes that encapsulation adds to a packet
}

// Protocols of tunnels.
const (
	ProtoIPIP = 4
	ProtoIPv6 = 41
	ProtoGRE  = 47
)

// HeaderOf is the length of an IP header of the family of a.
func HeaderOf(a netip.Addr) uint32 {
	if a.Is4() {
		return 20
	}
	return 40
}

// tunnelOf is nil for an interface that is no tunnel between two addresses: one
// of another kind, or one that has no remote end, or any local one.
func tunnelOf(l netlink.Link) *Tunnel {
	t := func(local, remote net.IP, proto uint8, more uint32) *Tunnel {
		from, ok1 := netip.AddrFromSlice(local)
		to, ok2 := netip.AddrFromSlice(remote)
		from, to = from.Unmap(), to.Unmap()
		if !ok1 || !ok2 || from.IsUnspecified() || to.IsUnspecified() || from.Is4() != to.Is4() || to.IsMulticast() {
			return nil
		}
		return &Tunnel{Local: from, Remote: to, Protocol: proto, Overhead: HeaderOf(to) + more}
	}
	switch l := l.(type) {
	case *netlink.Iptun:
		return t(l.Local, l.Remote, ProtoIPIP, 0)
	case *netlink.Sittun:
		return t(l.Local, l.Remote, ProtoIPv6, 0)
	case *netlink.Ip6tnl:
		proto := uint8(ProtoIPIP)
		if l.Proto == ProtoIPv6 {
			proto = ProtoIPv6
		}
		return t(l.Local, l.Remote, proto, encapLimit)
	case *netlink.Gretun:
		more := uint32(4) // RFC 2784 section 2, RFC 2890 section 2
		for _, bit := range []uint16{greKey, greSequence, greChecksum} {
			if l.OFlags&bit != 0 {
				more += 4
			}
		}
		if l.Remote.To4() == nil {
			more += encapLimit
		}
		return t(l.Local, l.Remote, ProtoGRE, more)
	default:
		return nil
	}
}

// encapLimit is the destination option that limits encapsulation (RFC 2473
// section 4.1.1), which the kernel puts into tunnels over IPv6.
const encapLimit = 8

// Flags of GRE (linux/if_tunnel.h).
const (
	greChecksum = 0x8000
	greKey      = 0x2000
	greSequence = 0x1000
)
