package emulator

import (
	"math/rand/v2"
	"time"
)

// Verdict is what a test's script says about one frame.
type Verdict struct {
	Drop      bool
	Duplicate bool
	Delay     time.Duration // beyond the link's own
}

// Link is one direction of an emulated link. It is not safe for concurrent use.
type Link struct {
	params Params
	rng    *rand.Rand
	bad    bool // state of the Gilbert-Elliott model

	free      time.Time // when the transmitter will have sent all that waits
	remainder int64     // of the last transmission time, in 1/Rate ns
	waiting   ring      // frames not yet sent, for the backlog
	backlog   int       // their bytes
	wire      deliveries
	counters  Counters
}

// New returns an idle link. The parameters must be valid.
func New(p Params, rng *rand.Rand) *Link {
	return &Link{params: p, rng: rng}
}

// Set changes the parameters for frames that arrive from now on. What is
// queued keeps its schedule.
func (l *Link) Set(p Params) {
	l.params = p
	l.remainder = 0
}

// Counters returns a copy of the counters.
func (l *Link) Counters() Counters { return l.counters }

// InFlight returns the number of frames queued or on the wire.
func (l *Link) InFlight() int { return len(l.wire) }

// Backlog returns the bytes not yet sent by the transmitter.
func (l *Link) Backlog(now time.Time) int {
	l.transmitted(now)
	return l.backlog
}

// Push offers a frame to the link. It returns false when the frame goes
// nowhere, in which case the caller keeps it; a true result means that the
// link holds the frame until Pop returns it.
func (l *Link) Push(now time.Time, frame []byte, script Verdict) bool {
	l.counters.Frames++
	l.counters.Bytes += uint64(len(frame))
	if script.Drop {
		l.counters.ScriptDrops++
		return false
	}
	l.transmitted(now)
	size := len(frame) + l.params.Overhead
	if l.full(size) {
		l.counters.QueueDrops++
		return false
	}
	sent := l.transmit(now, size)
	if l.lost() {
		l.counters.Losses++
		return false
	}
	arrival := sent.Add(l.params.Delay + script.Delay)
	if l.chance(l.params.Reorder) {
		l.counters.Reordered++
		arrival = arrival.Add(l.params.ReorderDelay)
	}
	duplicate := l.chance(l.params.Duplicate) || script.Duplicate
	l.wire.push(delivery{at: arrival, seq: l.counters.Frames, frame: frame, duplicate: duplicate})
	return true
}

// full tells that the queue has no place for a frame of so many bytes.
func (l *Link) full(size int) bool {
	queued := l.waiting.len()
	if len(l.wire) >= MaxInFlight || queued >= MaxInFlight {
		return true
	}
	if l.params.QueueFrames > 0 && queued >= l.params.QueueFrames {
		return true
	}
	// An empty queue takes any frame: one larger than the limit would
	// otherwise never pass.
	return l.params.Queue > 0 && queued > 0 && l.backlog+size > l.params.Queue
}

// transmit queues a frame of so many bytes and returns when its last bit is
// sent.
func (l *Link) transmit(now time.Time, size int) time.Time {
	if l.params.Rate == 0 {
		return now
	}
	start := l.free
	if start.Before(now) {
		start, l.remainder = now, 0
	}
	l.counters.MaxQueueDelay = max(l.counters.MaxQueueDelay, start.Sub(now))
	// The remainder is carried on, or a rate that does not divide would drift.
	work := int64(size)*8*int64(time.Second) + l.remainder
	l.remainder = work % l.params.Rate
	l.free = start.Add(time.Duration(work / l.params.Rate))
	l.waiting.push(departure{at: l.free, size: size})
	l.backlog += size
	l.counters.MaxBacklogBytes = max(l.counters.MaxBacklogBytes, l.backlog)
	return l.free
}

// transmitted takes what was sent until now off the backlog.
func (l *Link) transmitted(now time.Time) {
	for l.waiting.len() > 0 && !l.waiting.first().at.After(now) {
		l.backlog -= l.waiting.pop().size
	}
}

// lost draws whether the wire loses a frame.
func (l *Link) lost() bool {
	lost := l.chance(l.params.Loss)
	if b := l.params.Burst; b != nil {
		if l.bad {
			l.bad = !l.chance(b.ToGood)
		} else {
			l.bad = l.chance(b.ToBad)
		}
		lost = l.bad && l.chance(b.Loss) || lost
	}
	return lost
}

func (l *Link) chance(p float64) bool {
	return p > 0 && l.rng.Float64() < p
}

// Next returns when the next frame is to be delivered.
func (l *Link) Next() (time.Time, bool) {
	if len(l.wire) == 0 {
		return time.Time{}, false
	}
	return l.wire[0].at, true
}

// Pop returns the next frame to be delivered by now. With duplicate the caller
// delivers it twice.
func (l *Link) Pop(now time.Time) (frame []byte, duplicate, ok bool) {
	if len(l.wire) == 0 || l.wire[0].at.After(now) {
		return nil, false, false
	}
	d := l.wire.pop()
	copies := uint64(1)
	if d.duplicate {
		l.counters.Duplicated++
		copies = 2
	}
	l.counters.Delivered += copies
	l.counters.DeliveredBytes += copies * uint64(len(d.frame))
	return d.frame, d.duplicate, true
}
