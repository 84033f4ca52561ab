package tcpcheat

import (
	"testing"
	"time"
)

// RFC 9293 section 3.8.4: a keep-alive may have one octet of garbage, of a number
// that is acknowledged; probes of a closed window come so from some stacks too. In
// realtime mode the receiver may lack that byte, and would take the garbage for it.
func TestGarbageNeverReachesTheReceiver(t *testing.T) {
	l := newLab(t)
	p := labParams
	p.Mode = Realtime
	l.start(p)
	if a := l.src(ack, 0, 1448, l.opts()); a != Accept {
		t.Fatalf("data: %v", a)
	}
	l.take()
	l.pass(200 * time.Millisecond)
	if got := l.stats().Unacked; got != 1448 {
		t.Fatalf("%d bytes acknowledged for the receiver", got)
	}
	a := l.src(ack, 1447, 1, l.opts())
	if a != Drop {
		t.Errorf("garbage in the place of a byte that the receiver has not acknowledged: %v", a)
	}
	if got := append(l.take(), l.pass(20*time.Millisecond)...); len(got) == 0 || got[0].to != ToSource || got[0].off != 1448 {
		t.Errorf("the probe was not answered: %v", got)
	}
	l.rcv(ack, 1448, 64000, 0, 0, l.opts())
	if a := l.src(ack, 1447, 1, l.opts()); a != Accept {
		t.Errorf("the receiver has the byte and can answer for itself: %v", a)
	}
}
