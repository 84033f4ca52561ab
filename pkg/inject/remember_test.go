package inject

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// What is remembered is what was found, each direction of each flow for itself, until
// its time is over or the ports are others.
func TestMemory(t *testing.T) {
	m := newMemory(time.Second)
	ports, others := &[]int{1, 2}, &[]int{1, 2}
	var f packet.Frame
	there, back := frameOf(1, 0xa, 0xb), frameOf(2, 0xb, 0xa)
	m.slot(&flowAB).note(time.Second, &flowAB, ports, 2, &there)
	m.slot(&flowBA).note(time.Second, &flowBA, ports, 1, &back)
	if port, ok := m.slot(&flowAB).recall(0, &flowAB, ports, &f); !ok || port != 2 || f != there {
		t.Errorf("%v, port %d, %+v", ok, port, f)
	}
	if port, ok := m.slot(&flowBA).recall(0, &flowBA, ports, &f); !ok || port != 1 || f != back {
		t.Errorf("the other direction: %v, port %d, %+v", ok, port, f)
	}
	if _, ok := m.slot(&flowAB).recall(time.Second, &flowAB, ports, &f); ok {
		t.Error("for ever")
	}
	if _, ok := m.slot(&flowAB).recall(0, &flowAB, others, &f); ok {
		t.Error("with other ports")
	}
	if _, ok := m.slot(&flowAB).recall(0, &pairAB, ports, &f); ok {
		t.Error("another flow")
	}
	if none := newMemory(0); none.on() || !m.on() {
		t.Error("without time there is memory, or with it none")
	}
}

// A station that has moved is found where it is when what is remembered is too old,
// and ports that have changed at once; and nothing is allocated.
func TestBridgeRemembers(t *testing.T) {
	b := newBridged(t)
	b.memory = newMemory(100 * time.Millisecond)
	b.learn(srcAddr, dstAddr)
	pkt := segment(netip.AddrPortFrom(srcAddr, 80), dstAddr, 10)
	if n := testing.AllocsPerRun(200, func() { must(t, b.Send(pkt)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	b.mu.Lock()
	clear(b.seen)
	b.mu.Unlock()
	for end := time.Now().Add(10 * time.Second); b.Send(pkt) == nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if err := b.Send(pkt); !errors.Is(err, ErrNoFrame) {
		t.Errorf("what was remembered: %v", err)
	}
	b.learn(srcAddr, dstAddr)
	must(t, b.Send(pkt))
	b.SetPorts([]int{b.in})
	if err := b.Send(pkt); !errors.Is(err, ErrNoPort) {
		t.Errorf("with other ports: %v", err)
	}
}
