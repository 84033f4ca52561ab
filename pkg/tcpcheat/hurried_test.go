package tcpcheat

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// hurriedLab is a connection whose ACKs take two seconds. Its cheating starts when
// four segments have been on their way for one.
func hurriedLab(t *testing.T, mode Mode) *lab {
	l := newLab(t)
	l.open()
	l.src(ack, 0, 1448, l.opts())
	l.now = l.now.Add(2 * time.Second)
	l.rcv(ack, 1448, 65000, 0, 0, l.opts())
	for off := 1448; off < 5*1448; off += 1448 {
		l.src(ack, off, 1448, l.opts())
	}
	l.now = l.now.Add(time.Second)
	p := labParams
	p.Mode = mode
	if err := l.e.Start(l.now, l.key, p); err != nil {
		t.Fatal(err)
	}
	return l
}

// Where the proof of a loss takes longer than the reserved rate takes to fill the
// window, nobody waits for it: what is on its way goes once more, once.
func TestStartHurriesWhereProofTakesLong(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l := hurriedLab(t, mode)
		again, acked := split(t, append(l.take(), l.pass(100*time.Millisecond)...))
		if acked != 5*1448 {
			t.Errorf("%v: acknowledged %d", mode, acked)
		}
		for off := 1448; off < 5*1448; off += 1448 {
			if again[off] != 1448 {
				t.Errorf("%v: segment at %d: %d bytes sent again", mode, off, again[off])
			}
		}
		// The first copies had arrived, and the second are reported as such (RFC 2883).
		l.now = l.now.Add(time.Second)
		l.tick++
		l.rcv(ack, 5*1448, 65000, 0, 0, l.opts())
		for off := 1448; off < 5*1448; off += 1448 {
			twice := packet.SACKBlock{Left: l.sisn.Add(1 + off), Right: l.sisn.Add(1 + off + 1448)}
			l.rcv(ack, 5*1448, 65000, 0, 0, packet.AppendSACK(l.opts(), []packet.SACKBlock{twice}, 28))
		}
		l.take()
		again, _ = split(t, l.pass(30*time.Second))
		if st := l.stats(); len(again) != 0 || st.Retransmits != 4 || st.Timeouts != 0 || st.Lost != 0 || l.e.early != 0 {
			t.Errorf("%v: sent again %v, %d bytes still kept; %+v", mode, again, l.e.early, st)
		}
		if c := l.e.find(l.key); mode == Reliable && c.ch.rto.reorder != 0 {
			t.Errorf("the reordering window was widened by copies that claimed nothing")
		}
	}
}

// Of the copies one is lost too: the recovery goes on as it does without them.
func TestHurriedCopyIsLost(t *testing.T) {
	l := hurriedLab(t, Reliable)
	l.take()
	l.pass(100 * time.Millisecond)
	l.src(ack, 5*1448, 1448, l.opts())
	l.now = l.now.Add(2 * time.Second)
	l.tick++
	block := packet.SACKBlock{Left: l.sisn.Add(1 + 3*1448), Right: l.sisn.Add(1 + 6*1448)}
	l.rcv(ack, 2*1448, 65000, 0, 0, packet.AppendSACK(l.opts(), []packet.SACKBlock{block}, 28))
	again, _ := split(t, append(l.take(), l.pass(600*time.Millisecond)...))
	if len(again) != 1 || again[2*1448] != 1448 {
		t.Errorf("sent again %v, want the second", again)
	}
}

// The first window of a source that paces comes as ten segments, not as one
// super-packet; and what a source repeats it may cut otherwise. No byte goes twice.
func TestStartHurriesForAFirstWindow(t *testing.T) {
	const n = 10
	for name, sends := range map[string]func(l *lab){
		"paced": func(l *lab) {
			for off := 0; off < n*1448; off += 1448 {
				l.src(ack, off, 1448, l.opts())
			}
		},
		"repeated": func(l *lab) {
			l.src(ack, 0, n*1448, l.opts())
			l.src(ack, 1448, (n-1)*1448, l.opts())
			l.src(ack, 2*1448, 1448, l.opts())
		},
	} {
		l := newLab(t)
		l.open()
		sends(l)
		l.now = l.now.Add(time.Second)
		p := labParams
		p.Mode = Realtime
		if err := l.e.Start(l.now, l.key, p); err != nil {
			t.Fatal(err)
		}
		again, acked := split(t, append(l.take(), l.pass(100*time.Millisecond)...))
		for off := 0; off < n*1448; off += 1448 {
			if again[off] != 1448 {
				t.Errorf("%s: of the segment at %d %d bytes were sent again", name, off, again[off])
			}
		}
		if acked != n*1448 {
			t.Errorf("%s: acknowledged %d", name, acked)
		}
	}
}

// A reservation that comes late, when best effort has lost some of what was sent:
// the rate is reached within a round trip, not after several.
func TestLateReservationReachesItsRate(t *testing.T) {
	t.Parallel()
	seeds := uint64(20)
	if testing.Short() {
		seeds = 2
	}
	for _, mode := range some(Reliable, Realtime) {
		for _, late := range []time.Duration{2500 * time.Millisecond, 3500 * time.Millisecond, 4500 * time.Millisecond} {
			for seed := range seeds {
				s := asymmetric(t, seed)
				s.rcv.buf = 64 << 10          // what Linux offers to a new connection, until its reader has read
				s.back.busy = 2 * time.Second // the queue is full
				s.wan.loss = 0.4
				p := Params{Mode: mode, Predict: true, Rate: 1e6, Bucket: 64e3}
				if err := s.eng.Watch(s.time(), s.key); err != nil {
					t.Fatal(err)
				}
				s.after(late, func() {
					s.wan.loss = 0
					if err := s.eng.Start(s.time(), s.key, p); err != nil {
						t.Errorf("%v, from %v on, seed %d: %v", mode, late, seed, err)
					}
					s.flush()
				})
				s.src.start(packet.Seq(s.rng.Uint32()))
				cheated := s.run(15*time.Second, func() bool {
					st, _ := s.eng.Flow(s.key)
					return st.FakeAcks > 0
				})
				if !cheated {
					t.Errorf("%v, from %v on, seed %d: not cheated", mode, late, seed)
				}
				s.run(s.now+time.Second, nil)
				from := s.rcv.have()
				s.run(s.now+4*time.Second, nil)
				got := float64(s.rcv.have()-from) / 4 / (p.Rate * 1448 / 1500)
				if st, _ := s.eng.Flow(s.key); got < 0.85 {
					t.Errorf("%v, from %v on, seed %d: %.3f of the reservation; %+v", mode, late, seed, got, st)
				}
			}
		}
	}
}
