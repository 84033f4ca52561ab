package config

import "strings"

func (d *decoder) interfaces(r *rawConfig) []Interface {
	if len(r.interfaces) == 0 {
		switch {
		case r.missing("interfaces"):
			d.errorf(r.at, "interfaces is missing: list at least one with zone: hosts and one with zone: network")
		case r.ifacesAt.set:
			d.errorf(r.ifacesAt.at, "interfaces is empty: list at least one with zone: hosts and one with zone: network")
		}
		return nil
	}
	list := make([]Interface, 0, len(r.interfaces))
	first := map[string]pos{}
	zones, complete := [2]bool{}, true
	for _, i := range r.interfaces {
		switch {
		case !i.name.set:
			if i.missing("name") {
				d.errorf(i.at, "this interface has no name: add name: with the name the kernel has for it")
			}
		case !validIfName(i.name.v):
			d.errorf(i.name.at, "%s cannot be an interface name: 1 to %d characters without spaces, slashes and colons", quote(i.name.v), maxIfName)
		default:
			if p, ok := first[i.name.v]; ok {
				d.errorf(i.name.at, "interface %s is listed twice, first in line %d: remove one", i.name.v, p.line)
			} else {
				first[i.name.v] = i.name.at
			}
		}
		if i.zone.set {
			zones[i.zone.v] = true
		} else {
			complete = false
		}
		if i.missing("zone") {
			d.errorf(i.at, "this interface has no zone: add zone: hosts (QoS-unaware hosts are there) or zone: network")
		}
		if i.reservable.set && i.missing("capacity") {
			d.errorf(i.reservable.at, "reservable is a share of capacity, which is missing: add capacity: with 95%% of the link's rate")
		}
		if i.discover.set && i.zone.set && i.zone.v == ZoneNetwork {
			d.errorf(i.discover.at, "discover is for zone: hosts, towards the network PATH is always sent: remove it")
		}
		list = append(list, Interface{
			Name: i.name.v, Zone: i.zone.v, Trust: i.trust.or(defaultTrust(i.zone.v)),
			Capacity:   i.capacity.v,
			Reservable: i.capacity.v * i.reservable.or(defaultReservable) / 10000,
			Discover:   i.zone.v == ZoneHosts && i.discover.or(true),
			Line:       i.at.line,
			Integrity:  d.integrity(&i),
			Handshake:  i.handshake.or(HandshakeRequired),
			Window:     i.window.or(defaultWindow),
			Tunnel:     d.tunnel(&i),
			Region:     d.region(&i),
		})
	}
	// A transit router has no hosts of its own.
	if complete && !zones[ZoneNetwork] {
		d.errorf(r.ifacesAt.at, "no interface has zone: network: a router needs one")
	}
	return list
}

// defaultTrust: hosts are not trusted with marks; what comes from the network
// was marked by somebody who had the right to.
func defaultTrust(z Zone) Trust {
	if z == ZoneNetwork {
		return TrustDSCP
	}
	return TrustNone
}

func validIfName(s string) bool {
	return s != "" && len(s) <= maxIfName && s != "." && s != ".." && !strings.ContainsAny(s, "/: \t\r\n\v\f")
}
