package tcpcheat

import (
	"testing"
	"time"
)

// R2 (RFC 9293 section 3.8.3) is counted while something waits for the receiver:
// a connection in which the source had nothing to say for longer is not given
// up when it speaks again, be it data or a FIN.
func TestIdleIsNotNoProgress(t *testing.T) {
	for _, mode := range []Mode{Reliable, Realtime} {
		for name, flags := range map[string]uint8{"data": ack, "FIN": ack | fin} {
			l := newLab(t)
			p := labParams
			p.Mode = mode
			l.start(p)
			l.src(ack, 0, 1448, l.opts())
			l.rcv(ack, 1448, 64000, 0, 0, l.opts())
			l.pass(300 * time.Second)
			l.rcv(ack, 1448, 64000, 0, 100, l.opts()) // the receiver's own data keeps it alive
			n := 100
			if flags&fin != 0 {
				n = 0
			}
			l.src(flags, 1448, n, l.opts())
			l.pass(50 * time.Millisecond)
			if l.e.Totals().Resets > 0 {
				t.Errorf("%v: the connection was reset because of %s after a pause", mode, name)
			}
			if st := l.stats(); st.Withdrawals > 0 {
				t.Errorf("%v: the prediction was given up because of %s after a pause", mode, name)
			}
			l.pass(99 * time.Second)
			if l.e.Totals().Resets > 0 {
				t.Errorf("%v, %s: given up too early", mode, name)
			}
			l.pass(3 * time.Second)
			if n > 0 && l.e.Totals().Resets == 0 {
				t.Errorf("%v, %s: the receiver is silent for R2, and the source does not learn it", mode, name)
			}
		}
	}
}

// A hole in front of the box is the source's to repair, whose timer may wait for
// two minutes: the receiver is not the one who makes no progress.
func TestHoleInFrontIsNotTheReceivers(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 1448, 1448, l.opts()) // what is before it was lost on the LAN
	l.rcv(ack, 0, 64000, 0, 0, l.opts())
	l.pass(115 * time.Second)
	if l.e.Totals().Resets > 0 {
		t.Error("the connection was reset before its source could repair a hole in front of the box")
	}
	l.src(ack, 0, 1448, l.opts())
	l.pass(time.Second)
	if got := l.stats().Unacked; got != 2896 {
		t.Errorf("%d bytes acknowledged after the repair", got)
	}
}
