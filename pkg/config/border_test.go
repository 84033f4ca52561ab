package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// A border router's keys: contracts by DSCP both ways, policies that police, and
// the share of best effort.
func TestBorderAccepted(t *testing.T) {
	c := mustParse(t, `interfaces:
  - {name: a, zone: hosts, trust: policed, sls: [{class: ef, rate: 1mbit, burst: 3kB, excess: drop}, {class: af31, rate: 8mbit, burst: 64kB, excess: le}]}
  - {name: b, zone: network, capacity: 10mbit, best_effort: 30%, classify: dscp, trust: policed, sls: [{class: af31, rate: 2mbit, burst: 9kB}]}
policies:
  - {name: p, match: {protocol: tcp}, mark: af31, police: {rate: 1mbit, burst: 9kB, per: flow}, excess: le}
  - {name: q, match: {protocol: udp}, police: {rate: 1mbit, burst: 9kB}, excess: drop}
`)
	a, b := c.Interfaces[0], c.Interfaces[1]
	lines := cmpopts.IgnoreFields(ServiceLevel{}, "Line")
	hosts := []ServiceLevel{
		{Class: 46, Rate: 125_000, Burst: 3000, Excess: ExcessDrop, Until: day}, {Class: 26, Rate: 1e6, Burst: 64_000, Excess: 1, Until: day},
	}
	network := []ServiceLevel{{Class: 26, Rate: 250_000, Burst: 9000, Until: day}}
	if d := cmp.Diff(hosts, a.Arriving, lines); d != "" || a.Trust != TrustPoliced || a.SLS != nil {
		t.Errorf("hosts: trust %s, sls %v:\n%s", a.Trust, a.SLS, d)
	}
	if d := cmp.Diff(network, b.SLS, lines) + cmp.Diff(network, b.Arriving, lines); d != "" {
		t.Error(d)
	}
	// 2 % are for control traffic, so that 68 % are left to reserve.
	if b.BestEffort != 375_000 || b.Reservable != 850_000 || b.Classify != ClassifyDSCP || b.Classify.String() != "dscp" {
		t.Errorf("best effort %d, reservable %d, classify %s", b.BestEffort, b.Reservable, b.Classify)
	}
	p, q := c.Policies[0], c.Policies[1]
	if d := cmp.Diff(&Police{Rate: 125_000, Burst: 9000, PerFlow: true}, p.Police); d != "" || p.Excess.String() != "le" || p.Excess.DSCP() != 1 {
		t.Errorf("excess %s:\n%s", p.Excess, d)
	}
	if d := cmp.Diff(&Police{Rate: 125_000, Burst: 9000}, q.Police); d != "" || q.Excess != ExcessDrop || q.Excess.DSCP() != 0 || q.Marked {
		t.Errorf("excess %s:\n%s", q.Excess, d)
	}
}
