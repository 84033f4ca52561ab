package tcpcheat

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// schedule draws a random scenario.
func (s *sim) schedule() (startAt time.Duration, p Params) {
	g := s.rng
	pick := func(v ...float64) float64 { return v[g.IntN(len(v))] }
	ms := func(lo, hi int) time.Duration { return time.Duration(lo+g.IntN(hi-lo+1)) * time.Millisecond }
	s.src.mss = []int{536, 1448, 1400}[g.IntN(3)]
	s.rcv.mss = 1448
	s.src.mss = min(s.src.mss, s.rcv.mss)
	s.src.gso = []int{1, 1, 4, 16, 40}[g.IntN(5)]
	s.src.shift, s.rcv.shift = 7, []int{0, 2, 7, 10}[g.IntN(4)]
	s.src.noTS, s.src.noSACK = g.IntN(4) == 0, g.IntN(6) == 0
	s.src.total = 1 + g.IntN(400_000)
	s.rcv.buf = []int{16 << 10, 65535, 200 << 10, 1 << 20}[g.IntN(4)]
	s.rcv.readRate = pick(0, 0, 50e3, 300e3, 2e6)
	if g.IntN(4) == 0 {
		s.rcv.readRate = max(s.rcv.readRate, 200e3)
		a := ms(0, 3000)
		s.rcv.paused = [2]time.Duration{a, a + ms(10, 8000)}
	}
	if g.IntN(3) == 0 {
		s.rcv.chatter = ms(5, 300)
	}
	s.up.loss, s.up.dup = pick(0, 0, 0.01, 0.05), pick(0, 0, 0.02)
	s.down.loss = pick(0, 0, 0.01, 0.05)
	if g.IntN(4) == 0 {
		s.up.jitter = ms(1, 3)
	}
	s.wan.delay, s.back.delay = ms(1, 150), ms(1, 150)
	s.wan.loss, s.wan.dup = pick(0, 0.005, 0.02, 0.1), pick(0, 0, 0.02)
	s.back.loss, s.back.dup = pick(0, 0.05, 0.3, 0.8), pick(0, 0, 0.05)
	if g.IntN(3) == 0 {
		s.wan.jitter = ms(1, 40)
	}
	if g.IntN(3) == 0 {
		s.back.rate, s.back.queue = 32e3/4, 16<<10
		s.back.load = func(now time.Duration) int {
			room := s.back.queue - int((s.back.busy-now).Seconds()*s.back.rate)
			return min(s.rng.IntN(4000), max(room-s.rng.IntN(1000), 0))
		}
	}
	if g.IntN(4) == 0 {
		a := ms(0, 2000)
		s.wan.outage = [2]time.Duration{a, a + ms(50, 3000)}
	}
	p = Params{
		Mode: Reliable, Predict: g.IntN(4) > 0,
		Rate: pick(20e3, 125e3, 1e6, 1e7), Bucket: pick(3e3, 64e3),
	}
	if g.IntN(3) == 0 {
		p.Peak = 2 * p.Rate
	}
	if g.IntN(3) == 0 {
		p.MaxBuffered = 24<<10 + g.IntN(60000)
	}
	if g.IntN(2) == 0 {
		startAt = ms(0, 2000)
	}
	return startAt, p
}

func (s *sim) begin(startAt time.Duration, p Params) {
	isn := packet.Seq(s.rng.Uint32())
	if s.rng.IntN(2) == 0 {
		isn = packet.Seq(0xffffffff).Add(-s.rng.IntN(200_000)) // wraps within the transfer
	}
	s.rcv.isn = packet.Seq(s.rng.Uint32())
	if err := s.eng.Watch(s.time(), s.key); err != nil {
		s.t.Fatal(err)
	}
	s.after(startAt, func() {
		_ = s.eng.Start(s.time(), s.key, p) // too late, perhaps: closed already
		s.flush()
	})
	s.src.start(isn)
}

// toggles starts and stops the cheating at random times of a connection's life.
func (s *sim) toggles(p Params) {
	at := time.Duration(0)
	for i := range s.rng.IntN(7) {
		at += time.Duration(s.rng.IntN(2500)) * time.Millisecond
		q := p
		q.Rate *= 0.5 + s.rng.Float64() // another reservation
		s.after(at, func() {
			if i%2 == 0 {
				s.eng.Stop(s.time(), s.key)
			} else {
				_ = s.eng.Start(s.time(), s.key, q) // it drains still, or is closed
			}
			s.flush()
		})
	}
}

// forSchedules runs random schedules, their seeds from a base on, in parallel
// pieces. A failure names its seed.
func forSchedules(t *testing.T, base, runs uint64, one func(t *testing.T, seed uint64) bool) {
	runs = few(runs)
	const pieces = 4
	for piece := range uint64(pieces) {
		t.Run(fmt.Sprintf("seeds %d+%d, every %d", base, piece, pieces), func(t *testing.T) {
			t.Parallel()
			for seed := base + piece; seed < base+runs; seed += pieces {
				if !one(t, seed) {
					return
				}
			}
		})
	}
}

// complete runs a schedule to its end and checks it.
func (s *sim) complete(seed uint64, p Params) bool {
	ok := s.run(3*time.Hour, func() bool { return s.src.finAcked && s.rcv.una == s.rcv.nxt.Add(1) })
	st, _ := s.eng.Flow(s.key)
	if !ok {
		s.fail("termination: the connection does not end")
	}
	if s.rcv.bytes != s.src.total || s.src.reset {
		s.fail("delivered: %d of %d bytes, reset %v, dropped %d", s.rcv.bytes, s.src.total, s.src.reset, s.rcv.dropped)
	}
	s.run(s.now+2*time.Minute, nil)
	if got := s.eng.Totals(); got.Buffered != 0 || got.Flows != 0 || s.eng.early != 0 {
		s.fail("memory: left behind %+v", got)
	}
	if s.fails > 0 {
		s.t.Errorf("seed %d, params %+v; %+v", seed, p, st)
	}
	return s.fails == 0
}

// schedules is how many random schedules each mode has to stand.
const schedules = 10_000

// Reliable delivers every byte, whatever the two legs do, and however often the
// reservation comes and goes; at every step the promises of sim.check hold (it
// names them: honest, monotonic, no storms); the connection ends; no memory is
// left behind.
func TestReliableDeliversEveryByte(t *testing.T) {
	forSchedules(t, 0, schedules, func(t *testing.T, seed uint64) bool {
		s := newSim(t, seed)
		lim := Limits{NoProgress: time.Hour, Linger: time.Second}
		if seed%7 == 0 {
			lim.Buffered = 64 << 10
		}
		s.eng = New(lim)
		at, p := s.schedule()
		s.begin(at, p)
		if seed%3 == 0 {
			s.back.loss = min(s.back.loss, 0.3) // without the box the source is on its own
			s.toggles(p)
		}
		return s.complete(seed, p)
	})
}

// Realtime keeps nothing, so it delivers everything only where the way to the
// receiver loses nothing and the receiver's own edge is honoured: then it must,
// whatever happens on the LAN, to the ACKs and at the reader, and however often
// the reservation comes and goes.
func TestRealtimeDeliversOnCleanPath(t *testing.T) {
	forSchedules(t, 1_000_000, schedules, func(t *testing.T, seed uint64) bool {
		s := newSim(t, seed)
		s.eng = New(Limits{NoProgress: time.Hour, Linger: time.Second})
		at, p := s.schedule()
		p.Mode, p.Predict = Realtime, false
		s.honour = true
		s.wan.loss, s.wan.outage = 0, [2]time.Duration{}
		// What is reordered behind the box the receiver may discard by PAWS
		// (RFC 7323 section 5): as good as lost.
		s.wan.jitter, s.up.jitter = 0, 0
		s.begin(at, p)
		if seed%3 == 0 {
			s.back.loss = min(s.back.loss, 0.3)
			s.toggles(p)
		}
		return s.complete(seed, p)
	})
}

// The short form is for the race detector, which slows a simulation down twenty
// times. A schedule has one goroutine, so what there is to be seen are variables
// that schedules side by side have in common, and a few show them.

// few is how many of so many random schedules are run: all of them in a soak, a third
// without the race detector, and a few with it.
func few(runs uint64) uint64 {
	switch {
	case testing.Short():
		return max(runs/100, 10)
	case os.Getenv("QOSPROXY_SOAK") == "":
		return runs / 3
	}
	return runs
}

// some are the cases of a simulation: the first of them in the short form.
func some[T any](list ...T) []T {
	if testing.Short() {
		return list[:1]
	}
	return list
}
