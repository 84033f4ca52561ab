package config

import (
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// Etcd says where the accounts are that several boxes draw from.
type Etcd struct {
	Endpoints []string // URLs
	Prefix    string   // of all keys
	Box       string   // this box's name; empty: the host's
	TTL       time.Duration
	Timeout   time.Duration
	Quota     uint64 // bytes/s of each shared account
	// CertFile and KeyFile are the box's, CAFile who signs etcd's; empty: none, and
	// what the machine trusts.
	CertFile, KeyFile, CAFile string
	Username, PasswordFile    string
	Line                      int
}

// Same tells whether both say the same, wherever they stand in a file.
func (e *Etcd) Same(o *Etcd) bool {
	a, b := *e, *o
	a.Line, b.Line = 0, 0
	return reflect.DeepEqual(a, b)
}

type rawEtcd struct {
	block
	endpoints           opt[[]string]
	nowhere             opt[struct{}] // the list is empty
	prefix, box         opt[string]
	ttl, timeout        opt[time.Duration]
	quota               opt[uint64]
	cert, key, ca       opt[string]
	username, passwords opt[string]
}

const (
	defaultPrefix    = "/qosproxy"
	defaultTTL       = 30 * time.Second
	defaultDecision  = time.Second
	maxEndpoints     = 16
	maxEtcdPrefix    = 200 // bytes
	endpointWords    = "an address of etcd such as http://192.0.2.10:2379, or a list of these"
	sharedCharacters = "1 to 64 letters, digits and - _ ."
)

func (a *rawAdmission) etcdOf(d *decoder, n ast.Node, key string) {
	var e rawEtcd
	e.block = d.mapping(n, key, map[string]field{
		"endpoints":     e.places,
		"prefix":        text(&e.prefix, "the beginning of all keys"),
		"box":           text(&e.box, "a name"),
		"ttl":           duration(&e.ttl, 2*time.Second, maxRefresh, "a duration from 2s to 1h, such as 30s"),
		"timeout":       duration(&e.timeout, 100*time.Millisecond, 5*time.Second, "a duration from 100ms to 5s, such as 1s"),
		"quota":         quantityOf(&e.quota, ParseRate, 0, maxRate, rateWords),
		"cert_file":     text(&e.cert, "the path of a file"),
		"key_file":      text(&e.key, "the path of a file"),
		"ca_file":       text(&e.ca, "the path of a file"),
		"username":      text(&e.username, "a name"),
		"password_file": text(&e.passwords, "the path of a file"),
	})
	a.etcd.put(e, n)
}

// places is a field that takes URLs, or none.
func (e *rawEtcd) places(d *decoder, n ast.Node, key string) {
	seq, ok := n.(*ast.SequenceNode)
	switch {
	case ok && len(seq.Values) == 0:
		e.nowhere.put(struct{}{}, n)
	case ok && len(seq.Values) > maxEndpoints:
		d.errorf(at(n), "%s has %d entries, at most %d are allowed: a few members are enough to find the others", key, len(seq.Values), maxEndpoints)
	default:
		listOf(&e.endpoints, parseEndpoint, endpointWords)(d, n, key)
	}
}

func parseEndpoint(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%s is no address of etcd: write http:// or https://, a host and a port, such as http://192.0.2.10:2379", quote(s))
	}
	if p, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || p == 0 || u.Hostname() == "" {
		return "", fmt.Errorf("%s has no host or no port: etcd's clients have port 2379, http://192.0.2.10:2379", quote(s))
	}
	return s, nil
}

// ledger checks the ledger against the rest of the file; nil: accounts are in
// memory.
func (d *decoder) ledger(a *rawAdmission, c *Config, ifaces []rawInterface) *Etcd {
	e := &a.etcd.v
	shared := d.shared(c, ifaces)
	if !a.ledger.v {
		d.unshared(a, ifaces)
		return nil
	}
	switch {
	case !a.etcd.set:
		d.errorf(a.ledger.at, "ledger: etcd needs to know where etcd is: add etcd: {endpoints: [\"http://192.0.2.10:2379\"]}")
		return nil
	case e.nowhere.set || e.missing("endpoints"):
		d.errorf(e.at, "etcd has no endpoints: add endpoints: with the addresses of its members, such as http://192.0.2.10:2379")
	}
	if !shared {
		d.errorf(a.ledger.at, "ledger: etcd, and nothing is shared: give what several boxes draw from a name, by shared: in a row of interfaces[].sls or on an interface")
	}
	d.etcdNames(e)
	d.etcdFiles(e)
	if e.ttl.set && e.ttl.v%time.Second != 0 {
		d.errorf(e.ttl.at, "ttl: etcd counts whole seconds: write for example %ds", (e.ttl.v+time.Second-1)/time.Second)
	}
	return &Etcd{
		Endpoints: e.endpoints.v, Prefix: e.prefix.or(defaultPrefix), Box: e.box.v, TTL: e.ttl.or(defaultTTL), Timeout: e.timeout.or(defaultDecision),
		Quota: e.quota.v, CertFile: e.cert.v, KeyFile: e.key.v, CAFile: e.ca.v, Username: e.username.v, PasswordFile: e.passwords.v, Line: a.etcd.at.line,
	}
}

// unshared refuses what has a meaning only with etcd. Where to find it may stand
// there empty.
func (d *decoder) unshared(a *rawAdmission, ifaces []rawInterface) {
	const remedy = "write ledger: etcd, or remove it"
	for key, at := range a.etcd.v.keys {
		switch {
		case key == "endpoints" && a.etcd.v.nowhere.set || key == "prefix":
		default:
			d.errorf(at, "etcd.%s has no effect while the ledger is in memory: %s", key, remedy)
		}
	}
	for i := range ifaces {
		if s := ifaces[i].shared; s.set {
			d.errorf(s.at, "shared: other boxes are known of by admission.ledger: etcd alone: %s", remedy)
		}
		for _, l := range ifaces[i].sls {
			if l.shared.set {
				d.errorf(l.shared.at, "shared: other boxes are known of by admission.ledger: etcd alone: %s", remedy)
			}
		}
	}
}

func (d *decoder) etcdNames(e *rawEtcd) {
	if p := e.prefix; p.set {
		switch {
		case p.v == "" || p.v[0] != '/' || strings.HasSuffix(p.v, "/") || strings.Contains(p.v, "//"):
			d.errorf(p.at, "prefix: %s begins all keys: write for example %s, without a slash at its end", quote(p.v), defaultPrefix)
		case len(p.v) > maxEtcdPrefix || strings.ContainsFunc(p.v, func(r rune) bool { return r <= ' ' || r > '~' }):
			d.errorf(p.at, "prefix: %s: at most %d printable ASCII characters without spaces", quote(p.v), maxEtcdPrefix)
		}
	}
	if e.box.set && !validName(e.box.v) {
		d.errorf(e.box.at, "box: %s cannot be the name of a box: %s", quote(e.box.v), sharedCharacters)
	}
}

func (d *decoder) etcdFiles(e *rawEtcd) {
	for _, f := range []struct {
		key string
		o   opt[string]
	}{{"cert_file", e.cert}, {"key_file", e.key}, {"ca_file", e.ca}, {"password_file", e.passwords}} {
		d.path(f.key, f.o, "/etc/qosproxy/etcd.pem", maxPath)
	}
	if e.cert.set != e.key.set && e.missing("cert_file") != e.missing("key_file") {
		d.errorf(e.at, "etcd has one of cert_file and key_file: give both, a certificate and its key")
	}
	if e.username.set != e.passwords.set && e.missing("username") != e.missing("password_file") {
		d.errorf(e.at, "etcd has one of username and password_file: give both, or none")
	}
	if e.username.set && e.username.v == "" {
		d.errorf(e.username.at, "username is empty: write the user's name, or remove it")
	}
	secret := slices.ContainsFunc(e.endpoints.v, func(s string) bool { return strings.HasPrefix(s, "https:") })
	plain := slices.ContainsFunc(e.endpoints.v, func(s string) bool { return strings.HasPrefix(s, "http:") })
	switch {
	case secret && plain:
		d.errorf(e.endpoints.at, "endpoints: some are http and some https: a client speaks one of them to all members")
	case plain && (e.cert.set || e.ca.set):
		d.errorf(e.endpoints.at, "endpoints: certificates are for https: write https://, or remove cert_file, key_file and ca_file")
	}
}

// user is who has the name of a shared account first.
type user struct {
	at          pos
	what        string
	link        bool
	rate, burst uint64
}

// shared checks the names of what several boxes draw from, and whether there are
// any.
func (d *decoder) shared(c *Config, ifaces []rawInterface) bool {
	first, some := map[string]user{}, false
	claim := func(name opt[string], u user) {
		if !validName(name.v) {
			d.errorf(name.at, "shared: %s cannot be a name: %s", quote(name.v), sharedCharacters)
			return
		}
		was, ok := first[name.v]
		switch {
		case !ok:
			first[name.v] = u
		case was.link != u.link:
			d.errorf(name.at, "shared: %s is %s in line %d, and here %s: a reservation would count twice in it, use another name", name.v, was.what, was.at.line, u.what)
		case was.rate != u.rate || was.burst != u.burst:
			d.errorf(name.at, "shared: %s has another size in line %d: what is one for all has one size", name.v, was.at.line)
		}
	}
	for i := range min(len(ifaces), len(c.Interfaces)) {
		r, out := &ifaces[i], &c.Interfaces[i]
		if r.shared.set {
			switch {
			case r.missing("capacity"):
				d.errorf(r.shared.at, "shared: nothing is counted on an interface without capacity: add capacity:, or remove shared")
			case r.zone.set && r.zone.v != ZoneNetwork:
				d.errorf(r.shared.at, "shared is for the link to the network that several boxes send to: it is for zone: network")
			case out.Reservable > 0:
				claim(r.shared, user{at: r.shared.at, what: "a link", link: true, rate: out.Reservable})
			}
		}
		some = some || r.has("shared") || slices.ContainsFunc(r.sls, func(l rawLevel) bool { return l.has("shared") })
		d.sharedLevels(r, claim)
	}
	return some
}

// sharedLevels does that for the rows of an SLS table. Rows of one class at
// different times of day are one account.
func (d *decoder) sharedLevels(r *rawInterface, claim func(opt[string], user)) {
	name := map[uint8]rawLevel{}
	for _, l := range r.sls {
		if !l.class.set {
			continue
		}
		was, ok := name[l.class.v]
		name[l.class.v] = l
		if ok && was.shared.v != l.shared.v {
			d.errorf(l.at, "%s is shared as %s by the row in line %d, and by this one as %s: at all times of day it is one account, give all rows the same shared",
				dscp.Name(l.class.v), quote(was.shared.v), was.at.line, quote(l.shared.v))
			continue
		}
		if l.shared.set && l.rate.set && l.burst.set && !ok {
			claim(l.shared, user{at: l.shared.at, what: "a service level", rate: l.rate.v, burst: l.burst.v})
		}
	}
}
