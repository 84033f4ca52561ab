package integration

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// say sends an RSVP message from a host.
func say(t *testing.T, ns *netns.NetNS, to netip.Addr, m *wire.Message) {
	t.Helper()
	m.SendTTL = 64 // that of the host's raw sockets
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Do(func() error {
		c, err := net.Dial("ip4:46", to.String())
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }() // all was written
		_, err = c.Write(b)
		return err
	}); err != nil {
		t.Fatalf("%v to %s: %v", m.Type, to, err)
	}
}

// kinds lists the RSVP messages on a wire, each type once.
func kinds(c *traffic.Capture) (list []wire.MsgType) {
	frames, _ := c.Frames()
	for _, f := range frames {
		if m, err := message(f.Data); err == nil && !slices.Contains(list, m.Type) {
			list = append(list, m.Type)
		}
	}
	return list
}

// waitRole waits until a box has a session in a role, and fails if the
// reservation is not in place all the while.
func (b *box) waitRole(t *testing.T, dport uint16, role string) (found console.SessionRow) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		rows, err := b.Sessions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != 1 || rows[0].Dport != dport || rows[0].State != console.SessionReserved {
			t.Fatalf("%s: sessions %+v on the way to role %s", b.name, rows, role)
		}
		if rows[0].Role == role {
			return rows[0]
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %+v, want role %s", b.name, rows[0], role)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A receiver, and then a sender, begins to speak RSVP for a flow that the boxes
// have reserved, and stops again: the flow is marked all along, nothing is torn
// down, and the sessions show who speaks (RFC 5945 sections 2 and 4.1.1.1).
func TestHostsSpeakAndStopRFC5945(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	l.startPlainEdges(t, voicePolicy)
	one, two := l.boxes[0], l.boxes[1]
	between := capture(t, two.ns, leftWAN, isRSVP)
	atHost := capture(t, two.ns, lanIface, toPort(portVoice))
	end := l.talk(t, portVoice, 60*time.Second)
	one.waitSession(t, portVoice, console.SessionReserved)
	row := two.waitSession(t, portVoice, console.SessionReserved)
	time.Sleep(200 * time.Millisecond) // what was on its way when it was reserved
	before, _ := atHost.Frames()

	session := wire.Session{Dst: addrB, Protocol: 17, DstPort: portVoice}
	sender := wire.Filter{Src: addrA, SrcPort: row.Sport}
	second := &wire.TimeValues{Refresh: 1000}
	flow := intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: intserv.TSpec{Rate: 9800, Bucket: 800, Peak: 1e9, MinUnit: 64, MaxPacket: 400}}
	say(t, l.b, netip.MustParseAddr("10.2.0.1"), &wire.Message{
		Type: wire.Resv, Session: session, Hop: &wire.Hop{Addr: addrB}, TimeValues: second,
		Style: wire.WF, Flows: []wire.FlowDescriptor{{FlowSpec: &flow}}, // the style that is in use, or there would be tears
	})
	row = two.waitRole(t, portVoice, "transit")
	if row.NextHop != addrB.String() || row.FlowSpec == nil || row.FlowSpec.R != 9800 {
		t.Errorf("box 2: %+v", row)
	}
	two.waitRole(t, portVoice, "receiver-proxy") // 5.25 s after its only RESV

	path := func(kind wire.MsgType) *wire.Message {
		m := &wire.Message{Type: kind, Session: session, Hop: &wire.Hop{Addr: addrA, LIH: 5}, SenderTemplate: &sender}
		if kind == wire.Path {
			m.TimeValues, m.SenderTSpec = second, &flow.TSpec
		}
		return m
	}
	say(t, l.a, addrB, path(wire.Path))
	if row := one.waitRole(t, portVoice, "transit"); row.PrevHop != addrA.String() {
		t.Errorf("box 1: %+v", row)
	}
	one.waitRole(t, portVoice, "sender-proxy") // 5.25 s after its only PATH
	say(t, l.a, addrB, path(wire.Path))
	one.waitRole(t, portVoice, "transit")
	say(t, l.a, addrB, path(wire.PathTear))
	one.waitRole(t, portVoice, "sender-proxy")
	two.waitRole(t, portVoice, "receiver-proxy")

	time.Sleep(300 * time.Millisecond)
	frames, _ := atHost.Frames()
	unmarked := 0
	for _, f := range frames[len(before):] {
		if dscpOf(f.Data) != dscp.VoiceAdmit {
			unmarked++
		}
	}
	if n := len(frames) - len(before); unmarked > 0 || n < 200 {
		t.Errorf("%d of %d packets were not marked", unmarked, n)
	}
	if got := kinds(between); slices.Contains(got, wire.ResvTear) || slices.Contains(got, wire.PathTear) || slices.Contains(got, wire.ResvErr) || slices.Contains(got, wire.PathErr) {
		t.Errorf("between the boxes: %v", got)
	}
	end().check(t)
}
