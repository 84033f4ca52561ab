package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// bestEffort tells the code points that nobody promises anything for: they need no
// contract.
func bestEffort(code uint8) bool { return code == dscp.Default || code == dscp.LE }

// use is who has a code point first.
type use struct {
	what string
	line int
}

// marks checks the code points that policies and the mapping give against each
// other and against the contracts. Reserved traffic is protected from the rest by
// its code point alone wherever packets are not told apart by flows, so that the
// two must not have one in common (RFC 2998 section 5.2).
func (d *decoder) marks(r *rawConfig, c *Config) {
	reserved := map[uint8]use{}
	for _, m := range []struct {
		o opt[uint8]
		s Service
	}{{r.guaranteed, ServiceGuaranteed}, {r.controlled, ServiceControlledLoad}} {
		if !m.o.set {
			continue // the default counts where a policy uses it
		}
		reserved[m.o.v] = use{fmt.Sprintf("the mapping of %s", m.s), m.o.at.line}
		if bestEffort(m.o.v) {
			d.errorf(m.o.at, "%s: %s is for best effort, and reserved traffic would not be told apart from it: use another PHB", m.s, dscp.Name(m.o.v))
		}
	}
	for i := range c.Policies {
		p, raw := &c.Policies[i], &r.policies[i]
		if p.Reserve == nil || raw.mark.set && bestEffort(p.DSCP) {
			continue
		}
		if _, ok := reserved[p.DSCP]; !ok {
			reserved[p.DSCP] = use{"policy " + p.Name, p.Line}
		}
	}
	d.overlaps(r, c, reserved)
	for i := range c.Policies {
		p, raw := &c.Policies[i], &r.policies[i]
		if other, taken := reserved[p.Excess.DSCP()]; taken && raw.excess.set && p.Excess != ExcessDrop && p.Excess != ExcessBestEffort {
			d.errorf(raw.excess.at, "excess: %s is what reserved traffic has (%s, line %d), and what exceeds would have its share: use another PHB, best-effort or drop",
				p.Excess, other.what, other.line)
		}
		switch other, taken := reserved[p.DSCP]; {
		case !raw.mark.set:
		case raw.reserve.set && bestEffort(p.DSCP):
			d.errorf(raw.mark.at, "mark: %s is for best effort, and reserved traffic would not be told apart from it: use another mark", dscp.Name(p.DSCP))
		case raw.reserve.set || !raw.missing("reserve"):
		case taken:
			d.errorf(raw.mark.at, "mark: %s is what reserved traffic has (%s, line %d), and this traffic would have its share of it without a reservation: use another mark, or add reserve",
				dscp.Name(p.DSCP), other.what, other.line)
		default:
			d.provisioned(raw, p, c)
		}
	}
}

// provisioned refuses a mark without a reservation that the network has not sold:
// there it is whatever its operator makes of it.
func (d *decoder) provisioned(raw *rawPolicy, p *Policy, c *Config) {
	var list []*Interface
	for i := range c.Interfaces {
		if iface := &c.Interfaces[i]; iface.Zone == ZoneNetwork {
			list = append(list, iface)
		}
	}
	if bestEffort(p.DSCP) || len(list) == 0 || len(withLevel(list, p.DSCP)) > 0 {
		return
	}
	d.errorf(raw.mark.at, "mark: %s has no row in the sls of any network interface: add one, or use a mark that has (%s), or default or le",
		dscp.Name(p.DSCP), strings.Join(sold(list), ", "))
}

// demotion checks what packets become on branches that have not reserved them.
func (d *decoder) demotion(r *rawConfig, c *Config) {
	if i := slices.IndexFunc(c.Interfaces, func(i Interface) bool { return i.Classify == ClassifyDSCP }); i >= 0 && c.Multicast.Heterogeneous == HeterogeneousDemote {
		d.errorf(r.uneven.at, "heterogeneous: demote takes the mark off one flow's packets, and %s (line %d) tells packets apart by their DSCP alone: write keep or reject, or classify: flow",
			c.Interfaces[i].Name, c.Interfaces[i].Line)
	}
	to := r.demoteTo
	switch {
	case !to.set:
	case c.Multicast.Heterogeneous != HeterogeneousDemote:
		d.errorf(to.at, "demote_to: nothing is demoted with heterogeneous: %s: remove it, or write heterogeneous: demote", c.Multicast.Heterogeneous)
	case dscp.Admitted(to.v) || c.reserves(to.v):
		d.errorf(to.at, "demote_to: %s is what reserved traffic has, which is to be spared the packets of branches without a reservation: use default, le, or a PHB of provisioned traffic", dscp.Name(to.v))
	}
}

// reserves tells whether reservations get a code point by the mapping or a policy.
func (c *Config) reserves(code uint8) bool {
	if code == c.Mapping.Guaranteed || code == c.Mapping.ControlledLoad {
		return true
	}
	for i := range c.Policies {
		if p := &c.Policies[i]; p.Reserve != nil && p.Marked && p.DSCP == code {
			return true
		}
	}
	return false
}

// forReservations tells whether reservations may have a code point: all but those
// that only policies without one give.
func (c *Config) forReservations(code uint8) bool {
	return c.reserves(code) || !slices.ContainsFunc(c.Policies, func(p Policy) bool { return p.Marked && p.DSCP == code })
}
