package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const (
	goodIfaces = "interfaces: [{name: lan0, zone: hosts}, {name: wan0, zone: network, capacity: 19mbit}]\n"
	goodMatch  = "match: {protocol: tcp, to_port: 80}"
	goodKey    = "id: 1, algorithm: hmac-sha256, key_file: /etc/k"
	goodTSpec  = "tspec: {rate: 1mbit, burst: 10kB}"
)

func policy(rest string) string { return goodIfaces + "policies:\n  - {name: p, " + rest + "}\n" }

func secured(keys string) string {
	return "interfaces: [{name: a, zone: hosts, " + keys + "}, {name: b, zone: network}]\n"
}

func behind(region string) string {
	return "interfaces: [{name: a, zone: hosts}, {name: b, zone: network, region: {" + region + "}}]\n"
}

func interior(keys, aggregate string) string {
	return "interfaces: [{name: a, zone: hosts}, {name: b, zone: network, " + keys + "aggregate: {" + aggregate + "}}]\n"
}

func tunnelled(ends string) string {
	return "interfaces: [{name: a, zone: hosts}, {name: b, zone: network, tunnel: {" + ends + "}}]\n"
}

func admitting(keys string) string { return goodIfaces + "admission: {" + keys + "}\n" }

func ruled(rest string) string {
	return admitting("users: [{name: ann}], rules: [{name: r, " + rest + "}]")
}

func withTSpec(t string) string { return policy(goodMatch + ", reserve: {tspec: " + t + "}") }

// mistake is a file and the one error that it must give: its place, and a part of
// the message that says what to do.
type mistake struct{ in, at, msg string }

// mistakeAt is one whose place is marked in the file, by ^.
func mistakeAt(t *testing.T, in, msg string) mistake {
	t.Helper()
	before, after, ok := strings.Cut(in, "^")
	if !ok {
		t.Fatal("no place is marked")
	}
	return mistake{before + after, fmt.Sprintf("%d:%d", strings.Count(before, "\n")+1, len(before)-strings.LastIndex(before, "\n")), msg}
}

func (m mistake) check(t *testing.T) {
	t.Helper()
	c, err := Parse("f", []byte(m.in))
	var list Errors
	if c != nil || !errors.As(err, &list) || len(list) != 1 {
		t.Fatalf("want one error, got:\n%v\nfor\n%s", err, m.in)
	}
	if got := list[0].Error(); !strings.HasPrefix(got, "f:"+m.at+": ") || !strings.Contains(got, m.msg) {
		t.Errorf("got  %s\nwant f:%s: ...%s", got, m.at, m.msg)
	}
}

func TestOneError(t *testing.T) {
	for name, tt := range map[string]mistake{
		"empty":               {"", "1:1", "file is empty"},
		"only a comment":      {"# x\n", "1:1", "file is empty"},
		"not a mapping":       {"- a\n", "1:1", "must be a mapping"},
		"scalar":              {"hello\n", "1:1", "must be a mapping"},
		"no interfaces":       {"mode: router\n", "1:1", "interfaces is missing"},
		"empty interfaces":    {"interfaces: []\n", "1:13", "interfaces is empty"},
		"interfaces mapping":  {"interfaces: {name: x}\n", "1:13", "must be a list"},
		"interface scalar":    {"interfaces: [lan0]\n", "1:14", "must be a mapping"},
		"two documents":       {goodIfaces + "---\nmode: router\n", "3:1", "one document"},
		"unclosed":            {"interfaces: [", "1:13", "not found"},
		"tab":                 {"log:\n\tlevel: info\n", "2:1", "spaces"},
		"indentation":         {"mode: router\n on_stop: clean\n", "1:7", "check the indentation"},
		"invalid UTF-8":       {"mode: router\n# \xff\n", "2:3", "UTF-8"},
		"control character":   {"mode: \x00\n", "1:7", "UTF-8"},
		"nested":              {"a: " + strings.Repeat("[", 60) + strings.Repeat("]", 60), "1:36", "nested too deeply"},
		"nested in a block":   {strings.Repeat("- ", 60) + "x", "1:65", "nested too deeply"},
		"too large":           {strings.Repeat("#", maxBytes+1), "1:1", "at most 1048576"},
		"too many tokens":     {strings.Repeat("a: b\n", maxTokens/3+1), "1:1", "too large"},
		"unquoted ::/0":       {policy("match: {from: [0.0.0.0/0, ::/0]}"), "3:41", "quote IPv6 addresses"},
		"anchor":              {goodIfaces + "mode: &m router\n", "2:7", "write the value out"},
		"tag":                 {goodIfaces + "mode: !!str router\n", "2:7", "without it"},
		"merge":               {goodIfaces + "<<: {mode: router}\n", "2:1", "merge"},
		"number as key":       {goodIfaces + "5: x\n", "2:1", "cannot be a key"},
		"unknown key":         {goodIfaces + "modus: router\n", "2:1", "did you mean mode?"},
		"unknown key, far":    {goodIfaces + "bandwidth: 2\n", "2:1", "(keys: accounting, "},
		"duplicate key":       {goodIfaces + "mode: router\nmode: router\n", "3:1", "first in line 2"},
		"no value":            {goodIfaces + "mode:\n", "2:1", "mode has no value"},
		"null":                {goodIfaces + "mode: ~\n", "2:1", "mode has no value"},
		"bad word":            {goodIfaces + "mode: route\n", "2:7", "write router"},
		"list for a word":     {goodIfaces + "mode: [router]\n", "2:7", "not a list"},
		"tunnel, no remote":   {tunnelled("local: 192.0.2.1"), "1:71", "tunnel has no remote"},
		"tunnel, no address":  {tunnelled("local: here, remote: 192.0.2.9"), "1:79", "bad address \"here\""},
		"tunnel, a group":     {tunnelled("local: 192.0.2.1, remote: 239.1.1.1"), "1:98", "no end of a tunnel"},
		"tunnel, families":    {tunnelled("local: 192.0.2.1, remote: '2001:db8::1'"), "1:98", "another family"},
		"tunnel to itself":    {tunnelled("local: 192.0.2.1, remote: 192.0.2.1"), "1:98", "same as local"},
		"tunnel, port":        {tunnelled("local: 192.0.2.1, remote: 192.0.2.9, udp_port: 0"), "1:119", "from 1 to 65535"},
		"tunnel, key":         {tunnelled("local: 192.0.2.1, remote: 192.0.2.9, port: 1"), "1:109", "unknown key \"port\""},
		"tunnel, protocol":    {tunnelled("local: 192.0.2.1, remote: 192.0.2.9, protocol: esp"), "1:119", "write ipip or ipv6 or gre"},
		"tunnel in UDP":       {tunnelled("local: 192.0.2.1, remote: 192.0.2.9, udp_port: 9, protocol: gre"), "1:132", "remove protocol"},
		"tunnel to hosts":     {"interfaces: [{name: a, zone: hosts, tunnel: {local: 192.0.2.1, remote: 192.0.2.9}}, {name: b, zone: network}]\n", "1:45", "zone: network"},
		"multicast":           {goodIfaces + "multicast: keep\n", "2:12", "multicast must be a mapping"},
		"multicast word":      {goodIfaces + "multicast: {heterogeneous: drop}\n", "2:28", "write demote or keep or reject"},
		"multicast key":       {goodIfaces + "multicast: {demote: le}\n", "2:13", "unknown key \"demote\""},
		"demote_to, kept":     {goodIfaces + "multicast: {demote_to: le}\n", "2:24", "nothing is demoted with heterogeneous: keep"},
		"demote_to, rejected": {goodIfaces + "multicast: {heterogeneous: reject, demote_to: le}\n", "2:47", "write heterogeneous: demote"},
		"demote_to, mapping":  {goodIfaces + "multicast: {heterogeneous: demote, demote_to: af31}\n", "2:47", "af31 is what reserved traffic has"},
		"demote_to, admitted": {goodIfaces + "multicast: {heterogeneous: demote, demote_to: voice-admit}\n", "2:47", "voice-admit is what reserved traffic has"},
		"demote by DSCP":      {"interfaces: [{name: a, zone: hosts}, {name: b, zone: network, capacity: 19mbit, classify: dscp}]\nmulticast: {heterogeneous: demote}\n", "2:28", "b (line 1) tells packets apart by their DSCP alone"},
		"demote_to, PHB":      {goodIfaces + "multicast: {heterogeneous: demote, demote_to: af49}\n", "2:47", "unknown PHB"},
		"on_stop":             {goodIfaces + "on_stop: leave\n", "2:10", "write clean or keep"},
		"on_crash unit":       {goodIfaces + "on_crash: 10min\n", "2:11", "use one of ms, s, m, h"},
		"on_crash no unit":    {goodIfaces + "on_crash: 10\n", "2:11", "has no unit"},
		"on_crash range":      {goodIfaces + "on_crash: 169h\n", "2:11", "out of range"},
		"on_crash negative":   {goodIfaces + "on_crash: -1s\n", "2:11", "not a number with a unit"},
		"on_crash overflow":   {goodIfaces + "on_crash: 9999999999999999999h\n", "2:11", "too large"},
		"log level":           {goodIfaces + "log: {level: verbose}\n", "2:14", "debug or info or warn or error"},
		"log scalar":          {goodIfaces + "log: info\n", "2:6", "must be a mapping"},
		"refresh zero":        {goodIfaces + "rsvp: {refresh: 0s}\n", "2:17", "from 1s to 1h"},
		"hop":                 {goodIfaces + "rsvp: {hop: bridge}\n", "2:13", "write router or transparent"},
		"rsvp.reliable":       {goodIfaces + "rsvp: {reliable: 1}\n", "2:18", "true or false"},
		"mapping":             {goodIfaces + "mapping: {controlled-load: af39}\n", "2:28", "unknown PHB"},
		"mapping key":         {goodIfaces + "mapping: {controlled_load: af31}\n", "2:11", "did you mean controlled-load?"},
		"window":              {goodIfaces + "tcp: {window: full}\n", "2:15", "honour or predict or auto"},
		"ecn":                 {goodIfaces + "tcp: {ecn: drop}\n", "2:12", "echo or strip"},
		"thin_rate":           {goodIfaces + "tcp: {thin_rate: 8}\n", "2:18", "no unit"},
		"pace_factor":         {goodIfaces + "tcp: {pace_factor: 0.5}\n", "2:20", "is not a number without a unit from 1 to 100"},
		"pace_factor unit":    {goodIfaces + "tcp: {pace_factor: 2rtt}\n", "2:20", "is not a number"},
		"pace_factor nan":     {goodIfaces + "tcp: {pace_factor: .nan}\n", "2:20", "is not a number"},
		"thin_rate low":       {goodIfaces + "tcp: {thin_rate: 4kbit}\n", "2:18", "from 5kbit to 1mbit"},
		"thin_rate high":      {goodIfaces + "tcp: {thin_rate: 2mbit}\n", "2:18", "from 5kbit to 1mbit"},
		"thin_rate word":      {goodIfaces + "tcp: {thin_rate: none}\n", "2:18", "not a number"},
		"fill_after":          {goodIfaces + "tcp: {fill_after: 11s}\n", "2:19", "from 0s to 10s"},
		"fill_pattern":        {goodIfaces + "tcp: {fill_pattern: ones}\n", "2:21", "zeros, or hex:"},
		"fill_pattern bytes":  {goodIfaces + "tcp: {fill_pattern: \"hex:\"}\n", "2:21", "up to 64 bytes"},
		"fill_encrypted":      {goodIfaces + "tcp: {fill_encrypted: always}\n", "2:23", "true or false"},
		"limit zero":          {goodIfaces + "limits: {flows: 0}\n", "2:17", "from 1 to"},
		"limit too many":      {goodIfaces + "limits: {flows: 8388609}\n", "2:17", "from 1 to 8388608"},
		"limit text":          {goodIfaces + "limits: {flows: \"5\"}\n", "2:17", "without a unit or quotes"},
		"limit hex":           {goodIfaces + "limits: {flows: 0x10}\n", "2:17", "not a whole number"},
		"limit negative":      {goodIfaces + "limits: {flows: -5}\n", "2:17", "not a whole number"},
		"limit huge":          {goodIfaces + "limits: {flows: 99999999999999999999}\n", "2:17", "whole number"},
		"limits crossed":      {goodIfaces + "limits: {buffered: 1MiB, buffered_per_flow: 2MiB}\n", "2:45", "lower it or raise buffered"},
		"max_unacked":         {goodIfaces + "limits: {max_unacked: 1025MiB}\n", "2:23", "out of range"},
		"listen":              {goodIfaces + "console: {listen: \"\"}\n", "2:11", "not in this version"},
		"token_file":          {goodIfaces + "console: {token_file: \"\"}\n", "2:11", "not in this version"},
		"state_dir relative":  {goodIfaces + "state_dir: var/lib\n", "2:12", "absolute"},
		"state_dir empty":     {goodIfaces + "state_dir: \"\"\n", "2:12", "absolute"},
		"state_dir number":    {goodIfaces + "state_dir: 5\n", "2:12", "in quotes"},
		"watchdog":            {goodIfaces + "watchdog: off\n", "2:11", "true or false"},
		"state_dir long":      {goodIfaces + "state_dir: /" + strings.Repeat("x", 4000) + "\n", "2:12", "at most 4000"},
		"dclass over":         {goodIfaces + "mapping: {dclass: policy}\n", "2:19", "mapping or mark or ignore"},
		"dclass told":         {"interfaces: [{name: a, zone: hosts, dclass: keep}, {name: b, zone: network}]\n", "1:45", "pass or send or drop"},
		"accounting relative": {goodIfaces + "accounting: {file: records.json}\n", "2:20", "absolute"},
		"accounting dir":      {goodIfaces + "accounting: {file: /var/log/}\n", "2:20", "directory"},
		"accounting long":     {goodIfaces + "accounting: {file: /" + strings.Repeat("x", 4000) + "}\n", "2:20", "at most 4000"},
		"accounting keep":     {goodIfaces + "accounting: {keep: 0}\n", "2:20", "not a whole number"},
		"accounting key":      {goodIfaces + "accounting: {path: /x}\n", "2:14", "keys: file, keep"},
		"socket relative":     {goodIfaces + "console: {socket: qos.sock}\n", "2:19", "absolute"},
		"socket directory":    {goodIfaces + "console: {socket: /run/}\n", "2:19", "directory"},
		"socket number":       {goodIfaces + "console: {socket: 5}\n", "2:19", "in quotes"},
		"socket long":         {goodIfaces + "console: {socket: /" + strings.Repeat("x", 107) + "}\n", "2:19", "at most 107"},
		"interface name":      {"interfaces: [{name: lan 0, zone: hosts}, {name: b, zone: network}]\n", "1:21", "cannot be an interface name"},
		"interface long":      {"interfaces: [{name: a234567890123456, zone: hosts}, {name: b, zone: network}]\n", "1:21", "1 to 15"},
		"interface no name":   {"interfaces: [{zone: hosts}, {name: b, zone: network}]\n", "1:14", "has no name"},
		"interface twice":     {"interfaces: [{name: a, zone: hosts}, {name: a, zone: network}]\n", "1:45", "listed twice"},
		"interface no zone":   {"interfaces: [{name: a, zone: hosts}, {name: b}]\n", "1:38", "has no zone"},
		"interface bad zone":  {"interfaces: [{name: a, zone: hosts}, {name: b, zone: net}]\n", "1:54", "hosts or network"},
		"no network":          {"interfaces: [{name: a, zone: hosts}]\n", "1:13", "no interface has zone: network"},
		"discover":            {"interfaces: [{name: a, zone: hosts, discover: 1}, {name: b, zone: network}]\n", "1:47", "true or false"},
		"discover network":    {"interfaces: [{name: a, zone: hosts}, {name: b, zone: network, discover: false}]\n", "1:73", "remove it"},
		"trust policed":       {"interfaces: [{name: a, zone: hosts, trust: policed}, {name: b, zone: network}]\n", "1:44", "within the sls of the interface, which is missing"},
		"classify":            {"interfaces: [{name: a, zone: hosts}, {name: b, zone: network, classify: port}]\n", "1:73", "write flow or dscp"},
		"best effort":         {"interfaces: [{name: a, zone: hosts}, {name: b, zone: network, capacity: 9mbit, best_effort: 91%}]\n", "1:93", "from 1% to 90%"},
		"best effort of what": {"interfaces: [{name: a, zone: hosts}, {name: b, zone: network, best_effort: 9%}]\n", "1:76", "add capacity"},
		"best effort, all":    {"interfaces: [{name: a, zone: hosts}, {name: b, zone: network, capacity: 9mbit, reservable: 90%, best_effort: 9%}]\n", "1:110", "at most 98% together"},
		"police and reserve":  {policy(goodMatch + ", police: {rate: 1mbit, burst: 9kB}, reserve: {" + goodTSpec + "}"), "3:60", "remove police, or reserve"},
		"police no rate":      {policy(goodMatch + ", police: {burst: 9kB}"), "3:60", "add for example rate: 2mbit"},
		"police no burst":     {policy(goodMatch + ", police: {rate: 1mbit}"), "3:60", "add for example burst: 16kB"},
		"police burst":        {policy(goodMatch + ", police: {rate: 1mbit, burst: 1kB}"), "3:81", "smaller than a packet"},
		"police per":          {policy(goodMatch + ", police: {rate: 1mbit, burst: 9kB, per: host}"), "3:91", "write all or flow"},
		"excess of police":    {policy(goodMatch + ", police: {rate: 1mbit, burst: 9kB}, excess: burn"), "3:95", "best-effort, drop, or the PHB"},
		"cheated by DSCP":     {"interfaces: [{name: a, zone: hosts}, {name: b, zone: network, capacity: 19mbit, classify: dscp}]\npolicies:\n  - {name: p, match: {protocol: tcp}, tcp: reliable, reserve: {" + goodTSpec + "}}\n", "3:44", "needs a class of the flow's own"},
		"excess reserved":     {policy(goodMatch+", reserve: {"+goodTSpec+"}") + "  - {name: q, match: {protocol: tcp}, police: {rate: 1mbit, burst: 9kB}, excess: af31}\n", "4:82", "is what reserved traffic has"},
		"aggregate of hosts":  {"interfaces: [{name: a, zone: hosts, aggregate: {}}, {name: b, zone: network}]\n", "1:48", "zone: network"},
		"aggregate, tunnel":   {interior("tunnel: {local: 192.0.2.1, remote: 192.0.2.9}, ", ""), "1:121", "remove aggregate, or tunnel"},
		"aggregate, region":   {interior("region: {hops: 1}, ", ""), "1:93", "remove one of the two"},
		"aggregate, step":     {interior("capacity: 10mbit, ", "step: 9mbit"), "1:99", "lower step"},
		"aggregate, most":     {interior("capacity: 10mbit, ", "most: 9mbit"), "1:99", "reservable (8mbit)"},
		"aggregate, marks":    {interior("", "low: 80%"), "1:80", "four fifths"},
		"aggregate, high":     {interior("", "high: 0.5%"), "1:81", "from 1% to 100%"},
		"aggregate, no high":  {interior("", "high: 101%"), "1:81", "more than 100%"},
		"aggregate, hold":     {interior("", "hold: 100ms"), "1:81", "from 1s"},
		"aggregate, by DSCP":  {interior("capacity: 10mbit, classify: dscp, ", ""), "1:91", "for routers inside"},
		"aggregate, key":      {interior("", "dscp: af31"), "1:75", "unknown key \"dscp\""},
		"aggregate, all":      {"interfaces: [{name: a, zone: network, aggregate: {}}, {name: b, zone: network, aggregate: {}}]\n", "1:50", "lead out of the region"},
		"region of hosts":     {"interfaces: [{name: a, zone: hosts, region: {hops: 1}}, {name: b, zone: network}]\n", "1:45", "zone: network"},
		"region, no hops":     {behind("latency: 20ms"), "1:71", "add hops"},
		"region, half of it":  {behind("hops: 1, c: 1500B"), "1:71", "both c and d"},
		"region, hops":        {behind("hops: 256"), "1:78", "from 0 to 255"},
		"region, time":        {behind("hops: 1, latency: 20"), "1:90", "unit"},
		"region, mtu":         {behind("hops: 1, mtu: 100"), "1:86", "from 576 to 65535"},
		"region, key":         {behind("hops: 1, delay: 1ms"), "1:81", "unknown key \"delay\""},
		"region in a tunnel":  {"interfaces: [{name: a, zone: hosts}, {name: b, zone: network, region: {hops: 1}, tunnel: {local: 192.0.2.1, remote: 192.0.2.9}}]\n", "1:71", "remove region, or tunnel"},
		"priority word":       {policy(goodMatch + ", reserve: {priority: 5, " + goodTSpec + "}"), "3:72", "must be a mapping"},
		"priority empty":      {policy(goodMatch + ", reserve: {priority: {}, " + goodTSpec + "}"), "3:72", "priority is empty"},
		"priority backwards":  {policy(goodMatch + ", reserve: {priority: {setup: 5, hold: 4}, " + goodTSpec + "}"), "3:89", "raise hold or lower setup"},
		"priority too high":   {policy(goodMatch + ", reserve: {priority: {setup: 65536}, " + goodTSpec + "}"), "3:80", "from 0 to 65535"},
		"priority key":        {policy(goodMatch + ", reserve: {priority: {preempting: 5}, " + goodTSpec + "}"), "3:73", "unknown key"},
		"integrity word":      {secured("integrity: hmac-md5"), "1:48", "must be a list"},
		"integrity unknown":   {secured("integrity: [{" + goodKey + ", secret: x}]"), "1:99", `unknown key "secret"`},
		"key no id":           {secured("integrity: [{algorithm: hmac-md5, key_file: /k}]"), "1:49", "has no id"},
		"key no algorithm":    {secured("integrity: [{id: 1, key_file: /k}]"), "1:49", "has no algorithm"},
		"key no file":         {secured("integrity: [{id: 1, algorithm: hmac-md5}]"), "1:49", "has no secret"},
		"key id":              {secured("integrity: [{id: 281474976710656, algorithm: hmac-md5, key_file: /k}]"), "1:54", "from 0 to 281474976710655"},
		"key algorithm":       {secured("integrity: [{id: 1, algorithm: md5, key_file: /k}]"), "1:68", "hmac-md5 or hmac-sha1 or hmac-sha256"},
		"key file relative":   {secured("integrity: [{id: 1, algorithm: hmac-md5, key_file: k}]"), "1:88", "not an absolute path"},
		"key file directory":  {secured("integrity: [{id: 1, algorithm: hmac-md5, key_file: /k/}]"), "1:88", "is a directory"},
		"key time":            {secured("integrity: [{" + goodKey + ", from: 2027-01-01}]"), "1:105", "2027-01-31T00:00:00Z"},
		"key ends early":      {secured("integrity: [{" + goodKey + ", from: 2027-01-01T00:00:00Z, until: 2027-01-01T01:00:00+01:00}]"), "1:134", "never valid"},
		"key neighbor":        {secured("integrity: [{" + goodKey + ", neighbor: 10.0.0.0/8}]"), "1:109", "bad address"},
		"key neighbor group":  {secured("integrity: [{" + goodKey + ", neighbor: 224.0.0.5}]"), "1:109", "no neighbour's address"},
		"key twice":           {secured("integrity: [{" + goodKey + "}, {" + goodKey + "}]"), "1:105", "given twice"},
		"handshake word":      {secured("integrity: [{" + goodKey + "}], integrity_handshake: on"), "1:122", "required or willing or off"},
		"handshake alone":     {secured("integrity_handshake: off"), "1:58", "no key to sign with"},
		"window alone":        {secured("integrity_window: 64"), "1:55", "no key to sign with"},
		"window zero":         {secured("integrity: [], integrity_window: 0"), "1:70", "from 1 to 1024"},
		"capacity bytes":      {"interfaces: [{name: a, zone: hosts, capacity: 5MB}, {name: b, zone: network}]\n", "1:47", "bit, kbit, mbit, gbit"},
		"capacity case":       {"interfaces: [{name: a, zone: hosts, capacity: 5Mbit}, {name: b, zone: network}]\n", "1:47", "did you mean mbit?"},
		"capacity small":      {"interfaces: [{name: a, zone: hosts, capacity: 7kbit}, {name: b, zone: network}]\n", "1:47", "out of range"},
		"capacity huge":       {"interfaces: [{name: a, zone: hosts, capacity: 1001gbit}, {name: b, zone: network}]\n", "1:47", "out of range"},
		"reservable alone":    {"interfaces: [{name: a, zone: hosts, reservable: 80%}, {name: b, zone: network}]\n", "1:49", "add capacity"},
		"reservable rate":     {"interfaces: [{name: a, zone: hosts, capacity: 1mbit, reservable: 5mbit}, {name: b, zone: network}]\n", "1:66", "use one of %"},
		"reservable 101%":     {"interfaces: [{name: a, zone: hosts, capacity: 1mbit, reservable: 101%}, {name: b, zone: network}]\n", "1:66", "more than 100%"},
		"policies mapping":    {goodIfaces + "policies: {name: p}\n", "2:11", "must be a list"},
		"policy scalar":       {goodIfaces + "policies: [p]\n", "2:12", "must be a mapping"},
		"policy no name":      {goodIfaces + "policies:\n  - " + goodMatch + "\n", "3:5", "has no name"},
		"policy number name":  {goodIfaces + "policies:\n  - name: 5\n    " + goodMatch + "\n", "3:11", "in quotes"},
		"policy bad name":     {goodIfaces + "policies:\n  - name: a b\n    " + goodMatch + "\n", "3:11", "letters, digits"},
		"policy name twice":   {goodIfaces + "policies:\n  - {name: p, match: {protocol: udp}}\n  - {name: p, match: {protocol: tcp}}\n", "4:12", "used twice, first in line 3"},
		"no match":            {policy("mark: ef"), "3:5", "matches nothing in particular"},
		"empty match":         {policy("match: {}"), "3:22", "matches nothing in particular"},
		"match no value":      {goodIfaces + "policies:\n  - name: p\n    match:\n", "4:5", "has no value"},
		"match unknown key":   {policy("match: {proto: tcp}"), "3:23", "unknown key \"proto\""},
		"protocol name":       {policy("match: {protocol: sctp}"), "3:33", "number from 1 to 255"},
		"protocol 0":          {policy("match: {protocol: 0}"), "3:33", "number from 1 to 255"},
		"protocol 256":        {policy("match: {protocol: 256}"), "3:33", "number from 1 to 255"},
		"protocol RSVP":       {policy("match: {protocol: 46}"), "3:33", "RSVP itself"},
		"address":             {policy("match: {from: 10.1.0.300}"), "3:29", "bad address"},
		"host bits":           {policy("match: {from: 10.1.0.5/16}"), "3:29", "write 10.1.0.0/16 for the block"},
		"prefix length":       {policy("match: {from: 10.1.0.0/33}"), "3:29", "bad address block"},
		"mapped address":      {policy("match: {from: \"::ffff:10.1.0.1\"}"), "3:29", "write 10.1.0.1"},
		"address with zone":   {policy("match: {from: \"fe80::1%lan0\"}"), "3:29", "leave out %lan0"},
		"address in a list":   {policy("match: {from: [10.1.0.0/16, host]}"), "3:43", "bad address"},
		"empty list":          {policy("match: {from: []}"), "3:29", "matches nothing"},
		"versions mixed":      {policy("match: {from: 10.1.0.0/16, to: 2001:db8::/32}"), "3:46", "different IP versions"},
		"port 0":              {policy("match: {protocol: udp, to_port: 0}"), "3:47", "from 1 to 65535"},
		"port 65536":          {policy("match: {protocol: udp, to_port: 65536}"), "3:47", "from 1 to 65535"},
		"port backwards":      {policy("match: {protocol: udp, to_port: 20-10}"), "3:47", "write 10-20"},
		"port name":           {policy("match: {protocol: udp, to_port: http}"), "3:47", "write 80"},
		"ports, no protocol":  {policy("match: {to_port: 80}"), "3:32", "add protocol: tcp"},
		"ports of ICMP":       {policy("match: {protocol: 1, from_port: 80}"), "3:47", "TCP and UDP only"},
		"mark":                {policy(goodMatch + ", mark: ef2"), "3:58", "unknown PHB"},
		"mark 64":             {policy(goodMatch + ", mark: 64"), "3:58", "0 to 63"},
		"ef_model bare":       {"interfaces: [{name: a, zone: hosts}, {name: b, zone: network, ef_model: policer}]\n", "1:73", "without capacity nothing is queued here"},
		"ef_model":            {"interfaces: [{name: a, zone: hosts}, {name: b, zone: network, capacity: 2mbit, ef_model: queue}]\n", "1:90", "write policer or priority"},
		"excess admitted":     {policy(goodMatch + ", reserve: {" + goodTSpec + "}, excess: af42"), "3:106", "excess: af42 (multimedia-conferencing) is for traffic that was admitted"},
		"mark voice-admit":    {policy(goodMatch + ", mark: voice-admit"), "3:58", "mark: voice-admit (admitted-telephony) is for traffic that was admitted (RFC 5865 section 3): add reserve"},
		"mark video":          {policy(goodMatch + ", mark: multimedia-conferencing"), "3:58", "mark: af41 (multimedia-conferencing) is for traffic that was admitted"},
		"mark 32":             {policy(goodMatch + ", mark: 32"), "3:58", "mark: cs4 (real-time-interactive) is for traffic that was admitted"},
		"mark list":           {policy(goodMatch + ", mark: [ef]"), "3:58", "not a list"},
		"tcp pace":            {policy(goodMatch + ", tcp: pace"), "3:57", "pace needs a reserved rate to send at: add reserve, or write tcp: none"},
		"tcp no reserve":      {policy(goodMatch + ", tcp: reliable"), "3:57", "add reserve"},
		"tcp on udp":          {policy("match: {protocol: udp}, reserve: {" + goodTSpec + "}, tcp: realtime"), "3:90", "add protocol: tcp"},
		"excess no reserve":   {policy(goodMatch + ", excess: drop"), "3:60", "add reserve"},
		"thin no reserve":     {policy(goodMatch + ", thin_acks: true"), "3:63", "add reserve"},
		"thin on udp":         {policy("match: {protocol: udp}, thin_acks: true, reserve: {" + goodTSpec + "}"), "3:50", "add protocol: tcp"},
		"thin as sender":      {policy(goodMatch + ", thin_acks: true, reserve: {role: sender, " + goodTSpec + "}"), "3:63", "role: receiver or both"},
		"thin word":           {policy(goodMatch + ", thin_acks: yes"), "3:63", "true or false"},
		"fill":                {policy(goodMatch + ", fill: yes"), "3:58", "true or false"},
		"fill alone":          {policy(goodMatch + ", fill: true"), "3:58", "add reserve"},
		"fill of UDP":         {policy("match: {protocol: udp}, fill: true, reserve: {" + goodTSpec + "}"), "3:45", "add protocol: tcp"},
		"fill by the sender":  {policy(goodMatch + ", tcp: reliable, fill: true, reserve: {role: sender, " + goodTSpec + "}"), "3:73", "write role: receiver"},
		"no tspec":            {policy(goodMatch + ", reserve: {role: both}"), "3:61", "has no tspec"},
		"measured":            {withTSpec("measured"), "3:69", "needs the meter"},
		"no delay":            {policy(goodMatch + ", reserve: {service: guaranteed, " + goodTSpec + "}"), "3:71", "add for example delay: 50ms"},
		"delay alone":         {policy(goodMatch + ", reserve: {delay: 50ms, " + goodTSpec + "}"), "3:69", "add service: guaranteed, or remove delay"},
		"delay of another":    {policy(goodMatch + ", reserve: {service: controlled-load, delay: 50ms, " + goodTSpec + "}"), "3:95", "add service: guaranteed, or remove delay"},
		"delay zero":          {policy(goodMatch + ", reserve: {service: guaranteed, delay: 0ms, " + goodTSpec + "}"), "3:90", "from 1ms to 1h"},
		"delay huge":          {policy(goodMatch + ", reserve: {service: guaranteed, delay: 2h, " + goodTSpec + "}"), "3:90", "from 1ms to 1h"},
		"delay unit":          {policy(goodMatch + ", reserve: {service: guaranteed, delay: 50, " + goodTSpec + "}"), "3:90", "has no unit"},
		"service with a typo": {policy(goodMatch + ", reserve: {service: guarantied, delay: 50ms, " + goodTSpec + "}"), "3:71", "controlled-load or guaranteed"},
		"style xx":            {policy(goodMatch + ", reserve: {style: xx, " + goodTSpec + "}"), "3:69", "write auto or ff or wf or se"},
		"role":                {policy(goodMatch + ", reserve: {role: all, " + goodTSpec + "}"), "3:68", "sender or receiver or both"},
		"tspec no rate":       {withTSpec("{burst: 10kB}"), "3:69", "has no rate"},
		"tspec no burst":      {withTSpec("{rate: 1mbit}"), "3:69", "has no burst"},
		"rate zero":           {withTSpec("{rate: 0bit, burst: 10kB}"), "3:76", "out of range"},
		"rate not a number":   {withTSpec("{rate: fast, burst: 10kB}"), "3:76", "not a number with a unit"},
		"peak < rate":         {withTSpec("{rate: 1mbit, burst: 10kB, peak: 900kbit}"), "3:102", "peak is below rate"},
		"burst < M":           {withTSpec("{rate: 1mbit, burst: 1kB, max_packet: 1500B}"), "3:90", "burst is smaller than max_packet"},
		"burst < default M":   {withTSpec("{rate: 1mbit, burst: 1kB}"), "3:90", "where it is not given"},
		"m > M":               {withTSpec("{rate: 1mbit, burst: 10kB, min_unit: 600B, max_packet: 500B}"), "3:106", "min_unit is larger"},
		"M > 65535":           {withTSpec("{rate: 1mbit, burst: 70kB, max_packet: 65536B}"), "3:108", "out of range"},
		"burst in bits":       {withTSpec("{rate: 1mbit, burst: 64kbit}"), "3:90", "use one of B, kB"},
		"beyond the link":     {withTSpec("{rate: 15201kbit, burst: 10kB}"), "3:76", "at most 15200kbit"},
		"no capacity to send": {"interfaces: [{name: a, zone: hosts}, {name: b, zone: network}]\npolicies:\n  - {name: p, " + goodMatch + ", reserve: {" + goodTSpec + "}}\n", "3:76", "add capacity"},
		"beyond hosts' link":  {"interfaces: [{name: a, zone: hosts, capacity: 1mbit}, {name: b, zone: network}]\npolicies:\n  - {name: p, " + goodMatch + ", reserve: {role: receiver, " + goodTSpec + "}}\n", "3:92", "any hosts interface"},
		"never matches":       {goodIfaces + "policies:\n  - {name: all, match: {protocol: tcp}}\n  - {name: web, " + goodMatch + "}\n", "4:5", "policy web can never match: policy all in line 3"},
	} {
		t.Run(name, tt.check)
	}
}

func TestAllErrorsSorted(t *testing.T) {
	_, err := Parse("box.yaml", []byte(`mode: bridges
interfaces:
  - {name: lan0, zone: host}
  - {name: lan0, zone: network, capacity: 19Mbit}
surprise: 1
policies:
  - name: p
    match: {protocol: tcp, from: 10.0.0.1/8, to_port: 0}
    tcp: reliable
  - mark: ef
    match: {protocol: udp}
`))
	want := []string{
		"box.yaml:1:7: ", "box.yaml:3:24: ", "box.yaml:4:12: ", "box.yaml:4:43: ", "box.yaml:5:1: ",
		"box.yaml:8:34: ", "box.yaml:8:55: ", "box.yaml:9:10: ", "box.yaml:10:5: ",
	}
	got := strings.Split(err.Error(), "\n")
	if len(got) != len(want) {
		t.Fatalf("got %d errors, want %d:\n%v", len(got), len(want), err)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("error %d: got %s, want %s", i, got[i], want[i])
		}
	}
	var one *Error
	if !errors.As(err, &one) || one.Line != 1 {
		t.Errorf("errors.As found %v", one)
	}
}

// A YAML error names one place; it must be one line for a terminal.
func TestMessagesAreOneLine(t *testing.T) {
	_, err := Parse("f", []byte("mode: \"a\\nb\"\ninterfaces: \"x\ny"))
	for _, e := range err.(Errors) { //nolint:errorlint // Parse promises this very type
		if strings.ContainsAny(e.Msg, "\n\r") {
			t.Errorf("message of several lines: %q", e.Msg)
		}
	}
}

// A transit router stands between networks and has no hosts of its own.
func TestTransitRouterNeedsNoHosts(t *testing.T) {
	c, err := Parse("", []byte("interfaces: [{name: a, zone: network, capacity: 19mbit}, {name: b, zone: network}]\n"))
	if err != nil || len(c.Interfaces) != 2 {
		t.Errorf("config %+v, %v", c, err)
	}
}
