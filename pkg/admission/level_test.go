package admission

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// edge is a link towards a network that has sold two levels of it.
func edge() Link {
	l := wan()
	l.Contract = true
	l.Levels = []Level{{DSCP: dscp.VoiceAdmit, Rate: 1e5, Burst: 9000}, {DSCP: dscp.AF31, Rate: 4e5, Burst: 64_000}}
	return l
}

func at(id ID, level uint8, f intserv.FlowSpec) Request {
	r := request(id, f)
	r.Level = level
	return r
}

func admitted(t *testing.T, c *Control, list ...Request) {
	t.Helper()
	for _, r := range list {
		if d := c.Admit(r); !d.Admitted {
			t.Fatalf("%s: %+v", r.ID, d)
		}
	}
}

// refused checks that a request is refused for lack of resources: code 1 value 2
// of RFC 2205 Appendix B.
func refused(t *testing.T, c *Control, r Request, reason string) {
	t.Helper()
	if d := c.Admit(r); d.Admitted || d.Code != CodeAdmission || d.Value != ValueBandwidth || d.Reason != reason {
		t.Errorf("%s: %+v\nwant %q", r.ID, d, reason)
	}
}

func setLinks(t *testing.T, c *Control, l ...Link) {
	t.Helper()
	if err := c.SetLinks(l...); err != nil {
		t.Fatal(err)
	}
}

// RFC 2998 section 4.1.1, steps 8 and 9: a request is held against the level that its
// service is mapped to, and what is admitted is counted there.
func TestLevelRFC2998Section4_1(t *testing.T) {
	c := New(NewMemory(), 100, edge())
	admitted(t, c, at("a", dscp.AF31, cl(3e5)), at("v", dscp.VoiceAdmit, gs(2e4, 1e5)))
	refused(t, c, at("b", dscp.AF31, cl(2e5)), "service level af31 of wan0 has 100000 of 400000 bytes/s left, asked for are 200000")
	refused(t, c, at("w", dscp.VoiceAdmit, gs(100, 100)), "service level voice-admit of wan0 has 0 of 100000 bytes/s left, asked for are 100")
	refused(t, c, at("x", dscp.EF, cl(100)), "the network behind wan0 has no service level ef (sls)")
	admitted(t, c, at("b", dscp.AF31, cl(1e5)))
	if ok, err := c.Release("v"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	admitted(t, c, at("w", dscp.VoiceAdmit, gs(100, 1e5)))
	want := []LevelUsage{
		{DSCP: dscp.AF31, Rate: Balance{4e5, 4e5}, Burst: Balance{6000, 64_000}, Sold: true},
		{DSCP: dscp.VoiceAdmit, Rate: Balance{1e5, 1e5}, Burst: Balance{3000, 9000}, Sold: true},
	}
	got, err := c.Levels("wan0")
	if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%+v, %v", got, err)
	}
}

// The network polices a level by a token bucket: those of all flows together must
// fit it.
func TestLevelBurst(t *testing.T) {
	c := New(NewMemory(), 100, edge())
	admitted(t, c, at("a", dscp.VoiceAdmit, cl(1000)), at("b", dscp.VoiceAdmit, cl(1000)))
	f := cl(1000)
	f.TSpec.Bucket = 3001
	refused(t, c, at("c", dscp.VoiceAdmit, f), "service level voice-admit of wan0 has 3000 of 9000 bytes of bursts left, asked for are 3001")
	admitted(t, c, at("c", dscp.VoiceAdmit, cl(1000)))
}

// By the time of day a level shrinks or ends: what is reserved stays, is refreshed
// and may shrink, and none of it grows.
func TestLevelShrinks(t *testing.T) {
	c := New(NewMemory(), 100, edge())
	admitted(t, c, at("a", dscp.AF31, cl(2e5)))
	for name, levels := range map[string][]Level{
		"less":     {{DSCP: dscp.AF31, Rate: 1e5, Burst: 64_000}},
		"closed":   {{DSCP: dscp.AF31, Closed: true}},
		"not sold": nil,
	} {
		c.SetLevels("wan0", levels)
		admitted(t, c, at("a", dscp.AF31, cl(2e5)))
		if d := c.Admit(at("a", dscp.AF31, cl(2e5+1))); d.Admitted || !d.InPlace {
			t.Errorf("%s: it grew: %+v", name, d)
		}
		if d := c.Admit(at("b", dscp.AF31, cl(1))); d.Admitted {
			t.Errorf("%s: a new one: %+v", name, d)
		}
		if u := usage(t, c, "wan0"); u.Bandwidth != 2e5 || u.Reservations != 1 {
			t.Errorf("%s: %+v", name, u)
		}
	}
	c.SetLevels("wan0", []Level{{DSCP: dscp.AF31, Closed: true}})
	refused(t, c, at("b", dscp.AF31, cl(1)), "service level af31 of wan0 has nothing at this time of day (sls)")
	admitted(t, c, at("a", dscp.AF31, cl(1e5)))
	c.SetLevels("wan0", edge().Levels)
	admitted(t, c, at("a", dscp.AF31, cl(4e5)))
	c.SetLevels("nowhere", nil)
}

// Senders that share a reservation and are not marked alike: any of them may send
// all of it, so that it counts in the level of each.
func TestLevelsOfSharedReservation(t *testing.T) {
	c := New(NewMemory(), 100, edge())
	r := at("a", dscp.AF31, cl(1e5))
	r.Levels = []uint8{dscp.AF31, dscp.VoiceAdmit, dscp.VoiceAdmit}
	admitted(t, c, r)
	for a, n := range map[Account]int64{"wan0": 1e5, "wan0/level/af31": 1e5, "wan0/level/voice-admit": 1e5, "wan0/level/voice-admit/burst": 3000} {
		if got, err := c.Sum(a); got != n || err != nil {
			t.Errorf("%s: %d, %v", a, got, err)
		}
	}
	r.ID = "b"
	if d := c.Admit(r); d.Admitted || !strings.Contains(d.Reason, "voice-admit") {
		t.Errorf("%+v", d)
	}
}

func TestServiceCeilings(t *testing.T) {
	l := wan()
	l.Services = map[intserv.Service]Service{intserv.Guaranteed: {Ceiling: 3e5}}
	c := New(NewMemory(), 100, l)
	admitted(t, c, request("v", gs(1e5, 3e5)))
	refused(t, c, request("w", gs(1e4, 1e4)), "guaranteed service on wan0 has 0 of 300000 bytes/s left, asked for are 10000")
	admitted(t, c, request("a", cl(5e5)))
	refused(t, c, request("b", cl(1e5)), "wan0 has 0 of 800000 bytes/s left, asked for are 100000")
	got, err := c.Services("wan0")
	want := []ServiceUsage{{intserv.Guaranteed, Balance{3e5, 3e5}}, {intserv.ControlledLoad, Balance{5e5, 8e5}}}
	if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%+v, %v", got, err)
	}
	if list, err := c.Services("nowhere"); list != nil || err != nil {
		t.Error(list, err)
	}
}

// RFC 2211 section 9: controlled load may be granted more than there is. RFC 2212:
// guaranteed service may not, and has its R even beside that.
func TestOverbookingRFC2211Section9(t *testing.T) {
	l := wan()
	l.Services = map[intserv.Service]Service{
		intserv.ControlledLoad: {Overbooking: 2, Ceiling: 6e5},
		intserv.Guaranteed:     {Overbooking: 2}, // not taken, whoever says so
	}
	c := New(NewMemory(), 100, l)
	admitted(t, c, request("a", cl(1e6)))
	if u := usage(t, c, "wan0"); u.Bandwidth != 5e5 || u.Free != 3e5 {
		t.Errorf("%+v", u)
	}
	refused(t, c, request("v", gs(3e5, 3e5+1e4)), "wan0 has 300000 of 800000 bytes/s left, asked for are 310000")
	refused(t, c, request("b", cl(2e5+1e4)), "controlled-load service on wan0 has 200000 of 1200000 bytes/s left, asked for are 210000")
	admitted(t, c, request("b", cl(2e5)), request("v", gs(1e5, 2e5)))
	if u := usage(t, c, "wan0"); u.Bandwidth != 8e5 {
		t.Errorf("%+v", u)
	}
	for _, tc := range []struct {
		s    intserv.Service
		rest float64
	}{{intserv.ControlledLoad, 0}, {intserv.Guaranteed, 0}} {
		if got, err := c.Rest("wan0", tc.s); got != tc.rest || err != nil {
			t.Errorf("%v: rest %v, %v", tc.s, got, err)
		}
	}
	// Without overbooking, what is there counts as a new one would. It stays, and is
	// refreshed.
	l.Services = nil
	setLinks(t, c, l)
	if u := usage(t, c, "wan0"); u.Bandwidth != 14e5 || u.Reservations != 3 {
		t.Errorf("%+v", u)
	}
	admitted(t, c, request("a", cl(1e6)))
	if d := c.Admit(request("a", cl(1e6+1))); d.Admitted {
		t.Errorf("it grew: %+v", d)
	}
}

// Overbooking is the customer's: what the network has sold it does not carry twice.
func TestLevelsAreNotOverbooked(t *testing.T) {
	l := edge()
	l.Services = map[intserv.Service]Service{intserv.ControlledLoad: {Overbooking: 10}}
	c := New(NewMemory(), 100, l)
	admitted(t, c, at("a", dscp.AF31, cl(4e5)))
	refused(t, c, at("b", dscp.AF31, cl(1000)), "service level af31 of wan0 has 0 of 400000 bytes/s left, asked for are 1000")
}

// RFC 2211 section 4: controlled load needs buffers as well as bandwidth. A burst
// that the class's queue cannot hold would be lost although it conforms.
func TestBurstFitsTheQueueRFC2211Section4(t *testing.T) {
	l := wan()
	l.Queue, l.Header = 1e5, 14
	c := New(NewMemory(), 100, l)
	f := cl(1000)
	f.TSpec.Bucket = 9e4 // in packets of 100 bytes: 14 % more
	refused(t, c, request("a", f), "a burst of 90000 bytes is 102600 with headers, and the queue of a class on wan0 can hold 100000")
	f.TSpec.MinUnit = 1000
	admitted(t, c, request("a", f))
	// What is there already is not refused when it asks for the same or for less.
	l.Queue = 1000
	setLinks(t, c, l)
	admitted(t, c, request("a", f))
	// What the senders announce is what may come.
	r := request("b", cl(1000))
	r.FlowSpec.TSpec.Bucket, r.Senders = 9e5, cl(1000).TSpec
	r.Senders.Bucket = 500
	r.Senders.MaxPacket = 500
	admitted(t, c, r)
}

// Where packets are told apart by DSCP alone, the bursts of a level have to fit one
// queue together.
func TestBurstsOfALevelFitItsQueueRFC2211Section4(t *testing.T) {
	l := wan()
	l.Queue, l.Header, l.ByLevel = 1e4, 14, true
	c := New(NewMemory(), 100, l) // 28 bytes have 14 more: 6667 bytes fit in any case
	admitted(t, c, at("a", dscp.AF31, cl(1000)), at("b", dscp.AF31, cl(1000)), at("v", dscp.EF, cl(1000)))
	refused(t, c, at("c", dscp.AF31, cl(1000)), "service level af31 of wan0 has 667 of 6667 bytes of bursts left, asked for are 3000")
	l.ByLevel = false
	setLinks(t, c, l)
	admitted(t, c, at("c", dscp.AF31, cl(1000)))
}

func TestRest(t *testing.T) {
	c := New(NewMemory(), 100, edge(), Link{Name: "lan0"})
	for _, tc := range []struct {
		link string
		want float64
	}{{"wan0", 4e5}, {"lan0", math.Inf(1)}, {"nowhere", 0}} {
		if got, err := c.Rest(tc.link, intserv.Guaranteed); got != tc.want || err != nil {
			t.Errorf("%s: %v, %v, want %v", tc.link, got, err, tc.want)
		}
	}
	admitted(t, c, at("a", dscp.AF31, cl(3.5e5)))
	if got, err := c.Rest("wan0", intserv.Guaranteed); got != 1e5 || err != nil {
		t.Errorf("%v, %v: the largest rest is that of voice-admit", got, err)
	}
	c.SetLevels("wan0", []Level{{DSCP: dscp.VoiceAdmit, Closed: true}, {DSCP: dscp.AF31, Rate: 4e5}})
	if got, err := c.Rest("wan0", intserv.Guaranteed); got != 5e4 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// Whatever comes, changes level and goes, no level has more granted than it had
// when the last reservation was admitted to it, no service more than its ceiling.
func TestLevelsNeverPass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := edge()
		l.Levels = []Level{{DSCP: dscp.EF, Rate: 300, Burst: 5000}, {DSCP: dscp.AF31, Rate: 500, Burst: 9000}}
		l.Capacity, l.Reservable = 1000, 700
		l.Services = map[intserv.Service]Service{intserv.Guaranteed: {Ceiling: 400}, intserv.ControlledLoad: {Overbooking: 1.5, Ceiling: 600}}
		c := New(NewMemory(), 100, l)
		held := map[ID]Request{}
		sums := func(of func(Request) bool) (rate, burst float64) {
			for _, r := range held {
				if of(r) {
					rate, burst = rate+r.FlowSpec.Bandwidth(), burst+r.FlowSpec.TSpec.Bucket
				}
			}
			return rate, burst
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			id := ID(fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "id")))
			if rapid.IntRange(0, 3).Draw(t, "release") == 0 {
				if _, err := c.Release(id); err != nil {
					t.Fatal(err)
				}
				delete(held, id)
				continue
			}
			rate := float64(rapid.IntRange(1, 200).Draw(t, "rate"))
			f := cl(rate)
			if rapid.Bool().Draw(t, "guaranteed") {
				f = gs(rate, rate+10)
			}
			f.TSpec.Bucket = float64(rapid.IntRange(1500, 4000).Draw(t, "bucket"))
			r := at(id, rapid.SampledFrom([]uint8{dscp.EF, dscp.AF31, dscp.AF21}).Draw(t, "level"), f)
			if c.Admit(r).Admitted {
				held[id] = r
			}
			for _, v := range l.Levels {
				if rate, burst := sums(func(r Request) bool { return r.Level == v.DSCP }); rate > v.Rate || burst > v.Burst {
					t.Fatalf("%s: %v bytes/s and %v bytes of bursts, has %+v", dscp.Name(v.DSCP), rate, burst, v)
				}
			}
			if rate, _ := sums(func(r Request) bool { return r.Level == dscp.AF21 }); rate > 0 {
				t.Fatal("a level that is not sold")
			}
			g, _ := sums(func(r Request) bool { return r.FlowSpec.Service == intserv.Guaranteed })
			n, _ := sums(func(r Request) bool { return r.FlowSpec.Service == intserv.ControlledLoad })
			const rounding = 10 // half a byte/s for each of them
			if g > 400 || n > 900 || g+n/1.5 > 700+rounding {
				t.Fatalf("guaranteed %v, controlled load %v", g, n)
			}
		}
	})
}

// The example of docs/qos.md, how admission counts.
func TestExampleOfTheDocs(t *testing.T) {
	l := Link{
		Name: "wan0", Capacity: 2_375_000, Reservable: 1_900_000, Contract: true, Services: map[intserv.Service]Service{intserv.Guaranteed: {Ceiling: 1_187_500}},
		Levels: []Level{{DSCP: dscp.VoiceAdmit, Rate: 250_000, Burst: 16_000}, {DSCP: dscp.AF31, Rate: 1_000_000, Burst: 64_000}},
	}
	c := New(NewMemory(), 100, l)
	call := func(i int, f intserv.FlowSpec) Request {
		f.TSpec.Bucket, f.TSpec.MaxPacket = 400, 400
		return at(ID(fmt.Sprint("call ", i)), dscp.VoiceAdmit, f)
	}
	admitted(t, c, call(1, gs(10_000, 75_000)), call(2, gs(10_000, 75_000)), call(3, gs(10_000, 75_000)))
	refused(t, c, call(4, gs(10_000, 75_000)), "service level voice-admit of wan0 has 25000 of 250000 bytes/s left, asked for are 75000")
	if u := usage(t, c, "wan0"); u.Free != 13.4e6/8 {
		t.Errorf("%v bytes/s left", u.Free)
	}
	transfer := func(id ID, level uint8, rate, burst float64) Request {
		f := cl(rate)
		f.TSpec.Bucket = burst
		return at(id, level, f)
	}
	admitted(t, c, transfer("a", dscp.AF31, 750_000, 48_000))
	refused(t, c, transfer("b", dscp.AF31, 125_000, 32_000), "service level af31 of wan0 has 16000 of 64000 bytes of bursts left, asked for are 32000")
	refused(t, c, transfer("c", dscp.AF21, 1, 1500), "the network behind wan0 has no service level af21 (sls)")
	c = New(NewMemory(), 100, l)
	for i := range 25 {
		admitted(t, c, call(i, cl(10_000)))
	}
	if d := c.Admit(call(25, cl(10_000))); d.Admitted {
		t.Error("a 26th call")
	}
}
