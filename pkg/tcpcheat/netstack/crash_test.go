package netstack

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// ledger keeps the promises of the one connection while its box is dead.
type ledger struct {
	p     tcpcheat.Promise
	taken bool
}

// Take implements tcpcheat.Recorder.
func (l *ledger) Take(packet.FlowKey, tcpcheat.Mode) (int, bool) { l.taken = true; return 0, true }

// Put implements tcpcheat.Recorder.
func (l *ledger) Put(_ int, p *tcpcheat.Promise) { l.p = *p }

// Free implements tcpcheat.Recorder.
func (l *ledger) Free(int) { l.taken = false }

// crash is when the box at the source's side dies, and when the next one works.
type crash struct {
	at, back time.Duration
	kept     ledger
}

// happen has the box die, without a word, and another take over what is recorded.
func (c *crash) happen(s *schedule) {
	x := s.boxes[0]
	s.after(c.at, func() {
		if x.wake != nil {
			x.wake.run = nil
		}
		x.e = nil // packets pass
	})
	s.after(c.back, func() {
		if !c.kept.taken || c.kept.p.Open() == 0 {
			return // the ends agree
		}
		x.e = tcpcheat.New(s.limits)
		p := c.kept.p
		c.kept = ledger{}
		x.e.Record(&c.kept, time.Unix(0, 0))
		if err := x.e.Recall(s.time(), &p); err != nil {
			s.t.Fatal(err)
		}
		x.flush()
	})
}

// survived checks how it ended: with every byte at its place, or with an error at
// both ends, as far as they are there. Nobody waits for ever.
func (s *schedule) survived() {
	a, b := &s.a.app, &s.b.app
	whole := a.err == nil && b.err == nil && a.got == len(a.want) && b.got == len(b.want)
	// A program that has closed its socket with everything said is not told any more,
	// by any TCP.
	told := (a.err != nil || a.closed) && (b.err != nil || b.closed) && (a.err != nil || b.err != nil)
	if !whole && !told {
		s.fail("after a crash at %v the source %s, the receiver %s", s.crash.at, a, b)
	}
	if len(s.wrong) > 0 {
		s.fail("bytes %v are wrong at the receiver", s.wrong)
	}
}

var (
	undelivered = act{"promises that could not be kept", func(a, _ tcpcheat.Stats) uint64 { return a.Undelivered }}
	asked       = act{"ends that were asked", func(a, _ tcpcheat.Stats) uint64 { return a.ReceiverProbes }}
)

// The box dies in the middle, with the source told of more than the receiver has: the
// stream is complete all the same, or both ends learn that it is not.
func TestCrash(t *testing.T) {
	k := kind{"crash", 8_000_000, func(s *schedule) {
		if s.rng.IntN(2) == 0 {
			s.params[0] = s.reliable()
		} else {
			s.params[0] = s.realtime()
			s.keepAll()
			s.wan.loss = pick(s.rng, 0, 0.01) // what is lost after the crash is the source's own
		}
		s.crash = &crash{at: s.startAt + s.ms(1, 3000)}
		s.crash.back = s.crash.at + s.ms(1, 5000)
		s.checks.resets = true
	}, []act{undelivered, asked}}
	k.run(t, 200)
}
