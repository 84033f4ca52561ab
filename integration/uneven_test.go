package integration

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// unevenPolicy speaks for the sender alone: who listens asks for itself, or does
// not.
const unevenPolicy = `
  - name: voice
    match: {protocol: udp, to_port: 5004}
    reserve: {role: sender, service: controlled-load, tspec: {rate: 80kbit, burst: 800B, max_packet: 400B}}
    mark: voice-admit
`

// steadily waits until what comes has one mark and no other.
func steadily(t *testing.T, c *traffic.Capture, what string, code byte) {
	t.Helper()
	from, n := time.Now(), 25
	eventually(t, 15*time.Second, fmt.Sprintf("%s: the last %d packets have DSCP %d", what, n, code), func() error {
		frames := captured(t, c)
		var seen []byte
		for _, f := range frames {
			if f.At.After(from) {
				seen = append(seen, dscpOf(f.Data))
			}
		}
		if len(seen) < n {
			return fmt.Errorf("%d packets", len(seen))
		}
		for _, got := range seen[len(seen)-n:] {
			if got != code {
				return fmt.Errorf("DSCPs % d", seen[len(seen)-n:])
			}
		}
		return nil
	})
}

// Draft section 7.1: a group's packets branch at box 2, where they arrive marked
// because C has reserved them. B, on the other branch, has not. What it gets is
// configured: the mark (mechanism 2), best effort or another PHB (mechanism 1), or
// nobody has a reservation until both have asked for the same one (mechanism 4).
func TestUnevenTreeDraftSection7_1(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		how  string
		v6   bool
		atB  byte // where C alone has reserved
		even bool
	}{
		{how: "keep", atB: dscp.VoiceAdmit}, {how: "demote", atB: dscp.Default}, {how: "demote, demote_to: le", v6: true, atB: dscp.LE}, {how: "reject", even: true},
	} {
		t.Run(c.how, func(t *testing.T) {
			t.Parallel()
			tr := newTree(t, c.v6)
			toB, toC, atB, atC := netip.MustParseAddr("10.2.0.1"), netip.MustParseAddr("10.3.0.1"), addrB, netip.MustParseAddr("10.3.0.2")
			if c.v6 {
				toB, toC, atB, atC = netip.MustParseAddr("fd00:2::1"), netip.MustParseAddr("fd00:3::1"), addrB6, netip.MustParseAddr("fd00:3::2")
			}
			rsvpB, rsvpC := capture(t, tr.b, hostIface, tr.rsvpOf()), capture(t, tr.c, hostIface, tr.rsvpOf())
			heardB, heardC := capture(t, tr.b, hostIface, toPort(portVoice)), capture(t, tr.c, hostIface, toPort(portVoice))
			one := config{hosts: []string{lanIface, branchIface}, network: []string{rightWAN}, capacity: "19mbit", policies: unevenPolicy}
			two := config{hosts: []string{lanIface}, network: []string{leftWAN, branchIface}, capacity: "19mbit", policies: unevenPolicy}
			// The network behind C has sold a level for it.
			two.secured = ", sls: [{class: voice-admit, rate: 1mbit, burst: 64kB}]"
			two.extra = "multicast: {heterogeneous: " + c.how + "}"
			tr.startAll(t, one.String(), two.String())
			tr.listen(t, tr.b)
			tr.listen(t, tr.c)
			tr.talkAll(t, tr.a)

			path, _ := waitMessage(t, rsvpC, wire.Path)
			steadily(t, heardC, "at C, which has not asked", dscp.Default)
			stop := answer(t, tr.c, toC, resvOf(t, path, atC, wire.FF))
			if c.even {
				m, _ := waitMessage(t, rsvpC, wire.ResvErr)
				if m.ErrorSpec == nil || m.ErrorSpec.Code != wire.ErrTrafficControl || m.ErrorSpec.Value != wire.TCServiceConflict {
					t.Errorf("ResvErr says %+v", m.ErrorSpec)
				}
				steadily(t, heardC, "at C, refused", dscp.Default)
				steadily(t, heardB, "at B, without a reservation", dscp.Default)
				path, _ := waitMessage(t, rsvpB, wire.Path)
				answer(t, tr.b, toB, resvOf(t, path, atB, wire.FF))
				steadily(t, heardB, "at B, which has asked for the same", dscp.VoiceAdmit)
				steadily(t, heardC, "at C, which asks again", dscp.VoiceAdmit)
				return
			}
			steadily(t, heardC, "at C, reserved", dscp.VoiceAdmit)
			steadily(t, heardB, "at B, without a reservation", c.atB)
			row := tr.boxes[1].branch(t, tr.source, lanIface, "counted", func(r console.FlowRow) bool { return r.Packets > 20 })
			if row.ReservedBPS != 0 || row.Class != "" {
				t.Errorf("B's branch: %+v", row)
			}
			if n := tr.boxes[1].reservations(t, branchIface); n != 1 {
				t.Errorf("%d reservations on C's branch, want 1", n)
			}
			stop() // C's reservation times out, and nothing is marked any more
			steadily(t, heardC, "at C, which asks no more", dscp.Default)
			steadily(t, heardB, "at B, where nothing is marked", dscp.Default)
			if c.how != "keep" {
				return
			}
			// Now B alone reserves. C's copies take of the link what B has asked for
			// (draft section 7.1, mechanism 2: over-reservation), and none of its classes.
			path, _ = waitMessage(t, rsvpB, wire.Path)
			answer(t, tr.b, toB, resvOf(t, path, atB, wire.FF))
			steadily(t, heardB, "at B, reserved", dscp.VoiceAdmit)
			steadily(t, heardC, "at C, without a reservation", dscp.VoiceAdmit)
			rows, err := tr.boxes[1].Links(t.Context())
			if l := linkRow(rows, branchIface); err != nil || l.Reservations != 1 || l.ReservedBPS != 80_000 {
				t.Errorf("C's link, where nobody has reserved: %+v, %v", l, err)
			}
			if row := tr.boxes[1].branch(t, tr.source, branchIface, "counted", func(r console.FlowRow) bool { return r.Packets > 20 }); row.Class != "" {
				t.Errorf("C's branch has class %s", row.Class)
			}
		})
	}
}
