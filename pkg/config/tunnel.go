package config

import (
	"fmt"
	"net/netip"

	"github.com/goccy/go-yaml/ast"
)

// Tunnel names the ends of a tunnel whose interface does not tell them.
type Tunnel struct {
	Local, Remote netip.Addr // of the outer header
	UDPPort       uint16     // of both ends, if that is UDP; else 0
	// Protocol of the outer packets, if that is said; else 0.
	Protocol uint8
}

// protocolWords are the protocols of the outer packets (RFC 2003, 2473, 2784).
var protocolWords = []choice[uint8]{{word: "ipip", value: 4}, {word: "ipv6", value: 41}, {word: "gre", value: 47}}

type rawTunnel struct {
	block
	local, remote opt[netip.Addr]
	port          opt[int]
	protocol      opt[uint8]
}

func (i *rawInterface) tunnelOf(d *decoder, n ast.Node, key string) {
	var t rawTunnel
	t.block = d.mapping(n, key, map[string]field{
		"local":    one(&t.local, parseEnd, "this end's address"),
		"remote":   one(&t.remote, parseEnd, "the other end's address"),
		"udp_port": number(&t.port, 1, 65535),
		"protocol": oneOf(&t.protocol, protocolWords),
	})
	i.tunnel.put(t, n)
}

func parseEnd(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("bad address %s: write the address in the outer header, for example 192.0.2.1", quote(s))
	}
	if err := plainAddr(a); err != nil {
		return netip.Addr{}, err
	}
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
		return netip.Addr{}, fmt.Errorf("%s is no end of a tunnel", a)
	}
	return a, nil
}

// tunnel checks what is said of an interface as a tunnel; nil: nothing.
func (d *decoder) tunnel(i *rawInterface) *Tunnel {
	if !i.tunnel.set {
		return nil
	}
	t := i.tunnel.v
	for key, o := range map[string]opt[netip.Addr]{"local": t.local, "remote": t.remote} {
		if !o.set && t.missing(key) {
			d.errorf(i.tunnel.at, "tunnel has no %s: add %s: with the address in the outer header", key, key)
		}
	}
	switch {
	case !t.local.set || !t.remote.set:
	case t.local.v.Is4() != t.remote.v.Is4():
		d.errorf(t.remote.at, "remote %s is of another family than local %s", t.remote.v, t.local.v)
	case t.local.v == t.remote.v:
		d.errorf(t.remote.at, "remote is the same as local: write the other end's address")
	}
	if t.protocol.set && t.port.set {
		d.errorf(t.protocol.at, "protocol and udp_port exclude each other: remove protocol, which is UDP")
	}
	if i.zone.set && i.zone.v != ZoneNetwork {
		d.errorf(i.tunnel.at, "tunnel is for interfaces with zone: network: the other end speaks RSVP")
	}
	return &Tunnel{Local: t.local.v, Remote: t.remote.v, UDPPort: uint16(t.port.v), Protocol: t.protocol.v}
}
