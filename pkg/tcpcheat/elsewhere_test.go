package tcpcheat

import (
	"fmt"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// What the receiver says takes another way from some moment on, as where routes
// change and the way back does not lead by here any more. The connection is left
// alone, every byte arrives, and nobody is reset.
func TestConnectionWhoseWayBackIsLost(t *testing.T) {
	for _, mode := range []Mode{Reliable, Realtime} {
		for _, noTS := range []bool{false, true} {
			for _, loss := range []float64{0, 0.02} {
				if loss > 0 && (mode == Realtime || noTS) {
					// A hole stays a hole in that mode; and without time stamps one that
					// the source believes to be filled hides that it hears the receiver.
					continue
				}
				t.Run(fmt.Sprintf("%v, timestamps %v, loss %v", mode, !noTS, loss), func(t *testing.T) {
					t.Parallel()
					for seed := range few(200) {
						wayBackIsLost(t, seed, mode, noTS, loss)
					}
				})
			}
		}
	}
}

func wayBackIsLost(t *testing.T, seed uint64, mode Mode, noTS bool, loss float64) {
	s := newSim(t, seed)
	s.eng = New(Limits{})
	s.src.mss, s.src.gso, s.src.shift, s.src.noTS = 1448, 4, 7, noTS
	s.rcv.mss, s.rcv.shift, s.rcv.buf = 1448, 7, 1<<20
	s.src.total = 12_000_000
	s.wan.loss, s.wan.rate, s.wan.queue = loss, 1.25e6, 400_000
	s.rcv.isn = packet.Seq(s.rng.Uint32())
	if err := s.eng.Watch(s.time(), s.key); err != nil {
		t.Fatal(err)
	}
	s.after(100*time.Millisecond, func() {
		if err := s.eng.Start(s.time(), s.key, Params{Mode: mode, Predict: seed%2 == 0, Rate: 1e6, Bucket: 64e3}); err != nil {
			t.Error(err)
		}
		s.flush()
	})
	s.src.start(packet.Seq(s.rng.Uint32()))
	at := time.Second + time.Duration(s.rng.IntN(2000))*time.Millisecond
	s.after(at, func() { s.back.deliver = s.down.send })
	var leftAt time.Duration
	reason := ""
	done := s.run(10*time.Minute, func() bool {
		for _, e := range s.eng.TakeEvents() {
			if e.Kind == EventDraining || e.Kind == EventLeftAlone {
				leftAt, reason = s.now, e.Reason
			}
		}
		return s.src.finAcked || s.src.reset
	})
	if !done || s.src.reset || s.rcv.bytes != s.src.total {
		st, _ := s.eng.Flow(s.key)
		t.Errorf("seed %d: at %v, lost at %v: %d of %d bytes, reset %v, %q at %v, %+v", seed, s.now, at, s.rcv.bytes, s.src.total, s.src.reset, reason, leftAt, st)
	}
	if reason != ErrOneWay.Error() || leftAt > at+20*time.Second {
		t.Errorf("seed %d: lost at %v, left alone at %v: %q", seed, at, leftAt, reason)
	}
}
