package daemon

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func named(id uint64, s wire.Session, out softstate.IfIndex) softstate.Reserve {
	r := request(id, 1e5)
	s.Dst = netip.MustParseAddr("10.2.0.2")
	r.Session, r.Out = s, out
	r.Filters = []wire.Filter{{Src: netip.MustParseAddr("10.1.0.2"), Format: s.Format.Filters()}}
	return r
}

var (
	bySPI = wire.Session{Protocol: 50, DstPort: 8192, Format: wire.FormatGPI}
	byEF  = wire.Session{DSCP: 46, Format: wire.FormatAggregate}
	byPHB = wire.Session{PHB: 0xb800, Format: wire.FormatGenericAggregate}
)

// What the kernel's table cannot name has no treatment: it is counted where that
// is all there is to do, and refused by error 21 value 2 where it is not.
// Aggregates are admitted as usual (RFC 3175 section 2.7, RFC 4860 section 3.1).
func TestReservationsThatAreNoFlows(t *testing.T) {
	null := func(r *softstate.Reserve) {
		r.FlowSpec = intserv.FlowSpec{Service: intserv.Null, TSpec: intserv.TSpec{MaxPacket: 1400}}
		r.SenderTSpec = r.FlowSpec.TSpec
	}
	guaranteed := func(r *softstate.Reserve) {
		r.FlowSpec.Service, r.FlowSpec.RSpec.Rate, r.Role = intserv.Guaranteed, 2e5, softstate.Transit
	}
	first := func(r *softstate.Reserve) { // its flows have classes of their own here
		guaranteed(r)
		r.Role = softstate.SenderProxy
	}
	for name, tc := range map[string]struct {
		session wire.Session
		out     softstate.IfIndex
		change  func(*softstate.Reserve)
		counted int64 // bytes/s; -1: refused
	}{
		"RFC 3175, shaped":                 {byEF, wan, nil, 1e5},
		"RFC 3175, guaranteed, shaped":     {byEF, wan, guaranteed, -1},
		"RFC 3175, guaranteed, begins":     {byEF, wan, first, 2e5},
		"RFC 3175, guaranteed, not shaped": {byEF, lan, guaranteed, 2e5},
		"RFC 4860, shaped":                 {byPHB, wan, nil, 1e5},
		"RFC 2997":                         {wire.Session{Protocol: 17, DstPort: 9}, wan, null, 0},
		"RFC 2997, by SPI":                 {bySPI, wan, null, 0},
	} {
		r := testControl(t)
		ask := named(1, tc.session, tc.out)
		if tc.change != nil {
			tc.change(&ask)
		}
		refusal := r.Reserve(ask)
		if tc.counted < 0 {
			if refusal == nil || refusal.Code != wire.ErrTrafficControl || refusal.Value != wire.TCServiceUnsupported || !strings.Contains(refusal.Text, "in this version (wan0)") {
				t.Errorf("%s: %+v", name, refusal)
			}
			continue
		}
		if refusal != nil {
			t.Errorf("%s: %v", name, refusal)
			continue
		}
		link := r.links().name(int(tc.out))
		if u, _, err := r.admit.Usage(link); err != nil || u.Bandwidth != tc.counted || u.Reservations != 1 {
			t.Errorf("%s: ledger %+v, %v", name, u, err)
		}
		if len(r.fake.have) != 0 {
			t.Errorf("%s: treatments %+v", name, r.fake.have)
		}
		if n, _ := r.flows.size(); n != 0 {
			t.Errorf("%s: %d rows of flows", name, n)
		}
		r.Release(1)
		if u, _, _ := r.admit.Usage(link); u.Reservations != 0 {
			t.Errorf("%s: ledger after the release %+v", name, u)
		}
	}
}

// RFC 2207 section 4.1: what an SPI names is treated as what ports name: policed,
// marked and with a class of its own, the session's virtual port being no part of
// the data.
func TestReservationBySPIRFC2207Section4_1(t *testing.T) {
	filter := func(spi uint32) wire.Filter {
		return wire.Filter{Src: netip.MustParseAddr("10.1.0.2"), SPI: spi, Format: wire.FormatGPI}
	}
	r := testControl(t)
	for id, spi := range []uint32{0x1001, 0x2002_0007} {
		ask := named(uint64(id+1), bySPI, wan)
		ask.Filters = []wire.Filter{filter(spi)}
		if refusal := r.Reserve(ask); refusal != nil {
			t.Fatal(refusal)
		}
		key := packet.SPIKey(50, ask.Filters[0].Src, ask.Session.Dst, spi)
		if got := r.fake.have[key]; !got.Reserve || got.Rate != 1e5 || got.Grouped() {
			t.Errorf("%s: %+v", key, got)
		}
		if m, ok := r.view(uint64(id+1), key); !ok || m.class == 0 {
			t.Errorf("%s has no class", key)
		}
	}
	r.Release(1)
	r.Release(2)
	if len(r.fake.have) != 0 {
		t.Errorf("left: %+v", r.fake.have)
	}
	// RFC 4303 section 2.1: no packet has SPI 0, which would stand for all.
	ask := named(9, bySPI, wan)
	if refusal := r.Reserve(ask); refusal == nil || len(r.fake.have) != 0 {
		t.Errorf("SPI 0: %v, %+v", refusal, r.fake.have)
	}
	// Sessions with other virtual ports share nothing.
	var groups []packet.FlowKey
	for i, port := range []uint16{8192, 8193} {
		ask := named(uint64(i+3), bySPI, wan)
		ask.Session.DstPort, ask.Style = port, wire.SE
		ask.Filters = []wire.Filter{filter(uint32(0x3000 + 2*i)), filter(uint32(0x3001 + 2*i))}
		if refusal := r.Reserve(ask); refusal != nil {
			t.Fatal(refusal)
		}
		a, b := r.fake.have[flowKey(ask.Session, ask.Filters[0])], r.fake.have[flowKey(ask.Session, ask.Filters[1])]
		if !a.Grouped() || a.Group != b.Group {
			t.Errorf("port %d: %+v and %+v", port, a, b)
		}
		groups = append(groups, a.Group)
	}
	if groups[0] == groups[1] {
		t.Error("two sessions have one bucket")
	}
}

// RFC 2205 section 3.2 and Appendix A.9: senders without a port, and those that a
// flow label names, have rows of their own.
func TestKeysWithoutPortsRFC2205Section3_2(t *testing.T) {
	src, dst := netip.MustParseAddr("fd00:1::2"), netip.MustParseAddr("fd00:2::2")
	key := func(sport, dport uint16, label uint32) packet.FlowKey {
		k := packet.MakeKey(17, netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport))
		k.Label = label
		return k
	}
	for _, c := range []struct {
		dport uint16
		f     wire.Filter
		want  packet.FlowKey
	}{
		{5004, wire.Filter{Src: src, SrcPort: 4000}, key(4000, 5004, 0)},
		{5004, wire.Filter{Src: src}, key(0, 5004, 0)},
		{0, wire.Filter{Src: src}, key(0, 0, 0)},
		{5004, wire.Filter{Src: src, Format: wire.FormatFlowLabel, Label: 7}, key(0, 5004, 7)},
	} {
		s := wire.Session{Dst: dst, Protocol: 17, DstPort: c.dport}
		if got := flowKey(s, c.f); got != c.want {
			t.Errorf("%v: %v, want %v", c.f, got, c.want)
		}
		if got := matchKey(s, c.f); got.Label != 0 {
			t.Errorf("%v: policies see a label", c.f)
		}
	}
}

// Ports that a session gives to IPsec are none of its data, and no SPI of another's.
func TestIPsecHasNoPorts(t *testing.T) {
	src, dst := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.2.0.2")
	for _, proto := range []uint8{packet.ProtoESP, packet.ProtoAH} {
		key := flowKey(wire.Session{Dst: dst, Protocol: proto, DstPort: 0x2002}, wire.Filter{Src: src, SrcPort: 0x1001})
		if key.SPI() != 0 || key.SrcPort != 0 || key.DstPort != 0 {
			t.Errorf("%v", key)
		}
	}
}

// The receiver proxy speaks for hosts' IPsec flows, and for no router's aggregates.
// RFC 3175 sections 2.1 to 2.12 and RFC 4860 section 4 are an aggregator's; RFC 2997
// section 3.3 is a receiver's.
func TestReceiverProxyOfFormats(t *testing.T) {
	r := testControl(t)
	s := bySPI
	s.Dst = imagingKey.DstAddr()
	info := softstate.PathInfo{
		Session: s, Sender: wire.Filter{Src: imagingKey.SrcAddr(), SPI: 104, Format: wire.FormatGPI}, TSpec: spec(5e5).TSpec, In: wan, Out: lan,
	}
	if key := matchKey(info.Session, info.Sender); key.SrcPort != 0 || key.DstPort != 0 {
		t.Errorf("policies take a virtual port, or an SPI, for one of the data: %v", key)
	}
	info.Session = byEF
	info.Session.Dst = imagingKey.DstAddr()
	if _, ok := r.receiverProxy(info); ok {
		t.Error("answered for a deaggregator")
	}
	p := voicePolicy
	if got := askFor(&p, softstate.PathInfo{TSpec: intserv.TSpec{MaxPacket: 1400}}).Refusal; got == nil || got.Value != wire.TCServiceUnsupported {
		t.Errorf("asked for a sender of the null service: %+v", got)
	}
}
