package rsvpproxy

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// RFC 2205 section 3.3: Path, PathTear and ResvConf carry the Router Alert
// option of RFC 2113; the others do not. An independent decoder reads it.
// RFC 2113 section 2.1: the option's four bytes, its value 0.
func TestDatagramRouterAlert(t *testing.T) {
	for _, alert := range []bool{true, false} {
		d := datagram{
			src: netip.MustParseAddr("10.1.0.2"), dst: netip.MustParseAddr("10.2.0.2"),
			ttl: 63, tos: 48 << 2, id: 77, alert: alert, payload: make([]byte, 40),
		}
		b, err := d.append(nil)
		if err != nil {
			t.Fatal(err)
		}
		ip, ok := gopacket.NewPacket(b, layers.LayerTypeIPv4, gopacket.Default).NetworkLayer().(*layers.IPv4)
		if !ok {
			t.Fatal("no IPv4 layer")
		}
		if ip.TTL != 63 || ip.Protocol != 46 || ip.TOS != 48<<2 || ip.Id != 77 || int(ip.Length) != len(b) || ip.Flags != 0 {
			t.Errorf("header = %+v", ip)
		}
		if got := len(ip.Options) == 1 && ip.Options[0].OptionType == 148 && ip.Options[0].OptionLength == 4; got != alert {
			t.Errorf("options = %v, want router alert: %v", ip.Options, alert)
		}
		v, err := packet.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if !v.IPv4ChecksumOK() {
			t.Error("header checksum is wrong")
		}
		if hasRouterAlert(v) != alert {
			t.Errorf("hasRouterAlert = %v", !alert)
		}
	}
}

func TestDatagramTooLong(t *testing.T) {
	d := datagram{src: netip.IPv4Unspecified(), dst: netip.IPv4Unspecified(), payload: make([]byte, 65530)}
	if b, err := d.append([]byte{1}); err == nil || len(b) != 1 {
		t.Errorf("append = %d bytes, %v; want an error and nothing appended", len(b), err)
	}
}

// A lying option length ends the walk, it does not loop or run past the header.
func TestRouterAlertWalkIsBounded(t *testing.T) {
	for _, opts := range [][4]byte{{7, 0, 0, 0}, {7, 200, 0, 0}, {1, 1, 1, 7}, {0, 0x94, 4, 0}, {1, 0x94, 4, 0}} {
		b := make([]byte, 32)
		b[0], b[3], b[9] = 0x46, 32, packet.ProtoRSVP
		copy(b[20:], opts[:])
		v, err := packet.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := hasRouterAlert(v), opts[0] == 1 && opts[1] == 0x94; got != want {
			t.Errorf("options %v: %v, want %v", opts, got, want)
		}
	}
}

// RFC 2711 section 2.1: over IPv6 the Router Alert is a hop-by-hop option with
// the value 1 for RSVP, the only one of its kind, on an even offset.
func TestDatagramRouterAlertRFC2711Section2_1(t *testing.T) {
	for _, alert := range []bool{true, false} {
		d := datagram{
			src: netip.MustParseAddr("fd00:1::2"), dst: netip.MustParseAddr("fd00:2::2"),
			ttl: 63, tos: 48 << 2, alert: alert, payload: make([]byte, 40),
		}
		b, err := d.append(nil)
		if err != nil {
			t.Fatal(err)
		}
		got := gopacket.NewPacket(b, layers.LayerTypeIPv6, gopacket.Default)
		ip, ok := got.NetworkLayer().(*layers.IPv6)
		if !ok {
			t.Fatal("no IPv6 layer")
		}
		if ip.HopLimit != 63 || ip.TrafficClass != 48<<2 || ip.FlowLabel != 0 || int(ip.Length) != len(b)-40 {
			t.Errorf("header = %+v", ip)
		}
		hop, ok := got.Layer(layers.LayerTypeIPv6HopByHop).(*layers.IPv6HopByHop)
		if ok != alert {
			t.Fatalf("hop-by-hop header: %v, want %v", ok, alert)
		}
		if alert {
			var alerts []*layers.IPv6HopByHopOption
			for _, o := range hop.Options {
				if o.OptionType == optAlert {
					alerts = append(alerts, o)
				}
			}
			if hop.NextHeader != 46 || hop.ActualLength != 8 || len(alerts) != 1 || !bytes.Equal(alerts[0].OptionData, []byte{0, 1}) {
				t.Errorf("hop-by-hop %+v", hop)
			}
		}
		v, err := packet.Parse(b)
		if err != nil || v.Proto() != packet.ProtoRSVP || len(v.Transport()) != 40 || v.TTL() != 63 {
			t.Errorf("%v: %+v", err, v)
		}
		if hasRouterAlert(v) != alert {
			t.Errorf("hasRouterAlert = %v", !alert)
		}
	}
}

func TestDatagramTooLong6(t *testing.T) {
	d := datagram{src: netip.IPv6Unspecified(), dst: netip.IPv6Unspecified(), alert: true, payload: make([]byte, 0xffff-7)}
	if b, err := d.append([]byte{1}); err == nil || len(b) != 1 {
		t.Errorf("append = %d bytes, %v; want an error and nothing appended", len(b), err)
	}
}

// alertedBy is an IPv6 packet whose hop-by-hop header has these options; their
// length is 6, or 8 more for each further unit.
func alertedBy(opts ...byte) []byte {
	n := 2 + len(opts)
	b := make([]byte, 40, 48+n)
	b[0], b[5], b[6] = 0x60, byte(n+8), packet.ProtoHopByHop
	b = append(append(b, packet.ProtoRSVP, byte(n/8-1)), opts...)
	return append(b, 0x10, 1, 0, 0, 9, 0, 0, 8)
}

// RFC 2711 section 2.2: other values are ignored, and the walk goes on behind
// them; a lying length ends it (RFC 8200 section 4.2).
func TestRouterAlertWalkRFC2711Section2_2(t *testing.T) {
	for _, tt := range []struct {
		opts []byte
		want bool
	}{
		{[]byte{5, 2, 0, 1, 1, 0}, true},
		{[]byte{0, 0, 5, 2, 0, 1}, true},
		{[]byte{1, 0, 5, 2, 0, 1}, true},
		{[]byte{5, 2, 0, 0, 1, 0}, false},                           // MLD
		{[]byte{5, 2, 0, 2, 1, 0}, false},                           // active networks
		{[]byte{5, 2, 0, 0, 0x3e, 4, 9, 9, 9, 9, 5, 2, 0, 1}, true}, // behind an unknown option
		{[]byte{0x3e, 40, 5, 2, 0, 1}, false},                       // runs past the header
		{[]byte{1, 4, 5, 2, 0, 1}, false},                           // within padding
		{[]byte{5, 3, 0, 1, 0, 0}, false},                           // wrong length
		{[]byte{0, 0, 0, 0, 0, 5}, false},                           // no room for its length
		{[]byte{1, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 2}, false},  // no room for its value
		{[]byte{0xc2, 4, 0, 1, 0, 0, 1, 2, 0, 0, 5, 2, 0, 1}, true}, // jumbo payload option, not 0 length
		{[]byte{1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 5, 2, 0, 1}, true},
	} {
		v, err := packet.Parse(alertedBy(tt.opts...))
		if err != nil {
			t.Fatalf("%v: %v", tt.opts, err)
		}
		if got := hasRouterAlert(v); got != tt.want {
			t.Errorf("options %v: %v, want %v", tt.opts, got, tt.want)
		}
	}
}

// An interface may lose its address while a message for it waits.
func TestDatagramWithoutAddress(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, d := range []datagram{{dst: four}, {dst: six}, {src: four}, {src: four, dst: six}, {src: six, dst: four}} {
		if b, err := d.append([]byte{1}); !errors.Is(err, errNoAddress) || len(b) != 1 {
			t.Errorf("%v to %v: %v", d.src, d.dst, err)
		}
	}
}
