package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

const (
	twoIfaces = "interfaces: [{name: a, zone: hosts%s}, {name: b, zone: network, capacity: 19mbit%s}]\n"
	efPolicy  = "policies: [{name: p, match: {protocol: udp}, mark: ef, reserve: {role: sender, " + goodTSpec + "}}]\n"
)

func overlapping(hosts, network, rest string) string {
	return strings.Replace(strings.Replace(twoIfaces, "%s", hosts, 1), "%s", network, 1) + rest
}

// RFC 2998 section 5.2, draft-ietf-issll-diffserv-rsvp section 6.2: what overlaps and
// surely is not meant is an error.
func TestOverlapsRefusedRFC2998Section5_2(t *testing.T) {
	const row = ", trust: policed, sls: [{class: %s, rate: 1mbit, burst: 16kB}]"
	const excess = "{class: af21, rate: 1mbit, burst: 16kB, excess: ef}]"
	for name, tt := range map[string]struct{ file, want string }{
		"what hosts mark":          {overlapping(strings.Replace(row, "%s", "ef", 1), "", efPolicy), "hosts could mark packets with it"},
		"what exceeds hosts' rows": {overlapping(", trust: policed, sls: ["+excess, "", efPolicy), "excess: ef is what reserved traffic has (policy p, line 2)"},
		"what exceeds another row": {
			"interfaces: [{name: a, zone: hosts}, {name: b, zone: network, capacity: 19mbit}, {name: c, zone: network, capacity: 19mbit, sls: [" + excess + "}]\n" + efPolicy,
			"excess: ef is what reserved traffic has (policy p, line 2)",
		},
		"a mapping that is given": {overlapping(", trust: policed, sls: ["+excess, "", "mapping: {guaranteed: ef}\n"), "the mapping of guaranteed, line 2"},
		"excess of a flow by DSCP": {
			overlapping("", ", classify: dscp", strings.Replace(efPolicy, "mark: ef", "excess: drop", 1)), "needs a policer of the flow's own",
		},
		"mark by DSCP": {
			"interfaces: [{name: b, zone: network, capacity: 19mbit, classify: dscp}]\npolicies: [{name: p, match: {protocol: udp}, mark: af11}]\n",
			"mark is for traffic that is told apart by policies",
		},
		"police by DSCP": {
			"interfaces: [{name: b, zone: network, capacity: 19mbit, classify: dscp}]\npolicies: [{name: p, match: {protocol: udp}, police: {rate: 1mbit, burst: 9kB}}]\n",
			"police is for traffic that is told apart by policies",
		},
		"guaranteed by DSCP": {
			overlapping("", ", classify: dscp", strings.Replace(efPolicy, "role: sender,", "role: sender, service: guaranteed, delay: 50ms,", 1)), "service: guaranteed would always be refused, b (line 1)",
		},
		"aggregates above the contract": {
			overlapping("", ", sls: [{class: af31, rate: 2mbit, burst: 16kB}], aggregate: {most: 10mbit}", ""), "the largest level in sls (2mbit)",
		},
	} {
		_, err := Parse("t.yaml", []byte(tt.file))
		if err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want one error with %q\n%s", name, err, tt.want, tt.file)
		}
	}
}

// What may be meant is a problem, and what does not overlap is none.
func TestProblems(t *testing.T) {
	for name, tt := range map[string]struct {
		file string
		want []string
	}{
		"nothing":     {overlapping("", "", efPolicy), nil},
		"trust: dscp": {overlapping(", trust: dscp", "", efPolicy), []string{"hosts behind a (line 1) may mark packets as reservations are marked (ef, af31)"}},
		"trust: dscp, where others have to mark": {
			overlapping(", trust: dscp", ", classify: dscp", efPolicy), nil,
		},
		"the default mapping": {
			overlapping("", "", "policies: [{name: p, match: {protocol: udp}, mark: ef}, {name: q, match: {protocol: tcp}, mark: af31}]\n"),
			[]string{"ef is what reservations have (guaranteed service by mapping), and policy p (line 2) marks", "af31 is what reservations have (controlled load by mapping), and policy q"},
		},
		"nobody can reserve": {
			"interfaces: [{name: b, zone: network}]\npolicies: [{name: p, match: {protocol: udp}, mark: ef}]\n", nil,
		},
		"the default mapping, what exceeds": {
			overlapping("", "", "policies: [{name: p, match: {protocol: udp}, police: {rate: 1mbit, burst: 9kB}, excess: ef}, {name: q, match: {protocol: tcp}, mark: ef}]\n"),
			[]string{"what exceeds in policy p (line 2) gets it, and 1 more like it"},
		},
		"the default mapping, what hosts mark": {
			overlapping(", trust: policed, sls: [{class: ef, rate: 1mbit, burst: 16kB}]", "", ""), []string{"hosts behind a may mark packets with it (sls, line 1)"},
		},
		"policies by DSCP": {
			overlapping("", ", classify: dscp", "policies: [{name: p, match: {protocol: udp}, mark: af11}, {name: q, match: {protocol: tcp}, excess: drop, reserve: {"+goodTSpec+"}}]\n"),
			[]string{"policy p (line 2) neither marks nor polices", "excess: drop of policy q (line 2)"},
		},
		"an unknown region": {
			overlapping("", ", region: {hops: 0}", strings.Replace(efPolicy, "role: sender,", "role: sender, service: guaranteed, delay: 50ms,", 1)),
			[]string{"guaranteed service of policy p (line 2) crosses no region"},
		},
		"a known region": {
			overlapping("", ", region: {hops: 0, c: 1500B, d: 1ms}", strings.Replace(efPolicy, "role: sender,", "role: sender, service: guaranteed, delay: 50ms,", 1)), nil,
		},
		"a quota of all": {
			overlapping("", ", sls: [{class: af31, rate: 2mbit, burst: 16kB, shared: x}]", "on_crash: 5s\nadmission: {ledger: etcd, etcd: {endpoints: [\"http://127.0.0.1:2379\"], quota: 1gbit}}\n"),
			[]string{"admission.etcd.quota (1gbit) is as large as all that is shared (2mbit at most)"},
		},
	} {
		got := mustParse(t, tt.file).Problems()
		ok := len(got) == len(tt.want)
		for i := range min(len(got), len(tt.want)) {
			ok = ok && strings.Contains(got[i], tt.want[i])
		}
		if !ok {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// The files that are shown to people have none.
func TestConfigsHaveNoProblems(t *testing.T) {
	files, err := filepath.Glob("../../configs/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if p := mustParse(t, string(data)).Problems(); len(p) > 0 {
			t.Errorf("%s: %q", f, p)
		}
	}
}

// What DCLASS and reservations by hand may have is what policies may have.
func TestCheckMarkRFC2998Section5_2(t *testing.T) {
	c := mustParse(t, overlapping(", trust: policed, sls: [{class: af21, rate: 1mbit, burst: 16kB, excess: af22}]", "",
		"multicast: {heterogeneous: demote, demote_to: af13}\npolicies:\n  - {name: p, match: {protocol: udp}, mark: cs6, reserve: {"+goodTSpec+"}}\n"+
			"  - {name: q, match: {protocol: tcp}, mark: af11, police: {rate: 1mbit, burst: 16kB}, excess: af12}\n"))
	refused := []uint8{dscp.Default, dscp.LE, dscp.CS1, 10, 12, 14, dscp.AF21, 20, 56}
	for code := range uint8(64) {
		want := slices.Contains(refused, code) || code > dscp.CS6
		if err := c.CheckMark(code); (err != nil) != want {
			t.Errorf("%s: %v, refused: %v", dscp.Name(code), err, want)
		}
	}
}
