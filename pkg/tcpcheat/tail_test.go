package tcpcheat

import (
	"testing"
	"time"
)

// toReceiver are the offsets of what the engine sent to the receiver.
func toReceiver(list []seg) []int {
	var out []int
	for _, s := range list {
		if s.to == ToReceiver {
			out = append(out, s.off)
		}
	}
	return out
}

// RFC 8985 section 7.2, 7.3: two round trips after the last progress the
// highest segment goes once more, once; what it brings up repairs the tail.
func TestRFC8985_7_TailLossProbe(t *testing.T) {
	l := newLab(t)
	l.start(labParams) // the handshake measured 100 ms towards the receiver
	for i := range 6 {
		l.src(ack, i*1448, 1448, l.opts())
		l.take()
		l.now = l.now.Add(time.Millisecond)
	}
	l.now = l.now.Add(94 * time.Millisecond)
	l.rcv(ack, 2*1448, 65000, 0, 0, l.opts())
	l.take()
	if got := toReceiver(l.pass(190 * time.Millisecond)); len(got) != 0 {
		t.Fatalf("sent again too early: %v", got)
	}
	if got := toReceiver(l.pass(30 * time.Millisecond)); len(got) != 1 || got[0] != 5*1448 {
		t.Fatalf("sent again %v, want the last segment", got)
	}
	if st := l.stats(); st.TailProbes != 1 || st.Timeouts != 0 || l.e.Totals().TailProbes != 1 {
		t.Errorf("%+v", st)
	}
	// Its arrival is reported: what was sent before it is lost (section 7.4.1).
	l.now = l.now.Add(100 * time.Millisecond)
	l.rcv(ack, 2*1448, 65000, 0, 0, sackOpt(l, 5*1448, 6*1448))
	got := toReceiver(append(l.take(), l.pass(80*time.Millisecond)...))
	if len(got) != 3 || got[0] != 2*1448 || got[2] != 4*1448 {
		t.Errorf("sent again %v, want the three segments before it", got)
	}
	if st := l.stats(); st.Timeouts != 0 {
		t.Errorf("%+v", st)
	}
}

// RFC 8985 section 7.3: one probe at a time, and none before a round trip was
// measured since the last; the timeout is what follows.
func TestRFC8985_7_3_OneProbeThenTimeout(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 0, 3*1448, l.opts())
	l.take()
	got := toReceiver(l.pass(900 * time.Millisecond))
	if len(got) < 2 || got[0] != 2*1448 {
		t.Fatalf("sent again %v", got)
	}
	for _, off := range got[1:] {
		if off != 0 {
			t.Errorf("sent again %v: a second probe", got)
		}
	}
}

// RFC 8985 section 6.2 step 4: the reordering window grows once per round trip,
// and not by the answer to a loss probe.
func TestRFC8985_6_2_ReorderingWindowPerRound(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 0, 10*1448, l.opts())
	l.take()
	l.rcv(ack, 3*1448, 65000, 0, 0, sackOpt(l, 0, 1448))
	l.rcv(ack, 3*1448, 65000, 0, 0, sackOpt(l, 1448, 2*1448))
	if r := l.e.find(l.key).ch.rto.reorder; r != 1 {
		t.Errorf("%d doublings in one round trip", r)
	}
	l.rcv(ack, 10*1448, 65000, 0, 0, l.opts())
	l.src(ack, 10*1448, 1448, l.opts())
	for range 100 {
		if l.pass(10 * time.Millisecond); l.stats().TailProbes > 0 {
			break
		}
	}
	l.rcv(ack, 11*1448, 65000, 0, 0, sackOpt(l, 10*1448, 11*1448))
	if st := l.stats(); st.TailProbes == 0 || l.e.find(l.key).ch.rto.reorder != 1 {
		t.Errorf("%d doublings, %+v", l.e.find(l.key).ch.rto.reorder, st)
	}
}

// A closed window is probed by the timeout with its oldest byte, and not by the
// tail, which the receiver would drop.
func TestNoTailProbeBeyondTheEdge(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 0, 4*1448, l.opts())
	l.take()
	l.rcv(ack, 1448, 2*1448, 0, 0, l.opts()) // room up to 3 segments
	for _, off := range toReceiver(l.pass(3 * time.Second)) {
		if off >= 3*1448 {
			t.Errorf("segment at %d sent beyond the edge", off)
		}
	}
}
