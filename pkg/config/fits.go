package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// fits refuses a reservation that admission could never grant: data that a box
// sends as the sender's proxy leaves by a network interface, what it receives
// leaves by a hosts interface.
func (d *decoder) fits(p *rawPolicy, out *Policy, c *Config, raw *rawConfig) {
	r, t := &p.reserve.v, &p.reserve.v.tspec.v
	if !r.role.set && !r.missing("role") {
		return
	}
	zone := ZoneNetwork
	if out.Reserve.Role == RoleReceiver {
		zone = ZoneHosts
	}
	list, complete := exits(zone, c, raw)
	if !complete {
		return
	}
	if sold := withLevel(list, out.DSCP); len(list) > 0 && len(sold) == 0 {
		d.unsold(p, out, list)
		return
	} else if len(sold) > 0 {
		list = sold
	}
	if t.rate.set {
		d.rateFits(out, t.rate.v, t.rate.at, zone, list)
	}
	if t.burst.set {
		d.burstFits(out, t.burst.v, t.burst.at, list)
		d.burstQueued(out, t.burst.v, t.burst.at, list)
	}
}

// MaxQueued is what the queue of a reservation's class can hold, in bytes with the
// headers of frames. It is the shaper's, and a test of the daemon holds the two
// together.
const MaxQueued = 64<<20 - 64<<10

const frameHeader = 14 // bytes

// burstQueued refuses a burst that no queue on its way out can hold (RFC 2211
// section 4).
func (d *decoder) burstQueued(out *Policy, burst uint64, at pos, list []*Interface) {
	m := max(out.Reserve.TSpec.MinUnit, 1)
	if most := uint64(MaxQueued * float64(m) / float64(m+frameHeader)); len(list) > 0 && burst > most {
		d.errorf(at, "burst is more than the queue of a reservation can hold (%dB in packets of min_unit): lower burst", most)
	}
}

// exits lists the interfaces of a zone that limit what leaves by them. complete is
// false where there is one that limits nothing, or of which nothing is known.
func exits(zone Zone, c *Config, raw *rawConfig) (list []*Interface, complete bool) {
	for i := range c.Interfaces {
		switch iface := &c.Interfaces[i]; {
		case iface.Zone != zone || raw.interfaces[i].missing("zone"):
		case iface.Capacity > 0:
			list = append(list, iface)
		case zone == ZoneHosts || !raw.interfaces[i].missing("capacity"):
			return nil, false // unshaped towards the hosts limits nothing; a bad capacity has its own error
		}
	}
	return list, true
}

// withLevel keeps the interfaces that carry a DSCP: those that sell it, and those
// without a contract.
func withLevel(list []*Interface, class uint8) (out []*Interface) {
	for _, i := range list {
		if rate, _ := i.level(class); rate != nil || i.SLS == nil {
			out = append(out, i)
		}
	}
	return out
}

// unsold tells of a reservation whose mark no network behind the box has sold.
func (d *decoder) unsold(p *rawPolicy, out *Policy, list []*Interface) {
	at, what := p.mark.at, "mark: "+dscp.Name(out.DSCP)
	if !p.mark.set {
		at, what = p.reserve.at, "this reservation is marked "+dscp.Name(out.DSCP)+" (mapping) and"
	}
	d.errorf(at, "%s has no row in the sls of any network interface, so that it would always be refused: add one, or use a mark that has (%s)",
		what, strings.Join(sold(list), ", "))
}

// sold lists the names of the levels that interfaces have.
func sold(list []*Interface) (names []string) {
	for _, i := range list {
		for _, s := range i.SLS {
			if n := dscp.Name(s.Class); !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	return names
}

func (d *decoder) rateFits(out *Policy, rate uint64, at pos, zone Zone, list []*Interface) {
	if len(list) == 0 {
		if zone == ZoneNetwork {
			d.errorf(at, "a reservation needs the capacity of a network interface, and none has one: add capacity: with 95%% of the link's rate%s", receiverHint(out.Reserve.Role))
		}
		return
	}
	best, why := uint64(0), ""
	for _, i := range list {
		if most, w := i.most(out); most > best || why == "" {
			best, why = most, w
		}
	}
	if rate > best {
		d.errorf(at, "rate is more than any %s interface may reserve (at most %s, %s%s",
			zone, formatRate(best), why, receiverHint(out.Reserve.Role))
	}
}

// most is the largest reservation of a policy's kind that an interface can ever
// take, and what bounds it with the remedy.
func (i *Interface) most(p *Policy) (most uint64, why string) {
	factor, ceiling := 1.0, i.Ceilings.Guaranteed
	if p.Reserve.Service == ServiceControlledLoad {
		factor, ceiling = max(1, i.Overbooking), i.Ceilings.ControlledLoad
	}
	most, why = uint64(float64(i.Reservable)*factor), "capacity times reservable): lower rate, or raise capacity or reservable"
	if factor > 1 {
		why = "capacity times reservable times overbooking): lower rate, or raise one of these"
	}
	if c := uint64(float64(ceiling) * factor); ceiling > 0 && c < most {
		most, why = c, fmt.Sprintf("the ceiling of %s): lower rate, or raise the ceiling", p.Reserve.Service)
	}
	if level, _ := i.level(p.DSCP); level != nil && level.Rate < most {
		most, why = level.Rate, fmt.Sprintf("the sls row of %s in line %d): lower rate, use another mark, or change the row if more was bought", dscp.Name(p.DSCP), level.Line)
	}
	return most, why
}

func (d *decoder) burstFits(out *Policy, burst uint64, at pos, list []*Interface) {
	var best *ServiceLevel
	for _, i := range list {
		_, level := i.level(out.DSCP)
		if level == nil {
			return // no contract
		}
		if best == nil || level.Burst > best.Burst {
			best = level
		}
	}
	if best != nil && burst > best.Burst {
		d.errorf(at, "burst is more than the %dB that the sls row of %s in line %d has for all of its flows: lower burst, or change the row if more was bought",
			best.Burst, dscp.Name(out.DSCP), best.Line)
	}
}

func receiverHint(r Role) string {
	if r == RoleBoth {
		return ", or write role: receiver if this box is on the receivers' side only"
	}
	return ""
}
