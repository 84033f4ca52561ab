package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const (
	goodEtcd  = "endpoints: [\"http://192.0.2.10:2379\"]"
	goodLevel = "class: af31, rate: 2mbit, burst: 16kB"
)

// together is a file whose level is shared and whose ledger has these keys.
func together(row, etcd string) string {
	return "interfaces: [{name: a, zone: hosts}, {name: b, zone: network, capacity: 19mbit, sls: [{" + row + "}]}]\n" +
		"admission: {ledger: etcd, etcd: {" + etcd + "}}\n"
}

func links(a, b string) string {
	return "interfaces: [{name: a, zone: hosts}, {name: b, zone: network, " + a + "}, {name: c, zone: network, " + b + "}]\n" +
		"admission: {ledger: etcd, etcd: {" + goodEtcd + "}}\n"
}

func TestSharedLedger(t *testing.T) {
	c := mustParse(t, together(goodLevel+", shared: sla-1", goodEtcd))
	want := &Etcd{
		Endpoints: []string{"http://192.0.2.10:2379"}, Prefix: "/qosproxy", TTL: 30 * time.Second, Timeout: time.Second,
	}
	if diff := cmp.Diff(want, c.Admission.Etcd, cmpopts.IgnoreFields(Etcd{}, "Line")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s := c.Interfaces[1].SLS[0].Shared; s != "sla-1" {
		t.Errorf("shared %q", s)
	}
	c = mustParse(t, together(goodLevel+", shared: s", "endpoints: [\"https://a.example:2379\", \"https://[2001:db8::1]:2379\"], prefix: /x/y, box: box-1, ttl: 10s, "+
		"timeout: 250ms, quota: 1mbit, cert_file: /c, key_file: /k, ca_file: /ca, username: box, password_file: /p"))
	want = &Etcd{
		Endpoints: []string{"https://a.example:2379", "https://[2001:db8::1]:2379"}, Prefix: "/x/y", Box: "box-1", TTL: 10 * time.Second,
		Timeout: 250 * time.Millisecond, Quota: 125_000, CertFile: "/c", KeyFile: "/k", CAFile: "/ca", Username: "box", PasswordFile: "/p",
	}
	if diff := cmp.Diff(want, c.Admission.Etcd, cmpopts.IgnoreFields(Etcd{}, "Line")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, in := range map[string]string{
		"in memory, etcd named":       goodIfaces + "admission: {ledger: memory, etcd: {endpoints: [], prefix: /qosproxy}}\n",
		"two links of one region":     links("capacity: 19mbit, shared: region", "capacity: 19mbit, shared: region"),
		"a link":                      links("capacity: 19mbit, shared: region", "capacity: 9mbit"),
		"a level at two times of day": together(goodLevel+", shared: s, from: '08:00', until: '18:00'}, {class: af31, rate: 1mbit, burst: 16kB, shared: s, from: '18:00', until: '08:00'", goodEtcd),
	} {
		t.Run(name, func(t *testing.T) { mustParse(t, in) })
	}
}

func TestSharedLedgerErrors(t *testing.T) {
	shared := goodLevel + ", shared: s"
	etcd := func(keys string) string { return together(shared, keys) }
	for name, tt := range map[string]mistake{
		"no etcd":           {strings.Split(etcd(""), "\n")[0] + "\nadmission: {ledger: etcd}\n", "2:21", "add etcd: {endpoints:"},
		"no endpoints":      {etcd("prefix: /x"), "2:33", "add endpoints: with the addresses"},
		"empty endpoints":   {etcd("endpoints: []"), "2:33", "add endpoints: with the addresses"},
		"nothing is shared": {together(goodLevel, goodEtcd), "2:21", "nothing is shared"},
		"endpoint":          {etcd("endpoints: 192.0.2.10"), "2:45", "write http:// or https://"},
		"endpoint, port":    {etcd("endpoints: \"http://192.0.2.10\""), "2:45", "no port"},
		"endpoint, path":    {etcd("endpoints: \"http://192.0.2.10:2379/v3\""), "2:45", "no address of etcd"},
		"endpoint, user":    {etcd("endpoints: \"http://me@192.0.2.10:2379\""), "2:45", "no address of etcd"},
		"endpoints, mixed":  {etcd("endpoints: [\"http://a:2379\", \"https://b:2379\"]"), "2:45", "some are http and some https"},
		"plain with ca":     {etcd(goodEtcd + ", ca_file: /ca"), "2:45", "certificates are for https"},
		"half a pair":       {etcd("endpoints: [\"https://a:2379\"], key_file: /k"), "2:33", "give both, a certificate and its key"},
		"half a login":      {etcd(goodEtcd + ", username: me"), "2:33", "one of username and password_file"},
		"empty user":        {etcd(goodEtcd + ", username: '', password_file: /p"), "2:83", "username is empty"},
		"file":              {etcd(goodEtcd + ", username: me, password_file: p"), "2:102", "absolute path"},
		"prefix":            {etcd(goodEtcd + ", prefix: qosproxy"), "2:81", "write for example /qosproxy"},
		"prefix, slash":     {etcd(goodEtcd + ", prefix: /qosproxy/"), "2:81", "without a slash at its end"},
		"prefix, blank":     {etcd(goodEtcd + ", prefix: \"/q x\""), "2:81", "without spaces"},
		"box":               {etcd(goodEtcd + ", box: \"box 1\""), "2:78", "1 to 64 letters"},
		"ttl":               {etcd(goodEtcd + ", ttl: 1s"), "2:78", "from 2s to 1h"},
		"ttl, fraction":     {etcd(goodEtcd + ", ttl: 2500ms"), "2:78", "write for example 3s"},
		"timeout":           {etcd(goodEtcd + ", timeout: 10s"), "2:82", "from 100ms to 5s"},
		"quota":             {etcd(goodEtcd + ", quota: 10"), "2:80", "unit"},
		"unknown":           {etcd(goodEtcd + ", token: x"), "2:73", "unknown key \"token\""},
		"ledger":            {goodIfaces + "admission: {ledger: redis}\n", "2:21", "memory or etcd"},
		"keys without etcd": {goodIfaces + "admission: {etcd: {box: b}}\n", "2:20", "no effect while the ledger is in memory"},
		"endpoints without": {goodIfaces + "admission: {etcd: {" + goodEtcd + "}}\n", "2:20", "write ledger: etcd, or remove it"},
		"level without":     {strings.Split(etcd(""), "\n")[0] + "\n", "1:135", "write ledger: etcd, or remove it"},
		"link without":      {"interfaces: [{name: a, zone: hosts}, {name: b, zone: network, capacity: 9mbit, shared: s}]\n", "1:88", "write ledger: etcd, or remove it"},
		"shared":            {together(goodLevel+", shared: a/b", goodEtcd), "1:135", "cannot be a name"},
		"shared number":     {together(goodLevel+", shared: 5", goodEtcd), "1:135", "in quotes"},
		"shared, no rate":   {links("shared: region", "capacity: 9mbit"), "1:71", "add capacity:"},
		"shared of hosts":   {strings.Replace(links("capacity: 9mbit, shared: s", "capacity: 9mbit"), "a, zone: hosts", "a, zone: hosts, capacity: 9mbit, shared: t", 1), "1:62", "zone: network"},
		"two sizes":         {links("capacity: 9mbit, shared: s", "capacity: 8mbit, shared: s"), "1:142", "another size in line 1"},
		"link and level":    {links("capacity: 9mbit, shared: s", "capacity: 9mbit, sls: [{"+shared+"}]"), "1:188", "count twice"},
		"times of day":      {together(shared+", from: '08:00', until: '18:00'}, {"+goodLevel+", from: '18:00', until: '08:00'", goodEtcd), "1:170", "give all rows the same shared"},
	} {
		t.Run(name, tt.check)
	}
}

// What full.yaml comments out of a shared ledger is accepted as it stands there.
func TestSharedLedgerOfFull(t *testing.T) {
	text := string(examples(t)["full.yaml"])
	for _, r := range [][2]string{
		{"  ledger: memory ", "  ledger: etcd   "},
		{"  etcd: {endpoints: [], prefix: /qosproxy}", "  #"},
		{"  # etcd: {", "  etcd: {"},
		{"# - {class: cs4", "- {class: cs4"},
	} {
		if strings.Count(text, r[0]) != 1 {
			t.Fatalf("full.yaml has %q %d times", r[0], strings.Count(text, r[0]))
		}
		text = strings.Replace(text, r[0], r[1], 1)
	}
	c := mustParse(t, text)
	want := &Etcd{
		Endpoints: []string{"https://192.0.2.10:2379", "https://192.0.2.11:2379"}, Prefix: "/qosproxy", Box: "edge-1", TTL: 30 * time.Second, Timeout: time.Second,
		CAFile: "/etc/qosproxy/etcd-ca.pem", CertFile: "/etc/qosproxy/etcd.pem", KeyFile: "/etc/qosproxy/etcd-key.pem",
		Username: "qosproxy", PasswordFile: "/etc/qosproxy/etcd-password",
	}
	if diff := cmp.Diff(want, c.Admission.Etcd, cmpopts.IgnoreFields(Etcd{}, "Line")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
