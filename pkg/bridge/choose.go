package bridge

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// choice is the bridge that the ports shall be in.
type choice struct {
	name string
	made bool // by us, now or earlier
}

// choose finds the bridge. made tells whether the one of a name was made by us. Its
// errors are sentences for the operator, with the remedy.
func choose(all links, c Config, made func(name string) bool) (choice, error) {
	var in, free []string // ports that are in a bridge, and those that are in none
	var found *link
	for _, name := range c.Ports {
		p := all.named(name)
		if err := suitable(name, p); err != nil {
			return choice{}, err
		}
		if p.master == 0 {
			free = append(free, name)
			continue
		}
		m := all.at(p.master)
		switch {
		case m == nil || m.kind != kindBridge:
			return choice{}, fmt.Errorf("interface %s is part of %s, which is no bridge: take it out (ip link set %s nomaster), or list that one in its place", name, described(m), name)
		case found != nil && found.index != m.index:
			return choice{}, fmt.Errorf("the interfaces %s and %s are in different bridges, %s and %s: take them out (ip link set %s nomaster), and one bridge is made of both", in[0], name, found.name, m.name, name)
		}
		found, in = m, append(in, name)
	}
	if found == nil {
		found = all.named(c.Name)
		switch {
		case found == nil:
			return choice{name: c.Name, made: true}, nil
		case found.kind != kindBridge:
			return choice{}, fmt.Errorf("there is an interface %s already, which is no bridge: give the bridge another name (bridge: {name: NAME})", c.Name)
		}
	}
	out := choice{name: found.name, made: made(found.name)}
	if len(free) > 0 && len(in) > 0 && !out.made && found.name != c.Name {
		return choice{}, fmt.Errorf("interface %s is already in the bridge %s, which somebody else made, and %s is not: take it out (ip link set %s nomaster), or use that bridge for all (bridge: {name: %s})",
			in[0], found.name, list(free), in[0], found.name)
	}
	if !out.made {
		if err := adoptable(all, found, c.Ports); err != nil {
			return choice{}, err
		}
	}
	return out, nil
}

func described(l *link) string {
	if l == nil {
		return "something in another network namespace"
	}
	if l.kind == "" {
		return l.name
	}
	return fmt.Sprintf("%s (%s)", l.name, l.kind)
}

// suitable tells why an interface cannot be a port.
func suitable(name string, p *link) error {
	switch {
	case p == nil:
		return fmt.Errorf("interface %s does not exist: create it or correct its name", name)
	case p.flags&unix.IFF_LOOPBACK != 0:
		return fmt.Errorf("interface %s is the loopback, which cannot be a port of a bridge: list the interface that leads to the hosts or to the network", name)
	case p.kind == kindBridge:
		return fmt.Errorf("interface %s is a bridge itself: list its ports in its place", name)
	case len(p.addrs) > 0:
		return fmt.Errorf("%s", addressOn(p, "the port of a transparent bridge"))
	}
	return nil
}

// addressOn tells of an interface that has one. An address that routers have
// advertised comes again unless IPv6 is off there.
func addressOn(l *link, what string) string {
	a, more := l.addrs[0], ""
	if a.Addr().Is6() {
		more = fmt.Sprintf(", and if it comes again sysctl net.ipv6.conf.%s.disable_ipv6=1", l.name)
	}
	return fmt.Sprintf("interface %s has the address %s, and %s has none: remove it (ip addr del %s dev %s%s), or give it to an interface that is not listed", l.name, a, what, a, l.name, more)
}

// adoptable tells why a bridge that somebody else made cannot be ours too. What would
// change the network of those who made it is not done for them.
func adoptable(all links, b *link, ports []string) error {
	if len(b.addrs) > 0 {
		return fmt.Errorf("%s", addressOn(b, "a transparent bridge"))
	}
	for _, a := range []struct {
		attr
		why string
	}{
		{stpState, "speaks STP, which a transparent bridge lets pass"},
		{vlanFiltering, "filters VLANs, so that frames leave with other tags than they came with"},
	} {
		if v, ok := a.of(b.own); ok && v != 0 {
			return fmt.Errorf("the bridge %s %s: change that (ip link set %s type bridge %s 0), or take the interfaces out of it, and one is made for them", b.name, a.why, b.name, a.name)
		}
	}
	if p := all.unlisted(b.index, ports); len(p) > 0 {
		return fmt.Errorf("%s", portUnlisted(b, p[0]))
	}
	return nil
}

func portUnlisted(b, p *link) string {
	return fmt.Sprintf("the bridge %s has the port %s, which is not listed: list it under interfaces too, or take it out (ip link set %s nomaster)", b.name, p.name, p.name)
}

// wrong is what is amiss with a bridge that works, in sentences: the path stays
// open. That one of ours is gone is told by the error of making it again.
func wrong(all links, name string, made bool, ports []string) (out []string) {
	b := all.named(name)
	switch {
	case b == nil && made:
		return nil
	case b == nil:
		return []string{fmt.Sprintf("the bridge %s is gone, and it was not made here: make it again, or restart", name)}
	}
	if b.flags&unix.IFF_UP == 0 {
		out = append(out, fmt.Sprintf("the bridge %s is down, so that nothing passes: ip link set %s up", name, name))
	}
	for _, p := range all.unlisted(b.index, ports) {
		out = append(out, portUnlisted(b, p))
	}
	var small, large *link
	for _, port := range ports {
		p := all.named(port)
		switch {
		case p == nil:
			out = append(out, fmt.Sprintf("interface %s is gone: it is put back into the bridge %s when it comes again", port, name))
			continue
		case p.master != b.index && p.master != 0:
			out = append(out, fmt.Sprintf("interface %s is part of %s now, and no longer of the bridge %s: take it out of there (ip link set %s nomaster)", port, described(all.at(p.master)), name, port))
		case p.flags&unix.IFF_UP == 0:
			out = append(out, fmt.Sprintf("interface %s is down, so that nothing passes: ip link set %s up", port, port))
		}
		for _, v := range all {
			if v.kind == "vlan" && v.lower == p.index {
				out = append(out, fmt.Sprintf("interface %s takes the frames of its VLAN from %s, so that they do not cross the bridge: remove it (ip link del %s), unless the box is managed by it", v.name, port, v.name))
			}
		}
		if len(p.addrs) > 0 {
			out = append(out, addressOn(p, "the port of a transparent bridge"))
		}
		if small == nil || p.mtu < small.mtu {
			small = p
		}
		if large == nil || p.mtu > large.mtu {
			large = p
		}
	}
	if len(b.addrs) > 0 {
		out = append(out, addressOn(b, "a transparent bridge"))
	}
	if small != nil && small.mtu != large.mtu {
		out = append(out, fmt.Sprintf("interface %s has an MTU of %d and %s one of %d, so that larger packets are lost between them, and nobody is told: give both the same (ip link set %s mtu %d)",
			small.name, small.mtu, large.name, large.mtu, small.name, large.mtu))
	}
	return out
}
