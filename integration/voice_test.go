package integration

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// A voice stream is reserved by PATH and RESV between the boxes, marked, and
// given back when a box stops.
func TestVoiceReserved(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	rsvp := capture(t, l.boxes[0].ns, rightWAN, isRSVP)
	heard := capture(t, l.b, hostIface, toPort(portVoice))
	hostRSVP := capture(t, l.b, hostIface, isRSVP)
	l.startPlainEdges(t, usualPolicies)
	end := l.talk(t, portVoice, 12*time.Second)

	path, frame := waitMessage(t, rsvp, wire.Path)
	l.checkPath(t, path, frame)
	resv, _ := waitMessage(t, rsvp, wire.Resv)
	left, right := l.seenHops()
	if resv.Hop == nil || resv.Hop.Addr != right || resv.Style != wire.WF || len(resv.Flows) != 1 {
		t.Errorf("RESV %+v, want one WF flow from hop %s", resv, right)
	}
	sender := l.boxes[0].waitSession(t, portVoice, console.SessionReserved)
	receiver := l.boxes[1].waitSession(t, portVoice, console.SessionReserved)
	want := voiceRow(addrA, addrB, right, 10_000, sender)
	if diff := cmp.Diff(want, sender); diff != "" {
		t.Errorf("box 1's session (-want +got):\n%s", diff)
	}
	want.Role, want.PrevHop, want.NextHop, want.Interface = "receiver-proxy", left.String(), "", lanIface
	want.Class, want.AgeS = receiver.Class, receiver.AgeS
	if diff := cmp.Diff(want, receiver); diff != "" {
		t.Errorf("box 2's session (-want +got):\n%s", diff)
	}
	if sender.Class != "1:10" {
		t.Errorf("class %q, want 1:10", sender.Class)
	}
	waitFrame(t, heard, "voice marked voice-admit at B", func(f []byte) bool { return dscpOf(f) == dscp.VoiceAdmit })
	row := l.boxes[0].waitFlow(t, portVoice, "counted as conforming", func(r console.FlowRow) bool { return r.ConformPackets > 50 })
	if row.State != console.FlowManaged || row.DSCP != dscp.VoiceAdmit || row.ExceedPackets+row.DroppedPackets != 0 || row.ReservedBPS != 80_000 || row.SetupUS == 0 {
		t.Errorf("flow %+v", row)
	}

	before := heardSo(t, heard)
	l.boxes[0].stop(t)
	waitMessage(t, rsvp, wire.PathTear)
	l.boxes[1].waitNoSession(t, portVoice)
	end().checkStop(t, before)
	checkUnaware(t, "B", hostRSVP)
	l.boxes[1].stop(t)
}

// voiceRow is the row of a voice session that box 1 speaks for. What differs from
// run to run is taken from the row that was seen.
func voiceRow(src, dst, next netip.Addr, rate float64, seen console.SessionRow) console.SessionRow {
	tspec := console.TSpec{R: rate, B: 800, Min: seen.TSpec.Min, Max: 400}
	return console.SessionRow{
		Dst: dst.String(), Protocol: "udp", Dport: portVoice, Src: src.String(), Sport: seen.Sport,
		Policy: "voice", Role: "sender-proxy", NextHop: next.String(), Interface: rightWAN, Style: "wf",
		Service: "controlled-load", TSpec: &tspec, FlowSpec: &console.FlowSpec{TSpec: tspec},
		State: console.SessionReserved, DSCP: dscp.VoiceAdmit, PHB: "voice-admit", Class: seen.Class, AgeS: seen.AgeS,
		Identities: []string{}, DClass: []int{},
	}
}

// checkPath holds a PATH to RFC 2205 section 3.1.3 and 3.3: from the sender's
// address to the session's, with Router Alert, and a TTL equal to Send_TTL.
func (l *lab) checkPath(t *testing.T, m *wire.Message, frame []byte) {
	t.Helper()
	ip := frame[ethernet:]
	src, dst := addrA.As4(), addrB.As4()
	if [4]byte(ip[12:16]) != src || [4]byte(ip[16:20]) != dst {
		t.Errorf("PATH from %v to %v, want the hosts' own addresses", ip[12:16], ip[16:20])
	}
	if ip[0]&15 != 6 || [4]byte(ip[20:24]) != [4]byte{0x94, 4, 0, 0} { // RFC 2113
		t.Errorf("PATH has no Router Alert: %x", ip[:24])
	}
	if m.SendTTL != ip[8] {
		t.Errorf("Send_TTL %d, the packet's TTL is %d", m.SendTTL, ip[8])
	}
	left, _ := l.seenHops()
	if m.Hop == nil || m.Hop.Addr != left {
		t.Errorf("PHOP %+v, want %s", m.Hop, left)
	}
	if m.SenderTSpec == nil || m.SenderTSpec.Rate != 10_000 || m.SenderTSpec.Bucket != 800 || m.SenderTSpec.MaxPacket != 400 {
		t.Errorf("SENDER_TSPEC %+v", m.SenderTSpec)
	}
}
