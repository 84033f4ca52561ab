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
	for n := range r.interfaces {
		i := &r.interfaces[n]
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
		if i.efModel.set && i.missing("capacity") {
			d.errorf(i.efModel.at, "ef_model says how queues share a link, and without capacity nothing is queued here: add capacity: with 95%% of the link's rate, or remove ef_model")
		}
		if i.discover.set && i.zone.set && i.zone.v == ZoneNetwork {
			d.errorf(i.discover.at, "discover is for zone: hosts, towards the network PATH is always sent: remove it")
		}
		list = append(list, Interface{
			Name: i.name.v, Zone: i.zone.v, Trust: i.trust.or(defaultTrust(i.zone.v)),
			Capacity:   i.capacity.v,
			Shared:     i.shared.v,
			Reservable: i.capacity.v * i.reservable.or(leftToReserve(i)) / 10000,
			BestEffort: i.capacity.v * i.bestEffort.or(defaultBestEffort) / 10000,
			Classify:   i.classify.v,
			Discover:   i.zone.v == ZoneHosts && i.discover.or(true),
			DClass:     i.dclass.or(defaultDClass(i)),
			Ceilings:   d.ceilings(i),
			EFModel:    i.efModel.or(defaultEFModel(i.capacity.v)),
			PCP:        i.pcp.v,
			Line:       i.at.line,
			Integrity:  d.integrity(i),
			Handshake:  i.handshake.or(HandshakeRequired),
			Window:     i.window.or(defaultWindow),
			Tunnel:     d.tunnel(i),
			Region:     d.region(i),
			Aggregate:  d.aggregateOn(i),

			Overbooking: d.overbooking(i),
		})
		d.contract(i, &list[n])
	}
	d.interior(r)
	// A transit router has no hosts of its own.
	if complete && !zones[ZoneNetwork] {
		d.errorf(r.ifacesAt.at, "no interface has zone: network: a box needs one")
	}
	return list
}

// ceilings are shares of capacity, as reservable is. One above that would never be
// what limits.
func (d *decoder) ceilings(i *rawInterface) Ceilings {
	var out [2]uint64
	for s, c := range i.ceilings {
		switch {
		case !c.set:
		case i.missing("capacity"):
			d.errorf(c.at, "ceilings are shares of capacity, which is missing: add capacity: with 95%% of the link's rate")
		case c.v > i.reservable.or(leftToReserve(i)):
			d.errorf(c.at, "the ceiling of %s is above reservable (%s), which limits all services together: lower it or raise reservable",
				Service(s), formatShare(i.reservable.or(leftToReserve(i))))
		}
		out[s] = i.capacity.v * c.v / 10000
	}
	return Ceilings{Guaranteed: out[ServiceGuaranteed], ControlledLoad: out[ServiceControlledLoad]}
}

// overbooking is for controlled load alone, which may rely on flows that do not
// send all that they may (RFC 2211 section 9). Guaranteed service may not: its
// delay bound holds only if each flow has its R at any time (RFC 2212).
func (d *decoder) overbooking(i *rawInterface) float64 {
	if o := i.overbooked[ServiceGuaranteed]; o.set {
		d.errorf(o.at, "guaranteed service cannot be overbooked: its delay bound needs R of the link for each flow at any time (RFC 2212): remove it")
	}
	o := i.overbooked[ServiceControlledLoad]
	if o.set && i.missing("capacity") {
		d.errorf(o.at, "without capacity the interface limits nothing that could be overbooked: add capacity: with 95%% of the link's rate, or remove overbooking")
	}
	return float64(o.v) / 10000
}

// defaultDClass: hosts that are not trusted with marks have no say in those of what
// they are sent; before a DiffServ region this box decides (RFC 2998 section 4.1),
// and where it does not mark packets by itself somebody before it has to.
func defaultDClass(i *rawInterface) DClass {
	switch {
	case i.zone.v == ZoneHosts && i.trust.or(defaultTrust(i.zone.v)) == TrustNone:
		return DClassDrop
	case len(i.sls) > 0 || i.region.set || i.classify.v == ClassifyDSCP:
		return DClassSend
	default:
		return DClassPass
	}
}

// defaultTrust: hosts are not trusted with marks; what comes from the network
// was marked by somebody who had the right to.
func defaultTrust(z Zone) Trust {
	if z == ZoneNetwork {
		return TrustDSCP
	}
	return TrustNone
}

// defaultEFModel is by the speed of the link: below 10 Mbit/s the packets of others
// in one queue are jitter that voice does not bear (RFC 5865 section 2.1).
func defaultEFModel(capacity uint64) EFModel {
	if capacity > 0 && capacity < fastEnough {
		return EFPriority
	}
	return EFPolicer
}

func validIfName(s string) bool {
	return s != "" && len(s) <= maxIfName && s != "." && s != ".." && !strings.ContainsAny(s, "/: \t\r\n\v\f")
}
