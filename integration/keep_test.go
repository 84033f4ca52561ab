package integration

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// With on_stop: keep a box is stopped and started again, for an upgrade: no packet of
// a reserved flow is without its mark meanwhile, and none is lost. TestKilledUnderLoad
// has the same for a box that is killed.
func TestKeepMarksEveryPacket(t *testing.T) {
	t.Parallel()
	for _, f := range bothForms {
		t.Run(f.String(), func(t *testing.T) { keepMarks(t, f) })
	}
}

func keepMarks(t *testing.T, f form) {
	l := newMixedLab(t, []form{f, f}, nil)
	one := l.edge(0, usualPolicies, "on_stop: keep").String()
	l.startAll(t, one, l.edge(1, usualPolicies, "").String())
	b := l.boxes[0]
	onWire := capture(t, b.ns, rightWAN, toPort(portVoice))
	end := l.talk(t, portVoice, 20*time.Second)
	b.waitSession(t, portVoice, console.SessionReserved)
	time.Sleep(100 * time.Millisecond) // packets that left before the reservation are seen
	before := heardSo(t, onWire)
	for range 3 {
		b.stop(t)
		time.Sleep(200 * time.Millisecond)
		b.start(t, one)
		b.waitSession(t, portVoice, console.SessionReserved)
		time.Sleep(200 * time.Millisecond)
	}
	if wrong, all := unmarked(t, onWire, before, dscp.VoiceAdmit); wrong > 0 || all < 60 {
		t.Errorf("%d of %d packets are without their mark", wrong, all)
	}
	end().check(t)
}
