package tcpcheat

import (
	"slices"
	"testing"
	"time"
)

// While the queue rules of a hung box stand open, data, ACKs and windows pass
// unseen. What comes next is beyond all that was offered here; taken for a
// window probe it would be dropped for ever, and the connection stands still.
func TestDataBeyondAnUnseenWindow(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l := newLab(t)
		p := labParams
		p.Mode = mode
		l.start(p)
		l.rcv(ack, 0, 60000, 0, 0, l.opts())
		l.src(ack, 0, 1448, l.opts())
		l.take()
		const far = 20_000_000 // bytes into the stream
		if a := l.src(ack, far, 1448, l.opts()); a != Accept {
			t.Fatalf("%v: data beyond an unseen window: %v", mode, a)
		}
		l.rcv(ack, far+1448, 60000, 0, 0, l.opts())
		l.take()
		if a := l.src(ack, far+1448, 1448, l.opts()); a != Accept {
			t.Errorf("%v: data after it: %v", mode, a)
		}
		acked := append(l.take(), l.pass(200*time.Millisecond)...)
		if !slices.ContainsFunc(acked, func(s seg) bool { return s.to == ToSource && s.off == far+2896 }) {
			t.Errorf("%v: it is not cheated again: %d packets", mode, len(acked))
		}
	}
}
