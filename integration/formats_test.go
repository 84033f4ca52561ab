package integration

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// anyMessage decodes a captured message of whatever format.
func anyMessage(f []byte) (*wire.Message, error) {
	header := int(f[ethernet]&15) * 4
	total := int(binary.BigEndian.Uint16(f[ethernet+2:]))
	if ethernet+total > len(f) || header > total {
		return nil, fmt.Errorf("frame of %d bytes has an IP packet of %d", len(f), total)
	}
	return wire.ParseWith(f[ethernet+header:ethernet+total], wire.AllFormats)
}

// says sends a message as an IP packet from a namespace's raw socket.
func says(t *testing.T, raw *traffic.Raw, src, dst netip.Addr, m *wire.Message) {
	t.Helper()
	m.SendTTL = 64
	body, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	ip := make([]byte, 20, 20+len(body))
	ip[0], ip[8], ip[9] = 0x45, m.SendTTL, 46
	copy(ip[12:], src.AsSlice())
	copy(ip[16:], dst.AsSlice())
	if err := raw.Send(append(ip, body...)); err != nil {
		t.Fatal(err)
	}
}

// hears waits for a message of a type in a session.
func hears(t *testing.T, c *traffic.Capture, kind wire.MsgType, s wire.Session) *wire.Message {
	t.Helper()
	ctx, cancel := rig.Within(t.Context(), 8*time.Second)
	defer cancel()
	var found *wire.Message
	_, err := c.Wait(ctx, func(f traffic.Frame) bool {
		m, err := anyMessage(f.Data)
		if err != nil || m.Type != kind || m.Session.Key() != s {
			return false
		}
		found = m
		return true
	})
	if err != nil {
		t.Fatalf("%v of %v: %v", kind, s, err)
	}
	return found
}

// A box between two RSVP nodes passes sessions that are not named by ports, with
// all that belongs to them: of IPsec (RFC 2207), of aggregates (RFC 3175, RFC
// 4860), and of the null service (RFC 2997).
func TestFormatsThroughABox(t *testing.T) {
	t.Parallel()
	type format struct {
		name    string
		session wire.Session
		sender  wire.Filter
		flow    intserv.FlowSpec
		shaped  uint64 // what the link counts where it is shaped, bit/s
		row     console.SessionRow
	}
	load := intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: intserv.TSpec{Rate: 10_000, Bucket: 800, Peak: 20_000, MinUnit: 64, MaxPacket: 400}}
	null := intserv.FlowSpec{Service: intserv.Null, TSpec: intserv.TSpec{MaxPacket: 1400}}
	formats := []format{
		{
			"RFC2207",
			wire.Session{Dst: addrB, Protocol: 50, DstPort: 8192, Format: wire.FormatGPI},
			wire.Filter{Src: addrA, SPI: 0x1001, Format: wire.FormatGPI},
			load, 80_000,
			console.SessionRow{Protocol: "esp", Dport: 8192, Format: "gpi", SPI: 0x1001, DSCP: 26, PHB: "af31"},
		},
		{
			"RFC3175",
			wire.Session{Dst: addrB, DSCP: 46, Format: wire.FormatAggregate},
			wire.Filter{Src: addrA, Format: wire.FormatAggregate},
			load, 80_000,
			console.SessionRow{Protocol: "0", Format: "aggregate", DSCP: 46, PHB: "ef"},
		},
		{
			"RFC4860",
			wire.Session{Dst: addrB, PHB: 0xb800, DstPort: 7, Extended: [16]byte{10, 1, 0, 2}, Format: wire.FormatGenericAggregate},
			wire.Filter{Src: addrA, Format: wire.FormatAggregate},
			load, 80_000,
			console.SessionRow{Protocol: "0", Dport: 7, Format: "generic-aggregate", PHB: "0xb800"},
		},
		{
			"RFC2997",
			wire.Session{Dst: addrB, Protocol: 17, DstPort: 9000},
			wire.Filter{Src: addrA, SrcPort: 9001},
			null, 0,
			console.SessionRow{Protocol: "udp", Dport: 9000, Sport: 9001},
		},
	}
	for _, capacity := range []string{"19mbit", ""} {
		l := newLab(t, 1, nil)
		l.watch(t, lanIface, rightWAN)
		c := config{hosts: []string{lanIface}, network: []string{rightWAN}, capacity: capacity, policies: "  []\n"}
		l.startAll(t, c.String())
		fromA, fromB := capture(t, l.a, hostIface, isRSVP), capture(t, l.b, hostIface, isRSVP)
		var raws [2]*traffic.Raw
		for i, ns := range []*netns.NetNS{l.a, l.b} {
			raw, err := traffic.OpenRaw(ns)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = raw.Close() })
			raws[i] = raw
		}
		up, down := netip.MustParseAddr(boxUp), netip.MustParseAddr(boxDown)
		for _, f := range formats {
			refresh := &wire.TimeValues{Refresh: 30_000}
			tspec := f.flow.TSpec
			says(t, raws[0], addrA, addrB, &wire.Message{
				Type: wire.Path, Session: f.session, Hop: &wire.Hop{Addr: addrA, LIH: 5}, TimeValues: refresh,
				SenderTemplate: &f.sender, SenderTSpec: &tspec,
			})
			path := hears(t, fromB, wire.Path, f.session)
			if path.Hop.Addr != down || *path.SenderTemplate != f.sender || *path.SenderTSpec != tspec {
				t.Errorf("%s: PATH %+v", f.name, path)
			}
			flow := f.flow
			says(t, raws[1], addrB, down, &wire.Message{
				Type: wire.Resv, Session: f.session, Hop: &wire.Hop{Addr: addrB, LIH: path.Hop.LIH}, TimeValues: refresh,
				Style: wire.FF, Flows: []wire.FlowDescriptor{{FlowSpec: &flow, Filters: []wire.Filter{f.sender}}},
			})
			resv := hears(t, fromA, wire.Resv, f.session)
			if resv.Hop.Addr != up || resv.Hop.LIH != 5 || len(resv.Flows) != 1 || *resv.Flows[0].FlowSpec != flow || resv.Flows[0].Filters[0] != f.sender {
				t.Errorf("%s: RESV %+v", f.name, resv)
			}
		}
		rows, err := l.boxes[0].Sessions(t.Context())
		if err != nil || len(rows) != len(formats) {
			t.Fatalf("sessions %+v, %v", rows, err)
		}
		var counted uint64
		for _, f := range formats {
			counted += f.shaped
			found := false
			for _, r := range rows {
				if r.Format != f.row.Format || r.Dport != f.row.Dport {
					continue
				}
				found = true
				if r.State != console.SessionReserved || r.Protocol != f.row.Protocol || r.SPI != f.row.SPI || r.Sport != f.row.Sport || r.DSCP != f.row.DSCP || r.Role != "transit" {
					t.Errorf("%s: %+v", f.name, r)
				}
				if r.Service != f.flow.Service.String() || f.row.PHB != r.PHB {
					t.Errorf("%s: %+v", f.name, r)
				}
			}
			if !found {
				t.Errorf("%s: no row among %+v", f.name, rows)
			}
		}
		if links, err := l.boxes[0].Links(t.Context()); err != nil || capacity != "" && linkRow(links, rightWAN).ReservedBPS != counted {
			t.Errorf("links %+v, %v: want %d bit/s reserved", links, err, counted)
		}
		securedFlow(t, l, raws[0], 0x1001, capacity != "")
		l.boxes[0].stop(t)
		for _, f := range formats {
			hears(t, fromB, wire.PathTear, f.session)
		}
	}
}

// securedFlow sends ESP packets of the SPI that is reserved, and of another: the
// kernel tells them apart (RFC 2207 section 4.1).
func securedFlow(t *testing.T, l *lab, from *traffic.Raw, spi uint32, shaped bool) {
	t.Helper()
	esp := func(spi uint32) []byte {
		b := make([]byte, 200)
		b[0], b[8], b[9] = 0x45, 64, 50
		copy(b[12:], addrA.AsSlice())
		copy(b[16:], addrB.AsSlice())
		binary.BigEndian.PutUint32(b[20:], spi)
		return b
	}
	const reserved, others = 2, 5 // 400 bytes are within what the peak rate allows at once
	for i := range reserved + others {
		named := spi
		if i >= reserved {
			named += uint32(i)
		}
		if err := from.Send(esp(named)); err != nil {
			t.Fatal(err)
		}
	}
	var row console.FlowRow
	eventually(t, 8*time.Second, "the secured flow", func() error {
		rows, err := l.boxes[0].Flows(t.Context())
		if err != nil {
			return err
		}
		for _, row = range rows {
			if row.SPI == spi && row.Packets >= reserved {
				return nil
			}
		}
		return fmt.Errorf("no row of SPI %#x with %d packets: %+v", spi, reserved, rows)
	})
	if row.Protocol != "esp" || row.Sport != 0 || row.Dport != 0 || row.Packets != reserved || row.Bytes != reserved*200 || row.ConformPackets != reserved || (row.Class != "") != shaped {
		t.Errorf("%+v", row)
	}
}
