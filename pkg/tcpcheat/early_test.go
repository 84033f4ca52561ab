package tcpcheat

import (
	"bytes"
	"testing"
	"time"
)

// What was sent before the reservation went as best effort and may be lost.
// Start sends it once more and answers for it, without waiting for the
// receiver.
func TestStartTakesOverWhatIsOnItsWay(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l := newLab(t)
		l.open()
		l.src(ack, 0, 1448, l.opts())
		l.src(ack, 1448, 1448, l.opts())
		l.src(ack, 0, 1448, l.opts()) // the source's own repetition
		l.rcv(ack, 1448, 65000, 0, 0, l.opts())
		l.src(ack, 2*1448, 3*1448, l.opts()) // a super-packet
		p := labParams
		p.Mode = mode
		if err := l.e.Start(l.now, l.key, p); err != nil {
			t.Fatal(err)
		}
		again, acked := map[int]bool{}, 0
		for _, s := range append(l.take(), l.pass(50*time.Millisecond)...) {
			if s.to == ToSource {
				acked = max(acked, s.off)
				continue
			}
			if want := contents(s.off, len(s.Payload())); !bytes.Equal(s.Payload(), want) {
				t.Errorf("%v: wrong bytes at %d", mode, s.off)
			}
			again[s.off] = true
		}
		for off := 1448; off < 5*1448; off += 1448 {
			if !again[off] {
				t.Errorf("%v: segment at %d was not sent again", mode, off)
			}
		}
		if again[0] || acked != 5*1448 {
			t.Errorf("%v: sent again %v, acknowledged %d", mode, again, acked)
		}
		if l.e.early != 0 {
			t.Errorf("%v: %d bytes still kept", mode, l.e.early)
		}
	}
}

// A connection that never gets its reservation, or ends, leaves nothing behind.
func TestEarlyBytesAreBounded(t *testing.T) {
	l := newLab(t)
	l.open()
	for off := 0; off < 40*1448; off += 1448 {
		l.src(ack, off, 1448, l.opts())
	}
	if l.e.early != 40*1448 {
		t.Fatalf("%d bytes are kept", l.e.early)
	}
	l.rcv(ack, 30*1448, 65000, 0, 0, l.opts())
	l.src(ack, 40*1448, 1448, l.opts())
	if l.e.early != 11*1448 {
		t.Errorf("%d bytes are kept after an acknowledgement", l.e.early)
	}
	for off := 41 * 1448; off < 200*1448; off += 1448 {
		l.src(ack, off, 1448, l.opts())
	}
	if l.e.early != 0 {
		t.Errorf("%d bytes are kept of a flow that has too much on its way", l.e.early)
	}
	l = newLab(t)
	l.open()
	l.src(ack, 0, 1448, l.opts())
	l.e.Forget(l.key)
	if l.e.early != 0 {
		t.Errorf("%d bytes are kept of a forgotten connection", l.e.early)
	}
}
