package netstack

import (
	"flag"
	"testing"
	"time"
)

var (
	only   = flag.Uint64("seed", 0, "run this schedule alone (a failure names it)")
	runs   = flag.Uint64("schedules", 0, "how many schedules each test runs; 0: as many as a change needs")
	plain  = flag.Bool("plain", false, "without the engine: what the two stacks do by themselves")
	traced = flag.Bool("packets", false, "log each packet")
)

// stalled is how long nothing may move: the stack's retransmission timeout
// doubles up to two minutes, and several in a row are lost at times.
const stalled = 150 * time.Second

// complete runs a schedule to its end and checks it.
// It tells whether the connection came to its end: see host.stuck.
func (s *schedule) complete() bool {
	defer s.a.close()
	defer s.b.close()
	a, b := &s.a.app, &s.b.app
	s.begin()
	s.run(2*time.Hour, func() bool {
		return s.ended() || s.now-max(a.last, b.last, s.pauseTo, s.resetAt) > stalled
	})
	if !s.ended() && s.fails == 0 {
		// A timer of the stack's that is called off fires all the same, once.
		at := s.now
		s.run(at+10*time.Minute, s.ended)
		if !s.ended() && !s.a.stuck() && !s.b.stuck() {
			s.fail("stalled at %v: the source %s, the receiver %s", at, a, b)
		}
	}
	if complete := a.err == nil && b.err == nil && s.ended(); !complete && (s.resetBy == nil || !s.ended()) && s.fails == 0 && (s.checks.helpless || s.a.stuck() || s.b.stuck()) {
		return false
	}
	finished := s.now
	switch {
	case s.crash != nil:
		s.survived()
	case s.resetBy == nil && (a.err != nil || b.err != nil || a.got != len(a.want) || b.got != len(b.want)):
		s.fail("the source has %d of %d bytes and error %v, the receiver %d of %d and error %v", a.got, len(a.want), a.err, b.got, len(b.want), b.err)
	}
	s.outside()
	for _, h := range []*host{s.a, s.b} {
		if st := h.s.Stats(); st.TCP.ChecksumErrors.Value() > 0 || st.TCP.InvalidSegmentsReceived.Value() > 0 || st.IP.MalformedPacketsReceived.Value() > 0 {
			s.fail("%s received broken packets", h.name)
		}
	}
	if s.fails == 0 {
		s.run(s.now+3*time.Minute, nil)
		for _, x := range s.boxes {
			if x.e == nil {
				continue
			}
			if got := x.e.Totals(); got.Buffered != 0 || got.Flows != 0 {
				s.fail("%s holds %+v after the end", x.name, got)
			}
		}
	}
	if s.fails > 0 {
		for _, x := range s.boxes {
			if x.e != nil {
				s.t.Logf("%s: %+v", x.name, x.stats())
			}
		}
		s.t.Errorf("seed %d (repeat it with -run '%s' -seed %d, see it with -packets -v); finished at %v; %s", s.seed, s.t.Name(), s.seed, finished, s.text)
	}
	return true
}

// ended tells whether both programs have what they can get, and have closed.
func (s *schedule) ended() bool {
	a, b := &s.a.app, &s.b.app
	if s.resetBy != nil || s.crash != nil {
		return a.over() && (b.ep == nil || b.over())
	}
	return a.err != nil || b.err != nil || a.closed && b.closed && a.gone() && b.gone()
}

// outside checks that what differs at the receiver lies in the ranges that the
// filling box has reported.
func (s *schedule) outside() {
	st := s.boxes[1].stats()
	if st.FilledMore > 0 {
		return // not all ranges are listed
	}
	for _, wrong := range s.wrong {
		told := 0
		for _, r := range st.FilledRanges {
			told += max(min(wrong.to, int(r.To))-max(wrong.from, int(r.From)), 0)
		}
		if told != wrong.to-wrong.from {
			s.fail("bytes %d to %d are wrong at the receiver, and %d of them reported", wrong.from, wrong.to, told)
			return
		}
	}
}

// run runs the schedules of a kind.
func (k *kind) run(t *testing.T, n uint64) {
	t.Helper()
	if *runs > 0 {
		n = *runs
	} else if testing.Short() {
		n = max(n/10, 5)
	}
	from, to := k.base, k.base+n
	if *only > 0 {
		from, to = *only, *only+1
	}
	t.Parallel()
	t.Logf("seeds %d to %d", from, to-1)
	stuck, done := uint64(0), make([]uint64, len(k.acts))
	for seed := from; seed < to && !t.Failed(); seed++ {
		s := newSchedule(t, k, seed)
		if !s.complete() {
			stuck++
		}
		for i, a := range k.acts {
			done[i] += a.of(s.boxes[0].stats(), s.boxes[1].stats())
		}
	}
	for i, a := range k.acts {
		if done[i] == 0 && !*plain && *only == 0 && !t.Failed() {
			t.Errorf("there were no %s in all the schedules", a.name)
		}
	}
	if stuck > 0 {
		t.Logf("%d ended in a stack that is stuck: see host.stuck", stuck)
	}
	if stuck > max(n/10, 1) {
		t.Error("too many of the schedules prove nothing")
	}
}
