package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

func examples(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("../../configs/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("example configs: %v, %v", files, err)
	}
	out := map[string][]byte{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(f)] = data
	}
	return out
}

func TestExamplesParse(t *testing.T) {
	for name, data := range examples(t) {
		if _, err := Parse(name, data); err != nil {
			t.Errorf("%v", err)
		}
	}
}

// full.yaml shows every key and value: what it says is "not in this version" must
// really be refused.
func TestFullRefusesWhatItSays(t *testing.T) {
	data := string(examples(t)["full.yaml"])
	for is, later := range map[string]string{
		"console: {socket: /run/qosproxy.sock}": `console: {listen: "127.0.0.1:80", token_file: /etc/t}`,
	} {
		at := strings.Index(data, is)
		if at < 0 {
			t.Errorf("full.yaml does not have %q", is)
			continue
		}
		line, _, _ := strings.Cut(data[at:], "\n")
		if !strings.Contains(line, "not in this version") {
			t.Errorf("full.yaml: no note in %q", line)
		}
		_, err := Parse("full.yaml", []byte(strings.Replace(data, line, later, 1)))
		if err == nil || !strings.Contains(err.Error(), "not in this version") {
			t.Errorf("%s is not refused as of a later version: %v", later, err)
		}
	}
}

// The example of RFC 5865: admitted and unadmitted telephony on a slow link.
func TestVoiceAdmitExample(t *testing.T) {
	c, err := Parse("voice-admit.yaml", examples(t)["voice-admit.yaml"])
	if err != nil {
		t.Fatal(err)
	}
	hosts, wan := c.Interface("lan0"), c.Interface("wan0")
	if hosts.Trust != TrustPoliced || len(hosts.Arriving) != 1 || hosts.Arriving[0].Class != dscp.EF || hosts.Arriving[0].Excess != ExcessDrop {
		t.Errorf("hosts: %+v", hosts)
	}
	var codes []uint8
	for _, l := range wan.SLS {
		codes = append(codes, l.Class)
	}
	if diff := cmp.Diff([]uint8{dscp.EF, dscp.VoiceAdmit, dscp.AF41}, codes); diff != "" || wan.EFModel != EFPriority {
		t.Errorf("wan0: %v, classes (-want +got):\n%s", wan.EFModel, diff)
	}
	for i, mark := range []uint8{dscp.VoiceAdmit, dscp.AF41} {
		if p := c.Policies[i]; p.DSCP != mark || p.Reserve == nil || !dscp.Admitted(mark) {
			t.Errorf("policy %s: %+v", p.Name, p)
		}
	}
}

func TestFullValues(t *testing.T) {
	c, err := Parse("full.yaml", examples(t)["full.yaml"])
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		File: "full.yaml", Mode: ModeRouter, OnStop: OnStopClean, OnCrash: 10 * time.Minute, Watchdog: true,
		Log: Log{Level: "info", Format: "auto"},
		Interfaces: []Interface{
			{Name: "lan0", Zone: ZoneHosts, Trust: TrustNone, Discover: true, DClass: DClassDrop, Window: 32},
			{
				Name: "wan0", Zone: ZoneNetwork, Trust: TrustDSCP, DClass: DClassSend, Capacity: 2_375_000, Reservable: 1_900_000, Window: 32,
				Ceilings: Ceilings{Guaranteed: 1_187_500, ControlledLoad: 1_900_000}, Overbooking: 1, BestEffort: 118_750,
				SLS: []ServiceLevel{
					{Class: 44, Rate: 250_000, Burst: 16_000, Excess: ExcessDrop, Until: day}, {Class: 26, Rate: 1_000_000, Burst: 64_000, Until: day},
				}, Region: &Region{
					Latency: 20 * time.Millisecond, Guaranteed: true, C: 1500, D: time.Millisecond, Bandwidth: 2_500_000, MTU: 1500,
				},
			},
		},
		RSVP:    RSVP{Refresh: 30 * time.Second, Reliable: true},
		Mapping: Mapping{Guaranteed: 46, ControlledLoad: 26},
		TCP:     TCP{Window: WindowAuto, DrainTimeout: 30 * time.Second, FillAfter: 20 * time.Millisecond, PaceFactor: 2},
		Limits: Limits{
			Flows: 100000, Sessions: 100000, Buffered: 256 << 20, BufferedPerFlow: 16 << 20, MaxUnacked: 16 << 20,
			RSVPRate: 1000, Neighbors: 1000,
		},
		Console: Console{Socket: "/run/qosproxy.sock"}, StateDir: "/var/lib/qosproxy",
		Admission: Admission{
			Preemption: true, Thresholds: []Threshold{{1, 9000}, {5, 9500}},
			Users: []User{{Name: "ann", Identities: []string{"ann", "CN=Ann,O=Acme"}, From: prefixes("10.1.0.5/32"), Rate: 1.5e6}},
			Rules: []Rule{
				{
					Name: "calls", From: prefixes("10.1.0.0/16"), To: prefixes("10.2.0.0/16"), Protocol: 17, In: []string{"lan0"}, Out: []string{"wan0"},
					Users: []string{"ann"}, Applications: []string{"vic.exe"}, Services: []Service{ServiceControlledLoad, ServiceGuaranteed},
					Rate: 125e3, Burst: 16000, Priority: 5,
				},
				{Name: "others", From: prefixes("10.0.0.0/8", "2001:db8::/32")},
			},
		},
		Accounting: Accounting{Keep: 10000},
		Policies: []Policy{
			{
				Name: "imaging",
				Match: Match{
					Protocol: 6, From: prefixes("10.1.0.0/16"), To: prefixes("10.2.0.0/16"),
					FromPort: [][2]uint16{{1024, 65535}}, ToPort: [][2]uint16{{104, 104}},
				},
				Reserve: &Reserve{TSpec: TSpec{Rate: 1e6, Burst: 64000, Peak: 2.5e6, MinUnit: 64, MaxPacket: 1500}, Priority: Priority{Given: true}},
				Marked:  true, Named: true, DSCP: 26, TCP: TCPReliable,
			},
			{
				Name:  "voice",
				Match: Match{Protocol: 17, ToPort: [][2]uint16{{5004, 5020}}},
				Reserve: &Reserve{
					Service: ServiceGuaranteed, Delay: 50 * time.Millisecond,
					TSpec: TSpec{Rate: 10000, Burst: 400, Peak: 20000, MinUnit: 64, MaxPacket: 400},
				},
				Marked: true, Named: true, DSCP: 44,
			},
			{
				Name: "backup",
				Match: Match{
					Protocol: 6, To: prefixes("10.2.0.9/32", "2001:db8:2::9/128"),
					ToPort: [][2]uint16{{873, 873}, {8000, 8010}},
				},
				Marked: true, Named: true, DSCP: 1,
			},
		},
	}
	opts := []cmp.Option{
		cmpopts.IgnoreFields(Interface{}, "Line"), cmpopts.IgnoreFields(Policy{}, "Line"), cmpopts.IgnoreFields(ServiceLevel{}, "Line"), cmpopts.IgnoreFields(User{}, "Line"), cmpopts.IgnoreFields(Rule{}, "Line"),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
	if diff := cmp.Diff(want, c, opts...); diff != "" {
		t.Errorf("full.yaml (-want +got):\n%s", diff)
	}
	for _, p := range c.Policies {
		line := strings.Split(string(examples(t)["full.yaml"]), "\n")[p.Line-1]
		if !strings.Contains(line, "name: "+p.Name) {
			t.Errorf("policy %s is said to be in line %d, which is %q", p.Name, p.Line, line)
		}
	}
}

// The defaults are the values of full.yaml, but for what it shows of the region and
// the contract behind an interface, of which nothing is known.
func TestDefaultsAreThoseOfFull(t *testing.T) {
	full, err := Parse("", examples(t)["full.yaml"])
	if err != nil {
		t.Fatal(err)
	}
	least, err := Parse("", []byte("interfaces: [{name: lan0, zone: hosts}, {name: wan0, zone: network, capacity: 19mbit}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	opts := []cmp.Option{cmpopts.IgnoreFields(Interface{}, "Line", "Region", "SLS", "DClass", "Ceilings", "Overbooking"), cmpopts.IgnoreFields(Config{}, "Policies", "Admission")}
	if diff := cmp.Diff(full, least, opts...); diff != "" {
		t.Errorf("defaults (-full.yaml +left out):\n%s", diff)
	}
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}
