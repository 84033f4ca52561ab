package admission

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

func cl(rate float64) intserv.FlowSpec {
	return intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: intserv.TSpec{
		Rate: rate, Bucket: 3000, Peak: math.Inf(1), MinUnit: 100, MaxPacket: 1500,
	}}
}

func gs(rate, service float64) intserv.FlowSpec {
	f := cl(rate)
	f.Service, f.RSpec = intserv.Guaranteed, intserv.RSpec{Rate: service}
	return f
}

func wan() Link { return Link{Name: "wan0", Capacity: 1e6, Reservable: 8e5, MTU: 1500} }

func request(id ID, f intserv.FlowSpec) Request { return Request{ID: id, Link: "wan0", FlowSpec: f} }

func usage(t *testing.T, c *Control, link string) LinkUsage {
	t.Helper()
	u, ok, err := c.Usage(link)
	if err != nil || !ok {
		t.Fatalf("usage of %s: %v, %v", link, ok, err)
	}
	return u
}

// RFC 2211 section 4: what is accepted has its bandwidth, by admission control.
func TestAdmitUpToReservable(t *testing.T) {
	c := New(NewMemory(), 100, wan())
	if d := c.Admit(request("a", cl(5e5))); !d.Admitted || d.Bandwidth != 5e5 {
		t.Fatalf("first: %+v", d)
	}
	if d := c.Admit(request("b", gs(1e5, 3e5))); !d.Admitted || d.Bandwidth != 3e5 {
		t.Fatalf("the exact rest, guaranteed service by R: %+v", d)
	}
	d := c.Admit(request("c", cl(1000)))
	if d.Admitted || d.Code != CodeAdmission || d.Value != ValueBandwidth || d.InPlace {
		t.Fatalf("one too many: %+v", d)
	}
	if want := "wan0 has 0 of 800000 bytes/s left, asked for are 1000"; d.Reason != want {
		t.Errorf("reason %q, want %q", d.Reason, want)
	}
	if u := usage(t, c, "wan0"); u.Reservations != 2 || u.Bandwidth != 8e5 || u.Free != 0 {
		t.Errorf("usage %+v", u)
	}
	if ok, err := c.Release("a"); !ok || err != nil {
		t.Errorf("release: %v %v", ok, err)
	}
	if ok, err := c.Release("a"); ok || err != nil {
		t.Errorf("second release: %v %v", ok, err)
	}
	if d := c.Admit(request("c", cl(5e5))); !d.Admitted {
		t.Errorf("after release: %+v", d)
	}
}

func TestAdmitIsIdempotent(t *testing.T) {
	c := New(NewMemory(), 1, wan())
	for range 3 {
		if d := c.Admit(request("a", cl(6e5))); !d.Admitted {
			t.Fatalf("%+v", d)
		}
	}
	if u := usage(t, c, "wan0"); u.Reservations != 1 || u.Bandwidth != 6e5 {
		t.Errorf("usage %+v", u)
	}
}

// TestAdmitFailedIncreaseRFC2205Section2_5: a failed increase leaves the
// earlier reservation in place, and says so.
func TestAdmitFailedIncreaseRFC2205Section2_5(t *testing.T) {
	c := New(NewMemory(), 100, wan())
	c.Admit(request("a", cl(5e5)))
	c.Admit(request("b", cl(2e5)))
	if d := c.Admit(request("a", cl(6e5))); !d.Admitted {
		t.Errorf("only the difference counts: %+v", d)
	}
	d := c.Admit(request("a", cl(7e5)))
	if d.Admitted || !d.InPlace || d.Value != ValueBandwidth {
		t.Errorf("%+v", d)
	}
	if u := usage(t, c, "wan0"); u.Bandwidth != 8e5 {
		t.Errorf("usage %+v", u)
	}
	es, err := c.Reservations("wan0")
	if err != nil || len(es) != 2 || es[0].Request.FlowSpec != cl(6e5) {
		t.Errorf("%+v, %v", es, err)
	}
}

// TestAdmitDecreaseRFC2211Section5: less is never refused, even when the link
// was made smaller than what it granted, or its MTU than the packets.
func TestAdmitDecreaseRFC2211Section5(t *testing.T) {
	c := New(NewMemory(), 1, wan())
	c.Admit(request("a", cl(6e5)))
	small := wan()
	small.Reservable, small.MTU = 1e5, 1000
	if err := c.SetLinks(small); err != nil {
		t.Fatal(err)
	}
	if d := c.Admit(request("a", cl(5e5))); !d.Admitted {
		t.Errorf("decrease: %+v", d)
	}
	if d := c.Admit(request("a", cl(5e5))); !d.Admitted {
		t.Errorf("refresh: %+v", d)
	}
	if d := c.Admit(request("a", cl(5e5+1))); d.Admitted || !d.InPlace {
		t.Errorf("increase: %+v", d)
	}
	if u := usage(t, c, "wan0"); u.Bandwidth != 5e5 || u.Free != 0 {
		t.Errorf("usage %+v", u)
	}
}

// TestAdmitMTURFC2211Section5: M above the link's MTU must be refused, an M
// that is not stated must not.
func TestAdmitMTURFC2211Section5(t *testing.T) {
	c := New(NewMemory(), 10, wan())
	f := cl(1000)
	f.TSpec.MaxPacket = 1501
	if d := c.Admit(request("a", f)); d.Admitted || d.Code != CodeAdmission || d.Value != ValueMTU {
		t.Errorf("%+v", d)
	}
	f.TSpec.MaxPacket = 0
	r := request("a", f)
	r.Senders = f.TSpec
	r.Senders.MaxPacket = 0x7fffffff
	if d := c.Admit(r); !d.Admitted || d.Installed.TSpec.MaxPacket != 1500 {
		t.Errorf("Cisco's M: %+v", d)
	}
}

func TestAdmitDelayRFC2212(t *testing.T) {
	c := New(NewMemory(), 10, wan())
	r := request("a", gs(1e5, 2e5))
	r.Ctot, r.Dtot = 1500, 1000
	r.Delay = 20 * time.Millisecond // the bound is 4500/2e5 s + 1 ms = 23.5 ms
	d := c.Admit(r)
	if d.Admitted || d.Code != CodeAdmission || d.Value != ValueDelay || !strings.Contains(d.Reason, "23.5ms") {
		t.Errorf("%+v", d)
	}
	r.Delay = 24 * time.Millisecond
	if d := c.Admit(r); !d.Admitted {
		t.Errorf("%+v", d)
	}
}

func TestAdmitRefusesNonsense(t *testing.T) {
	c := New(NewMemory(), 1, wan())
	unknown, null := cl(1000), cl(1000)
	unknown.Service, null.Service = 7, intserv.Null
	for name, tc := range map[string]struct {
		r     Request
		code  uint8
		value uint16
	}{
		"bad TSpec":       {request("a", cl(math.NaN())), CodeTrafficControl, ValueBadFlowSpec},
		"R below r":       {request("a", gs(1000, 999)), CodeTrafficControl, ValueBadFlowSpec},
		"unknown service": {request("a", unknown), CodeTrafficControl, ValueUnsupported},
		"null with rates": {request("a", null), CodeTrafficControl, ValueBadFlowSpec},
		"unknown link":    {Request{ID: "a", Link: "eth9", FlowSpec: cl(1000)}, CodeTCSystem, ValueNoLink},
	} {
		if d := c.Admit(tc.r); d.Admitted || d.Code != tc.code || d.Value != tc.value || d.Reason == "" {
			t.Errorf("%s: %+v", name, d)
		}
	}
	c.Admit(request("a", cl(1000)))
	if d := c.Admit(request("b", cl(1000))); d.Admitted || d.Value != ValueFull {
		t.Errorf("table full: %+v", d)
	}
}

func TestAdmitCountsLinkLayerRFC2210Section3_1(t *testing.T) {
	l := wan()
	l.Overhead = 50 // on packets of 100 bytes: one half more
	c := New(NewMemory(), 10, l)
	if d := c.Admit(request("a", cl(6e5))); d.Admitted {
		t.Errorf("%+v", d)
	}
	if d := c.Admit(request("a", cl(5e5))); !d.Admitted || d.Bandwidth != 7.5e5 {
		t.Errorf("%+v", d)
	}
}

// TestAdmitCountsTheSmallerRFC2205Section2_2: what senders announce limits what
// a reservation takes.
func TestAdmitCountsTheSmallerRFC2205Section2_2(t *testing.T) {
	c := New(NewMemory(), 10, wan())
	r := request("a", cl(9e5))
	r.Senders = cl(3e5).TSpec
	if d := c.Admit(r); !d.Admitted || d.Bandwidth != 3e5 || d.Installed.TSpec.Rate != 3e5 {
		t.Errorf("%+v", d)
	}
}

func TestUnmanagedLinkOnlyCounts(t *testing.T) {
	c := New(NewMemory(), 10, Link{Name: "lan0"})
	for _, id := range []ID{"a", "b"} {
		if d := c.Admit(Request{ID: id, Link: "lan0", FlowSpec: cl(39e12)}); !d.Admitted {
			t.Errorf("%+v", d)
		}
	}
	if u := usage(t, c, "lan0"); u.Bandwidth <= 0 || !math.IsInf(u.Free, 1) || u.Reservations != 2 {
		t.Errorf("%+v", u)
	}
}

// TestAdmitMovesBetweenLinks: after a route change the ID appears elsewhere.
func TestAdmitMovesBetweenLinks(t *testing.T) {
	other := wan()
	other.Name, other.Reservable = "wan1", 1e5
	c := New(NewMemory(), 10, wan(), other)
	r := request("a", cl(2e5))
	c.Admit(r)
	r.Link = "wan1"
	if d := c.Admit(r); d.Admitted || !d.InPlace {
		t.Errorf("too much for the other link: %+v", d)
	}
	r.FlowSpec = cl(1e5)
	if d := c.Admit(r); !d.Admitted {
		t.Errorf("%+v", d)
	}
	if a, b := usage(t, c, "wan0"), usage(t, c, "wan1"); a.Reservations != 0 || a.Bandwidth != 0 || b.Bandwidth != 1e5 {
		t.Errorf("%+v %+v", a, b)
	}
}

// TestWireRoundingDoesNotMatter: thirds of a link fill it, though their rates
// went through single-precision floats.
func TestWireRoundingDoesNotMatter(t *testing.T) {
	for _, capacity := range []float64{1e5, 1e6, 1.25e9} {
		c := New(NewMemory(), 10, Link{Name: "wan0", Capacity: capacity, Reservable: capacity})
		for _, id := range []ID{"a", "b", "c"} {
			if d := c.Admit(request(id, cl(capacity/3).Wire())); !d.Admitted {
				t.Errorf("%v, %s: %+v", capacity, id, d)
			}
		}
	}
}

type brokenLedger struct{ *Memory }

var errBroken = errors.New("out of reach")

func (brokenLedger) Commit(Entry, []int64) (Short, bool, error) { return Short{}, false, errBroken }

func TestLedgerFailureIsRefusal(t *testing.T) {
	c := New(brokenLedger{NewMemory()}, 10, wan())
	if d := c.Admit(request("a", cl(1))); d.Admitted || d.Code != CodeTCSystem || d.Value != ValueLedger || !strings.Contains(d.Reason, "out of reach") {
		t.Errorf("%+v", d)
	}
}
