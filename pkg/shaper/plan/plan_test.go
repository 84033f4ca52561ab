package plan

import (
	"flag"
	"math"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

var update = flag.Bool("update", false, "write the golden files")

// What `qosproxy plan` prints.
func TestPlanText(t *testing.T) {
	p := Plan{
		Interfaces: []Interface{{Name: "lan0", ResetDSCP: true}, {Name: "wan0", Capacity: 2_375_000}},
		Queue: Queue{
			Control: 100, First: 101, Cheat: []uint16{102, 103}, HasIPv6: true,
			Prefilters: []Prefilter{
				{Proto: 6, From: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}, To: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}, FromPorts: [][2]uint16{{1024, 65535}}, ToPorts: [][2]uint16{{104, 104}, {11112, 11112}}, BothWays: true},
				{Proto: 17, ToPorts: [][2]uint16{{5004, 5020}}},
			},
		},
	}
	golden(t, "testdata/plan.golden", p.String())
	border := Plan{Interfaces: []Interface{
		{Name: "lan0", ResetDSCP: true, Policed: true, Arriving: []Level{{DSCP: dscp.EF, Rate: 125_000, Burst: 8000, Drop: true}}},
		{Name: "wan0", Capacity: 2_375_000, BestEffort: 0.1, Levels: []Level{
			{DSCP: dscp.AF31, Rate: 1_000_000, Burst: 64_000, Excess: dscp.LE}, {DSCP: dscp.VoiceAdmit, Rate: 250_000, Burst: 16_000, Drop: true, RealTime: true},
		}},
		{Name: "wan1", Capacity: 1_250_000, ByDSCP: true},
	}}
	golden(t, "testdata/border.golden", border.String())
	bridge := Plan{Frames: 1000, Interfaces: []Interface{{Name: "in0", ResetDSCP: true}, {Name: "out0", Capacity: 2_375_000}}}
	bridge.Interfaces[1].PCP.Set(dscp.EF, 5)
	bridge.Interfaces[1].PCP.Set(dscp.AF31, 0)
	golden(t, "testdata/bridge.golden", bridge.String())
}

// A plan that has frames learned has a program for that at every Ethernet interface,
// trusted or not, and none elsewhere; it goes by itself.
func TestPlanLearnsFrames(t *testing.T) {
	p := Plan{Interfaces: []Interface{{Name: "in0", ResetDSCP: true}, {Name: "out0"}, {Name: "tun0"}}}
	facts := map[string]Facts{"tun0": {MTU: 1400}}
	router := Want(p, facts, nil)
	p.Frames = 1000
	bridge := Want(p, facts, nil)
	text := func(from, to State) (list []string) {
		for _, op := range Diff(from, to) {
			list = append(list, op.String())
		}
		return list
	}
	for _, c := range []struct {
		from, to State
		want     []string
	}{
		{router, bridge, []string{"bpf attach dev in0 tcx/ingress: frames learned", "bpf attach dev out0 tcx/ingress: frames learned"}},
		{bridge, router, []string{"bpf detach dev in0 tcx/ingress: frames learned", "bpf detach dev out0 tcx/ingress: frames learned"}},
		{bridge, bridge, nil},
	} {
		if d := cmp.Diff(c.want, text(c.from, c.to)); d != "" {
			t.Error(d)
		}
	}
}

// Other priorities are another program, in one step, and nothing else.
func TestPlanChangesPCP(t *testing.T) {
	p := Plan{Interfaces: []Interface{{Name: "out0", Capacity: 2_375_000}}}
	before := Want(p, nil, nil)
	p.Interfaces[0].PCP.Set(dscp.EF, 7)
	ops := Diff(before, Want(p, nil, nil))
	if len(ops) != 1 || ops[0].Kind != AttachEgress || ops[0].Program.PCP != p.Interfaces[0].PCP {
		t.Errorf("%v", ops)
	}
}

// golden compares with a file.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s\n(-update writes it anew)", d)
	}
}

func TestOpText(t *testing.T) {
	c := FlowClass(Interface{Name: "wan0", Capacity: 2_375_000}, DefaultFacts, Treatment{Rate: 1e6, Bucket: 64000, Cheated: true}, FirstPooled)
	for _, l := range []struct {
		op   Op
		want string
	}{
		{Op{Kind: ChangeClass, Interface: "wan0", Class: c}, "tc class change dev wan0 parent 1:1 classid 1:10 htb prio 4 rate 8074672bit"},
		{Op{Kind: ChangeLeaf, Interface: "wan0", Class: c}, "tc qdisc change dev wan0 parent 1:10 handle 10: tbf rate 1gbit burst 1600 limit 524288"},
		{Op{Kind: DelLeaf, Interface: "wan0", Class: c}, "tc qdisc del dev wan0 parent 1:10 handle 10:"},
		{Op{Kind: DelClass, Interface: "wan0", Class: c}, "tc class del dev wan0 classid 1:10"},
		{Op{Kind: DelRoot, Interface: "wan0"}, "tc qdisc del dev wan0 root"},
		{Op{Kind: DelRow, Interface: "wan0", Row: Row{DSCP: dscp.EF, Arriving: true}}, "bpf row del dev wan0 arriving dscp ef"},
		{Op{Kind: DetachEgress, Interface: "wan0"}, "bpf detach dev wan0 tcx/egress"},
		{Op{Kind: DetachIngress, Interface: "wan0"}, "bpf detach dev wan0 tcx/ingress"},
	} {
		if got := l.op.String(); !strings.HasPrefix(got, l.want) {
			t.Errorf("got  %q\nwant %q", got, l.want)
		}
	}
}

func TestHTBRate(t *testing.T) {
	for _, c := range []struct {
		rate float64
		size uint32
		want uint64
	}{
		{1_000_000, 1500, 1_009_334}, // 1514 for 1500
		{1_000_000, 0, 1_009_334},    // M not stated: the MTU
		{1_000_000, 9000, 1_009_334}, // M above the MTU: fragmented
		{10_000, 140, 11_000},        // small packets have a larger share of headers
		{1, 1500, minRate},
	} {
		if got := DefaultFacts.HTBRate(c.rate, c.size); got != c.want {
			t.Errorf("%g bytes/s in packets of %d: %d, want %d", c.rate, c.size, got, c.want)
		}
	}
	tunnel := Facts{MTU: 1400}
	if got := tunnel.HTBRate(1e6, 0); got != 1e6 {
		t.Errorf("without a link layer: %d", got)
	}
}

// The rates that are always there leave 93 % for reservations, at any capacity.
func TestGuaranteedRatesFit(t *testing.T) {
	for capacity := uint64(minCapacity); capacity < 1e11; capacity *= 3 {
		itf := Interface{Name: "wan0", Capacity: capacity}
		classes := Base(itf, DefaultFacts)
		if capacity > 100_000 { // below, the least rate counts for more
			classes = append(classes, FlowClass(itf, DefaultFacts, Treatment{Rate: 0.929 * float64(capacity)}, FirstPooled))
		}
		if sum, root := Guaranteed(classes); sum > root {
			t.Errorf("capacity %d: rates sum up to %d of %d", capacity, sum, root)
		}
		for _, c := range classes {
			if c.Burst%tick != 0 || c.Cburst%tick != 0 || c.Burst/tick > math.MaxUint32 || c.Burst <= 0 {
				t.Errorf("capacity %d: class %s: burst %v", capacity, c.ID, c.Burst)
			}
			if c.Quantum < 1000 || c.Quantum > 200_000 {
				t.Errorf("capacity %d: class %s: the kernel warns of a quantum of %d", capacity, c.ID, c.Quantum)
			}
		}
	}
}

func TestFlowClass(t *testing.T) {
	itf := Interface{Name: "wan0", Capacity: 2_375_000}
	tr := Treatment{Rate: 1e6, Bucket: 64000, MaxPacket: 1500}
	managed := FlowClass(itf, DefaultFacts, tr, FirstPooled)
	if managed.Ceil != DefaultFacts.HTBRate(2_375_000, 0) || managed.Leaf.Limit < 2*64000 {
		t.Errorf("a policed flow's burst cannot drain at once: %+v", managed)
	}
	tr.Cheated = true
	cheated := FlowClass(itf, DefaultFacts, tr, FirstPooled)
	if cheated.Ceil != cheated.Rate || cheated.Leaf.Limit < 512<<10 {
		t.Errorf("a cheated flow is not shaped, or loses: %+v", cheated)
	}
	tr.Cheated, tr.RealTime = false, true
	voice := FlowClass(itf, DefaultFacts, tr, FirstPooled)
	if voice.Prio >= managed.Prio || voice.Prio <= prioControl {
		t.Errorf("a real-time flow has priority %d, others %d", voice.Prio, managed.Prio)
	}
}

func TestValidate(t *testing.T) {
	for name, p := range map[string]Plan{
		"no name":        {Interfaces: []Interface{{}}},
		"long name":      {Interfaces: []Interface{{Name: "a-name-of-16-byte"}}},
		"twice":          {Interfaces: []Interface{{Name: "a"}, {Name: "a"}}},
		"tiny capacity":  {Interfaces: []Interface{{Name: "a", Capacity: 10}}},
		"negative flows": {Flows: -1},
		"large pool":     {Pool: 70000},
		"few frames":     {Frames: -1},
		"many frames":    {Frames: 1<<24 + 1},
	} {
		if p.WithDefaults().Validate() == nil {
			t.Errorf("%s is taken", name)
		}
	}
	good := Treatment{Key: flowKey(1), Rate: 1e6, Bucket: 1e4, Peak: math.Inf(1), Police: true}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Treatment){
		"DSCP":           func(t *Treatment) { t.DSCP = 64 },
		"rate NaN":       func(t *Treatment) { t.Rate = math.NaN() },
		"no rate":        func(t *Treatment) { t.Rate = 0 },
		"huge rate":      func(t *Treatment) { t.Rate = 1e15 },
		"bucket NaN":     func(t *Treatment) { t.Bucket = math.NaN() },
		"huge bucket":    func(t *Treatment) { t.Bucket = 1e12 },
		"negative peak":  func(t *Treatment) { t.Peak = -1 },
		"peak NaN":       func(t *Treatment) { t.Peak = math.NaN() },
		"m of no packet": func(t *Treatment) { t.MinUnit = 65536 },
		"m above M":      func(t *Treatment) { t.MinUnit, t.MaxPacket = 100, 50 },
	} {
		bad := good
		change(&bad)
		if bad.Validate() == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestClassIDText(t *testing.T) {
	for id, want := range map[ClassID]string{0: "", RootQdisc: "1:", FirstPooled: "1:10", 0x1ffff: "1:ffff", FirstPooled.Leaf(): "10:"} {
		if got := id.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if burst(1, 1e9) > time.Duration(math.MaxUint32)*tick {
		t.Error("a burst does not fit in the kernel's ticks")
	}
}
