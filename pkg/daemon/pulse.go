package daemon

import "time"

// noTimers is the part of nfq.Handler that a handler without timers lacks.
type noTimers struct{}

// NextDeadline tells that there are no timers.
func (noTimers) NextDeadline() (time.Time, bool) { return time.Time{}, false }

// Advance has nothing to do.
func (noTimers) Advance(time.Time) {}

// Wake has nothing to do.
func (noTimers) Wake(time.Time) {}

// BatchEnd has nothing to do.
func (noTimers) BatchEnd(time.Time) {}
