package daemon

import (
	"sync/atomic"
	"time"
)

// pulse counts how often a queue's worker was woken: a worker that hangs is
// known by its pulse.
type pulse struct{ n atomic.Uint64 }

func (p *pulse) beat() { p.n.Add(1) }

// noTimers is the part of nfq.Handler that a handler without timers lacks.
type noTimers struct{ pulse }

// NextDeadline tells that there are no timers.
func (*noTimers) NextDeadline() (time.Time, bool) { return time.Time{}, false }

// Advance has nothing to do.
func (*noTimers) Advance(time.Time) {}

// Wake shows that the worker lives.
func (n *noTimers) Wake(time.Time) { n.beat() }

// BatchEnd has nothing to do.
func (*noTimers) BatchEnd(time.Time) {}
