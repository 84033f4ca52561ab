package rsvpproxy

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/aggregate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// hidden is a message of protocol 134 whose Router Alert has a value; below 0: it
// has none.
func hidden(t *testing.T, typ wire.MsgType, dst string, value int) []byte {
	t.Helper()
	d := datagram{
		src: netip.MustParseAddr("192.0.2.1"), dst: netip.MustParseAddr(dst), ttl: 9, hidden: true, alert: value >= 0,
		payload: []byte{0x10, byte(typ), 0, 0, 9, 0, 0, 8},
	}
	if d.dst.Is6() {
		d.src = netip.MustParseAddr("2001:db8::1")
	}
	b, err := d.append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if value >= 0 && d.dst.Is4() {
		binary.BigEndian.PutUint16(b[22:], uint16(value))
	} else if value >= 0 {
		binary.BigEndian.PutUint16(b[44:], uint16(value))
	}
	return b
}

// edgeProxy is at the edge of a region: 1 and 2 lead inside, 3 and 4 do not.
func edgeProxy() *Proxy {
	p := New(Config{}, Hooks{})
	p.cfg.Node.IPv6 = true
	a := netip.MustParseAddr
	p.SetInterfaces([]Interface{
		{Link: route.Link{Index: 1, Addr4: a("10.1.0.1"), Addr6: a("2001:db8:1::1")}, Interior: &aggregate.Interior{}},
		{Link: route.Link{Index: 2, Addr4: a("10.2.0.1")}, Interior: &aggregate.Interior{}},
		{Link: route.Link{Index: 3, Addr4: a("10.3.0.1")}},
		{Link: route.Link{Index: 4, Addr4: a("10.4.0.1")}},
	})
	p.ways.asked = func(dst netip.Addr) (route.Hop, error) {
		if dst == a("10.1.0.1") {
			return route.Hop{Local: true}, nil
		}
		if dst == a("10.9.0.2") {
			return route.Hop{}, errors.New("no route")
		}
		if dst.Is6() {
			return route.Hop{Index: 3}, nil
		}
		return route.Hop{Index: int(dst.As4()[1])}, nil
	}
	return p
}

// RFC 3175 sections 2.2, 2.3 and 3.1: a message of protocol 134 is taken by who
// forwards it from an interior to an exterior interface, or is its destination; it is
// forwarded untouched from interior to interior. Section 5: Path, PathTear and
// ResvConf alone. Section 1.4.9: only of the level that is made here. And what comes
// from outside must not get in.
func TestCaptureOfHiddenMessagesRFC3175Section2_3(t *testing.T) {
	for _, tt := range []struct {
		typ   wire.MsgType
		in    int
		dst   string
		value int
		want  whose
	}{
		{wire.Path, 1, "10.3.0.2", 1, ours},
		{wire.PathTear, 1, "10.3.0.2", 1, ours},
		{wire.ResvConf, 2, "10.4.0.2", 1, ours},
		{wire.ResvConf, 1, "10.1.0.1", 1, ours}, // this machine
		{wire.Path, 1, "2001:db8:3::2", 4, ours},
		{wire.Path, 1, "2001:db8:3::2", 5, others}, // level 2
		{wire.Path, 1, "10.3.0.2", 0, ours},        // the level is not told
		{wire.Path, 1, "10.3.0.2", -1, ours},
		{wire.Path, 1, "10.3.0.2", 2, others},
		{wire.Path, 1, "10.2.0.2", 1, others}, // goes on inside
		{wire.Path, 1, "10.9.0.2", 1, others},
		{wire.Resv, 1, "10.3.0.2", 1, others},
		{wire.PathErr, 1, "10.1.0.1", 1, others},
		{wire.Path, 3, "10.4.0.2", 1, others}, // passes by
		{wire.Path, 3, "10.1.0.2", 1, intruder},
		{wire.Path, 3, "10.1.0.2", 2, others},
		{wire.Path, 7, "10.3.0.2", 1, others}, // an interface that is none of ours
	} {
		p := edgeProxy()
		got := p.Capture(time.Now(), hidden(t, tt.typ, tt.dst, tt.value), tt.in)
		c := p.CaptureCounters()
		if got != (tt.want != others) || (len(p.in) == 1) != (tt.want == ours) || (c.Intruders == 1) != (tt.want == intruder) || c.Malformed != 0 {
			t.Errorf("%v from %d to %s with %d: consumed %v, %d queued, %+v", tt.typ, tt.in, tt.dst, tt.value, got, len(p.in), c)
		}
		if len(p.in) == 1 {
			if c := <-p.in; !c.hidden || c.alert != (tt.value > 0) {
				t.Errorf("%+v", c)
			}
		}
	}
}

// What is too short to be a message is still not for the interior to drop.
func TestCaptureOfShortHiddenMessages(t *testing.T) {
	p := edgeProxy()
	b := hidden(t, wire.Path, "10.3.0.2", -1)[:24]
	binary.BigEndian.PutUint16(b[2:], 24)
	if p.Capture(time.Now(), b, 1) {
		t.Error("taken")
	}
}

// RFC 3175 sections 1.4.9 and 3.1, RFC 5350 section 4: protocol 134, and Router
// Alert tells the level, 1. An independent decoder reads it.
func TestHiddenDatagramRFC3175Section1_4_9(t *testing.T) {
	d := datagram{src: netip.MustParseAddr("10.1.0.2"), dst: netip.MustParseAddr("10.2.0.2"), ttl: 63, alert: true, hidden: true, payload: make([]byte, 40)}
	b, err := d.append(nil)
	if err != nil {
		t.Fatal(err)
	}
	ip, ok := gopacket.NewPacket(b, layers.LayerTypeIPv4, gopacket.Default).NetworkLayer().(*layers.IPv4)
	if !ok || ip.Protocol != 134 || len(ip.Options) != 1 || ip.Options[0].OptionType != 148 || string(ip.Options[0].OptionData) != "\x00\x01" {
		t.Errorf("header = %+v", ip)
	}
	v, err := packet.Parse(b)
	if err != nil || !v.IPv4ChecksumOK() || alertLevel(v) != 1 || v.Proto() != packet.ProtoRSVPE2E {
		t.Errorf("%v: level %d", err, alertLevel(v))
	}
	d.src, d.dst = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	if b, err = d.append(nil); err != nil {
		t.Fatal(err)
	}
	hop, ok := gopacket.NewPacket(b, layers.LayerTypeIPv6, gopacket.Default).Layer(layers.LayerTypeIPv6HopByHop).(*layers.IPv6HopByHop)
	if !ok || hop.NextHeader != 134 || hop.Options[0].OptionType != optAlert || string(hop.Options[0].OptionData) != "\x00\x04" {
		t.Errorf("hop-by-hop header = %+v", hop)
	}
	if v, err = packet.Parse(b); err != nil || alertLevel(v) != 1 || hasRouterAlert(v) || v.Proto() != packet.ProtoRSVPE2E {
		t.Errorf("%v: level %d", err, alertLevel(v))
	}
}

// RFC 3175 section 1.4.5: an aggregate's ADSPEC tells what those who ride in it can rely
// on. Where it is shaped, no bound on delays is among that.
func TestWithinARegionGuaranteedServiceIsNotOffered(t *testing.T) {
	p := New(Config{}, Hooks{})
	p.SetInterfaces([]Interface{{Link: route.Link{Index: 1}, Bandwidth: 1e6}, {Link: route.Link{Index: 2}}})
	ad := intserv.NewAdSpec(intserv.Hop{Guaranteed: &intserv.GuaranteedHop{C: 1, D: 1}, ControlledLoad: &intserv.ServiceHop{}})
	for _, tt := range []struct {
		format    wire.Format
		from, out softstate.IfIndex
		breaks    bool
	}{
		{wire.FormatAggregate, 2, 1, true},
		{wire.FormatGenericAggregate, 2, 1, true},
		{wire.FormatAggregate, 1, 2, false}, // not shaped
		{wire.FormatAggregate, 0, 1, false}, // it begins here
		{wire.FormatPorts, 2, 1, false},
	} {
		a := ad.Clone()
		s := softstate.Send{From: tt.from, Out: tt.out, Msg: &wire.Message{Type: wire.Path, Session: wire.Session{Format: tt.format}, AdSpec: &a}}
		p.within(&s)
		if s.Msg.AdSpec.Guaranteed.Break != tt.breaks || s.Msg.AdSpec.ControlledLoad.Break || a.Guaranteed.Break {
			t.Errorf("%v from %d to %d: %+v", tt.format, tt.from, tt.out, s.Msg.AdSpec.Guaranteed)
		}
	}
}
