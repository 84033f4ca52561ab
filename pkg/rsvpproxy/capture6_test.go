package rsvpproxy

import (
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func testProxy6(on bool) *Proxy {
	p := New(Config{Node: softstate.Config{IPv6: on}}, Hooks{})
	ours, link := netip.MustParseAddr("fd00:9::1"), netip.MustParseAddr("fe80::1")
	p.SetInterfaces([]Interface{
		{Link: route.Link{Index: 1, Addr6: ours, Addrs: []netip.Addr{ours, link}}},
		{Link: route.Link{Index: 2, Addr4: netip.MustParseAddr("10.9.0.1")}},
	})
	return p
}

func message6(t testing.TB, typ wire.MsgType, dst string, alert bool) []byte {
	t.Helper()
	d := datagram{
		src: netip.MustParseAddr("fd00:1::2"), dst: netip.MustParseAddr(dst), ttl: 9, alert: alert,
		payload: []byte{0x10, byte(typ), 0, 0, 9, 0, 0, 8},
	}
	b, err := d.append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RFC 2209 section 2 holds for both families. An interface without an IPv6
// address is a hop without RSVP for IPv6, and so is a node where it is off.
func TestCaptureIPv6RFC2209Section2(t *testing.T) {
	for _, tt := range []struct {
		typ   wire.MsgType
		dst   string
		iface int
		want  bool
	}{
		{wire.Path, "fd00:2::2", 1, true},
		{wire.PathTear, "fd00:2::2", 1, true},
		{wire.ResvConf, "fd00:2::2", 1, true},
		{wire.Path, "ff3e::4321", 1, true},
		{wire.Resv, "fd00:2::2", 1, false},
		{wire.Resv, "fd00:9::1", 1, true},
		{wire.ResvErr, "fe80::1", 1, true}, // whatever address of ours a neighbour knows
		{wire.Path, "fd00:2::2", 2, false},
		{wire.Path, "fd00:2::2", 3, false},
	} {
		for _, on := range []bool{true, false} {
			p := testProxy6(on)
			want := tt.want && on
			if got := p.Capture(time.Now(), message6(t, tt.typ, tt.dst, tt.typ.NeedsRouterAlert()), tt.iface); got != want || len(p.in) == 1 != want {
				t.Errorf("%v to %s by %d, IPv6 %v: consumed %v with %d queued, want %v", tt.typ, tt.dst, tt.iface, on, got, len(p.in), want)
			}
		}
	}
}

// RFC 2205 section 3.11.5: source, hop limit and the Router Alert come along,
// whatever extension headers stand before the message (RFC 8200 section 4.1).
func TestCaptureIPv6TellsRFC2205Section3_11_5(t *testing.T) {
	plain := message6(t, wire.Path, "fd00:2::2", false)
	with := func(first byte, headers ...byte) []byte {
		b := append(append(append([]byte(nil), plain[:40]...), headers...), plain[40:]...)
		b[5] += byte(len(headers))
		b[6] = first
		return b
	}
	alert := []byte{5, 2, 0, 1, 1, 0}
	for name, tt := range map[string]struct {
		pkt   []byte
		alert bool
	}{
		"none":            {plain, false},
		"router alert":    {message6(t, wire.Path, "fd00:2::2", true), true},
		"destination":     {with(packet.ProtoDestOpts, 46, 0, 1, 4, 0, 0, 0, 0), false},
		"alert elsewhere": {with(packet.ProtoDestOpts, append([]byte{46, 0}, alert...)...), false},
		"both":            {with(packet.ProtoHopByHop, append(append([]byte{packet.ProtoDestOpts, 0}, alert...), 46, 0, 1, 4, 0, 0, 0, 0)...), true},
		"atomic fragment": {with(packet.ProtoFragment, 46, 0, 0, 0, 1, 2, 3, 4), false}, // RFC 6946
	} {
		p := testProxy6(true)
		if !p.Capture(time.Now(), tt.pkt, 1) {
			t.Errorf("%s: not taken", name)
			continue
		}
		c := <-p.in
		if c.src != netip.MustParseAddr("fd00:1::2") || c.dst != netip.MustParseAddr("fd00:2::2") || c.ttl != 9 || c.alert != tt.alert || len(c.message) != 8 {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// Whatever comes is answered for, and a packet of ours is always understood.
func FuzzCapture(f *testing.F) {
	f.Add(alertedBy(5, 2, 0, 1, 1, 0), uint8(46))
	f.Add(alertedBy(0x3e, 40, 5, 2, 0, 1), uint8(0))
	for _, alert := range []bool{true, false} {
		f.Add(message6(f, wire.Path, "fd00:2::2", alert), uint8(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, pad uint8) {
		p := testProxy6(true)
		taken := p.Capture(time.Now(), b, 1)
		c := p.CaptureCounters()
		if c.Taken+c.Passed+c.Fragments+c.Malformed != 1 || taken != (c.Passed+c.Fragments == 0) {
			t.Errorf("consumed %v, counted %+v", taken, c)
		}
		if len(b) > 1000 {
			return
		}
		// Any options before ours, if they are whole, do not hide it.
		opts := append([]byte{0x3e, byte(min(len(b), 200))}, b[:min(len(b), 200)]...)
		for range pad % 8 {
			opts = append(opts, 0)
		}
		opts = append(opts, 5, 2, 0, 1)
		for len(opts)%8 != 6 {
			opts = append(opts, 0)
		}
		if v, err := packet.Parse(alertedBy(opts...)); err != nil || !hasRouterAlert(v) {
			t.Errorf("options %v: %v, not found", opts, err)
		}
	})
}
