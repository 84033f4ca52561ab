package config

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func mustParse(t *testing.T, in string) *Config {
	t.Helper()
	c, err := Parse("f", []byte(in))
	if err != nil {
		t.Fatalf("%s\n%v", in, err)
	}
	return c
}

// The YAML library takes unquoted IPv6 addresses in a list for mappings.
func TestIPv6Forms(t *testing.T) {
	want := []string{"2001:db8::/32", "2001:db8:1::5/128", "::1/128"}
	for _, list := range []string{
		"[2001:db8::/32, 2001:db8:1::5, ::1]",
		`["2001:db8::/32", '2001:db8:1::5', "::1"]`,
		"\n      - 2001:db8::/32\n      - 2001:db8:1::5\n      - ::1",
	} {
		c := mustParse(t, goodIfaces+"policies:\n- name: p\n  match:\n    from: "+list+"\n")
		var got []string
		for _, p := range c.Policies[0].Match.From {
			got = append(got, p.String())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", list, diff)
		}
	}
	c := mustParse(t, policy("match: {from: 2001:db8::/32, to: fe80::1}"))
	if got := c.Policies[0].Match.To[0].String(); got != "fe80::1/128" {
		t.Errorf("to = %s", got)
	}
}

func TestAccepted(t *testing.T) {
	for name, in := range map[string]string{
		"BOM":                         "\xef\xbb\xbf" + goodIfaces,
		"CRLF":                        "mode: router\r\n" + goodIfaces,
		"document marks":              "---\n" + goodIfaces + "...\n",
		"no policies":                 goodIfaces,
		"empty policies":              goodIfaces + "policies: []\n",
		"an exemption":                policy(goodMatch),
		"tcp none on udp":             policy("match: {protocol: udp}, tcp: none"),
		"thinned, tcp none":           policy(goodMatch + ", reserve: {role: receiver, " + goodTSpec + "}, tcp: none, thin_acks: true"),
		"thinned, both":               policy(goodMatch + ", reserve: {" + goodTSpec + "}, tcp: reliable, thin_acks: true"),
		"not thinned, no reserve":     policy(goodMatch + ", thin_acks: false"),
		"thin_rate":                   goodIfaces + "tcp: {thin_rate: 5kbit}\n",
		"pace_factor":                 goodIfaces + "tcp: {pace_factor: 1.5}\n",
		"thin_rate auto":              goodIfaces + "tcp: {thin_rate: auto}\n",
		"protocol by number":          policy("match: {protocol: 132}, mark: af11"),
		"port list":                   policy("match: {protocol: tcp, to_port: [80, 443, 8000-8010]}"),
		"peak = rate, burst = M":      withTSpec("{rate: 1mbit, burst: 1500B, peak: 1mbit}"),
		"small max_packet":            withTSpec("{rate: 80kbit, burst: 40B, max_packet: 40B}"),
		"decimals":                    withTSpec("{rate: 1.5mbit, burst: 10.5kB}"),
		"receiver behind a slow link": "interfaces: [{name: a, zone: hosts}, {name: b, zone: network, capacity: 243kbit}]\npolicies:\n  - {name: p, " + goodMatch + ", reserve: {role: receiver, " + goodTSpec + "}}\n",
		"all of both versions":        policy("match: {from: [0.0.0.0/0, \"::/0\"]}"),
		"narrow before wide":          goodIfaces + "policies:\n  - {name: a, " + goodMatch + "}\n  - {name: b, match: {protocol: tcp}}\n",
		"same ports, other protocol":  goodIfaces + "policies:\n  - {name: a, " + goodMatch + "}\n  - {name: b, match: {protocol: udp, to_port: 80}}\n",
	} {
		t.Run(name, func(t *testing.T) { mustParse(t, in) })
	}
}

func TestValues(t *testing.T) {
	c := mustParse(t, withTSpec("{rate: 1.5mbit, burst: 10.5kB, max_packet: 40B}"))
	want := TSpec{Rate: 187500, Burst: 10500, MinUnit: 40, MaxPacket: 40}
	if got := c.Policies[0].Reserve.TSpec; got != want {
		t.Errorf("tspec %+v, want %+v", got, want)
	}
	if p := c.Policies[0]; !p.Marked || p.DSCP != 26 {
		t.Errorf("a reservation without mark has DSCP %d (marked %v), want the mapping's", p.DSCP, p.Marked)
	}
	if p := mustParse(t, policy(goodMatch)).Policies[0]; p.Marked {
		t.Error("a policy without mark and reserve is marked")
	}
	if p := mustParse(t, policy(goodMatch+", mark: 33")).Policies[0]; !p.Marked || p.DSCP != 33 {
		t.Errorf("mark: 33 gave %+v", p)
	}
	if l := mustParse(t, goodIfaces+"limits: {buffered: 1MiB}\n").Limits; l.BufferedPerFlow != 1<<20 {
		t.Errorf("buffered_per_flow stayed at %d above buffered", l.BufferedPerFlow)
	}
	if i := mustParse(t, "interfaces: [{name: a, zone: hosts, trust: dscp}, {name: b, zone: network, capacity: 10mbit, reservable: 12.5%}]").Interface("b"); i.Reservable != 156250 {
		t.Errorf("12.5%% of 10mbit is %d bytes/s", i.Reservable)
	}
	if got := mustParse(t, goodIfaces).TCP.ECN; got != ECNEcho {
		t.Errorf("tcp.ecn is %s where nothing is said", got)
	}
	if got := mustParse(t, goodIfaces+"tcp: {ecn: strip}\n").TCP.ECN; got != ECNStrip {
		t.Errorf("tcp.ecn: strip gave %s", got)
	}
	if got := mustParse(t, goodIfaces+"tcp: {pace_factor: 1.5}\n").TCP.PaceFactor; got != 1.5 {
		t.Errorf("tcp.pace_factor: 1.5 gave %v", got)
	}
	for text, want := range map[string]TCP{
		"": {DrainTimeout: 30 * time.Second, FillAfter: 20 * time.Millisecond},
		"tcp: {fill_after: 0s, fill_pattern: zeros, fill_encrypted: true}\n": {DrainTimeout: 30 * time.Second, FillEncrypted: true},
		"tcp: {fill_after: 1s, fill_pattern: hex:00Ff}\n":                    {DrainTimeout: 30 * time.Second, FillAfter: time.Second, FillPattern: []byte{0, 255}},
	} {
		want.PaceFactor = 2
		if got := mustParse(t, goodIfaces+text).TCP; !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v", text, got)
		}
	}
	for text, want := range map[string]bool{
		"fill: true, reserve: {" + goodTSpec + "}":                              true,
		"fill: true, tcp: realtime, reserve: {role: sender, " + goodTSpec + "}": true,
		"fill: false": false,
		"tcp: reliable, reserve: {" + goodTSpec + "}": false,
	} {
		if got := mustParse(t, policy(goodMatch+", "+text)).Policies[0].Fill; got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	for _, tt := range []struct {
		r                Role
		sender, receiver bool
	}{{RoleBoth, true, true}, {RoleSender, true, false}, {RoleReceiver, false, true}} {
		r := Reserve{Role: tt.r}
		if r.HasSender() != tt.sender || r.HasReceiver() != tt.receiver {
			t.Errorf("role %s: sender %v, receiver %v", tt.r, r.HasSender(), r.HasReceiver())
		}
	}
	if c.Interface("nowhere") != nil {
		t.Error("an interface was found that is not there")
	}
}

func TestWords(t *testing.T) {
	for want, got := range map[string]string{
		"router": ModeRouter.String(), "clean": OnStopClean.String(), "keep": OnStopKeep.String(),
		"hosts": ZoneHosts.String(), "network": ZoneNetwork.String(), "none": TrustNone.String(), "dscp": TrustDSCP.String(),
		"auto": WindowAuto.String(), "honour": WindowHonour.String(), "predict": WindowPredict.String(),
		"policer": EFPolicer.String(), "priority": EFPriority.String(),
		"echo": ECNEcho.String(), "strip": ECNStrip.String(),
		"both": RoleBoth.String(), "sender": RoleSender.String(), "receiver": RoleReceiver.String(),
		"controlled-load": ServiceControlledLoad.String(), "ff": StyleFF.String(), "wf": StyleWF.String(), "se": StyleSE.String(),
		"realtime": TCPRealtime.String(), "reliable": TCPReliable.String(),
		"best-effort": ExcessBestEffort.String(), "drop": ExcessDrop.String(), "?": Zone(9).String(),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A policy without a mark has that of its service.
func TestMappingOfTheService(t *testing.T) {
	for service, want := range map[string]uint8{"controlled-load": 18, "guaranteed, delay: 50ms": 34} {
		c := mustParse(t, "mapping: {guaranteed: af41, controlled-load: af21}\n"+policy(goodMatch+", reserve: {service: "+service+", "+goodTSpec+"}"))
		if p := c.Policies[0]; !p.Marked || p.DSCP != want {
			t.Errorf("%s: DSCP %d, marked %v, want %d", service, p.DSCP, p.Marked, want)
		}
	}
}

// RFC 5865 section 2.1: below 10 Mbit/s two queues, one above; the operator may say
// otherwise. An interface that is not shaped has no queues.
func TestEFModelRFC5865Section2_1(t *testing.T) {
	for text, want := range map[string]EFModel{
		"capacity: 9999kbit":                     EFPriority,
		"capacity: 10mbit":                       EFPolicer,
		"capacity: 9999kbit, ef_model: policer":  EFPolicer,
		"capacity: 9999kbit, ef_model: priority": EFPriority,
		"capacity: 10mbit, ef_model: priority":   EFPriority,
		"trust: dscp":                            EFPolicer,
	} {
		c := mustParse(t, "interfaces: [{name: a, zone: hosts}, {name: b, zone: network, "+text+"}]\n")
		if got := c.Interfaces[1].EFModel; got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

// The names of service classes of RFC 4594 stand for code points wherever one is
// given, and marks for admitted traffic are taken where something admits it.
func TestServiceClassNames(t *testing.T) {
	for name, want := range map[string]uint8{
		"telephony": 46, "admitted-telephony": 44, "signaling": 40, "multimedia-conferencing": 34, "real-time-interactive": 32,
		"multimedia-streaming": 26, "broadcast-video": 24, "low-latency-data": 18, "oam": 16, "high-throughput-data": 10,
		"network-control": 48, "low-priority-data": 1, "standard": 0, "le": 1, "voice-admit": 44,
	} {
		if bestEffort(want) { // what nobody promises anything for is no mark of a reservation
			if c := mustParse(t, policy(goodMatch+", mark: "+name)); c.Policies[0].DSCP != want {
				t.Errorf("%s: mark %d, want %d", name, c.Policies[0].DSCP, want)
			}
			continue
		}
		c := mustParse(t, "mapping: {controlled-load: "+name+"}\n"+policy(goodMatch+", reserve: {"+goodTSpec+"}, mark: "+name))
		if c.Mapping.ControlledLoad != want || !c.Policies[0].Marked || c.Policies[0].DSCP != want {
			t.Errorf("%s: mapping %d, mark %d, want %d", name, c.Mapping.ControlledLoad, c.Policies[0].DSCP, want)
		}
	}
}

// RFC 3181 section 4: 16 bits each, hold is not below setup and follows it.
func TestPriorityRFC3181Section4(t *testing.T) {
	for text, want := range map[string]Priority{
		"":                                    {},
		"priority: {setup: 3}, ":              {true, 3, 3},
		"priority: {hold: 9}, ":               {true, 0, 9},
		"priority: {setup: 0, hold: 65535}, ": {true, 0, 65535},
		"priority: {setup: 7, hold: 7}, ":     {true, 7, 7},
	} {
		if got := mustParse(t, policy(goodMatch+", reserve: {"+text+goodTSpec+"}")).Policies[0].Reserve.Priority; got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
}

// RFC 2747 section 5.2: several keys at a time, each with its algorithm and its
// lifetime, which may be without an end.
// RFC 2747 section 2.2: all that belongs to a key.
func TestKeysRFC2747Section5_2(t *testing.T) {
	c := mustParse(t, secured(`integrity: [
  {id: 1, algorithm: hmac-md5, key_file: /etc/one, until: 2027-02-01T00:00:00Z},
  {id: 2, algorithm: hmac-sha256, key_file: /etc/two, from: "2027-01-01T01:00:00+01:00", neighbor: 192.0.2.1},
  {id: 2, algorithm: hmac-sha1, key_file: /etc/three, neighbor: "2001:db8::1"}],
  integrity_handshake: willing, integrity_window: 64`))
	day := func(m time.Month) time.Time { return time.Date(2027, m, 1, 0, 0, 0, 0, time.UTC) }
	want := Interface{
		Name: "a", Discover: true, DClass: DClassDrop, Window: 64, Handshake: HandshakeWilling, Line: 1,
		Integrity: []IntegrityKey{
			{ID: 1, Algorithm: "hmac-md5", KeyFile: "/etc/one", Until: day(2), Line: 2},
			{ID: 2, Algorithm: "hmac-sha256", KeyFile: "/etc/two", From: day(1), Neighbor: netip.MustParseAddr("192.0.2.1"), Line: 3},
			{ID: 2, Algorithm: "hmac-sha1", KeyFile: "/etc/three", Neighbor: netip.MustParseAddr("2001:db8::1"), Line: 4},
		},
	}
	if diff := cmp.Diff(want, *c.Interface("a"), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStyles(t *testing.T) {
	for word, want := range map[string]Style{"auto": StyleAuto, "ff": StyleFF, "wf": StyleWF, "se": StyleSE} {
		c, err := Parse("f", []byte(policy(goodMatch+", reserve: {style: "+word+", "+goodTSpec+"}")))
		if err != nil || c.Policies[0].Reserve.Style != want {
			t.Errorf("%s: %+v, %v", word, c, err)
		}
	}
}

func TestRegion(t *testing.T) {
	for text, want := range map[string]Region{
		"hops: 0, latency: 20ms, c: 1500B, d: 1ms, bandwidth: 20mbit, mtu: 1500": {
			Latency: 20 * time.Millisecond, Guaranteed: true, C: 1500, D: time.Millisecond, Bandwidth: 2_500_000, MTU: 1500,
		},
		"hops: 3":               {Hops: 3, Latency: -1},
		"hops: 0, c: 0B, d: 0s": {Latency: -1, Guaranteed: true},
	} {
		c, err := Parse("x", []byte(behind(text)))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Interfaces[1].Region; got == nil || *got != want || c.Interfaces[0].Region != nil {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

func TestTunnel(t *testing.T) {
	c, err := Parse("x", []byte(tunnelled("local: 192.0.2.1, remote: 192.0.2.9, udp_port: 51820")))
	if err != nil {
		t.Fatal(err)
	}
	want := Tunnel{Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddr("192.0.2.9"), UDPPort: 51820}
	if got := c.Interfaces[1].Tunnel; got == nil || *got != want || c.Interfaces[0].Tunnel != nil {
		t.Errorf("%+v", c.Interfaces)
	}
	for word, proto := range map[string]uint8{"ipip": 4, "ipv6": 41, "gre": 47} {
		c := mustParse(t, tunnelled("local: '2001:db8::1', remote: '2001:db8::9', protocol: "+word))
		if got := c.Interfaces[1].Tunnel; got == nil || got.Protocol != proto || !got.Remote.Is6() {
			t.Errorf("%s: %+v", word, got)
		}
	}
}

// RFC 5946 section 4.1: discovery is on unless it is explicitly disabled, and is a
// matter of the links to hosts.
func TestDiscoverRFC5946Section4_1(t *testing.T) {
	for text, want := range map[string]bool{"": true, ", discover: true": true, ", discover: false": false} {
		c := mustParse(t, "interfaces: [{name: a, zone: hosts"+text+"}, {name: b, zone: network}]")
		if got := c.Interface("a").Discover; got != want {
			t.Errorf("%q: %v", text, got)
		}
		if c.Interface("b").Discover {
			t.Errorf("%q: towards the network", text)
		}
	}
}

// What is left out of aggregate follows from the interface.
func TestAggregate(t *testing.T) {
	for _, tt := range []struct {
		keys, aggregate string
		want            Aggregate
	}{
		{"", "", Aggregate{Step: 125_000, High: 0.9, Low: 0.5, Hold: time.Minute, Most: 1_250_000_000}},
		{"capacity: 19mbit, ", "", Aggregate{Step: 125_000, High: 0.9, Low: 0.5, Hold: time.Minute, Most: 1_900_000}},
		{"capacity: 800kbit, ", "", Aggregate{Step: 80_000, High: 0.9, Low: 0.5, Hold: time.Minute, Most: 80_000}},
		{"", "high: 45%", Aggregate{Step: 125_000, High: 0.45, Low: 0.25, Hold: time.Minute, Most: 1_250_000_000}},
		{"capacity: 10mbit, ", "step: 80kbit, high: 80%, low: 20%, hold: 5s, most: 4mbit", Aggregate{Step: 10_000, High: 0.8, Low: 0.2, Hold: 5 * time.Second, Most: 500_000}},
	} {
		c := mustParse(t, interior(tt.keys, tt.aggregate))
		if c.Interfaces[0].Aggregate != nil {
			t.Error("the hosts' side leads into the region")
		}
		if got := c.Interfaces[1].Aggregate; got == nil || *got != tt.want {
			t.Errorf("%s%s: %+v, want %+v", tt.keys, tt.aggregate, got, tt.want)
		}
	}
}

// RFC 2996: hosts whose marks are not kept have no say, and the edge of a DiffServ
// region decides.
func TestDClassRFC2996Section1_1(t *testing.T) {
	for text, want := range map[string]DClass{
		"zone: hosts":                            DClassDrop,
		"zone: hosts, trust: dscp":               DClassPass,
		"zone: hosts, dclass: send":              DClassSend,
		"zone: hosts, trust: dscp, dclass: drop": DClassDrop,
		"zone: network":                          DClassPass,
		"zone: network, region: {hops: 1}":       DClassSend,
		"zone: network, capacity: 10mbit, sls: [{class: af31, rate: 1mbit, burst: 16kB}]":               DClassSend,
		"zone: network, capacity: 10mbit, sls: [{class: af31, rate: 1mbit, burst: 16kB}], dclass: pass": DClassPass,
		"zone: network, capacity: 10mbit, classify: dscp":                                               DClassSend,
	} {
		c, err := Parse("f", []byte("interfaces: [{name: a, "+text+"}, {name: b, zone: network}]\n"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := c.Interface("a").DClass; got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	for text, want := range map[string]DClassOver{"": DClassMapping, "dclass: mapping": DClassMapping, "dclass: mark": DClassMark, "dclass: ignore": DClassIgnore} {
		c, err := Parse("f", []byte("interfaces: [{name: a, zone: hosts}, {name: b, zone: network}]\nmapping: {"+text+"}\n"))
		if err != nil || c.Mapping.DClass != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}
