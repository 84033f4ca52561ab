package integration

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// call is what became of a voice stream.
type call struct{ sent, lost, again int }

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
	go func() {
		seen := map[uint32]bool{}
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
			if seen[seq] {
				again.Add(1)
				continue
			}
			seen[seq] = true
			arrived.Add(1)
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
		c.lost, c.again = c.sent-int(arrived.Load()), int(again.Load())
		return c
	}
}

// check fails the test if the stream was not delivered whole.
func (c call) check(t *testing.T) {
	t.Helper()
	if c.sent == 0 || c.lost != 0 || c.again != 0 {
		t.Errorf("voice: %d packets sent, %d lost, %d came twice", c.sent, c.lost, c.again)
	}
}
