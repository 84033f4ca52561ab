package route

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
)

// What the kernel tells of tunnels (linux/if_tunnel.h): both ends, or it is no
// tunnel between two addresses.
func TestTunnelOf(t *testing.T) {
	ip := net.ParseIP
	a4, b4, a6, b6 := ip("192.0.2.1"), ip("192.0.2.9"), ip("2001:db8::1"), ip("2001:db8::9")
	four, six := func(p uint8, n uint32) *Tunnel {
		return &Tunnel{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.9"), p, n}
	}, func(p uint8, n uint32) *Tunnel {
		return &Tunnel{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::9"), p, n}
	}
	for name, tt := range map[string]struct {
		link netlink.Link
		want *Tunnel
	}{
		"ipip":              {&netlink.Iptun{Local: a4, Remote: b4}, four(4, 20)},
		"ipip, any remote":  {&netlink.Iptun{Local: a4, Remote: net.IPv4zero}, nil},
		"ipip, no local":    {&netlink.Iptun{Remote: b4}, nil},
		"sit":               {&netlink.Sittun{Local: a4, Remote: b4}, four(41, 20)},
		"ip6tnl":            {&netlink.Ip6tnl{Local: a6, Remote: b6, Proto: 4}, six(4, 48)},
		"ip6tnl of IPv6":    {&netlink.Ip6tnl{Local: a6, Remote: b6, Proto: 41}, six(41, 48)},
		"gre":               {&netlink.Gretun{Local: a4, Remote: b4}, four(47, 24)},
		"gre with key":      {&netlink.Gretun{Local: a4, Remote: b4, OFlags: greKey | greSequence}, four(47, 32)},
		"ip6gre":            {&netlink.Gretun{Local: a6, Remote: b6}, six(47, 52)},
		"gre to a group":    {&netlink.Gretun{Local: a4, Remote: ip("239.1.1.1")}, nil},
		"ends of two kinds": {&netlink.Iptun{Local: a4, Remote: b6}, nil},
		"veth":              {&netlink.Veth{}, nil},
		"wireguard":         {&netlink.Wireguard{}, nil},
	} {
		got := tunnelOf(tt.link)
		if (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}
