package daemon

import (
	"net/netip"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/tunnel"
)

// An interface is a tunnel by what the kernel tells, or by the configuration,
// which is believed where both do (RFC 2746 section 9).
func TestLinkTunnelRFC2746Section9(t *testing.T) {
	a, b, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("192.0.2.77")
	said := func(port uint16) *config.Tunnel { return &config.Tunnel{Local: a, Remote: b, UDPPort: port} }
	gre := &route.Tunnel{Local: a, Remote: other, Protocol: 47, Overhead: 24}
	of := func(remote netip.Addr, proto uint8, port uint16, overhead uint32) *tunnel.Tunnel {
		return &tunnel.Tunnel{Name: "tun0", Iface: 7, Local: a, Remote: remote, Protocol: proto, Port: port, Overhead: overhead}
	}
	for name, tt := range map[string]struct {
		kernel *route.Tunnel
		kind   string
		config *config.Tunnel
		want   *tunnel.Tunnel
	}{
		"no tunnel":               {nil, "veth", nil, nil},
		"the kernel tells":        {gre, "gre", nil, of(other, 47, 0, 24)},
		"tun":                     {nil, "tuntap", said(0), of(b, 4, 0, 20)},
		"tun with IPv6":           {nil, "tuntap", &config.Tunnel{Local: a, Remote: b, Protocol: 41}, of(b, 41, 0, 20)},
		"tun with GRE":            {nil, "tuntap", &config.Tunnel{Local: a, Remote: b, Protocol: 47}, of(b, 47, 0, 24)},
		"GRE that tells":          {gre, "gre", &config.Tunnel{Local: a, Remote: b, Protocol: 41}, of(b, 47, 0, 24)},
		"tun over UDP":            {nil, "tuntap", said(4500), of(b, 17, 4500, 28)},
		"wireguard":               {nil, "wireguard", said(51820), of(b, 17, 51820, 60)},
		"wireguard, nothing said": {nil, "wireguard", nil, nil},
		"both":                    {gre, "gre", said(0), of(b, 47, 0, 24)},
	} {
		k := link{Link: route.Link{Name: "tun0", Index: 7, Kind: tt.kind, Tunnel: tt.kernel}, cfg: config.Interface{Tunnel: tt.config}}
		got := k.tunnel()
		if (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}
