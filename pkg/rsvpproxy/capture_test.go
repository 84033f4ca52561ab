package rsvpproxy

import (
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func message(t *testing.T, typ wire.MsgType, dst string) []byte {
	t.Helper()
	d := datagram{
		src: netip.MustParseAddr("192.0.2.1"), dst: netip.MustParseAddr(dst), ttl: 9,
		payload: []byte{0x10, byte(typ), 0, 0, 9, 0, 0, 8},
	}
	b, err := d.append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testProxy(rate int) *Proxy {
	p := New(Config{Rate: rate}, Hooks{})
	p.SetInterfaces([]Interface{{Link: route.Link{Index: 1, Addr4: netip.MustParseAddr("10.9.0.1")}}})
	return p
}

// RFC 2209 section 2: Path, PathTear and ResvConf are every hop's business,
// the rest is forwarded untouched unless it is addressed to this node.
// That does not depend on Router Alert (RFC 2113 section 2.2).
func TestCaptureTakesWhatIsForThisHop(t *testing.T) {
	for _, tt := range []struct {
		typ  wire.MsgType
		dst  string
		want bool
	}{
		{wire.Path, "10.2.0.2", true},
		{wire.PathTear, "10.2.0.2", true},
		{wire.ResvConf, "10.2.0.2", true},
		{wire.Resv, "10.2.0.2", false},
		{wire.PathErr, "10.2.0.2", false},
		{wire.Resv, "10.9.0.1", true},
		{wire.ResvErr, "10.9.0.1", true},
	} {
		p := testProxy(0)
		if got := p.Capture(time.Now(), message(t, tt.typ, tt.dst), 1); got != tt.want || len(p.in) == 1 != tt.want {
			t.Errorf("%v to %s: consumed %v with %d queued, want %v", tt.typ, tt.dst, got, len(p.in), tt.want)
		}
	}
}

// What comes to any address of any of the interfaces is ours, whichever it comes
// by (RFC 2205 section 3.3).
func TestCaptureOfEveryAddressRFC2205Section3_3(t *testing.T) {
	p := New(Config{}, Hooks{})
	a := netip.MustParseAddr
	set := func(addrs ...netip.Addr) {
		p.SetInterfaces([]Interface{
			{Link: route.Link{Index: 1, Addr4: addrs[0], Addrs: addrs}},
			{Link: route.Link{Index: 2, Addr4: a("10.8.0.1"), Addrs: []netip.Addr{a("10.8.0.1"), a("10.8.1.1")}}},
		})
	}
	taken := func(dst string) bool { return p.Capture(time.Now(), message(t, wire.Resv, dst), 1) }
	set(a("10.9.0.1"))
	if !taken("10.9.0.1") || !taken("10.8.1.1") || taken("10.9.1.1") {
		t.Error("RESV to our addresses is not taken, or one to another is")
	}
	set(a("10.9.0.1"), a("10.9.1.1")) // an address comes
	if !taken("10.9.1.1") {
		t.Error("RESV to an address that came is not taken")
	}
	set(a("10.9.1.1")) // and one goes
	if taken("10.9.0.1") {
		t.Error("RESV to an address that went is taken")
	}
}

// RFC 3175 sections 2.2 and 3.1: end-to-end messages that cross an aggregation region are
// not for its interior.
func TestCapturePassesE2EIgnore(t *testing.T) {
	p := testProxy(0)
	m := message(t, wire.Path, "10.2.0.2")
	m[9] = 134
	if p.Capture(time.Now(), m, 1) || len(p.in) != 0 || p.CaptureCounters().Passed != 1 {
		t.Errorf("counters %+v", p.CaptureCounters())
	}
}

func TestCaptureIsLimited(t *testing.T) {
	p, now := testProxy(10), time.Now()
	m := message(t, wire.Path, "10.2.0.2")
	for range 30 {
		if !p.Capture(now, m, 1) {
			t.Fatal("a message over the limit was forwarded past the protocol")
		}
	}
	if c := p.CaptureCounters(); c.Taken != 10 || c.Strangers != 20 {
		t.Errorf("counters = %+v, want 10 taken and 20 limited", c)
	}
	p.Capture(now.Add(500*time.Millisecond), m, 1)
	if c := p.CaptureCounters(); c.Taken != 11 {
		t.Errorf("after half a second: %+v", c)
	}
}

func TestCaptureCountsWhatItCannotUse(t *testing.T) {
	p := testProxy(0)
	m := message(t, wire.Path, "10.2.0.2")
	if !p.Capture(time.Now(), m[:21], 1) {
		t.Error("a truncated packet was passed on")
	}
	fragment := append([]byte(nil), m...)
	fragment[6] = 0x20 // more fragments
	if p.Capture(time.Now(), fragment, 1) {
		t.Error("a fragment was consumed")
	}
	for range captureQueue + 5 {
		p.Capture(time.Now(), m, 1)
	}
	if c := p.CaptureCounters(); c.Malformed != 1 || c.Fragments != 1 || c.Overflow != 5 {
		t.Errorf("counters = %+v", c)
	}
}
