package tcpcheat

import (
	"slices"
	"testing"
	"time"
)

// RFC 9293 section 3.8.6.1: a window update of the receiver may be lost. The
// source's probes end at the box, so the box asks the receiver itself.
func TestRFC9293_3_8_6_1_LostWindowUpdate(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l := newLab(t)
		l.start(Params{Mode: mode, Rate: 1e7, Bucket: 1e6})
		l.src(ack, 0, 14480, l.opts())
		l.take()
		l.rcv(ack, 14480, 0, 0, 0, l.opts())
		off := 14480
		for off+1448 <= 65000 { // what was offered before counts
			l.src(ack, off, 1448, l.opts())
			off += 1448
		}
		l.rcv(ack, off, 0, 0, 0, l.opts())
		l.take()
		var at []time.Duration
		begin := l.now
		for range 200 {
			for _, s := range l.pass(100 * time.Millisecond) {
				if s.to == ToReceiver {
					if s.Seq() != l.sisn.Add(off) || len(s.Payload()) != 0 {
						t.Errorf("%v: probe at %v with %d bytes", mode, s.Seq(), len(s.Payload()))
					}
					at = append(at, l.now.Sub(begin))
				}
			}
		}
		if len(at) < 3 || len(at) > 10 {
			t.Errorf("%v: probes at %v", mode, at)
		}
		l.rcv(ack, off, 65000, 0, 0, l.opts())
		if got := l.take(); len(got) != 0 && got[len(got)-1].Window() == 0 {
			t.Errorf("%v: still closed", mode)
		}
		if n := len(l.pass(time.Minute)); n != 0 {
			t.Errorf("%v: %d packets to an open window", mode, n)
		}
	}
}

// PAWS: what the receiver will discard must not be acknowledged where nobody
// keeps a copy.
func TestRFC7323_5_OvertakenSegment(t *testing.T) {
	l := newLab(t)
	p := labParams
	p.Mode = Realtime
	l.start(p)
	l.tick = 200
	l.src(ack, 0, 1448, l.opts())
	l.take()
	l.tick = 150
	if a := l.src(ack, 1448, 1448, l.opts()); a != Accept {
		t.Errorf("action %v", a)
	}
	got := append(l.take(), l.pass(time.Second)...)
	if slices.ContainsFunc(got, func(s seg) bool { return s.to == ToSource }) || l.stats().OldTimestamps != 1 {
		t.Errorf("%d packets, %+v", len(got), l.stats())
	}
}

// The source has what the scaled window field expresses: with large units that
// is less than a segment while the engine has offered more, and then, too, the
// receiver must be asked.
func TestLostWindowUpdateOfACoarseWindow(t *testing.T) {
	l := newLab(t)
	l.shift = 10
	l.start(Params{Mode: Realtime, Rate: 1e7, Bucket: 1e6})
	off := 0
	for off+1448 <= 63000 {
		l.src(ack, off, 1448, l.opts())
		off += 1448
	}
	l.src(ack, off, 300, l.opts()) // 2436 of 65000 bytes are left: two units
	l.rcv(ack, off-1448, 3072, 0, 0, l.opts())
	l.take()
	if n := len(toReceiver(l.pass(20 * time.Second))); n == 0 {
		t.Errorf("the receiver is not asked: %+v", l.stats())
	}
}
