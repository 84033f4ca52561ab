package rsvpproxy

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// catcher keeps what is sent.
type catcher struct{ sent []*wire.Message }

func (c *catcher) SendVia(b []byte, _ int) error {
	v, err := packet.Parse(b)
	if err != nil {
		return err
	}
	m, err := wire.Options{RefreshReduction: true}.Parse(v.Transport())
	if err == nil {
		c.sent = append(c.sent, m)
	}
	return err
}

func layered(t *testing.T, on bool) (*Proxy, *catcher) {
	t.Helper()
	c := &catcher{}
	p := New(Config{Reliable: on}, Hooks{
		Send: c, Log: zap.NewNop(), Event: func(softstate.Event) {},
		ReceiverProxy: func(softstate.PathInfo) (softstate.ReserveSpec, bool) { return softstate.ReserveSpec{}, false },
	})
	p.SetInterfaces([]Interface{{Link: route.Link{Index: 1, MTU: 1500, Addr4: netip.MustParseAddr("10.9.0.1")}}})
	return p, c
}

func pathWithID(t *testing.T) []byte {
	t.Helper()
	b, err := (&wire.Message{
		Type: wire.Path, Flags: wire.RefreshReduction, SendTTL: 9,
		MessageID: &wire.MessageID{Epoch: 7, ID: 3, AckDesired: true},
		Session:   wire.Session{Dst: netip.MustParseAddr("10.2.0.2"), Protocol: 17, DstPort: 9},
		Hop:       &wire.Hop{Addr: netip.MustParseAddr("10.9.0.2")}, TimeValues: &wire.TimeValues{Refresh: 30000},
		SenderTemplate: &wire.Filter{Src: netip.MustParseAddr("10.1.0.2"), SrcPort: 8},
		SenderTSpec:    &intserv.TSpec{Rate: 1000, Bucket: 1000, Peak: 2000, MinUnit: 64, MaxPacket: 1500},
	}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RFC 2961 section 4: with Reliable a MESSAGE_ID is acknowledged; without, it is
// refused as the unknown class that it is (RFC 2205 section 3.10).
func TestReliableRFC2961Section4(t *testing.T) {
	for _, on := range []bool{true, false} {
		p, c := layered(t, on)
		now := time.Now()
		p.receive(captured{
			at: now, iface: 1, src: netip.MustParseAddr("10.1.0.2"), dst: netip.MustParseAddr("10.2.0.2"), ttl: 9,
			message: pathWithID(t),
		})
		if on {
			at, ok := p.deadline()
			if !ok || at.After(now.Add(time.Second)) {
				t.Fatalf("deadline %v %v", at, ok)
			}
			p.advanceLayer(at)
			if len(c.sent) != 1 || !slices.Contains(c.sent[0].Acks, wire.MessageIDAck{Epoch: 7, ID: 3}) {
				t.Errorf("sent %+v", c.sent)
			}
			if v := p.layer.Counters(); v.Received != 1 || v.Neighbors != 1 {
				t.Errorf("%+v", v)
			}
			continue
		}
		if len(c.sent) != 1 || c.sent[0].Type != wire.PathErr || c.sent[0].ErrorSpec.Code != wire.ErrUnknownClass || c.sent[0].Flags != 0 {
			t.Errorf("sent %+v", c.sent)
		}
	}
}

// RFC 2961 section 5.4: an identifier that is not known is answered by a NACK.
func TestReliableNackRFC2961Section5_4(t *testing.T) {
	p, c := layered(t, true)
	b, err := (&wire.Message{
		Type: wire.Srefresh, Flags: 1, SendTTL: 255,
		Lists: []wire.MessageIDList{{Epoch: 7, IDs: []wire.ListedID{{ID: 99}}}},
	}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	p.receive(captured{at: time.Now(), iface: 1, src: netip.MustParseAddr("10.9.0.2"), dst: netip.MustParseAddr("10.9.0.1"), ttl: 255, message: b})
	p.sendAll(p.layer.Flush(time.Now()))
	if len(c.sent) != 1 || c.sent[0].Acks[0] != (wire.MessageIDAck{Epoch: 7, ID: 99, Nack: true}) {
		t.Errorf("sent %+v", c.sent)
	}
}

// RFC 2961 section 5.2: a Srefresh for Path state may be addressed to a session
// and is then marked by Router Alert; Bundle and Ack go to the neighbour.
func TestCaptureReductionRFC2961Section5_2(t *testing.T) {
	for _, tt := range []struct {
		on    bool
		typ   wire.MsgType
		dst   string
		alert bool
		want  bool
	}{
		{true, wire.Srefresh, "10.2.0.2", true, true},
		{true, wire.Srefresh, "10.2.0.2", false, false},
		{true, wire.Srefresh, "10.9.0.1", false, true},
		{true, wire.Bundle, "10.9.0.1", false, true},
		{true, wire.Ack, "10.9.0.1", false, true},
		{true, wire.Bundle, "10.2.0.2", false, false},
		{true, wire.Ack, "10.2.0.2", true, false},
		{false, wire.Srefresh, "10.2.0.2", true, false},
	} {
		p, _ := layered(t, tt.on)
		d := datagram{src: netip.MustParseAddr("192.0.2.1"), dst: netip.MustParseAddr(tt.dst), ttl: 9, alert: tt.alert, payload: make([]byte, 8)}
		d.payload[0], d.payload[1] = 0x10, byte(tt.typ)
		binary.BigEndian.PutUint16(d.payload[6:], 8)
		b, err := d.append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Capture(time.Now(), b, 1); got != tt.want {
			t.Errorf("%+v: consumed %v", tt, got)
		}
	}
}

// A node that stops waits for the acknowledgment of its tears, but not long.
func TestSettleLayerIsBounded(t *testing.T) {
	p, c := layered(t, true)
	p.sendAll(p.layer.Send(time.Now(), softstate.Send{
		Out: 1, Src: netip.MustParseAddr("10.9.0.1"), Dst: netip.MustParseAddr("10.9.0.2"), TTL: 255,
		Msg: &wire.Message{
			Type: wire.ResvTear, SendTTL: 255, Style: wire.WF, Hop: &wire.Hop{Addr: netip.MustParseAddr("10.9.0.1")},
			Session: wire.Session{Dst: netip.MustParseAddr("10.2.0.2"), Protocol: 17, DstPort: 9},
		},
	}))
	start := time.Now()
	p.settleLayer()
	if d := time.Since(start); d < lastWords/2 || d > 2*lastWords {
		t.Errorf("took %v", d)
	}
	if n := len(c.sent); n != 2 { // the second after half a second
		t.Errorf("%d tears, want 2", n)
	}
}

// RFC 2961 section 4 over IPv6: the acknowledgment comes from our IPv6 address.
func TestReliableIPv6RFC2961Section4(t *testing.T) {
	var sent []packet.View
	p := New(Config{Reliable: true, Node: softstate.Config{IPv6: true}}, Hooks{
		Send: senderFunc(func(b []byte) error {
			v, err := packet.Parse(bytes.Clone(b))
			sent = append(sent, v)
			return err
		}), Log: zap.NewNop(), Event: func(softstate.Event) {},
		ReceiverProxy: func(softstate.PathInfo) (softstate.ReserveSpec, bool) { return softstate.ReserveSpec{}, false },
	})
	ours, theirs := netip.MustParseAddr("fd00:9::1"), netip.MustParseAddr("fd00:9::2")
	p.SetInterfaces([]Interface{{Link: route.Link{Index: 1, MTU: 9000, Addr6: ours}}})
	b, err := (&wire.Message{
		Type: wire.Path, Flags: wire.RefreshReduction, SendTTL: 9,
		MessageID: &wire.MessageID{Epoch: 7, ID: 3, AckDesired: true},
		Session:   wire.Session{Dst: netip.MustParseAddr("fd00:2::2"), Protocol: 17, DstPort: 9},
		Hop:       &wire.Hop{Addr: theirs}, TimeValues: &wire.TimeValues{Refresh: 30000},
		SenderTemplate: &wire.Filter{Src: netip.MustParseAddr("fd00:1::2"), SrcPort: 8},
		SenderTSpec:    &intserv.TSpec{Rate: 1000, Bucket: 1000, Peak: 2000, MinUnit: 64, MaxPacket: 1500},
	}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	p.receive(captured{at: now, iface: 1, src: netip.MustParseAddr("fd00:1::2"), dst: netip.MustParseAddr("fd00:2::2"), ttl: 9, message: b})
	at, _ := p.deadline()
	p.advanceLayer(at)
	if len(sent) != 1 || sent[0].Src() != ours || sent[0].Dst() != theirs || sent[0].Proto() != packet.ProtoRSVP || hasRouterAlert(sent[0]) {
		t.Fatalf("sent %+v, want an ACK from %s to %s", sent, ours, theirs)
	}
	m, err := wire.Options{RefreshReduction: true}.Parse(sent[0].Transport())
	if err != nil || !slices.Contains(m.Acks, wire.MessageIDAck{Epoch: 7, ID: 3}) {
		t.Errorf("%+v, %v", m, err)
	}
}

type senderFunc func([]byte) error

func (f senderFunc) SendVia(b []byte, _ int) error { return f(b) }

// Messages of all formats reach the machine, and are acknowledged and repeated as
// others are (RFC 2207, 3175, 4860 beside RFC 2961).
func TestFormatsReachTheMachine(t *testing.T) {
	dst, src := netip.MustParseAddr("10.2.0.2"), netip.MustParseAddr("10.1.0.2")
	for name, s := range map[string]wire.Session{
		"RFC 2207": {Dst: dst, Protocol: 50, DstPort: 8192, Format: wire.FormatGPI},
		"RFC 3175": {Dst: dst, DSCP: 46, Format: wire.FormatAggregate},
		"RFC 4860": {Dst: dst, PHB: 0xb800, Format: wire.FormatGenericAggregate},
	} {
		for _, on := range []bool{true, false} {
			p, c := layered(t, on)
			m := &wire.Message{
				Type: wire.Path, SendTTL: 9, Session: s, Hop: &wire.Hop{Addr: netip.MustParseAddr("10.9.0.2")},
				TimeValues: &wire.TimeValues{Refresh: 30000}, SenderTemplate: &wire.Filter{Src: src, Format: s.Format.Filters()},
				SenderTSpec: &intserv.TSpec{Rate: 1000, Bucket: 1000, Peak: 2000, MinUnit: 64, MaxPacket: 1500},
			}
			if on {
				m.Flags, m.MessageID = wire.RefreshReduction, &wire.MessageID{Epoch: 7, ID: 3, AckDesired: true}
			}
			b, err := m.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			in := func(b []byte) {
				p.receive(captured{at: now, iface: 1, src: src, dst: dst, ttl: 9, message: b})
			}
			in(b)
			if v := p.node.Sessions(now); len(v) != 1 || v[0].Session != s {
				t.Errorf("%s, reliable %v: %+v", name, on, v)
			}
			for _, m := range c.sent {
				if m.Type == wire.PathErr {
					t.Errorf("%s, reliable %v: %+v", name, on, m)
				}
			}
			if !on {
				continue
			}
			// A summary stands for the message as it came.
			b, err = (&wire.Message{
				Type: wire.Srefresh, Flags: wire.RefreshReduction, SendTTL: 255,
				Lists: []wire.MessageIDList{{Epoch: 7, IDs: []wire.ListedID{{ID: 3}}}},
			}).Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			before := p.node.Counters().In[wire.Path]
			p.receive(captured{at: now, iface: 1, src: netip.MustParseAddr("10.9.0.2"), dst: netip.MustParseAddr("10.9.0.1"), ttl: 255, message: b})
			if got := p.node.Counters().In[wire.Path]; got != before+1 {
				t.Errorf("%s: a summary refresh brought %d PATHs", name, got-before)
			}
		}
	}
}
