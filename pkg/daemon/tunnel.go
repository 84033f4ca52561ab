package daemon

import (
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/tunnel"
)

// What encapsulation adds between the outer and the inner IP header, in bytes.
const (
	udpHeader       = 8
	greHeader       = 4  // RFC 2784 section 2, without options
	wireguardHeader = 32 // type, receiver, counter and tag of a data message
)

// tunnel is what the interface is the end of, by its configuration or by what
// the kernel tells; nil: no tunnel, or a host's side.
func (k *link) tunnel() *tunnel.Tunnel {
	t := tunnel.Tunnel{Name: k.Name, Iface: softstate.IfIndex(k.Index)}
	if known := k.Tunnel; known != nil {
		t.Local, t.Remote, t.Protocol, t.Overhead = known.Local, known.Remote, known.Protocol, known.Overhead
	}
	if c := k.cfg.Tunnel; c != nil {
		t.Local, t.Remote = c.Local, c.Remote
		if k.Tunnel == nil || c.UDPPort != 0 {
			t.Protocol, t.Overhead = route.ProtoIPIP, route.HeaderOf(c.Remote)
		}
		if c.Protocol != 0 && k.Tunnel == nil { // the kernel knows better
			t.Protocol = c.Protocol
			if c.Protocol == route.ProtoGRE {
				t.Overhead += greHeader
			}
		}
		if c.UDPPort != 0 {
			t.Protocol, t.Port = packet.ProtoUDP, c.UDPPort
			t.Overhead += udpHeader
		}
		if k.Kind == "wireguard" {
			t.Overhead += wireguardHeader
		}
	}
	if !t.Remote.IsValid() {
		return nil
	}
	return &t
}
