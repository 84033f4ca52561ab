package tcpcheat

import (
	"bytes"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// earlyLab is a connection with five segments on their way when its cheating
// starts, of which the receiver has acknowledged the first.
func earlyLab(t *testing.T, mode Mode) *lab {
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
	return l
}

// split tells what of some packets is data sent again, by its offset, and how
// far the others acknowledge.
func split(t *testing.T, list []seg) (again map[int]int, acked int) {
	t.Helper()
	again = map[int]int{}
	for _, s := range list {
		if s.to == ToSource {
			acked = max(acked, s.off)
			continue
		}
		if n := len(s.Payload()); n > 0 && !bytes.Equal(s.Payload(), contents(s.off, n)) {
			t.Errorf("wrong bytes at %d", s.off)
		} else if n > 0 {
			again[s.off] += n
		}
	}
	return again, acked
}

// What was sent before the reservation is answered for without waiting for the
// receiver. It is on its way and nothing says that it is lost, so it is not sent
// again.
func TestStartTakesOverWhatIsOnItsWay(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l := earlyLab(t, mode)
		again, acked := split(t, append(l.take(), l.pass(50*time.Millisecond)...))
		if len(again) != 0 || acked != 5*1448 {
			t.Errorf("%v: sent again %v, acknowledged %d", mode, again, acked)
		}
		l.rcv(ack, 5*1448, 65000, 0, 0, l.opts())
		l.take()
		again, _ = split(t, l.pass(5*time.Second))
		if st := l.stats(); len(again) != 0 || st.Retransmits != 0 || st.Timeouts != 0 || l.e.early != 0 {
			t.Errorf("%v: sent again %v, %d bytes still kept; %+v", mode, again, l.e.early, st)
		}
	}
}

// It went as best effort and may be lost: RFC 6298 section 5 and RFC 8985 section
// 7 for it, from when it was sent.
func TestRFC6298_WhatWasOnItsWayIsLost(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l := earlyLab(t, mode)
		again, acked := split(t, append(l.take(), l.pass(450*time.Millisecond)...))
		if acked != 5*1448 {
			t.Fatalf("%v: acknowledged %d", mode, acked)
		}
		if mode == Reliable && (len(again) != 1 || again[4*1448] != 1448) {
			t.Errorf("the loss probe is the last segment; sent again %v", again)
		}
		if mode == Realtime {
			for off := 1448; off < 5*1448; off += 1448 {
				if again[off] != 1448 {
					t.Errorf("segment at %d: %d bytes sent again", off, again[off])
				}
			}
		}
		l.rcv(ack, 5*1448, 65000, 0, 0, l.opts())
		l.take()
		if again, _ = split(t, l.pass(5*time.Second)); len(again) != 0 || l.e.early != 0 {
			t.Errorf("%v: sent again after its acknowledgement: %v, %d bytes kept", mode, again, l.e.early)
		}
	}
}

// The receiver reports what lies behind them: then they are lost, and are sent
// again a reordering window later (RFC 8985 section 6.2), once.
func TestRFC8985_WhatWasOnItsWayIsReportedMissing(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l := earlyLab(t, mode)
		l.take()
		l.pass(100 * time.Millisecond)
		block := packet.SACKBlock{Left: l.sisn.Add(1 + 3*1448), Right: l.sisn.Add(1 + 5*1448)}
		for range 3 {
			l.rcv(ack, 1448, 65000, 0, 0, packet.AppendSACK(l.opts(), []packet.SACKBlock{block}, 28))
			l.now = l.now.Add(15 * time.Millisecond)
		}
		again, _ := split(t, append(l.take(), l.pass(30*time.Millisecond)...))
		if again[1448] != 1448 || again[2*1448] != 1448 {
			t.Errorf("%v: sent again %v", mode, again)
		}
		if mode == Reliable && len(again) != 2 {
			t.Errorf("what the receiver has was sent again: %v", again)
		}
		if st := l.stats(); st.Timeouts != 0 || st.Holes != 0 {
			t.Errorf("%v: %+v", mode, st)
		}
	}
}

// A connection on a path that loses nothing: cheating begins in the middle of
// its first flights, and the box sends nothing twice.
func TestStartInMidFlightSendsNothingTwice(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		for at := 90 * time.Millisecond; at < 400*time.Millisecond; at += 5 * time.Millisecond {
			s := newSim(t, 5)
			s.eng = New(Limits{})
			s.src.mss, s.src.gso, s.src.shift = 1448, 4, 7
			s.rcv.mss, s.rcv.shift, s.rcv.buf = 1448, 7, 1<<20
			s.src.total = 300_000
			s.begin(at, Params{Mode: mode, Predict: true, Rate: 1e6, Bucket: 64e3})
			ok := s.run(5*time.Minute, func() bool { return s.src.finAcked })
			st, _ := s.eng.Flow(s.key)
			if !ok || st.Retransmits != 0 || st.Timeouts != 0 || s.rcv.bytes != s.src.total {
				t.Errorf("%v, from %v on: ended %v, sent again %d, %d of %d bytes; %+v", mode, at, ok, st.Retransmits, s.rcv.bytes, s.src.total, st)
			}
			if st.FakeAcks == 0 {
				t.Errorf("%v, from %v on: it was not cheated", mode, at)
			}
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
