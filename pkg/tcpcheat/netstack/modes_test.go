package netstack

import (
	"testing"

	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// toggle ends the reservation in the middle of things, and may bring it back.
func (s *schedule) toggle() {
	if s.rng.IntN(3) == 0 {
		s.stopAt = s.startAt + s.ms(1, 3000)
		if s.rng.IntN(2) == 0 {
			s.againAt = s.stopAt + s.ms(1, 2000)
		}
	}
}

func (s *schedule) reliable() *tcpcheat.Params {
	p := s.reservation(tcpcheat.Reliable)
	p.Predict = s.rng.IntN(4) > 0
	if s.rng.IntN(3) == 0 {
		p.MaxBuffered = 24<<10 + s.rng.IntN(60_000)
	}
	return p
}

// keepAll takes back what a box that keeps nothing cannot make good: loss behind
// it, and reordering, since what is overtaken the receiver discards by PAWS
// (RFC 7323 section 5). A receiver may also discard what waits behind a hole, as
// this one does when small segments fill half of its buffer: then there is no
// loss in front of the box either.
func (s *schedule) keepAll() {
	s.wan.loss, s.wan.jitter, s.up.jitter = 0, 0, 0
	if s.a.app.chunk < 1448 || s.b.drawn.buf < 128<<10 {
		s.up.loss = 0
	}
}

// realtime is the paper's mode, with the receiver's own edge honoured.
func (s *schedule) realtime() *tcpcheat.Params { return s.reservation(tcpcheat.Realtime) }

// paced is pace at the source's box, at the receiver's or at both.
func (s *schedule) paced() {
	at := 1 + s.rng.IntN(3)
	p := s.reservation(tcpcheat.Pace)
	p.PaceFactor = pick(s.rng, 0.0, 1, 2, 8)
	if at&2 != 0 {
		s.params[1] = p
	}
	if at&1 != 0 {
		q := *p
		q.PaceLoose = true
		s.params[0] = &q
	}
}

// narrow makes the way back one for which ACKs are thinned.
func (s *schedule) narrow() {
	s.back.rate, s.back.queue = pick(s.rng, 4e3, 6250, 25e3), 16<<10
}

func (s *schedule) thinned() *tcpcheat.Params {
	p := s.reservation(0)
	p.Thin, p.ThinRate = true, pick(s.rng, 0.0, 500, 1000, 8000)
	return p
}

// Whatever the two legs do, and however often the reservation comes and goes,
// every byte arrives.
func TestReliable(t *testing.T) {
	k := kind{"reliable", 1_000_000, func(s *schedule) {
		s.params[0] = s.reliable()
		s.toggle()
	}, []act{fakes, repeats}}
	k.run(t, 100)
}

// What loses nothing behind the box delivers every byte: whatever happens in
// front of it, to the ACKs and at the reader.
func TestRealtime(t *testing.T) {
	k := kind{"realtime", 2_000_000, func(s *schedule) {
		s.params[0] = s.realtime()
		s.keepAll()
		s.toggle()
	}, []act{fakes}}
	k.run(t, 100)
}

// The receiver's ACKs clock the source; the box takes nothing in hand.
func TestPace(t *testing.T) {
	k := kind{"pace", 3_000_000, func(s *schedule) {
		s.paced()
		s.checks.steady = true
		s.toggle()
	}, []act{edges}}
	k.run(t, 100)
}

// Thinned ACKs alone, with a source that nobody helps.
func TestThinnedAlone(t *testing.T) {
	k := kind{"thin_acks", 4_000_000, func(s *schedule) {
		s.narrow()
		s.params[1] = s.thinned()
		s.checks.steady = true
	}, []act{thinnings}}
	k.run(t, 60)
}

// Thinned ACKs and a box at the source's side that does without them.
func TestThinnedReliable(t *testing.T) {
	k := kind{"reliable, thin_acks", 5_000_000, func(s *schedule) {
		s.narrow()
		s.params[0], s.params[1] = s.reliable(), s.thinned()
	}, []act{fakes, thinnings}}
	k.run(t, 60)
}

// A hole at the receiver is filled, and what differs there is reported: for a
// source that was told that its data arrived, or for a plain one.
func TestFill(t *testing.T) {
	k := kind{"fill", 6_000_000, func(s *schedule) {
		p := s.reservation(0)
		p.Fill, p.FillAfter, p.FillPattern = true, s.ms(0, 40), []byte("\x00\xff")
		s.params[1] = p
		if s.rng.IntN(4) > 0 {
			s.params[0] = s.realtime()
		}
		s.last.loss = pick(s.rng, 0, 0, 0.01)
	}, []act{fakes, fillings}}
	k.run(t, 100)
}

// One end gives up in the middle: the other learns it, in every mode, what came
// until then is right, and no box holds anything afterwards.
func TestReset(t *testing.T) {
	k := kind{"reset", 7_000_000, func(s *schedule) {
		switch s.rng.IntN(4) {
		case 0:
			s.params[0] = s.reliable()
		case 1:
			s.params[0] = s.realtime()
			s.keepAll()
		case 2:
			s.paced()
		case 3:
			s.narrow()
			s.params[0], s.params[1] = s.reliable(), s.thinned()
		}
		s.reset()
	}, []act{fakes, edges}}
	k.run(t, 100)
}
