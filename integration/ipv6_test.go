package integration

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/roottest"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// A voice stream over IPv6 is reserved as one over IPv4 is: PATH with the hosts'
// addresses and the Router Alert of RFC 2711, RESV back to the previous hop,
// marks, counters, and nothing at the hosts. tshark reads all messages.
func TestVoiceReservedIPv6(t *testing.T) {
	t.Parallel()
	roottest.Need(t)
	tshark := roottest.Tool(t, "tshark")
	l := newLab(t, 2, nil)
	rsvp := capture(t, l.boxes[0].ns, rightWAN, isRSVP6)
	heard := capture(t, l.b, hostIface, toPort(portVoice))
	hostRSVP := capture(t, l.b, hostIface, isRSVP6)
	backRSVP := capture(t, l.a, hostIface, isRSVP6)
	// IPv6's header is 20 bytes longer: 208 bytes every 20 ms.
	l.startPlainEdges(t, strings.Replace(voicePolicy, "rate: 80kbit", "rate: 88kbit", 1))
	end := l.talkTo(t, at(addrB6, portVoice), 12*time.Second)

	path, frame := waitMessage(t, rsvp, wire.Path)
	_, left := hop(0, 1)
	_, right := hop(0, 2)
	ip, err := packet.Parse(frame[ethernet:])
	if err != nil {
		t.Fatal(err)
	}
	if ip.Src() != addrA6 || ip.Dst() != addrB6 || ip.TTL() != path.SendTTL || ip.DSCP() != 48 {
		t.Errorf("PATH from %s to %s, hop limit %d, Send_TTL %d, DSCP %d", ip.Src(), ip.Dst(), ip.TTL(), path.SendTTL, ip.DSCP())
	}
	if alert := ip.Header()[40:]; string(alert) != "\x2e\x00\x05\x02\x00\x01\x01\x00" { // RFC 2711 section 2.1
		t.Errorf("PATH's extension headers are % x, want the Router Alert", alert)
	}
	if path.Hop == nil || path.Hop.Addr != left {
		t.Errorf("PHOP %+v, want %s", path.Hop, left)
	}
	resv, frame := waitMessage(t, rsvp, wire.Resv)
	if ip, err = packet.Parse(frame[ethernet:]); err != nil || ip.Src() != right || ip.Dst() != left || len(ip.Header()) != 40 {
		t.Errorf("RESV from %s to %s with a header of %d bytes: %v", ip.Src(), ip.Dst(), len(ip.Header()), err)
	}
	if resv.Hop == nil || resv.Hop.Addr != right || resv.Style != wire.WF || len(resv.Flows) != 1 {
		t.Errorf("RESV %+v, want one WF flow from hop %s", resv, right)
	}
	sender := l.boxes[0].waitSession(t, portVoice, console.SessionReserved)
	want := voiceRow(addrA6, addrB6, right, 11_000, sender)
	if diff := cmp.Diff(want, sender); diff != "" {
		t.Errorf("box 1's session (-want +got):\n%s", diff)
	}
	if receiver := l.boxes[1].waitSession(t, portVoice, console.SessionReserved); receiver.Role != "receiver-proxy" || receiver.PrevHop != left.String() {
		t.Errorf("box 2's session %+v", receiver)
	}
	waitFrame(t, heard, "voice marked voice-admit at B", func(f []byte) bool { return dscpOf(f) == dscp.VoiceAdmit })
	row := l.boxes[0].waitFlowFrom(t, addrA6, portVoice, "counted as conforming", func(r console.FlowRow) bool { return r.ConformPackets > 50 })
	if row.State != console.FlowManaged || row.DSCP != dscp.VoiceAdmit || row.ExceedPackets+row.DroppedPackets != 0 || row.ReservedBPS != 88_000 || row.Class == "" {
		t.Errorf("flow %+v", row)
	}

	before := heardSo(t, heard)
	l.boxes[0].stop(t)
	waitMessage(t, rsvp, wire.PathTear)
	l.boxes[1].waitNoSession(t, portVoice)
	end().checkStop(t, before)
	checkUnaware(t, "B", hostRSVP)
	if at := captured(t, backRSVP); len(at) != 0 {
		t.Errorf("%d RSVP messages came to A", len(at))
	}
	l.boxes[1].stop(t)
	frames := captured(t, rsvp)
	file := filepath.Join(t.TempDir(), "rsvp6.pcap")
	writePcap(t, file, frames)
	t.Logf("%d messages: %v", len(frames), readByTshark(t, tshark, file, len(frames), 0))
}

// A TCP source over IPv6 is cheated, at the reserved rate, and every byte
// arrives: its SHA-256 is the source's.
func TestTCPCheatedIPv6(t *testing.T) {
	t.Parallel()
	for _, c := range bothModes {
		t.Run(c.name, func(t *testing.T) { atReservedRate(t, c.clockedIPv6) })
	}
}

func (c cheatable) clockedIPv6(t *testing.T) float64 {
	t.Helper()
	l := newLab(t, 2, nil)
	l.startEdges(t, usualPolicies, "tcp: {window: predict}")
	source, sink := connect(t, l.a, l.b, at(addrB6, c.port))
	const size = 5_000_000
	begin := time.Now()
	tr := send(source, sink, random(uint64(c.port), size))
	row := l.boxes[0].waitFlowFrom(t, addrA6, c.port, "cheated", func(r console.FlowRow) bool {
		return r.State == console.FlowCheated && r.FakeAcks > 10 && r.AbsorbedAcks > 10
	})
	if row.Policy != c.name || row.ReservedBPS != reservedRate || row.Class == "" || row.PHB != "af31" {
		t.Errorf("flow %+v", row)
	}
	l.boxes[1].waitFlowFrom(t, addrA6, c.port, "managed", isState(console.FlowManaged))
	start := sentAgainAtTheStart(t, source)
	tr.wait(t)
	took := tr.got.ended.Sub(begin).Seconds()
	wire := size / 1428 * 1500 * 8 / took
	if again := tcpInfo(t, source).Total_retrans - start; again > 3 {
		t.Errorf("the source sent %d segments again on a path without loss, and %d before", again, start)
	}
	if err := source.Close(); err != nil {
		t.Error(err)
	}
	if err := sink.Close(); err != nil {
		t.Error(err)
	}
	l.boxes[0].waitNoSession(t, row.Dport)
	return wire
}

// A WAN that loses, reorders and duplicates does not reach a source over IPv6.
func TestReliableUnderLossIPv6(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, badWAN(6))
	l.startEdges(t, usualPolicies, "tcp: {window: predict}")
	source, sink := connect(t, l.a, l.b, at(addrB6, portReliable))
	enough := sendOn(source, sink, 6)
	l.boxes[0].waitFlowFrom(t, addrA6, portReliable, "cheated", isState(console.FlowCheated))
	before := tcpInfo(t, source).Total_retrans
	l.boxes[0].waitFlowFrom(t, addrA6, portReliable, "sent again by the box", func(r console.FlowRow) bool { return r.Retransmits > 2 })
	enough().wait(t)
	if again := tcpInfo(t, source).Total_retrans - before; again > 5 {
		t.Errorf("the source sent %d segments again under cheating", again)
	}
}
