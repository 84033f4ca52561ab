package config

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each row is what is wrong with who may ask for what, and where that is said.
func TestAdmissionErrors(t *testing.T) {
	for name, tt := range map[string]mistake{
		"unknown key":           {admitting("limits: 1"), "2:13", "unknown key"},
		"no mapping":            {goodIfaces + "admission: yes\n", "2:12", "must be a mapping"},
		"preemption":            {admitting("preemption: on"), "2:25", "write true or false"},
		"identities":            {admitting("identities: all"), "2:25", "write any or signed"},
		"nobody signs":          {admitting("identities: signed, users: [{name: ann, identities: ann}]"), "2:25", "needs an interface with integrity keys"},
		"threshold, no below":   {admitting("thresholds: [{share: 60%}]"), "2:26", "has no below"},
		"threshold, no share":   {admitting("thresholds: [{below: 1}]"), "2:26", "has no share"},
		"threshold, unit":       {admitting("thresholds: [{below: 1, share: 60}]"), "2:44", "no unit"},
		"threshold, zero":       {admitting("thresholds: [{below: 0, share: 60%}]"), "2:34", "from 1 to 65535"},
		"threshold, too much":   {admitting("thresholds: [{below: 1, share: 101%}]"), "2:44", "more than 100%"},
		"thresholds fall":       {admitting("thresholds: [{below: 5, share: 60%}, {below: 5, share: 80%}]"), "2:58", "sort them"},
		"shares fall":           {admitting("thresholds: [{below: 1, share: 60%}, {below: 5, share: 60%}]"), "2:68", "changes nothing"},
		"user, no name":         {admitting("users: [{rate: 1mbit}]"), "2:21", "has no name"},
		"user, bad name":        {admitting("users: [{name: a/b}]"), "2:28", "cannot be the name of a user"},
		"user twice":            {admitting("users: [{name: a}, {name: a}]"), "2:39", "used twice"},
		"identity twice":        {admitting("users: [{name: a, identities: x}, {name: b, identities: x}]"), "2:69", "that of user a"},
		"identity, empty":       {admitting("users: [{name: a, identities: ' x'}]"), "2:43", "no name that a request could carry"},
		"identity, too long":    {admitting("users: [{name: a, identities: " + strings.Repeat("x", 129) + "}]"), "2:43", "1 to 128"},
		"address twice":         {admitting("users: [{name: a, from: 10.1.0.5}, {name: b, from: 10.1.0.5}]"), "2:64", "given for user a"},
		"user's rate":           {admitting("users: [{name: a, rate: 4}]"), "2:37", "no unit"},
		"rule, no name":         {admitting("rules: [{action: refuse}]"), "2:21", "has no name"},
		"rule twice":            {admitting("rules: [{name: a, match: {to: 10.0.0.1}}, {name: a}]"), "2:62", "used twice"},
		"rule, action":          {ruled("action: deny"), "2:61", "write admit or refuse"},
		"rule, interface":       {ruled("match: {in: lan9}"), "2:65", "no interface \"lan9\""},
		"rule, out":             {ruled("match: {out: [wan0, wan9]}"), "2:66", "no interface \"wan9\""},
		"rule, user":            {ruled("match: {user: [ann, bob]}"), "2:67", "no user \"bob\""},
		"rule, users":           {ruled("match: {users: ann}"), "2:61", "did you mean user?"},
		"rule, service":         {ruled("services: [best]"), "2:64", "unknown service"},
		"rule, empty list":      {ruled("services: []"), "2:63", "matches nothing"},
		"rule, priority":        {ruled("priority: 70000"), "2:63", "from 0 to 65535"},
		"refused and bound":     {ruled("action: refuse, rate: 1mbit"), "2:75", "remove rate"},
		"rule after all":        {admitting("rules: [{name: all}, {name: b, match: {from: 10.0.0.0/8}}]"), "2:34", "can never match: rule all"},
		"rule after wider":      {admitting("rules: [{name: a, match: {from: 10.0.0.0/8}}, {name: b, match: {from: 10.1.0.0/16, in: lan0}}]"), "2:59", "can never match: rule a"},
		"rule after same users": {admitting("users: [{name: x}, {name: y}], rules: [{name: a, match: {user: [x, y]}}, {name: b, match: {user: x}}]"), "2:86", "can never match: rule a"},
	} {
		t.Run(name, tt.check)
	}
}

// Policies whose reservations the rules would never grant are found before.
func TestPoliciesThatNoRuleAdmits(t *testing.T) {
	with := func(rules, reserve string) string {
		return goodIfaces + "admission: {users: [{name: ann}], rules: [" + rules + "]}\npolicies:\n  - {name: p, match: {protocol: udp, from: 10.1.0.0/16}, reserve: {" + reserve + "}}\n"
	}
	for name, tt := range map[string]struct{ rules, reserve, at, msg string }{
		"admitted":              {"{name: r, match: {from: 10.0.0.0/8}}", goodTSpec, "", ""},
		"by a part of it":       {"{name: r, match: {from: 10.1.2.0/24}, rate: 1kbit}", goodTSpec, "", ""},
		"by who asks":           {"{name: r, match: {user: ann}, rate: 1kbit}", goodTSpec, "", ""},
		"by the second":         {"{name: q, match: {protocol: tcp}, action: refuse}, {name: r}", goodTSpec, "", ""},
		"another protocol":      {"{name: r, match: {protocol: tcp}}", goodTSpec, "4:67", "no rule of admission is for this policy's traffic"},
		"from elsewhere":        {"{name: r, match: {from: [10.2.0.0/16, \"2001:db8::/32\"]}}", goodTSpec, "4:67", "no rule of admission"},
		"refused":               {"{name: r, match: {from: 10.0.0.0/8}, action: refuse}, {name: s}", goodTSpec, "4:67", "rule r of admission (line 2) refuses"},
		"another service":       {"{name: r, services: guaranteed}", goodTSpec, "4:67", "does not allow service: controlled-load"},
		"rate":                  {"{name: r, rate: 800kbit}", goodTSpec, "4:82", "rate is more than rule r of admission (line 2) allows (800kbit)"},
		"burst":                 {"{name: r, burst: 9kB}", goodTSpec, "4:96", "burst is more than rule r of admission (line 2) allows (9000B)"},
		"priority":              {"{name: r, priority: 4}", goodTSpec + ", priority: {setup: 3, hold: 5}", "4:113", "above what rule r of admission (line 2) allows (4)"},
		"priority that may be":  {"{name: r, priority: 5}", goodTSpec + ", priority: {setup: 3, hold: 5}", "", ""},
		"where it leaves by":    {"{name: r, match: {out: wan0}, rate: 1kbit}", goodTSpec, "", ""},
		"an application's rule": {"{name: r, match: {application: x}, rate: 1kbit}", goodTSpec, "", ""},
	} {
		file := with(tt.rules, tt.reserve)
		if tt.at == "" {
			mustParse(t, file)
			continue
		}
		t.Run(name, mistake{file, tt.at, tt.msg}.check)
	}
}

func TestAdmission(t *testing.T) {
	c := mustParse(t, goodIfaces)
	if diff := cmp.Diff(Admission{Preemption: true}, c.Admission); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	c = mustParse(t, "interfaces: [{name: lan0, zone: hosts}, {name: wan0, zone: network, capacity: 19mbit, integrity: [{"+goodKey+"}]}]\n"+`
admission:
  ledger: memory
  preemption: false
  identities: signed
  thresholds: [{below: 1, share: 60%}, {below: 5, share: 90%}]
  users:
    - {name: ann, identities: [ann, "CN=Ann,O=Acme"], from: 10.1.0.5, rate: 8mbit}
    - {name: bob}
  rules:
    - name: calls
      match: {protocol: udp, from: 10.1.0.0/16, to: 10.2.0.0/16, in: lan0, out: [wan0], user: [ann, bob], application: "APP=vic, VER=2"}
      services: [guaranteed]
      rate: 800kbit
      burst: 4kB
      priority: 5
    - {name: not-games, match: {application: doom.exe}, action: refuse}
    - {name: ann, match: {user: ann}}
`)
	prefix := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	want := Admission{
		Signed: true, Thresholds: []Threshold{{1, 6000}, {5, 9000}},
		Users: []User{
			{Name: "ann", Identities: []string{"ann", "CN=Ann,O=Acme"}, From: prefix("10.1.0.5/32"), Rate: 1e6, Line: 9},
			{Name: "bob", Line: 10},
		},
		Rules: []Rule{
			{
				Name: "calls", From: prefix("10.1.0.0/16"), To: prefix("10.2.0.0/16"), Protocol: 17, In: []string{"lan0"}, Out: []string{"wan0"},
				Users: []string{"ann", "bob"}, Applications: []string{"APP=vic, VER=2"}, Services: []Service{ServiceGuaranteed}, Rate: 1e5, Burst: 4000, Priority: 5, Line: 12,
			},
			{Name: "not-games", Applications: []string{"doom.exe"}, Refuse: true, Priority: -1, Line: 18},
			{Name: "ann", Users: []string{"ann"}, Priority: -1, Line: 19},
		},
	}
	if diff := cmp.Diff(want, c.Admission, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
