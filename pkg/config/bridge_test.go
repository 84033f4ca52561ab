package config

import "testing"

const bridged = "mode: bridge\n" + goodIfaces

// The box has no address: what follows from that is the default, and what cannot
// be is refused.
func TestBridge(t *testing.T) {
	c := mustParse(t, bridged)
	if c.Mode != ModeBridge || c.Bridge.Name != "qosproxy0" || c.RSVP.Hop != HopTransparent || c.RSVP.Reliable {
		t.Errorf("mode %v, bridge %+v, rsvp %+v", c.Mode, c.Bridge, c.RSVP)
	}
	c = mustParse(t, bridged+"bridge: {name: br7}\nrsvp: {hop: transparent, reliable: false}\n")
	if c.Bridge.Name != "br7" || c.RSVP.Hop != HopTransparent {
		t.Errorf("bridge %+v, rsvp %+v", c.Bridge, c.RSVP)
	}
	c = mustParse(t, goodIfaces+"rsvp: {hop: transparent}\n")
	if c.Mode != ModeRouter || c.Bridge.Name != "" || c.RSVP.Hop != HopTransparent || c.RSVP.Reliable {
		t.Errorf("mode %v, bridge %+v, rsvp %+v", c.Mode, c.Bridge, c.RSVP)
	}
	c = mustParse(t, goodIfaces)
	if c.RSVP.Hop != HopRouter || !c.RSVP.Reliable {
		t.Errorf("rsvp %+v", c.RSVP)
	}
}

func TestBridgeMistakes(t *testing.T) {
	port := func(keys string) string {
		return "mode: bridge\ninterfaces: [{name: a, zone: hosts}, {name: b, zone: network, " + keys + "}]\n"
	}
	for name, m := range map[string]mistake{
		"hop":       mistakeAt(t, bridged+"rsvp: {hop: ^router}\n", "write hop: transparent, or remove it"),
		"reliable":  mistakeAt(t, bridged+"rsvp: {reliable: ^true}\n", "write reliable: false, or remove it"),
		"one port":  mistakeAt(t, "mode: bridge\ninterfaces: ^[{name: b, zone: network}]\n", "at least two ports"),
		"integrity": mistakeAt(t, port("^integrity: [{"+goodKey+"}]"), "nobody's neighbour: remove it"),
		"tunnel":    mistakeAt(t, port("tunnel: ^{local: 192.0.2.1, remote: 192.0.2.9}"), "has none: remove it"),
		"aggregate": mistakeAt(t, port("aggregate: ^{}"), "has none: remove it"),
		"router":    mistakeAt(t, goodIfaces+"bridge: ^{name: br0}\n", "bridge is for mode: bridge"),
		"name":      mistakeAt(t, bridged+"bridge: {name: ^a/b}\n", "cannot be a bridge's name"),
		"long name": mistakeAt(t, bridged+"bridge: {name: ^abcdefghijklmnop}\n", "1 to 15"),
		"a port's":  mistakeAt(t, bridged+"bridge: {name: ^wan0}\n", "one of its ports"),
		"default":   mistakeAt(t, "mode: bridge\ninterfaces: [{name: a, zone: hosts}, {name: ^qosproxy0, zone: network}]\n", "give the bridge another one"),
		"key":       mistakeAt(t, bridged+"bridge: {^stp: off}\n", "unknown key \"stp\""),
		"scalar":    mistakeAt(t, bridged+"bridge: ^br0\n", "must be a mapping"),
		"a tunnel, transparent": mistakeAt(t, "rsvp: {hop: transparent}\ninterfaces: [{name: a, zone: hosts}, {name: b, zone: network, tunnel: ^{local: 192.0.2.1, remote: 192.0.2.9}}]\n",
			"write mode: router and hop: router"),
	} {
		t.Run(name, m.check)
	}
}
