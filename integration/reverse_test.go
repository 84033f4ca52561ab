package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/console"
)

const bothWaysPolicy = `
  - name: both-ways
    match: {protocol: udp, from: 10.0.0.0/8, to: 10.0.0.0/8}
    reserve: {role: both, service: controlled-load, tspec: {rate: 80kbit, burst: 800B, max_packet: 400B}}
    mark: voice-admit
`

// A policy claims a flow and its other direction, of which no packet is sent:
// both are reserved, and both end together (RFC 5945 section 4.2).
func TestReverseDirectionRFC5945Section4_2(t *testing.T) { overBoth(t, reverseDirection) }

func reverseDirection(t *testing.T, f family) {
	l := newLab(t, 2, nil)
	l.watch(t, leftWAN, rightWAN)
	l.startEdges(t, f.policies(bothWaysPolicy), "")
	one, two := l.boxes[0], l.boxes[1]
	end := l.callOver(t, f, portVoice, 30*time.Second)
	roles := func(b *box) (map[string]string, error) {
		rows, err := b.Sessions(t.Context())
		out := map[string]string{}
		for _, row := range rows {
			if row.State == console.SessionReserved {
				out[row.Src] = row.Role
			}
		}
		return out, err
	}
	want := map[*box][2]string{one: {"sender-proxy", "receiver-proxy"}, two: {"receiver-proxy", "sender-proxy"}}
	for b, w := range want {
		eventually(t, 10*time.Second, b.name+": both directions", func() error {
			got, err := roles(b)
			if err == nil && (len(got) != 2 || got[f.src.String()] != w[0] || got[f.dst.String()] != w[1]) {
				err = fmt.Errorf("roles by sender: %v", got)
			}
			return err
		})
	}
	// Each box has reserved the direction that leaves by its own WAN.
	if got := one.reserved(t, rightWAN); got != f.voiceRate() {
		t.Errorf("box 1 has %d bit/s reserved", got)
	}
	if got := two.reserved(t, leftWAN); got != f.voiceRate() {
		t.Errorf("box 2 has %d bit/s reserved", got)
	}
	end().check(t)
	one.stop(t)
	eventually(t, 10*time.Second, "box 2 has nothing left", func() error {
		rows, err := two.Sessions(t.Context())
		if err == nil && len(rows) > 0 {
			err = fmt.Errorf("sessions %+v", rows)
		}
		return err
	})
	eventually(t, 10*time.Second, "box 2 has given all back", func() error { // what is torn down stays for a moment
		if got := two.reserved(t, leftWAN); got != 0 {
			return fmt.Errorf("%d bit/s are reserved", got)
		}
		return nil
	})
}
