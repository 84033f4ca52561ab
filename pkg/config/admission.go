package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Admission says who may ask for which reservation.
type Admission struct {
	Preemption bool // RFC 3181
	// Signed: identities count only if their message came by an interface with
	// integrity keys.
	Signed     bool
	Thresholds []Threshold // rising
	Users      []User
	Rules      []Rule // first match wins; none: everybody may ask for anything
	Etcd       *Etcd  // nil: the ledger is in memory
}

// Threshold keeps a part of what is reservable for reservations of higher
// priority.
type Threshold struct {
	Below uint16 // setup priority
	Share uint64 // of what is reservable that may be in use then, hundredths of a per cent
}

// User is somebody whose reservations are counted together.
type User struct {
	Name       string
	Identities []string       // of AUTH_USER (RFC 3182)
	From       []netip.Prefix // whose flows are the user's where nobody is named
	Rate       uint64         // bytes/s of all reservations; 0: no limit
	Line       int
}

// Rule says what those that it matches may ask for.
type Rule struct {
	Name         string
	From, To     []netip.Prefix // of the data; empty: any
	Protocol     uint8          // 0: any
	In, Out      []string       // interfaces that the data cross; empty: any
	Users        []string       // empty: anybody, known or not
	Applications []string       // of AUTH_APP (RFC 2872); empty: any or none
	Refuse       bool
	Services     []Service // empty: any
	Rate, Burst  uint64    // of one reservation, bytes/s and bytes; 0: no limit
	// Priority is the highest setup and hold priority that may be asked for; -1: as
	// much as is asked for, or 0 where the interface's marks are not trusted.
	Priority int
	Line     int
}

type rawAdmission struct {
	ledger     opt[bool] // in etcd
	etcd       opt[rawEtcd]
	preemption opt[bool]
	signed     opt[bool]
	thresholds []rawThreshold
	users      []rawUser
	rules      []rawRule
}

type rawThreshold struct {
	block
	below opt[int]
	share opt[uint64]
}

type rawUser struct {
	block
	name       opt[string]
	identities opt[[]string]
	from       opt[[]netip.Prefix]
	rate       opt[uint64]
}

type rawRule struct {
	block
	name        opt[string]
	match       opt[rawWho]
	refuse      opt[bool]
	services    opt[[]Service]
	rate, burst opt[uint64]
	priority    opt[int]
}

type rawWho struct {
	block
	protocol     opt[uint8]
	from, to     opt[[]netip.Prefix]
	in, out      opt[[]string]
	users        opt[[]string]
	applications opt[[]string]
}

const (
	maxThresholds = 16
	maxUsers      = 2000
	maxIdentity   = 128 // characters; longer ones that arrive are no names either
	addressWords  = "an address, a block such as 10.1.0.0/16, or a list of these"
)

var (
	ledgerWords   = []choice[bool]{{word: "memory"}, {word: "etcd", value: true}}
	identityWords = []choice[bool]{{word: "any", value: false}, {word: "signed", value: true}}
	actionWords   = []choice[bool]{{word: "admit", value: false}, {word: "refuse", value: true}}
)

func (r *rawConfig) admit(d *decoder, n ast.Node, key string) {
	a := &r.admission
	d.mapping(n, key, map[string]field{
		"ledger":     oneOf(&a.ledger, ledgerWords),
		"etcd":       a.etcdOf,
		"preemption": oneOf(&a.preemption, boolWords),
		"identities": oneOf(&a.signed, identityWords),
		"thresholds": rows(maxThresholds, func(d *decoder, n ast.Node, what string) {
			var t rawThreshold
			t.block = d.mapping(n, what, map[string]field{
				"below": number(&t.below, 1, 65535),
				"share": quantityOf(&t.share, ParseShare, 1, 10000, "a share of what is reservable up to 100%, such as 60%"),
			})
			a.thresholds = append(a.thresholds, t)
		}),
		"users": rows(maxUsers, func(d *decoder, n ast.Node, what string) {
			var u rawUser
			u.block = d.mapping(n, what, map[string]field{
				"name":       text(&u.name, "a name"),
				"identities": listOf(&u.identities, parseIdentity, "a name, an X.500 name such as \"CN=Ann,O=Acme\", or a list of these"),
				"from":       listOf(&u.from, ParsePrefix, addressWords),
				"rate":       quantityOf(&u.rate, ParseRate, minRate, maxRate, rateWords),
			})
			a.users = append(a.users, u)
		}),
		"rules": rows(maxRows, func(d *decoder, n ast.Node, what string) {
			a.rules = append(a.rules, d.rule(n, what))
		}),
	})
}

func (d *decoder) rule(n ast.Node, what string) rawRule {
	var r rawRule
	r.block = d.mapping(n, what, map[string]field{
		"name":     text(&r.name, "a name"),
		"match":    func(d *decoder, n ast.Node, _ string) { r.match.put(d.who(n, what+".match"), n) },
		"action":   oneOf(&r.refuse, actionWords),
		"services": listOf(&r.services, parseService, "controlled-load, guaranteed or a list of these"),
		"rate":     quantityOf(&r.rate, ParseRate, minRate, maxRate, rateWords),
		"burst":    size(&r.burst, 1, maxBurst, sizeWords+" up to 1024MiB"),
		"priority": number(&r.priority, 0, 65535),
	})
	return r
}

func (d *decoder) who(n ast.Node, what string) rawWho {
	var w rawWho
	name := func(s string) (string, error) { return s, nil }
	w.block = d.mapping(n, what, map[string]field{
		"protocol":    protocol(&w.protocol),
		"from":        listOf(&w.from, ParsePrefix, addressWords),
		"to":          listOf(&w.to, ParsePrefix, addressWords),
		"in":          listOf(&w.in, name, "the name of an interface, or a list of these"),
		"out":         listOf(&w.out, name, "the name of an interface, or a list of these"),
		"user":        listOf(&w.users, name, "the name of one of admission.users, or a list of these"),
		"application": listOf(&w.applications, parseIdentity, "an application's name, an X.500 name such as \"APP=SAP, VER=1.1\", or a list of these"),
	})
	return w
}

// parseIdentity reads a name as a request may carry it (RFC 3182 section 3.3).
func parseIdentity(s string) (string, error) {
	if s == "" || len([]rune(s)) > maxIdentity || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) || strings.TrimSpace(s) != s {
		return "", fmt.Errorf("%s is no name that a request could carry: 1 to %d printable characters", quote(s), maxIdentity)
	}
	return s, nil
}

func parseService(s string) (Service, error) {
	for _, c := range serviceWords {
		if c.word == s {
			return c.value, nil
		}
	}
	return 0, fmt.Errorf("unknown service %s: write controlled-load or guaranteed", quote(s))
}

// admission checks what concerns more than one key, and the interfaces.
func (d *decoder) admission(r *rawConfig, c *Config) Admission {
	a := &r.admission
	out := Admission{Preemption: a.preemption.or(true), Signed: a.signed.v, Thresholds: d.thresholds(a.thresholds)}
	users := d.users(a.users, &out)
	d.rules(a.rules, users, c, &out)
	out.Etcd = d.ledger(a, c, r.interfaces)
	named := slices.ContainsFunc(out.Users, func(u User) bool { return len(u.Identities) > 0 }) ||
		slices.ContainsFunc(out.Rules, func(r Rule) bool { return len(r.Applications) > 0 })
	if out.Signed && named && !slices.ContainsFunc(r.interfaces, func(i rawInterface) bool { return !i.missing("integrity") }) {
		d.errorf(a.signed.at, "identities: signed needs an interface with integrity keys, and none has any: nobody could be known by a name; give keys, or write identities: any")
	}
	return out
}

func (d *decoder) thresholds(list []rawThreshold) (out []Threshold) {
	for i, t := range list {
		if t.missing("below") {
			d.errorf(t.at, "this threshold has no below: add the setup priority that is above it, such as below: 1")
		}
		if t.missing("share") {
			d.errorf(t.at, "this threshold has no share: add what may be in use of what is reservable, such as share: 60%%")
		}
		if !t.below.set || !t.share.set {
			continue
		}
		if i > 0 && list[i-1].below.set && list[i-1].share.set {
			was := list[i-1]
			switch {
			case t.below.v <= was.below.v:
				d.errorf(t.below.at, "thresholds rise, and below: %d comes after below: %d: sort them", t.below.v, was.below.v)
			case t.share.v <= was.share.v:
				d.errorf(t.share.at, "share does not rise, so that the threshold before (below: %d) changes nothing: raise this share, or remove that threshold", was.below.v)
			}
		}
		out = append(out, Threshold{Below: uint16(t.below.v), Share: t.share.v})
	}
	return out
}

// users returns who is defined, by name.
func (d *decoder) users(list []rawUser, out *Admission) map[string]bool {
	names, identities, blocks := map[string]pos{}, map[string]string{}, map[netip.Prefix]string{}
	known := map[string]bool{}
	for _, u := range list {
		d.uniqueName(u.name, u.block, "user", names)
		if u.name.set {
			known[u.name.v] = true
		}
		for _, id := range u.identities.v {
			if other, ok := identities[id]; ok {
				d.errorf(u.identities.at, "identity %s is that of user %s already: a name is one user's", quote(id), other)
			}
			identities[id] = u.name.v
		}
		for _, p := range u.from.v {
			if other, ok := blocks[p]; ok {
				d.errorf(u.from.at, "%s is given for user %s already: an address is one user's (of blocks in each other, the smaller counts)", p, other)
			}
			blocks[p] = u.name.v
		}
		out.Users = append(out.Users, User{Name: u.name.v, Identities: u.identities.v, From: u.from.v, Rate: u.rate.v, Line: u.at.line})
	}
	return known
}

func (d *decoder) uniqueName(name opt[string], b block, what string, first map[string]pos) {
	switch {
	case !name.set:
		if b.missing("name") {
			d.errorf(b.at, "this %s has no name: add name: with a word", what)
		}
	case !validName(name.v):
		d.errorf(name.at, "%s cannot be the name of a %s: 1 to 64 letters, digits and - _ .", quote(name.v), what)
	default:
		if at, ok := first[name.v]; ok {
			d.errorf(name.at, "%s name %s is used twice, first in line %d: rename one", what, quote(name.v), at.line)
			return
		}
		first[name.v] = name.at
	}
}

func (d *decoder) rules(list []rawRule, users map[string]bool, c *Config, out *Admission) {
	names := map[string]pos{}
	var earlier []ruleReach
	for i := range list {
		r := &list[i]
		before := len(d.errs)
		d.uniqueName(r.name, r.block, "rule", names)
		w := &r.match.v
		for _, name := range []opt[[]string]{w.in, w.out} {
			for _, s := range name.v {
				if c.Interface(s) == nil {
					d.errorf(name.at, "there is no interface %s in interfaces: correct the name, or add it there", quote(s))
				}
			}
		}
		for _, s := range w.users.v {
			if !users[s] {
				d.errorf(w.users.at, "there is no user %s in admission.users: correct the name, or add it there", quote(s))
			}
		}
		if r.refuse.v {
			for _, k := range []struct {
				set bool
				at  pos
				key string
			}{{r.services.set, r.services.at, "services"}, {r.rate.set, r.rate.at, "rate"}, {r.burst.set, r.burst.at, "burst"}, {r.priority.set, r.priority.at, "priority"}} {
				if k.set {
					d.errorf(k.at, "action: refuse leaves nothing to bound: remove %s, or write action: admit", k.key)
				}
			}
		}
		rule := Rule{
			Name: r.name.v, From: w.from.v, To: w.to.v, Protocol: w.protocol.v, In: w.in.v, Out: w.out.v, Users: w.users.v,
			Applications: w.applications.v, Refuse: r.refuse.v, Services: r.services.v, Rate: r.rate.v, Burst: r.burst.v,
			Priority: r.priority.or(-1), Line: r.at.line,
		}
		out.Rules = append(out.Rules, rule)
		if len(d.errs) > before || r.keys == nil || r.match.set && w.keys == nil {
			continue
		}
		earlier = d.ruleReachable(r, &rule, earlier)
	}
}

// ruleReach is what a rule matches.
type ruleReach struct {
	at   pos
	rule *Rule
	reach
}

// ruleReachable reports a rule that never matches, because an earlier one takes
// all that it would.
func (d *decoder) ruleReachable(r *rawRule, rule *Rule, earlier []ruleReach) []ruleReach {
	m := ruleReach{r.at, rule, makeReach(nil, &Match{Protocol: rule.Protocol, From: rule.From, To: rule.To})}
	for _, e := range earlier {
		if e.covers(&m.reach) && coversNames(e.rule.In, rule.In) && coversNames(e.rule.Out, rule.Out) &&
			coversNames(e.rule.Users, rule.Users) && coversNames(e.rule.Applications, rule.Applications) {
			d.errorf(r.at, "rule %s can never match: rule %s in line %d comes first and matches all that it would; put this one before it, or narrow that one",
				rule.Name, e.rule.Name, e.at.line)
			break
		}
	}
	return append(earlier, m)
}

// coversNames says whether a list of names, of which an empty one means all,
// takes all that another does.
func coversNames(list, q []string) bool {
	if len(list) == 0 {
		return true
	}
	return len(q) > 0 && !slices.ContainsFunc(q, func(s string) bool { return !slices.Contains(list, s) })
}
