package integration

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// badWAN has a round trip of 50 ms and loses, reorders and duplicates both ways.
func badWAN(seed uint64) *wire.Config {
	bad := emulator.Params{
		Delay: 25 * time.Millisecond, Loss: 0.01,
		Reorder: 0.02, ReorderDelay: 4 * time.Millisecond, Duplicate: 0.005,
	}
	return &wire.Config{AB: bad, BA: bad, Seed: seed}
}

// A WAN that loses, reorders and duplicates does not reach the source: what it
// was told is delivered, the box sends again, and every byte arrives.
func TestReliableUnderLoss(t *testing.T) {
	l := newLab(t, 2, badWAN(4))
	l.startEdges(t, usualPolicies, "tcp: {window: predict}")
	source, sink := l.open(t, cheatable{"reliable", portReliable, false})
	const size = 5_000_000
	begin := time.Now()
	tr := send(source, sink, random(4, size))
	l.boxes[0].waitFlow(t, portReliable, "cheated", isState(console.FlowCheated))
	// What the source's own TCP lost before the reservation was there is its own.
	before := tcpInfo(t, source).Total_retrans
	row := l.boxes[0].waitFlow(t, portReliable, "sent again by the box", func(r console.FlowRow) bool { return r.Retransmits > 5 })
	tr.wait(t)
	took := tr.got.ended.Sub(begin).Seconds()
	info := tcpInfo(t, source)
	if again := info.Total_retrans - before; again > 5 {
		t.Errorf("the source sent %d segments again under cheating", again)
	}
	if goodput := size * 8 / took; goodput < 0.8*reservedRate {
		t.Errorf("%.2f Mbit/s of payload, want near 8", goodput/1e6)
	}
	t.Logf("%.2f s; source's retransmits %d before and %d under cheating, box %d at one time, RTT %d us towards B",
		took, before, info.Total_retrans-before, row.Retransmits, row.RTTReceiverUS)
	ab, ba := l.wan.Counters(wire.AB), l.wan.Counters(wire.BA)
	if ab.KernelDrops+ba.KernelDrops > 0 {
		t.Errorf("the emulator dropped frames by itself: %+v %+v", ab, ba)
	}
}

// What a box holds when it is told to stop is delivered before it ends.
func TestStopUnderLoss(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, badWAN(5))
	before := l.kernel(t)
	l.startEdges(t, usualPolicies, "")
	source, sink := l.open(t, cheatable{"reliable", portReliable, false})
	enough := sendOn(source, sink, 5)
	l.boxes[0].waitFlow(t, portReliable, "sent again by the box", func(r console.FlowRow) bool { return r.Retransmits > 2 })
	l.boxes[0].stop(t)
	l.boxes[1].stop(t)
	enough().wait(t)
	if added := before.Added(l.kernel(t)); len(added) != 0 {
		t.Errorf("left in the kernel: %q", added)
	}
}
