package rsvpproxy

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// RFC 2205 section 3.3: Path, PathTear and ResvConf carry the Router Alert
// option of RFC 2113; the others do not. An independent decoder reads it.
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
