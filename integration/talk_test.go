package integration

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
)

// call is what became of a voice stream.
type call struct {
	sent, lost, again int
	missing           []int // the numbers of those that were lost
}

// talk sends a voice stream from A to B, 160 bytes every 20 ms, until the
// returned function is called: that waits for what is on its way.
func (l *lab) talk(t *testing.T, port uint16, most time.Duration) (end func() call) {
	t.Helper()
	return l.talkTo(t, at(addrB, port), most)
}

// talkTo is talk to either address of B.
func (l *lab) talkTo(t *testing.T, to netip.AddrPort, most time.Duration) (end func() call) {
	t.Helper()
	server, client := listenUDP(t, l.b, to), dialUDP(t, l.a, to)
	for _, c := range []interface{ SetDeadline(time.Time) error }{server, client} {
		if err := c.SetDeadline(time.Now().Add(most + 15*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	var arrived, again atomic.Int64
	var mu sync.Mutex
	seen := map[uint32]bool{}
	go func() {
		buf := make([]byte, 200)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return // the test is over
			}
			if n != 160 {
				continue
			}
			seq := binary.BigEndian.Uint32(buf)
			mu.Lock()
			if seen[seq] {
				again.Add(1)
			} else {
				seen[seq] = true
				arrived.Add(1)
			}
			mu.Unlock()
		}
	}()
	stop, sent := make(chan struct{}), make(chan int, 1)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		packet, n := make([]byte, 160), 0
		for begin := time.Now(); time.Since(begin) < most; {
			binary.BigEndian.PutUint32(packet, uint32(n))
			if _, err := client.Write(packet); err != nil {
				break
			}
			n++
			select {
			case <-stop:
				sent <- n
				return
			case <-tick.C:
			}
		}
		sent <- n
	}()
	return func() call {
		t.Helper()
		close(stop)
		c := call{sent: <-sent}
		for deadline := time.Now().Add(3 * time.Second); int(arrived.Load()) < c.sent && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		c.again = int(again.Load())
		mu.Lock()
		defer mu.Unlock()
		for i := range c.sent {
			if !seen[uint32(i)] {
				c.missing = append(c.missing, i)
			}
		}
		c.lost = len(c.missing)
		return c
	}
}

// check fails the test if the stream was not delivered whole.
func (c call) check(t *testing.T) {
	t.Helper()
	if c.sent == 0 || c.lost != 0 || c.again != 0 {
		t.Errorf("voice: %d packets sent, %d lost, %d came twice: %v", c.sent, c.lost, c.again, c.missing)
	}
}

// lostAtStop is what a change of an interface's root queue may cost: the kernel
// drops what is sent in that moment (kfree_skb with reason QDISC_DROP), whoever
// asks for the change.
const lostAtStop = 3

// checkStop is check for a stream over the clean stop of a box on its way, by
// which the queues of its interfaces are removed: what came before, so many
// packets, is whole.
func (c call) checkStop(t *testing.T, before int) {
	t.Helper()
	if before == 0 || c.sent < before || c.again != 0 || c.lost > lostAtStop || c.lost > 0 && c.missing[0] < before {
		t.Errorf("voice: %d packets sent, %d of them before the stop, lost %v, %d came twice", c.sent, before, c.missing, c.again)
	}
}

// heardSo counts what a capture has.
func heardSo(t *testing.T, c *traffic.Capture) int {
	t.Helper()
	frames := captured(t, c)
	return len(frames)
}
