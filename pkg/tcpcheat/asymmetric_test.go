package tcpcheat

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// asymmetric is the demo's path: 20 Mbit/s and 100 ms, ACKs over 256 kbit/s
// whose 64 kB queue other traffic keeps full.
func asymmetric(t testing.TB, seed uint64) *sim {
	s := newSim(t, seed)
	s.eng = New(Limits{})
	s.src.mss, s.src.gso, s.src.shift = 1448, 16, 7
	s.rcv.mss, s.rcv.shift, s.rcv.buf = 1448, 7, 1<<20
	s.src.total = 1 << 30
	// A class of 8 Mbit/s behind the box, with the burst and some room.
	s.wan.rate, s.wan.queue = 1e6, 192<<10
	s.back.rate, s.back.queue = 32e3, 64<<10
	last := time.Duration(0)
	s.back.load = func(now time.Duration) int {
		// Traffic of 1.2 times the link, of which the queue takes what fits.
		n := int((now - last).Seconds() * 32e3 * 1.2)
		last = now
		room := 64<<10 - int((s.back.busy-now).Seconds()*32e3)
		if s.rng.IntN(3) > 0 {
			return min(n, max(room-s.rng.IntN(100), 0)) // what is left is too small for most ACKs
		}
		return min(n, max(room-200, 0))
	}
	return s
}

func (s *sim) goodput(p Params, use bool) (share float64) {
	isn := packet.Seq(s.rng.Uint32())
	if use {
		if err := s.eng.Watch(s.time(), s.key); err != nil {
			s.t.Fatal(err)
		}
		s.after(100*time.Millisecond, func() {
			if err := s.eng.Start(s.time(), s.key, p); err != nil {
				s.t.Error(err)
			}
			s.flush()
		})
	}
	s.src.start(isn)
	// Warm-up of 5 s after the first round trip, which alone takes two here.
	s.run(8*time.Second, nil)
	from := s.rcv.have()
	long := 20 * time.Second
	if testing.Short() {
		long = 4 * time.Second
	}
	s.run(s.now+long, nil)
	rate := float64(s.rcv.have()-from) / long.Seconds()
	return rate / (p.Rate * 1448 / 1500)
}

func TestAsymmetricPathReachesReservation(t *testing.T) {
	t.Parallel()
	for _, mode := range some(Reliable, Realtime) {
		for _, loss := range some(0, 0.001) {
			if loss > 0 && mode == Realtime {
				continue // a hole stays a hole in this mode
			}
			s := asymmetric(t, 1)
			if s.wan.loss = loss; loss > 0 {
				// A hole is repaired after two seconds: the receiver must
				// have room for what comes behind it (Linux: tcp_rmem).
				s.rcv.buf = 6 << 20
			}
			p := Params{Mode: mode, Predict: true, Rate: 1e6, Bucket: 64e3}
			got := s.goodput(p, true)
			st, _ := s.eng.Flow(s.key)
			t.Logf("%v, loss %.1f%%: %.3f of the reservation; source sent %d again, %d timeouts; real ACKs %d of %d; %+v",
				mode, loss*100, got, s.src.retx, s.src.rtos, s.back.sent-s.back.lost, s.back.sent, st)
			if want := 0.95 - 3*loss; got < want {
				t.Errorf("%v with %.1f%% loss: %.3f of the reservation, want %.3f", mode, loss*100, got, want)
			}
			if s.src.rtos > 1 {
				t.Errorf("%v: %d timeouts at the source", mode, s.src.rtos)
			}
			if loss == 0 && st.Retransmits > 20 {
				t.Errorf("%v: %d needless retransmissions", mode, st.Retransmits)
			}
		}
	}
	s := asymmetric(t, 1)
	s.useEngine = false
	got := s.goodput(Params{Rate: 1e6}, false)
	t.Logf("without: %.3f of the reservation, %d timeouts", got, s.src.rtos)
	if got > 0.7 {
		t.Errorf("without the engine the path gives %.3f: the comparison means nothing", got)
	}
}
