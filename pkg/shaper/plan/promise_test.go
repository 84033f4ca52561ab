package plan

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// RFC 2212, Exported Information: C from 1 to 2^28 bytes, D from 1 to 2^28
// microseconds, of every interface that is shaped and of no other.
func TestPromiseRFC2212(t *testing.T) {
	if p, ok := PromiseOf(Interface{Name: "lan0"}, DefaultFacts); ok {
		t.Errorf("an interface without capacity promises %+v", p)
	}
	rapid.Check(t, func(t *rapid.T) {
		itf := Interface{Name: "wan0", Capacity: rapid.Uint64Range(minCapacity, 125e9).Draw(t, "capacity")}
		f := Facts{MTU: rapid.Uint32Range(576, 9000).Draw(t, "MTU"), Header: EthernetHeader}
		p, ok := PromiseOf(itf, f)
		if !ok || p.C < 1 || p.C > 1<<28 || p.D < time.Microsecond || p.D > 1<<28*time.Microsecond || p.D%time.Microsecond != 0 {
			t.Fatalf("%+v", p)
		}
		// A larger link delays no more.
		more := itf
		more.Capacity *= 2
		if itf.Capacity > splitUpTo == (more.Capacity > splitUpTo) {
			if q, _ := PromiseOf(more, f); q.D > p.D {
				t.Fatalf("%v at %d, %v at %d", p.D, itf.Capacity, q.D, more.Capacity)
			}
		}
		// A frame in transmission, one of the root and one of our own are in it, and
		// so is everything that reserved flows send at once.
		if least := 3*f.frame() + p.Bursts; p.D.Seconds() < least/float64(itf.Capacity) {
			t.Fatalf("%v is less than %.0f bytes take", p.D, least)
		}
	})
}

// The figures of docs/qos.md.
func TestPromiseFigures(t *testing.T) {
	for capacity, want := range map[uint64]time.Duration{
		250_000:     56_104 * time.Microsecond, // 2 Mbit/s
		2_375_000:   11_525 * time.Microsecond, // 19 Mbit/s
		12_500_000:  7_277 * time.Microsecond,  // 100 Mbit/s
		125_000_000: 6_380 * time.Microsecond,  // 1 Gbit/s
	} {
		if p, _ := PromiseOf(Interface{Capacity: capacity}, DefaultFacts); p.D != want {
			t.Errorf("%d bytes/s: D %v, want %v", capacity, p.D, want)
		}
	}
}

// RFC 2212: a class has R, of IP bytes whatever the packets' size, before
// everything that is not guaranteed, and room for what it has to hold.
func TestGuaranteedFlowClass(t *testing.T) {
	itf := Interface{Name: "wan0", Capacity: 2_375_000}
	tr := Treatment{Rate: 10_000, Bucket: 400, MinUnit: 100, MaxPacket: 400, Share: 20_000, Buffer: 100_000, RealTime: true}
	c := FlowClass(itf, DefaultFacts, tr, FirstPooled)
	if want := DefaultFacts.HTBRate(20_000, 100); c.Rate != want {
		t.Errorf("rate %d, want R with the headers of packets of m: %d", c.Rate, want)
	}
	if c.Prio != prioRealTime || c.Leaf.Limit < 114_000 {
		t.Errorf("%+v", c)
	}
	tr.Share, tr.Buffer, tr.MinUnit = 0, 0, 0
	if c := FlowClass(itf, DefaultFacts, tr, FirstPooled); c.Rate != DefaultFacts.HTBRate(10_000, 400) {
		t.Errorf("controlled load: rate %d", c.Rate)
	}
	for name, change := range map[string]func(*Treatment){
		"R below r": func(t *Treatment) { t.Share = 9_999 },
		"R NaN":     func(t *Treatment) { t.Share = nan() },
		"buffer":    func(t *Treatment) { t.Buffer = -1 },
		"no buffer": func(t *Treatment) { t.Buffer = nan() },
	} {
		bad := tr
		bad.Key, bad.Police = flowKey(1), true
		change(&bad)
		if bad.Validate() == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func nan() float64 { var zero float64; return zero / zero }
