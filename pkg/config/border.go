package config

import (
	"fmt"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// This file is about what a router at the border of a DiffServ region does (RFC
// 2475 section 2.3): it holds traffic to a contract, by DSCP or by what matches a
// policy.

type rawPolice struct {
	block
	rate, burst opt[uint64]
	perFlow     opt[bool]
}

const excessWant = "best-effort, drop, or the PHB that they are remarked to, such as le"

// ParseExcess reads what becomes of packets above a contract.
func ParseExcess(s string) (Excess, error) {
	for _, c := range excessWords {
		if c.word == s {
			return c.value, nil
		}
	}
	v, err := dscp.Parse(s)
	if err != nil {
		return 0, fmt.Errorf("unknown value %s: write %s", quote(s), excessWant)
	}
	if dscp.Admitted(v) {
		return 0, fmt.Errorf("%s (%s) is for traffic that was admitted (RFC 5865 section 3), which what exceeds was not: write best-effort, drop, or another PHB", dscp.Name(v), dscp.ClassName(v))
	}
	return Excess(v), nil
}

// excess is a field that says what becomes of packets above a contract.
func excess(o *opt[Excess]) field {
	return func(d *decoder, n ast.Node, key string) {
		s, ok := d.scalar(n, key, excessWant)
		if !ok {
			return
		}
		v, err := ParseExcess(s)
		if err != nil {
			d.errorf(at(n), "%s: %s", key, err)
			return
		}
		o.put(v, n)
	}
}

func (p *rawPolicy) policeOf(d *decoder, n ast.Node, key string) {
	var q rawPolice
	q.block = d.mapping(n, key, map[string]field{
		"rate":  quantityOf(&q.rate, ParseRate, minRate, maxRate, rateWords),
		"burst": size(&q.burst, 1, maxBurst, sizeWords+" up to 1024MiB"),
		"per":   oneOf(&q.perFlow, perWords),
	})
	p.police.put(q, n)
}

// police checks what bounds the traffic of a policy without a reservation; nil:
// nothing does.
func (d *decoder) police(p *rawPolicy) *Police {
	if !p.police.set {
		return nil
	}
	q := p.police.v
	if p.reserve.set {
		d.errorf(p.police.at, "a reservation is policed by its tspec: remove police, or reserve")
	}
	if q.missing("rate") {
		d.errorf(p.police.at, "police has no rate: add for example rate: 2mbit")
	}
	switch {
	case q.missing("burst"):
		d.errorf(p.police.at, "police has no burst: add for example burst: 16kB")
	case q.burst.set && q.burst.v < defaultMaxPacket:
		d.errorf(q.burst.at, "burst is smaller than a packet (%dB), which could never conform: raise it", defaultMaxPacket)
	}
	return &Police{Rate: q.rate.v, Burst: q.burst.v, PerFlow: q.perFlow.v}
}

// contract fills in what leaves an interface and what may arrive.
func (d *decoder) contract(i *rawInterface, out *Interface) {
	sls := d.levels(i)
	if i.zone.v == ZoneNetwork {
		out.SLS = sls
	}
	if i.trust.v == TrustPoliced {
		out.Arriving = sls
		if i.missing("sls") {
			d.errorf(i.trust.at, "trust: policed keeps marks within the sls of the interface, which is missing: add for example sls: [{class: af31, rate: 8mbit, burst: 64kB}], or write trust: none")
		}
	}
	if i.bestEffort.set && i.missing("capacity") {
		d.errorf(i.bestEffort.at, "best_effort is a share of capacity, which is missing: add capacity: with 95%% of the link's rate")
	}
	if kept := i.bestEffort.or(defaultBestEffort) + controlShare; i.bestEffort.set && i.reservable.set && i.reservable.v+kept > 10000 {
		d.errorf(i.bestEffort.at, "best_effort and reservable leave less than the 2%% of capacity that control traffic has: lower one, so that they are at most 98%% together")
	}
}

// leftToReserve is what may be reserved where nothing is said: most of what is not
// kept for others.
func leftToReserve(i *rawInterface) uint64 {
	return min(defaultReservable, 10000-controlShare-i.bestEffort.or(defaultBestEffort))
}

// excessOutside refuses that what exceeds is marked as what conforms: it would
// have the share of it in the network behind.
func (d *decoder) excessOutside(o opt[Excess], list []ServiceLevel) {
	if !o.set || o.v == ExcessDrop || o.v == ExcessBestEffort {
		return
	}
	if n := slices.IndexFunc(list, func(s ServiceLevel) bool { return s.Class == uint8(o.v) }); n >= 0 {
		d.errorf(o.at, "excess: %s has a row of its own in line %d, and what exceeds would have the share of what does not: write best-effort, drop, or a PHB without a row",
			o.v, list[n].Line)
	}
}

// shaped refuses to cheat where no interface could shape what is sent: without a
// class of its own a flow that was acknowledged would be policed.
func (d *decoder) shaped(p *rawPolicy, out *Policy, c *Config) {
	if out.Reserve == nil || !out.Reserve.HasSender() || out.TCP != TCPRealtime && out.TCP != TCPReliable {
		return
	}
	any := false
	for i := range c.Interfaces {
		if n := &c.Interfaces[i]; n.Zone == ZoneNetwork {
			if n.Classify == ClassifyFlow {
				return
			}
			any = true
		}
	}
	if any {
		d.errorf(p.tcp.at, "tcp: %s needs a class of the flow's own to send by, which no network interface has with classify: dscp: write tcp: none, or classify: flow", out.TCP)
	}
}
