package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// This file is about packets without a reservation that have the code point of those
// with one: where packets are told apart by it alone, they take of what was promised
// to the others (RFC 2998 section 5.2).

// CheckMark tells why reservations may not have a code point, where it is asked for
// while the daemon runs: by DCLASS, or by hand. The rules are those for policies.
func (c *Config) CheckMark(code uint8) error {
	if bestEffort(code) {
		return fmt.Errorf("%s is for best effort, and reserved traffic would not be told apart from it", dscp.Name(code))
	}
	if others := c.unreserved(code); len(others) > 0 {
		return fmt.Errorf("%s is not for reserved traffic: %s", dscp.Name(code), others[0])
	}
	switch {
	case c.reserves(code):
	case code >= dscp.CS6:
		return fmt.Errorf("%s is for network control (RFC 4594 section 3.1)", dscp.Name(code))
	case code == dscp.CS1:
		return fmt.Errorf("%s is for traffic of low priority (RFC 8622 section 10)", dscp.Name(code))
	}
	return nil
}

// CheckExcess tells why what exceeds a reservation by hand may not be remarked so.
func (c *Config) CheckExcess(e Excess) error {
	if e.remarks() && c.reserves(e.DSCP()) {
		return fmt.Errorf("%s is what reserved traffic has, and what exceeds would have its share", e)
	}
	return nil
}

// unreserved tells what has a code point without a reservation, a clause each.
func (c *Config) unreserved(code uint8) (list []string) {
	add := func(has bool, format string, args ...any) {
		if has {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	for i := range c.Policies {
		p := &c.Policies[i]
		add(p.Reserve == nil && p.Marked && p.DSCP == code, "policy %s (line %d) marks traffic with it that has no reservation", p.Name, p.Line)
		add(p.Excess.remarks() && p.Excess.DSCP() == code, "what exceeds in policy %s (line %d) gets it", p.Name, p.Line)
	}
	byDSCP := c.allByDSCP(ZoneNetwork)
	for i := range c.Interfaces {
		out := &c.Interfaces[i]
		for _, s := range out.SLS {
			add(s.Excess.remarks() && s.Excess.DSCP() == code, "what exceeds the sls row of %s in line %d gets it", dscp.Name(s.Class), s.Line)
		}
		if out.Zone != ZoneHosts {
			continue
		}
		for _, s := range out.Arriving {
			add(s.Excess.remarks() && s.Excess.DSCP() == code, "what exceeds the sls row of %s in line %d gets it", dscp.Name(s.Class), s.Line)
			// Where this box marks nothing, those with a reservation need the row.
			add(s.Class == code && !byDSCP, "hosts behind %s may mark packets with it (sls, line %d)", out.Name, s.Line)
		}
	}
	if c.Multicast.Heterogeneous == HeterogeneousDemote {
		add(c.Multicast.DemoteTo == code, "multicast.demote_to has it for branches without a reservation")
	}
	return list
}

// allByDSCP tells whether packets that leave for a zone are told apart by their DSCP
// alone, whichever interface they leave by.
func (c *Config) allByDSCP(z Zone) bool {
	some := false
	for i := range c.Interfaces {
		if out := &c.Interfaces[i]; out.Zone == z {
			if out.Classify != ClassifyDSCP {
				return false
			}
			some = true
		}
	}
	return some
}

// reserved is what has a code point with a reservation: the first policy, or what
// services are mapped to, if others may reserve here.
func (c *Config) reserved() (codes []uint8, who map[uint8]string) {
	who = map[uint8]string{}
	add := func(code uint8, what string) {
		if who[code] == "" {
			codes, who[code] = append(codes, code), what
		}
	}
	for i := range c.Policies {
		if p := &c.Policies[i]; p.Reserve != nil {
			add(p.DSCP, fmt.Sprintf("policy %s, line %d", p.Name, p.Line))
		}
	}
	if slices.ContainsFunc(c.Interfaces, func(i Interface) bool { return i.Zone == ZoneNetwork && i.Capacity > 0 }) {
		add(c.Mapping.Guaranteed, "guaranteed service by mapping")
		add(c.Mapping.ControlledLoad, "controlled load by mapping")
	}
	return codes, who
}

// Problems says what in a file may be meant, and yet is not what somebody expects: a
// sentence each. What nobody can mean is an error of Parse.
func (c *Config) Problems() (out []string) {
	codes, who := c.reserved()
	for _, code := range codes {
		others := c.unreserved(code)
		if len(others) == 0 {
			continue
		}
		more := ""
		if n := len(others) - 1; n > 0 {
			more = fmt.Sprintf(", and %d more like it", n)
		}
		out = append(out, fmt.Sprintf("%s is what reservations have (%s), and %s%s: it takes of what was promised to them, give one of the two another PHB",
			dscp.Name(code), who[code], others[0], more))
	}
	for i := range c.Interfaces {
		h := &c.Interfaces[i]
		if h.Zone == ZoneHosts && h.Trust == TrustDSCP && len(codes) > 0 && !c.allByDSCP(ZoneNetwork) {
			names := make([]string, 0, len(codes))
			for _, code := range codes {
				names = append(names, dscp.Name(code))
			}
			out = append(out, fmt.Sprintf("hosts behind %s (line %d) may mark packets as reservations are marked (%s) without having one: write trust: none, or policed with an sls of other PHBs",
				h.Name, h.Line, strings.Join(names, ", ")))
		}
	}
	if c.allByDSCP(ZoneNetwork) {
		out = append(out, c.notByDSCP()...)
	}
	return append(append(out, c.unknownRegions()...), c.largeQuota()...)
}

// unknownRegions tells of policies whose guaranteed service no region behind the box
// is known to keep. Over another one it may come in, so that it is no error.
func (c *Config) unknownRegions() (out []string) {
	var last *Interface
	for i := range c.Interfaces {
		switch n := &c.Interfaces[i]; {
		case n.Zone != ZoneNetwork || n.Capacity == 0 || n.Classify == ClassifyDSCP:
		case n.Region == nil || n.Region.Guaranteed:
			return nil
		default:
			last = n
		}
	}
	for i := range c.Policies {
		if r := c.Policies[i].Reserve; last != nil && r != nil && r.HasSender() && r.Service == ServiceGuaranteed {
			out = append(out, fmt.Sprintf("guaranteed service of policy %s (line %d) crosses no region behind this box: add c and d to region of %s (line %d), how long it may hold packets up",
				c.Policies[i].Name, c.Policies[i].Line, last.Name, last.Line))
		}
	}
	return out
}

// notByDSCP tells of policies that do nothing to what leaves for the network.
func (c *Config) notByDSCP() (out []string) {
	for i := range c.Policies {
		switch p := &c.Policies[i]; {
		case p.Reserve == nil && (p.Marked || p.Police != nil):
			out = append(out, fmt.Sprintf("policy %s (line %d) neither marks nor polices what leaves for the network, where packets are told apart by their DSCP alone (classify: dscp)", p.Name, p.Line))
		case p.Reserve != nil && p.Excess != ExcessBestEffort:
			out = append(out, fmt.Sprintf("excess: %s of policy %s (line %d) has no effect on what leaves for the network, where packets are told apart by their DSCP alone (classify: dscp)", p.Excess, p.Name, p.Line))
		}
	}
	return out
}

// largeQuota tells of a quota that gives each box all of what they share.
func (c *Config) largeQuota() []string {
	if c.Admission.Etcd == nil || c.Admission.Etcd.Quota == 0 {
		return nil
	}
	largest := uint64(0)
	for i := range c.Interfaces {
		out := &c.Interfaces[i]
		if out.Shared != "" {
			largest = max(largest, out.Reservable)
		}
		for _, s := range out.SLS {
			if s.Shared != "" {
				largest = max(largest, s.Rate)
			}
		}
	}
	if q := c.Admission.Etcd.Quota; largest > 0 && q >= largest {
		return []string{fmt.Sprintf("admission.etcd.quota (%s) is as large as all that is shared (%s at most): while etcd is out of reach each box may grant the whole of it, lower quota",
			formatRate(q), formatRate(largest))}
	}
	return nil
}

// remarks tells whether what exceeds leaves with a PHB that is not best effort's.
func (e Excess) remarks() bool { return e != ExcessDrop && !bestEffort(uint8(e)) }

// overlaps refuses rows of an sls that give a code point of reservations to what has
// none: what exceeds, or what hosts mark where this box marks what is reserved.
func (d *decoder) overlaps(r *rawConfig, c *Config, reserved map[uint8]use) {
	byDSCP := c.allByDSCP(ZoneNetwork)
	for i := range c.Interfaces {
		out := &c.Interfaces[i]
		for _, row := range r.interfaces[i].sls {
			own := slices.ContainsFunc(r.interfaces[i].sls, func(l rawLevel) bool { return l.class.set && l.class.v == row.excess.v.DSCP() }) // has its error
			if other, taken := reserved[row.excess.v.DSCP()]; taken && !own && row.excess.set && row.excess.v.remarks() {
				d.errorf(row.excess.at, "excess: %s is what reserved traffic has (%s, line %d), and what exceeds would have its share: use another PHB, best-effort or drop",
					row.excess.v, other.what, other.line)
			}
			if out.Zone != ZoneHosts || out.Arriving == nil || byDSCP || !row.class.set {
				continue
			}
			for n := range c.Policies {
				if p := &c.Policies[n]; p.Reserve != nil && p.Reserve.HasSender() && p.DSCP == row.class.v {
					d.errorf(row.class.at, "%s is what reserved traffic has (policy %s, line %d), and hosts could mark packets with it that have no reservation: remove the row, or use another mark there",
						dscp.Name(row.class.v), p.Name, p.Line)
					break
				}
			}
		}
	}
}

// byDSCP refuses what is asked for flows where no interface that they could leave by
// tells them apart.
func (d *decoder) byDSCP(p *rawPolicy, out *Policy, c *Config) {
	switch all := c.allByDSCP(ZoneNetwork); {
	case !all:
	case out.Reserve == nil && (c.allByDSCP(ZoneHosts) || !c.has(ZoneHosts)):
		for _, key := range []struct {
			name string
			set  bool
			at   pos
		}{{"mark", p.mark.set, p.mark.at}, {"police", p.police.set, p.police.at}} {
			if key.set {
				d.errorf(key.at, "%s is for traffic that is told apart by policies, which no interface does with classify: dscp: remove it, or write classify: flow", key.name)
			}
		}
	case out.Reserve != nil && !out.Reserve.HasReceiver() && p.excess.set && out.Excess != ExcessBestEffort:
		d.errorf(p.excess.at, "excess: %s needs a policer of the flow's own, which no network interface has with classify: dscp: remove it (excess in the sls row of the mark is for all of them together), or write classify: flow", out.Excess)
	}
	d.guaranteed(p, out, c)
}

func (c *Config) has(z Zone) bool {
	return slices.ContainsFunc(c.Interfaces, func(i Interface) bool { return i.Zone == z })
}

// guaranteed refuses a policy with guaranteed service where it could not leave by any
// interface: none gives it a class that keeps its bound.
func (d *decoder) guaranteed(p *rawPolicy, out *Policy, c *Config) {
	if out.Reserve == nil || !out.Reserve.HasSender() || out.Reserve.Service != ServiceGuaranteed || !p.reserve.v.service.set {
		return
	}
	why := ""
	for i := range c.Interfaces {
		switch n := &c.Interfaces[i]; {
		case n.Zone != ZoneNetwork || n.Capacity == 0:
		case n.Classify == ClassifyDSCP:
			why = fmt.Sprintf("%s (line %d) gives no flow a class of its own with classify: dscp: write classify: flow", n.Name, n.Line)
		default:
			return
		}
	}
	if why != "" {
		d.errorf(p.reserve.v.service.at, "service: guaranteed would always be refused, %s, or write service: controlled-load%s", why, receiverHint(out.Reserve.Role))
	}
}
