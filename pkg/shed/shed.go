// Package shed decides how many cheated connections are let go when their queue
// cannot keep up.
//
// A queue that overflows loses packets, and one that lets them pass instead (the
// kernel's fail-open) reorders them: for a connection whose sequence is spoken for
// either is worse than to speak for itself. So whole connections are let go before
// the queue fills, a few at a time, and more with every step that has not helped.
//
// The package is pure: time and readings are arguments.
package shed

import (
	"math"
	"time"
)

// Reading is what is known of a queue at one moment.
type Reading struct {
	Waiting uint64  // packets without a verdict
	Fill    float64 // of the queue or of its socket, whichever is fuller; 1 is full
	Handled uint64  // packets since the start
	Lost    uint64  // packets that found the queue or the socket full, since the start
	Flows   int     // connections whose packets come by the queue
	// Asked: the worker has not done yet what it was asked for, so that nothing can be
	// asked of it now.
	Asked bool
}

// The rules. A busy machine stalls for a quarter of a second now and then, and
// catches up at once: that is no overload, and short pressure counts only where
// packets are about to be lost.
const (
	full       = 0.5                    // so full it is let go at once
	filling    = 0.1                    // and from here on, if it will be full
	soon       = 300 * time.Millisecond // so soon
	high       = 0.2                    // pressure, if it lasts for shortly
	low        = 0.05                   // none any more
	shortly    = 200 * time.Millisecond // the queue stays that full, or
	late       = 50 * time.Millisecond  // a packet waits that long
	lasting    = time.Second            // for so long
	early      = 20 * time.Millisecond  // and it is over with less
	few        = 64                     // packets do not make a packet late
	calm       = time.Second            // without pressure before it counts as over
	step       = 100 * time.Millisecond // between two times that some are let go: the first ones' effect
	quickly    = 20 * time.Millisecond  // the same while it is full
	most       = 64                     // let go at once
	effect     = 300 * time.Millisecond // what those take to go that were let go
	margin     = 1.1                    // more than just enough, or the queue stays as full as it is
	quietLeast = 10 * time.Second       // after pressure nothing new is taken
	quietMost  = time.Minute            // and ever longer, if it comes again within this time
)

// Policy is the state of one queue. Its zero value is one without pressure.
type Policy struct {
	last    Reading
	at      time.Time
	rate    float64   // packets handled in a second, of late
	come    float64   // and come
	gone    []going   // of late
	crowded time.Time // since then it is filled high
	slow    time.Time // since then packets are late
	easy    time.Time // since then there is no pressure
	pressed bool
	ended   time.Time // of the last pressure
	acted   time.Time
	before  Reading // at that time
	next    int     // how many go next
	quiet   time.Duration
}

// Pressed tells whether the queue is overloaded now.
func (p *Policy) Pressed() bool { return p.pressed }

// Watch tells whether it may soon be asked which connections are the busiest.
func (p *Policy) Watch() bool { return p.pressed || p.last.Waiting >= few || p.last.Fill >= low }

// Open tells whether new connections may come to the queue.
func (p *Policy) Open(now time.Time) bool {
	return !p.pressed && (p.ended.IsZero() || now.Sub(p.ended) >= p.quiet)
}

// Look takes a reading, and returns how many connections are to be let go. Readings
// should come every 20 ms or so.
func (p *Policy) Look(now time.Time, r Reading) int {
	first := p.at.IsZero()
	dt := now.Sub(p.at).Seconds()
	if !first && dt > 0 {
		// Smoothed over some 100 ms.
		k := min(dt/0.1, 1)
		handled := float64(r.Handled - min(r.Handled, p.last.Handled))
		come := max(handled+float64(r.Waiting)-float64(p.last.Waiting)+float64(r.Lost-min(r.Lost, p.last.Lost)), 0)
		p.rate += (handled/dt - p.rate) * k
		p.come += (come/dt - p.come) * k
	}
	lost := !first && r.Lost > p.last.Lost
	p.last, p.at = r, now
	delay := p.delay(r)

	since(&p.crowded, now, r.Fill >= high)
	since(&p.slow, now, delay >= late)
	since(&p.easy, now, r.Fill < low && delay < early && !lost)
	urgent := lost || r.Fill >= full || r.Fill >= filling && p.fillsWithin(soon, r)
	switch {
	case urgent, lasts(p.crowded, now, shortly), lasts(p.slow, now, lasting):
		p.press(now)
	case p.pressed && lasts(p.easy, now, calm):
		p.pressed, p.ended = false, now
	}
	if r.Asked {
		return 0 // and nothing counts as let go
	}
	if !p.pressed || r.Fill < low && delay < early {
		return 0 // what was let go has helped; whether for long will be seen
	}
	wait := step
	if urgent {
		wait = quickly
	}
	if now.Sub(p.acted) < wait {
		return 0
	}
	before := p.before
	p.acted, p.before = now, r
	if !lost && r.Waiting < before.Waiting && r.Fill <= before.Fill {
		// It falls: those that have gone are enough, as far as one can see.
		p.next = max(p.next/2, 1)
		return 0
	}
	n := min(p.next, p.enough(now, r))
	p.next = min(2*p.next, most)
	p.gone = append(p.gone, going{now, n})
	return n
}

// enough is how many more connections of average load are too many for the worker,
// beyond those that have just been let go. It is one at least if there are none of
// these.
func (p *Policy) enough(now time.Time, r Reading) int {
	recent := 0
	for len(p.gone) > 0 && now.Sub(p.gone[0].at) >= effect {
		p.gone = p.gone[1:]
	}
	for _, g := range p.gone {
		recent += g.n
	}
	excess := 0.0
	if p.come > 0 {
		excess = max(1-p.rate/p.come, 0)
	}
	n := int(math.Ceil(excess*margin*float64(r.Flows))) - recent
	if recent == 0 {
		n = max(n, 1)
	}
	return max(n, 0)
}

// going are connections that were let go.
type going struct {
	at time.Time
	n  int
}

// press notes that the queue is overloaded.
func (p *Policy) press(now time.Time) {
	if p.pressed {
		return
	}
	if p.ended.IsZero() || now.Sub(p.ended) >= p.quiet+quietMost {
		p.quiet = quietLeast
	} else {
		p.quiet = min(2*p.quiet, quietMost)
	}
	p.pressed, p.next, p.before = true, 1, Reading{}
}

// delay is how long a packet waits that comes now.
func (p *Policy) delay(r Reading) time.Duration {
	if r.Waiting < few {
		return 0
	}
	if p.rate*time.Hour.Seconds() <= float64(r.Waiting) {
		return time.Hour
	}
	return time.Duration(float64(r.Waiting) / p.rate * float64(time.Second))
}

// fillsWithin tells whether the queue will be full so soon, at the present rates.
func (p *Policy) fillsWithin(d time.Duration, r Reading) bool {
	room := float64(r.Waiting) * (1 - r.Fill) / r.Fill
	return (p.come-p.rate)*d.Seconds() > room
}

// since notes from when on something holds; zero: it does not.
func since(from *time.Time, now time.Time, holds bool) {
	switch {
	case !holds:
		*from = time.Time{}
	case from.IsZero():
		*from = now
	}
}

func lasts(from, now time.Time, d time.Duration) bool {
	return !from.IsZero() && now.Sub(from) >= d
}
