package tcpcheat

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// RFC 4821: a path that swallows large packets without a word. The source hears
// nothing of it, for its data is acknowledged here; the engine finds out, and
// every byte arrives.
func TestRFC4821_BlackHoleBehindTheBox(t *testing.T) {
	for _, gso := range some(16, 1) {
		for _, v6 := range []bool{false, true} {
			s := newSim(t, 3)
			s.eng = New(Limits{})
			limit := 600
			if v6 {
				limit = 1300
				s.key = key6()
			}
			s.src.mss, s.src.gso, s.src.shift = 1448, gso, 7
			s.rcv.mss, s.rcv.shift, s.rcv.buf = 1448, 7, 1<<20
			s.src.total = 1_500_000
			whole := 0
			s.wan.deliver = func(p []byte) {
				if s.now > 300*time.Millisecond && len(p) > limit {
					whole++
					return
				}
				s.rcv.receive(p)
			}
			s.begin(0, Params{Mode: Reliable, Predict: true, Rate: 1e6, Bucket: 64e3})
			ok := s.run(5*time.Minute, func() bool { return s.src.finAcked })
			st, _ := s.eng.Flow(s.key)
			if !ok || s.rcv.bytes != s.src.total || s.src.reset {
				t.Errorf("gso %d v6 %v: %d of %d bytes at %v; %+v", gso, v6, s.rcv.bytes, s.src.total, s.now, st)
			}
			if st.PathMTU == 0 || st.PathMTU > limit {
				t.Errorf("gso %d v6 %v: path MTU %d found, want at most %d", gso, v6, st.PathMTU, limit)
			}
			t.Logf("gso %d v6 %v: %d whole segments swallowed, done at %v", gso, v6, whole, s.now)
		}
	}
}

// Losses, even of all packets for a while, do not make the path a small one.
func TestLossIsNoBlackHole(t *testing.T) {
	s := newSim(t, 4)
	s.eng = New(Limits{})
	s.src.mss, s.src.gso, s.src.shift = 1448, 4, 7
	s.rcv.mss, s.rcv.shift, s.rcv.buf = 1448, 7, 1<<20
	s.src.total = 3_000_000
	s.wan.loss = 0.1
	s.wan.outage = [2]time.Duration{time.Second, 6 * time.Second}
	s.begin(0, Params{Mode: Reliable, Predict: true, Rate: 1e6, Bucket: 64e3})
	ok := s.run(5*time.Minute, func() bool { return s.src.finAcked })
	if st, _ := s.eng.Flow(s.key); !ok || st.PathMTU != 0 {
		t.Errorf("ended %v, path MTU %d: %+v", ok, st.PathMTU, st)
	}
}

// New data goes in pieces at once when the path is known: all of its bytes, in
// order, and none of the original.
func TestNewDataInPieces(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.e.find(l.key).ch.path = 500
	if a := l.src(ack|packet.FlagPSH, 0, 1448, l.opts()); a != Drop {
		t.Fatalf("the whole one goes on: %v", a)
	}
	end := 0
	for _, s := range l.take() {
		if s.to == ToReceiver {
			if s.off != end || len(s.Payload()) > 500 {
				t.Errorf("%d bytes at %d, want the next after %d", len(s.Payload()), s.off, end)
			}
			end += len(s.Payload())
		}
	}
	if st := l.stats(); end != 1448 || st.Retransmits != 0 {
		t.Errorf("%d bytes sent; %+v", end, st)
	}
	if a := l.src(ack, 1448, 400, l.opts()); a != Accept {
		t.Errorf("a small one: %v", a)
	}
}
