package config

import "github.com/goccy/go-yaml/ast"

// minPorts is how many interfaces a bridge has at least.
const minPorts = 2

type rawBridge struct {
	block
	name opt[string]
}

func (r *rawConfig) bridgeOf(d *decoder, n ast.Node, key string) {
	var b rawBridge
	b.block = d.mapping(n, key, map[string]field{"name": text(&b.name, "the name of a bridge")})
	r.bridge.put(b, n)
}

// signalling is what the box is to its RSVP neighbours: on a bridge it has no
// address by which it could be one of them.
func (d *decoder) signalling(r *rawConfig) RSVP {
	out := RSVP{Refresh: r.refresh.or(defaultRefresh), Hop: r.hop.v}
	if r.mode.v == ModeBridge {
		if r.hop.set && r.hop.v == HopRouter {
			d.errorf(r.hop.at, "hop: router is a hop with an address of its own, and with mode: bridge the box has none: write hop: transparent, or remove it")
		}
		out.Hop = HopTransparent
	}
	// What RFC 2961 keeps is kept by a neighbour's address, and a transparent hop's
	// is another one for each session.
	if out.Hop == HopTransparent && r.reliable.v {
		d.errorf(r.reliable.at, "reliable: true keeps account of neighbours by their addresses, and a transparent hop has none of its own: write reliable: false, or remove it")
	}
	out.Reliable = r.reliable.or(out.Hop == HopRouter)
	return out
}

// bridge checks what concerns the box as a bridge, and as a hop that nobody sees.
func (d *decoder) bridge(r *rawConfig, c *Config) Bridge {
	if c.RSVP.Hop == HopTransparent {
		for i := range r.interfaces {
			d.addressless(&r.interfaces[i])
		}
	}
	if c.Mode != ModeBridge {
		if r.bridge.set {
			d.errorf(r.bridge.at, "bridge is for mode: bridge: write that, or remove bridge")
		}
		return Bridge{}
	}
	if n := len(r.interfaces); n > 0 && n < minPorts {
		d.errorf(r.ifacesAt.at, "a bridge has at least two ports, and one interface is listed: add the one on the other side")
	}
	name := r.bridge.v.name
	if name.set && !validIfName(name.v) {
		d.errorf(name.at, "%s cannot be a bridge's name: 1 to %d characters without spaces, slashes and colons", quote(name.v), maxIfName)
	}
	for i := range r.interfaces {
		if port := r.interfaces[i].name; port.set && port.v == name.or(defaultBridge) {
			at := port.at
			if name.set {
				at = name.at
			}
			d.errorf(at, "%s is the bridge's name and that of one of its ports: give the bridge another one (bridge: {name: NAME})", port.v)
		}
	}
	return Bridge{Name: name.or(defaultBridge)}
}

// addressless refuses what needs an address of the box on an interface.
func (d *decoder) addressless(i *rawInterface) {
	const remedy = "remove it, or write mode: router and hop: router"
	if at, ok := i.block.keys["integrity"]; ok && len(i.keys) > 0 {
		d.errorf(at, "integrity keys are a pair of neighbours' (RFC 2747), and a transparent hop is nobody's neighbour: %s", remedy)
	}
	if i.tunnel.set {
		d.errorf(i.tunnel.at, "an end of a tunnel has an address (RFC 2746), and a transparent hop has none: %s", remedy)
	}
	if i.aggregate.set {
		d.errorf(i.aggregate.at, "the edge of an aggregation region has an address (RFC 3175), and a transparent hop has none: %s", remedy)
	}
}
