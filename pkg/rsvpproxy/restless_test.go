package rsvpproxy

import (
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// A move now and then is none to mind; one with each packet is.
func TestRestless(t *testing.T) {
	var r restless
	now := time.Now()
	p := stations{hostA, hostB}
	moves := uint32(100)
	look := func(after time.Duration, more uint32, want bool) {
		t.Helper()
		now, moves = now.Add(after), moves+more
		if got := r.look(now, p, moves); got != want {
			t.Errorf("%d moves in %v: %v", more, after, got)
		}
	}
	look(0, 0, false) // whatever was before
	look(30*time.Second, 2, false)
	look(500*time.Millisecond, 50, false) // too early to tell
	look(time.Second, 50, true)
	look(100*time.Millisecond, 0, true)
	look(30*time.Second, 1, false)
	look(lookFor, 50, false) // too late
	moves = 0
	look(30*time.Second, 0, false)
	for i := range 2 * maxLooks {
		r.look(now, stations{netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), hostB}, 0)
	}
	if len(r.looks) > maxLooks {
		t.Errorf("%d are remembered", len(r.looks))
	}
	now = now.Add(lookFor)
	look(0, 0, false)
	if len(r.looks) != 1 {
		t.Errorf("%d are remembered after their time", len(r.looks))
	}
}

// PATH between hosts whose packets pass the bridge twice goes by: sent on by us it would
// come back to us, and never reach the receiver.
func TestUnseenBoxLetsRestlessHostsAlone(t *testing.T) {
	p, _, l := unseenBox(t)
	b := unseenPacket(t, hostA, hostB, unseenMessage(wire.Path, hostA, 5))
	there := packet.FlowKey{Src: hostA.As16(), Dst: hostB.As16()}
	now := time.Now()
	for i, want := range []bool{true, false, false} {
		l[there] = packet.Frame{Port: 1, Moves: uint32(i * 20)}
		if got := p.Capture(now, b, 1); got != want {
			t.Errorf("PATH %d: taken %v, want %v", i, got, want)
		}
		now = now.Add(2 * time.Second)
	}
	if !p.Capture(now, b, 1) {
		t.Error("they have come to rest")
	}
}
