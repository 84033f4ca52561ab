package tcpcheat

import (
	"bytes"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// RFC 8985: what was sent before something that arrived is lost, and is sent
// again with the source's latest TSval (PAWS) and not ECN-capable.
func TestRFC8985_LossIsRepaired(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.tos = 2
	for i := range 10 {
		l.tick = 100 + uint32(10*i)
		l.src(ack, i*1448, 1448, l.opts())
		l.pass(10 * time.Millisecond)
	}
	l.rcv(ack, 1448, 65000, 0, 0, sackOpt(l, 2*1448, 9*1448))
	var got []seg
	for _, s := range append(l.take(), l.pass(100*time.Millisecond)...) {
		if s.to == ToReceiver {
			got = append(got, s)
		}
	}
	if len(got) != 1 || got[0].off != 1448 || !bytes.Equal(got[0].Payload(), contents(1448, 1448)) {
		t.Fatalf("%d segments sent again", len(got))
	}
	s := got[0]
	if s.o.TSVal != 190 || s.v.ECN() != 0 || s.Ack() != l.risn.Add(1) || s.v.TTL() != 64 {
		t.Errorf("TSval %d ECN %d TTL %d", s.o.TSVal, s.v.ECN(), s.v.TTL())
	}
}

// ACKs that are late cause no retransmission: seconds of reverse queue are
// measured before they can be mistaken.
func TestLateAcksCauseNoStorm(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	const late = 100 // steps of 20 ms
	sent := 0
	for i := range 400 {
		l.tick += 20
		l.src(ack, i*14480, 14480, l.opts())
		if i >= late {
			l.rcv(ack, (i-late)*14480, 1<<20, 0, 0, l.opts())
		}
		for _, s := range append(l.take(), l.pass(20*time.Millisecond)...) {
			if s.to == ToReceiver {
				sent++
			}
		}
	}
	if sent > 5 {
		t.Errorf("%d retransmissions of data that had arrived", sent)
	}
}

// RFC 6298: the timer backs off, sends the oldest segment only, and R2 ends it
// with a reset to both. Before it, once, the last segment (RFC 8985 section 7).
func TestRFC6298_TimeoutBacksOff(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 0, 5*1448, l.opts())
	begin := l.now
	var at []time.Duration
	var rsts, tails int
	for range 1200 {
		for _, s := range append(l.take(), l.pass(100*time.Millisecond)...) {
			switch {
			case s.Has(rst):
				rsts++
			case s.to == ToReceiver && s.off == 4*1448 && len(at) == 0 && tails == 0:
				tails++
			case s.to == ToReceiver && s.off > 0 && s.off < 1448 && len(at) > maxWhole:
				// The oldest in pieces: perhaps it is too large for the path.
			case s.to == ToReceiver:
				if s.off != 0 {
					t.Fatalf("segment at %d sent again", s.off)
				}
				at = append(at, l.now.Sub(begin))
			}
		}
	}
	if len(at) < 5 || len(at) > 12 {
		t.Errorf("sent again at %v", at)
	}
	for i := 2; i < len(at); i++ {
		if at[i]-at[i-1] < at[i-1]-at[i-2] {
			t.Errorf("no back-off: %v", at)
		}
	}
	ev := l.e.TakeEvents()
	if rsts != 2 || len(ev) != 1 || ev[0].Reason != reasonNoProgress || ev[0].Final.Undelivered != 5*1448 {
		t.Errorf("%d resets, %+v", rsts, ev)
	}
}

// RFC 9293 section 3.8.6.1: a receiver that answers with a closed window is
// alive, and is probed for as long as it does.
func TestClosedWindowIsProbedForEver(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 0, 5*1448, l.opts())
	l.take()
	for range 10 {
		l.rcv(ack, 1448, 0, 0, 0, l.opts())
		n := 0
		for _, s := range l.pass(70 * time.Second) {
			if s.Has(rst) {
				t.Fatal("reset")
			}
			if s.to == ToReceiver && s.off != 1448 {
				t.Errorf("sent %d into a closed window", s.off)
			}
			n++
		}
		if n == 0 {
			t.Fatal("no probe")
		}
	}
}

// RFC 2018 section 8: a receiver may take back what it reported.
func TestRFC2018_8_Reneging(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 0, 3*1448, l.opts())
	l.take()
	l.rcv(ack, 0, 65000, 0, 0, sackOpt(l, 1448, 3*1448))
	l.pass(300 * time.Millisecond)
	l.rcv(ack, 1448, 65000, 0, 0, l.opts())
	again := map[int]bool{}
	for _, s := range l.pass(20 * time.Second) {
		again[s.off] = true
	}
	if !again[1448] {
		t.Errorf("what was reported and taken back is not sent again: %v", again)
	}
}

// RFC 2883: a block below the ACK is no news of loss or arrival.
func TestRFC2883_DSACK(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 0, 3*1448, l.opts())
	l.rcv(ack, 2*1448, 65000, 0, 0, sackOpt(l, 0, 1448))
	if st := l.stats(); st.DSACKs != 1 || st.Lost != 0 {
		t.Errorf("%+v", st)
	}
}

// tcp.md 2.8: the buffer's limits hold, and what has no room is forwarded and
// not acknowledged.
func TestBufferLimits(t *testing.T) {
	for _, global := range []bool{true, false} {
		l := newLab(t)
		p := labParams
		p.Bucket = 1e6
		if global {
			l.e = New(Limits{Buffered: 32 << 10})
		} else {
			p.MaxBuffered = 32 << 10
		}
		l.start(p)
		for off := 0; off < 44*1448; off += 1448 {
			if a := l.src(ack, off, 1448, l.opts()); a != Accept {
				t.Fatalf("%v", a)
			}
		}
		l.pass(time.Second)
		if st := l.stats(); st.Unacked > 32<<10 || st.Unheld == 0 || l.e.Totals().Buffered > 40<<10 {
			t.Errorf("global %v: %+v", global, st)
		}
	}
}

func TestMaxUnacked(t *testing.T) {
	l := newLab(t)
	l.start(Params{Mode: Realtime, Predict: true, Rate: 1e7, Bucket: 1e6, MaxUnacked: 20000})
	for off := 0; off < 40*1448; off += 1448 {
		l.src(ack, off, 1448, l.opts())
	}
	l.pass(time.Second)
	if st := l.stats(); st.Unacked > 20000 {
		t.Errorf("%d bytes acknowledged ahead", st.Unacked)
	}
}

// The hold against a plain slice as the model.
func TestHoldModel(t *testing.T) {
	p := pool{max: 64}
	h := hold{base: packet.Seq(0xffffff00)}
	at, end := 0, 0
	for i := range 5000 {
		n := 1 + i*7919%3000
		if h.write(&p, h.base.Add(end-at), contents(end, n), 60000) {
			end += n
		}
		if i%3 != 0 {
			continue
		}
		if k := (i * 31) % (end - at + 1); k > 0 {
			got := make([]byte, min(k, 5000))
			h.read(got, h.base.Add(k-len(got)))
			if !bytes.Equal(got, contents(at+k-len(got), len(got))) {
				t.Fatalf("step %d: wrong bytes", i)
			}
			h.release(&p, h.base.Add(k))
			at += k
		}
	}
	if p.used() > 60000+2*chunkSize {
		t.Errorf("%d bytes in use", p.used())
	}
	if h.drop(&p); p.used() != 0 {
		t.Error("memory left")
	}
}

// The range set against a bitmap as the model.
func TestRangesModel(t *testing.T) {
	var s ranges
	const size = 300
	var bits [size]bool
	base := packet.Seq(0xffffff80)
	for i := range 3000 {
		l := i * 7919 % size
		r := min(size, l+1+i*31%20)
		if s.add(base.Add(l), base.Add(r)) {
			for j := l; j < r; j++ {
				bits[j] = true
			}
		}
		var got [size]bool
		for k, b := range s.r[:s.n] {
			if k > 0 && b.Left.AtMost(s.r[k-1].Right) {
				t.Fatal("ranges touch")
			}
			for j := b.Left.Diff(base); j < b.Right.Diff(base); j++ {
				got[j] = true
			}
		}
		if got != bits {
			t.Fatalf("step %d differs", i)
		}
		if i%40 == 39 {
			s, bits = ranges{}, [size]bool{}
		}
	}
}
