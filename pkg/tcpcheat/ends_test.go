package tcpcheat

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// RFC 9293 section 3.6 (case 3 of figure 13): both ends close at once, with
// bytes in hand. The source's FIN is acknowledged when it arrived, both FINs
// pass, and the record ends with them.
func TestRFC9293_3_6_SimultaneousClose(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l := newLab(t)
		p := labParams
		p.Mode = mode
		l.start(p)
		l.src(ack|fin, 0, 1448, l.opts())
		if a, s := l.rcv(ack|fin, 0, 65000, 0, 0, l.opts()); a != Modified || s.Ack() != l.sisn.Add(1+1448) || !s.Has(fin) {
			t.Errorf("%v: the receiver's FIN: %v, ack +%d", mode, a, s.Ack().Diff(l.sisn.Add(1)))
		}
		if a, s := l.rcv(ack, 1449, 65000, 1, 0, l.opts()); a != Modified || s.Ack() != l.sisn.Add(1+1449) {
			t.Errorf("%v: the ACK of the source's FIN: %v", mode, a)
		}
		if st := l.stats(); st.State != Cheated {
			t.Errorf("%v: %v before the source has acknowledged the other FIN", mode, st.State)
		}
		a, _ := l.handle(&packet.Segment{
			Key: l.key, TTL: 64, DF: true, Seq: l.sisn.Add(1 + 1449), Ack: l.risn.Add(2), Flags: ack, Window: 500, Options: l.opts(),
		}, Meta{})
		if st := l.stats(); a != Accept || st.State != Closed || st.Undelivered != 0 || l.e.Totals().Buffered != 0 {
			t.Errorf("%v: %v, %+v", mode, a, st)
		}
	}
}

// A receiver that vanishes: whatever the source has done, it learns of it by a
// reset and never by silence, in the middle of a transfer, behind a FIN, and
// while the box drains.
func TestVanishedReceiverIsToldToTheSource(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		for name, then := range map[string]func(l *lab){
			"transfer": func(*lab) {},
			"FIN":      func(l *lab) { l.src(ack|fin, 3*1448, 0, l.opts()) },
			"drain":    func(l *lab) { l.e.Stop(l.now, l.key) },
		} {
			l := newLab(t)
			p := labParams
			p.Mode = mode
			l.start(p)
			l.src(ack, 0, 3*1448, l.opts())
			then(l)
			resets := 0
			for _, s := range append(l.take(), l.pass(110*time.Second)...) {
				if s.to == ToSource && s.Has(rst) {
					resets++
					if s.Seq() != l.risn.Add(1) {
						t.Errorf("%v %s: the source will not believe the reset", mode, name)
					}
				}
			}
			if st := l.stats(); resets != 1 || st.Buffered != 0 {
				t.Errorf("%v %s: %d resets; %+v", mode, name, resets, st)
			}
		}
	}
}

// What the box sends again and what it lets the source send keep to the token
// bucket together: over any time, r and b, and what the source may be ahead of
// it in one window.
func TestReservedRateHoldsWithRetransmissions(t *testing.T) {
	s := newSim(t, 5)
	s.eng = New(Limits{})
	s.src.mss, s.src.gso, s.src.shift = 1448, 4, 7
	s.rcv.mss, s.rcv.shift, s.rcv.buf = 1448, 7, 4<<20
	s.src.total = 8 << 20
	s.wan.loss = 0.05
	const rate, bucket = 1e6, 64e3
	s.begin(0, Params{Mode: Reliable, Predict: true, Rate: rate, Bucket: bucket})
	// The bucket of a policer, as deep as it had to be.
	level, deepest, at := 0.0, 0.0, time.Duration(0)
	s.watchWAN = func(n int) {
		level = max(0, level-(s.now-at).Seconds()*rate) + float64(n)
		deepest, at = max(deepest, level), s.now
	}
	if !s.run(time.Minute, func() bool { return s.src.finAcked }) {
		t.Fatal("not ended")
	}
	st, _ := s.eng.Flow(s.key)
	// windowTime and two round trips of a millisecond at the rate, in IP bytes,
	// and a super-packet that a lost fake ACK made late.
	if most := bucket + 45e3 + 6e3; deepest > most {
		t.Errorf("a policer would need %.0f bytes, want at most %.0f", deepest, most)
	}
	if s.now > 11*time.Second || st.Retransmits < 100 {
		t.Errorf("done at %v with %d sent again", s.now, st.Retransmits)
	}
	t.Logf("a policer of r needs %.0f bytes; %d segments sent again", deepest, st.Retransmits)
}
