package config

import (
	"net/netip"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

func (d *decoder) policies(r *rawConfig, c *Config) []Policy {
	list := make([]Policy, 0, len(r.policies))
	first := map[string]pos{}
	var earlier []reach
	for i := range r.policies {
		p := &r.policies[i]
		d.uniqueName(p.name, p.block, "policy", first)
		d.policyMatch(p)
		out := Policy{
			Name: p.name.v, Line: p.at.line,
			Match: Match{
				Protocol: p.match.v.protocol.v,
				From:     p.match.v.from.v, To: p.match.v.to.v,
				FromPort: p.match.v.fromPort.v, ToPort: p.match.v.toPort.v,
			},
			Marked: p.mark.set, Named: p.mark.set, DSCP: p.mark.v,
			TCP: p.tcp.or(TCPNone), ThinAcks: p.thin.v, Fill: p.fill.v, Excess: p.excess.or(ExcessBestEffort),
		}
		if p.reserve.set {
			out.Reserve = d.buildReserve(p)
			if !out.Marked {
				out.Marked, out.DSCP = true, c.Mapping.ControlledLoad
				if out.Reserve.Service == ServiceGuaranteed {
					out.DSCP = c.Mapping.Guaranteed
				}
			}
			d.fits(p, &out, c, r)
		}
		d.policyTreatment(p)
		out.Police = d.police(p)
		d.shaped(p, &out, c)
		d.byDSCP(p, &out, c)
		if p.match.set && !p.broken {
			earlier = d.reachable(p, &out, earlier)
		}
		list = append(list, out)
	}
	return list
}

func validName(s string) bool {
	for _, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func (d *decoder) policyMatch(p *rawPolicy) {
	if p.broken {
		return
	}
	m := &p.match.v
	if p.keys == nil || !p.match.set && !p.missing("match") {
		p.broken = true
		return
	}
	if !p.match.set || !m.protocol.set && !m.from.set && !m.to.set && !m.fromPort.set && !m.toPort.set {
		at := p.at
		if p.match.set {
			at = p.match.at
		}
		p.broken = true
		d.errorf(at, "this policy matches nothing in particular: give match: at least one of protocol, from, to, from_port, to_port (for all traffic: from: [0.0.0.0/0, \"::/0\"])")
		return
	}
	if ports := firstSet(m.fromPort, m.toPort); ports != nil && m.protocol.v != protoTCP && m.protocol.v != protoUDP {
		p.broken = true
		d.errorf(*ports, "ports are matched for TCP and UDP only: add protocol: tcp or protocol: udp")
	}
	if m.from.set && m.to.set && !slices.ContainsFunc(m.from.v, func(f netip.Prefix) bool {
		return slices.ContainsFunc(m.to.v, func(t netip.Prefix) bool { return f.Addr().Is4() == t.Addr().Is4() })
	}) {
		p.broken = true
		d.errorf(m.to.at, "from and to are of different IP versions, so that no packet matches: give both in IPv4 or both in IPv6")
	}
}

func firstSet(list ...opt[[][2]uint16]) *pos {
	for i := range list {
		if list[i].set {
			return &list[i].at
		}
	}
	return nil
}

// policyTreatment checks the keys beside match against each other.
func (d *decoder) policyTreatment(p *rawPolicy) {
	if p.tcp.set && p.tcp.v != TCPNone {
		if !p.broken && p.match.v.protocol.v != protoTCP {
			d.errorf(p.tcp.at, "tcp: %s is for TCP flows: add protocol: tcp to match, or write tcp: none", p.tcp.v)
		}
		if !p.reserve.set {
			d.errorf(p.tcp.at, "tcp: %s needs a reserved rate to send at: add reserve, or write tcp: none", p.tcp.v)
		}
	}
	if p.mark.set && dscp.Admitted(p.mark.v) && !p.reserve.set && p.missing("reserve") {
		d.errorf(p.mark.at, "mark: %s (%s) is for traffic that was admitted (RFC 5865 section 3): add reserve, or use another mark", dscp.Name(p.mark.v), dscp.ClassName(p.mark.v))
	}
	if p.thin.v {
		d.thinning(p)
	}
	if p.fill.v {
		d.policyFill(p)
	}
	if p.excess.set && !p.reserve.set && !p.police.set && p.missing("reserve") && p.missing("police") {
		d.errorf(p.excess.at, "excess says what becomes of traffic above a tspec or a policer's rate: add reserve or police, or remove excess")
	}
}

// thinning checks that there is a box that could do it, and when.
func (d *decoder) thinning(p *rawPolicy) {
	if !p.broken && p.match.v.protocol.v != protoTCP {
		d.errorf(p.thin.at, "thin_acks is for TCP flows: add protocol: tcp to match, or remove thin_acks")
	}
	switch r := p.reserve.v.role; {
	case !p.reserve.set:
		d.errorf(p.thin.at, "thin_acks begins when a reservation is in place: add reserve, or remove thin_acks")
	case r.set && r.v == RoleSender:
		d.errorf(p.thin.at, "thin_acks is done by the box on the receiver's side, which role: sender is not: write role: receiver or both, or remove thin_acks")
	}
}

// policyFill checks that holes can be filled: by the receiver's box, or by the
// sender's of a flow that nobody keeps a copy of.
func (d *decoder) policyFill(p *rawPolicy) {
	if !p.broken && p.match.v.protocol.v != protoTCP {
		d.errorf(p.fill.at, "fill: true is for TCP flows: add protocol: tcp to match, or remove fill")
	}
	switch {
	case !p.reserve.set:
		d.errorf(p.fill.at, "fill: true makes data up at the reserved rate at most: add reserve, or remove fill")
	case p.reserve.v.role.or(RoleBoth) == RoleSender && p.tcp.v != TCPRealtime:
		d.errorf(p.fill.at, "fill: true is done for the receiver: write role: receiver or role: both, or tcp: realtime, where this box can do it")
	}
}

func (d *decoder) buildReserve(p *rawPolicy) *Reserve {
	r := p.reserve.v
	out := &Reserve{
		Role: r.role.or(RoleBoth), Service: r.service.or(ServiceControlledLoad), Style: r.style.or(StyleAuto),
		Delay: r.delay.v,
	}
	switch guaranteed := r.service.set && r.service.v == ServiceGuaranteed; {
	case guaranteed && r.missing("delay"):
		d.errorf(r.service.at, "service: guaranteed needs to know how long packets may wait in queues between the ends: add for example delay: 50ms")
	case !guaranteed && r.delay.set && (r.service.set || r.missing("service")):
		d.errorf(r.delay.at, "delay is bounded by guaranteed service only: add service: guaranteed, or remove delay")
	}
	out.Priority = d.buildPriority(r.priority)
	if !r.tspec.set {
		if r.missing("tspec") {
			d.errorf(p.reserve.at, "reserve has no tspec: add for example tspec: {rate: 8mbit, burst: 64kB, peak: 20mbit, min_unit: 64B, max_packet: 1500B}")
		}
		return out
	}
	out.TSpec = d.buildTSpec(r.tspec.v, r.tspec.at)
	return out
}

// buildPriority has hold follow setup where it is left out. The rule of RFC 3181
// section 4: a flow that could enter must not be put out by one that could not.
func (d *decoder) buildPriority(o opt[rawPriority]) Priority {
	if !o.set {
		return Priority{}
	}
	p := o.v
	switch {
	case len(p.keys) == 0 && p.keys != nil:
		d.errorf(o.at, "priority is empty: give setup (against the hold of reservations that are in place) and hold, each from 0 to 65535, or remove it")
	case p.hold.set && p.setup.or(0) > p.hold.v:
		d.errorf(p.hold.at, "hold is below setup (%d), so that flows would push each other out in turn: raise hold or lower setup", p.setup.v)
	}
	setup := p.setup.or(0)
	return Priority{Given: true, Setup: uint16(setup), Hold: uint16(p.hold.or(setup))}
}

// buildTSpec checks the rules of RFC 2210 3.1 and RFC 2215 3.5: p >= r, b >= M,
// m <= M.
func (d *decoder) buildTSpec(t rawTSpec, p pos) TSpec {
	before := len(d.errs)
	if t.missing("rate") {
		d.errorf(p, "tspec has no rate: add for example rate: 8mbit")
	}
	if t.missing("burst") {
		d.errorf(p, "tspec has no burst: add for example burst: 64kB")
	}
	maxPacket := t.maxPacket.or(defaultMaxPacket)
	minUnit := t.minUnit.or(min(defaultMinUnit, maxPacket))
	if t.peak.set && t.rate.set && t.peak.v < t.rate.v {
		d.errorf(t.peak.at, "peak is below rate: raise peak, or leave it out where only the link limits it")
	}
	if t.burst.set && t.burst.v < maxPacket {
		if t.maxPacket.set {
			d.errorf(t.burst.at, "burst is smaller than max_packet (%dB), so that no such packet could ever conform: raise burst or lower max_packet", maxPacket)
		} else {
			d.errorf(t.burst.at, "burst is smaller than max_packet, which is %dB where it is not given: raise burst, or give max_packet", maxPacket)
		}
	}
	if minUnit > maxPacket {
		d.errorf(t.minUnit.at, "min_unit is larger than max_packet (%dB): lower it", maxPacket)
	}
	if len(d.errs) > before {
		return TSpec{}
	}
	return TSpec{Rate: t.rate.v, Burst: t.burst.v, Peak: t.peak.v, MinUnit: uint32(minUnit), MaxPacket: uint32(maxPacket)}
}
