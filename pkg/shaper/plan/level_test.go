package plan

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

const (
	af31 = 26
	af11 = 10
)

// drawLevels draws a contract that an interface can keep.
func drawLevels(t *rapid.T, capacity uint64, bestEffort float64) (list []Level) {
	left := float64(capacity) * (1 - controlShare - bestEffort)
	for _, code := range []uint8{0, 1, af11, af31, dscp.VoiceAdmit, dscp.EF} {
		if left -= minRate; left < 0 || !rapid.Bool().Draw(t, "level") {
			continue
		}
		l := Level{
			DSCP: code, Rate: uint64(rapid.Float64Range(0, left).Draw(t, "level's rate")), Burst: rapid.Uint64Range(1, 1<<20).Draw(t, "level's burst"),
			Drop: rapid.Bool().Draw(t, "drop"), RealTime: rapid.Bool().Draw(t, "level in real time"), Free: rapid.Bool().Draw(t, "free"),
			Excess: rapid.SampledFrom([]uint8{0, 1}).Draw(t, "excess"), Queue: rapid.SampledFrom([]uint8{0, 0, af31}).Draw(t, "queue"),
		}
		left -= float64(l.Rate)
		list = append(list, l)
	}
	return list
}

// Whatever is reserved of a contract by flows within it, the classes below the root
// never have more than it, and best effort has its share of it.
func TestLevelsNeverExceedTheRoot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		itf := Interface{Name: "wan0", Capacity: rapid.Uint64Range(1e6, 1e9).Draw(t, "capacity"), BestEffort: rapid.Float64Range(0.01, 0.5).Draw(t, "best effort")}
		itf.Levels = drawLevels(t, itf.Capacity, itf.BestEffort)
		itf.ByDSCP = rapid.Bool().Draw(t, "by DSCP")
		if err := (Plan{Interfaces: []Interface{itf}}).Validate(); err != nil {
			t.Fatal(err)
		}
		var flows []Assigned
		for _, l := range itf.Levels {
			left := float64(l.Rate)
			for left > 5000 && rapid.Bool().Draw(t, "flow") {
				rate := rapid.Float64Range(2500, left).Draw(t, "rate")
				left -= rate
				tr := Treatment{
					Key: flowKey(len(flows)), Interface: "wan0", Rate: rate, Bucket: 1500, MaxPacket: 1500, MinUnit: 1500,
					Reserve: true, Mark: true, DSCP: l.DSCP,
				}
				class := FirstPooled + ClassID(len(flows))
				switch {
				case itf.ByDSCP:
					class = 0
				case itf.Joins(tr):
					class = Common
				}
				flows = append(flows, Assigned{tr, class})
			}
		}
		p := Want(Plan{Interfaces: []Interface{itf}}, nil, flows).Port("wan0")
		sum, root := Guaranteed(p.Classes)
		if most := root + 2*uint64(len(p.Classes)); sum > most { // each rounded up
			t.Fatalf("%d bytes/s below a root of %d", sum, root)
		}
		be, _ := p.Class(BestEffort)
		if float64(be.Rate) < float64(itf.Capacity)*itf.BestEffort {
			t.Fatalf("best effort has %d of %d", be.Rate, itf.Capacity)
		}
		// Each row's class is there, and each class has a row that leads to it.
		rows := map[ClassID]bool{BestEffort: true}
		for _, r := range p.Rows {
			rows[r.Class] = true
			if _, ok := p.Class(r.Class); !ok {
				t.Fatalf("no class for %s", r.text())
			}
		}
		for _, c := range p.Classes {
			if _, level := c.ID.Level(); level && !rows[c.ID] && c.ID != LevelClass(af31) {
				t.Fatalf("class %s has no row", c.ID)
			}
		}
	})
}

// Sums come back to nothing when all that was counted in is counted out.
func TestSumsAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		itf := Interface{Overbooking: rapid.Float64Range(1, 10).Draw(t, "overbooking")}
		s := Sums{}
		var in []Treatment
		for range rapid.IntRange(1, 50).Draw(t, "flows") {
			tr := Treatment{
				DSCP: rapid.SampledFrom([]uint8{af11, af31}).Draw(t, "DSCP"), Mark: true, Reserve: rapid.Bool().Draw(t, "reserve"),
				Rate: rapid.Float64Range(0.1, 1e12).Draw(t, "rate"), Bucket: rapid.Float64Range(0, 4e9).Draw(t, "bucket"),
				Share: rapid.Float64Range(0, 1e12).Draw(t, "share"), RealTime: rapid.Bool().Draw(t, "real time"),
			}
			in = append(in, tr)
			itf.Count(s, tr, 1)
		}
		for _, i := range rapid.Permutation(in).Draw(t, "order") {
			itf.Count(s, i, -1)
		}
		if len(s) != 0 {
			t.Fatalf("left: %+v", s)
		}
	})
}

// A level whose class is another's, one that is not policed, and best effort's own.
func TestRowsOfLevels(t *testing.T) {
	itf := Interface{Name: "wan0", Capacity: 2_375_000, Policed: true, Levels: []Level{
		{DSCP: dscp.Default, Rate: 100_000, Burst: 9000},
		{DSCP: dscp.VoiceAdmit, Rate: 100_000, Burst: 9000, Queue: af31, RealTime: true, Drop: true, Excess: 1},
		{DSCP: af31, Rate: 200_000, RealTime: true, Free: true},
		{DSCP: af11},
	}, Arriving: []Level{{DSCP: af11, Rate: 1000, Burst: 2000, Excess: 1}}}
	want := []string{
		"leaving dscp default: class 1:3 police rate 800kbit burst 9000b, excess remarked default class 1:3",
		"leaving dscp af11: class 1:ff0a nothing conforms, it is remarked default class 1:3",
		"leaving dscp af31: class 1:ff1a all conforms",
		"leaving dscp voice-admit: class 1:ff1a police rate 800kbit burst 9000b, excess dropped",
		"arriving dscp af11: police rate 8kbit burst 2000b, excess remarked le",
	}
	var got []string
	for _, r := range Rows(itf, nil) {
		got = append(got, r.text())
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	classes := LevelClasses(itf, DefaultFacts, nil)
	if len(classes) != 2 || classes[1].Rate != DefaultFacts.HTBRate(300_000, 0) || classes[1].Prio != prioProvisionedRealTime || classes[0].Prio != prioProvisioned {
		t.Errorf("classes %+v", classes)
	}
	itf.Capacity = 0
	for _, r := range Rows(itf, nil) {
		if r.Class != 0 || r.ExcessClass != 0 {
			t.Errorf("a class where there is none: %s", r.text())
		}
	}
	if LevelClasses(itf, DefaultFacts, nil) != nil {
		t.Error("classes of an interface that is not shaped")
	}
}

// RFC 2212: what provisioned traffic can send at once is in D of the interface.
func TestPromiseCountsLevels(t *testing.T) {
	itf := Interface{Name: "wan0", Capacity: 2_375_000}
	bare, _ := PromiseOf(itf, DefaultFacts)
	itf.Levels = []Level{{DSCP: af31, Rate: 1_000_000, Burst: 64_000}}
	with, _ := PromiseOf(itf, DefaultFacts)
	class := LevelClasses(itf, DefaultFacts, nil)[0]
	unit := float64(DefaultFacts.leaf(itf, 0).Burst)
	more := (float64(class.Rate)*burstTime + DefaultFacts.frame() + unit) / float64(itf.Capacity) * 1e6
	if got := float64((with.D - bare.D).Microseconds()); got < more-1 || got > more+1 {
		t.Errorf("D grows by %g us, want %g", got, more)
	}
	itf.BestEffort = 0.25
	if quarter, _ := PromiseOf(itf, DefaultFacts); (quarter.D - with.D).Microseconds() < 790 { // 20 % of 4 ms
		t.Errorf("D with a quarter for best effort is %v, with 5 %% %v", quarter.D, with.D)
	}
}

func TestLevelsRefused(t *testing.T) {
	for want, itf := range map[string]Interface{
		"twice":         {Levels: []Level{{DSCP: 1}, {DSCP: 1}}},
		"no such DSCP":  {Arriving: []Level{{DSCP: 64}}},
		"no burst":      {Levels: []Level{{DSCP: 1, Rate: 1}}},
		"too large":     {Levels: []Level{{DSCP: 1, Rate: 1e15, Burst: 1}}},
		"a share of":    {BestEffort: 0.95},
		"together, and": {Capacity: 1e6, BestEffort: 0.5, Levels: []Level{{DSCP: 1, Rate: 300_000, Burst: 9000}, {DSCP: 2, Rate: 200_000, Burst: 9000}}},
	} {
		itf.Name = "wan0"
		if err := (Plan{Interfaces: []Interface{itf}}).Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}
