package tcpcheat

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// The paper's window: PRTT*p, so that the source may send at its peak rate
// while the bucket has tokens; they are the bound, and where no peak was
// declared the only one.
func TestWindowLetsTheSourceSendAtItsPeak(t *testing.T) {
	for _, c := range []struct {
		name               string
		prtt               time.Duration
		peak, rate, bucket float64
		min, max           int // of what is offered beyond what is acknowledged
	}{
		{"PRTT*p", 50 * time.Millisecond, 4e6, 1e5, 1e6, 195_000, 200_200},
		{"no p: what the bucket has", 50 * time.Millisecond, 0, 1e5, 500_000, 470_000, 500_000},
		{"p, but few tokens", 50 * time.Millisecond, 4e6, 1e5, 30_000, 10_000, 30_000},
		{"short PRTT: what keeps the rate", time.Millisecond, 2e6, 1e6, 64_000, 40_000, 44_000},
	} {
		l := newLab(t)
		l.open()
		l.e.find(l.key).rttSrc = rtt{smooth: c.prtt, dev: 0, min: c.prtt}
		if err := l.e.Start(l.now, l.key, Params{Mode: Reliable, Predict: true, Rate: c.rate, Bucket: c.bucket, Peak: c.peak}); err != nil {
			t.Fatal(err)
		}
		l.rcv(ack, 0, 4<<20, 0, 0, l.opts())
		l.take()
		l.src(ack, 0, 1448, l.opts())
		got := l.take()
		if len(got) == 0 {
			t.Fatalf("%s: no ACK", c.name)
		}
		// The connection began with a window of 65000, which is never taken back.
		if win := int(got[0].Window()) << 7; win < c.min-128 || win > max(c.max, 65000) {
			t.Errorf("%s: window %d, want %d to %d", c.name, win, c.min, c.max)
		}
	}
}

// A bulk source gets no more ahead of the bucket for it: when the tokens are
// spent the edge moves at the reserved rate.
func TestSpentBucketBoundsTheWindow(t *testing.T) {
	l := newLab(t)
	l.start(Params{Mode: Reliable, Predict: true, Rate: 1e6, Bucket: 300e3})
	off, edge := 0, 65000
	begin := l.now
	for range 500 {
		for off+1448 <= edge {
			l.src(ack, off, 1448, l.opts())
			off += 1448
		}
		l.rcv(ack, max(off-50*1448, 0), 4<<20, 0, 0, l.opts())
		for _, s := range append(l.take(), l.pass(2*time.Millisecond)...) {
			if s.to == ToSource {
				edge = max(edge, s.off+int(s.Window())<<7)
			}
		}
	}
	s := l.now.Sub(begin).Seconds()
	conform := int((300e3 + s*1e6) * 1448 / 1500)
	if ahead := edge - conform; ahead > 45_000 || ahead < 20_000 {
		t.Errorf("the edge is %d bytes ahead of the bucket after %.1f s", ahead, s)
	}
}

// tcp.md 0.3: a receiver that discards what is beyond its edge answers each
// such segment with an ACK that says nothing new. The third makes the engine
// keep to the edge.
func TestDropsBeyondTheEdgeEndPrediction(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l := newLab(t)
		l.start(Params{Mode: mode, Predict: true, Rate: 1e7, Bucket: 1e6})
		for off := 0; off < 60*1448; off += 1448 {
			l.src(ack, off, 1448, l.opts())
		}
		l.take()
		l.rcv(ack, 20*1448, 40*1448-20*1448, 0, 0, l.opts())
		l.e.find(l.key).ch.predict = prediction{level: 20 * 1448} // as if it had always been so
		for i := range 4 {
			if st := l.stats(); !st.Predicting {
				t.Fatalf("%v: given up after %d ACKs", mode, i)
			}
			l.tick += 2
			l.rcv(ack, 20*1448, 20*1448, 0, 0, l.opts())
			l.rcv(ack, 20*1448, 20*1448, 0, 0, l.opts()) // a copy made on the way
		}
		if st := l.stats(); st.Predicting || st.Withdrawals != 1 {
			t.Errorf("%v: still predicting: %+v", mode, st)
		}
		// It is told when the treatment has ended too.
		if l.rcv(packet.FlagRST|packet.FlagACK, 20*1448, 0, 0, 0, nil); l.stats().Withdrawals != 1 || l.stats().State != Closed || l.e.Totals().Withdrawals != 1 {
			t.Errorf("%v: %+v, %+v", mode, l.stats(), l.e.Totals())
		}
	}
}

// RFC 8985 finds that what was sent beyond the edge is lost: the same sign.
func TestLossBeyondTheEdgeEndsPrediction(t *testing.T) {
	l := newLab(t)
	l.start(Params{Mode: Reliable, Predict: true, Rate: 1e7, Bucket: 1e6})
	for off := 0; off < 60*1448; off += 1448 {
		l.src(ack, off, 1448, l.opts())
		l.take()
		l.now = l.now.Add(10 * time.Microsecond)
	}
	// Up to 30 segments; the window of ten more is smaller than what is out.
	l.rcv(ack, 30*1448, 10*1448, 0, 0, l.opts())
	l.e.find(l.key).ch.predict = prediction{level: 10 * 1448}
	for range 100 { // the oldest is sent again at last, and that arrives
		if l.pass(20 * time.Millisecond); l.stats().Timeouts > 0 {
			break
		}
	}
	l.tick += 500
	l.src(ack, 59*1448, 1448, l.opts()) // shows the engine a new time stamp
	l.pass(2 * time.Second)
	l.rcv(ack, 31*1448, 10*1448, 0, 0, packet.AppendTimestamps(nil, l.tick, l.tick))
	l.pass(200 * time.Millisecond)
	if st := l.stats(); st.Withdrawals == 0 || st.Lost == 0 {
		t.Errorf("%+v", st)
	}
}

// A reader slower than the reservation, and one that stops: a receiver that
// drops beyond its edge, as Linux 6.18 does, loses little to the prediction.
func TestPredictionAgainstSlowReaders(t *testing.T) {
	for name, slow := range map[string]func(r *simReceiver){
		"half the rate": func(r *simReceiver) { r.readRate = 500e3 },
		"stops for 3 s": func(r *simReceiver) {
			r.readRate, r.paused = 4e6, [2]time.Duration{2 * time.Second, 5 * time.Second}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, 1)
			s.eng = New(Limits{})
			s.src.mss, s.src.gso, s.src.shift = 1448, 4, 7
			s.rcv.mss, s.rcv.shift, s.rcv.buf = 1448, 7, 256<<10
			s.src.total = 4 << 20
			slow(s.rcv)
			s.begin(0, Params{Mode: Reliable, Predict: true, Rate: 1e6, Bucket: 64e3})
			if !s.run(time.Minute, func() bool { return s.src.finAcked }) || s.rcv.bytes != s.src.total {
				t.Fatalf("%d of %d bytes", s.rcv.bytes, s.src.total)
			}
			st, _ := s.eng.Flow(s.key)
			t.Logf("%d segments dropped by the receiver, %d withdrawals, %d sent again, at %v", s.rcv.dropped, st.Withdrawals, st.Retransmits, s.now)
			if st.Withdrawals == 0 {
				t.Error("the prediction was never given up")
			}
			if share := float64(s.rcv.dropped) * 1448 / float64(s.src.total); share > 0.2 {
				t.Errorf("%.0f%% of the data was dropped beyond the edge", 100*share)
			}
		})
	}
}
