package rsvpproxy

import "github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"

// control hands wishes to traffic control in their order, and brings the
// answers back. The event loop never waits for it: wishes queue up here, which
// is bounded by the reservations that the machine admits (one unanswered
// Reserve for an ID at most).
type control struct {
	tc      TrafficControl
	waiting []softstate.Effect
	busy    bool
	work    chan []softstate.Effect
	done    chan []answer
}

type answer struct {
	id      uint64
	refusal *softstate.Refusal
}

// batch bounds how many wishes are done before answers are given, so that one
// answer does not wait for a thousand reservations.
const batch = 16

func newControl(tc TrafficControl) *control {
	return &control{tc: tc, work: make(chan []softstate.Effect, 1), done: make(chan []answer, 1)}
}

// run does the work until the channel of work is closed.
func (c *control) run() {
	for list := range c.work {
		answers := make([]answer, 0, len(list))
		for _, e := range list {
			switch e := e.(type) {
			case softstate.Reserve:
				answers = append(answers, answer{id: e.ID, refusal: c.tc.Reserve(e)})
			case softstate.Release:
				if e.Torn {
					c.tc.Torn(e.ID)
				} else {
					c.tc.Release(e.ID)
				}
			}
		}
		c.done <- answers
	}
}

// add queues a wish and starts the worker if it is idle.
func (c *control) add(e softstate.Effect) {
	c.waiting = append(c.waiting, e)
	c.kick()
}

func (c *control) kick() {
	if c.busy || len(c.waiting) == 0 {
		return
	}
	n := min(batch, len(c.waiting))
	list := append([]softstate.Effect(nil), c.waiting[:n]...)
	c.waiting = append(c.waiting[:0], c.waiting[n:]...)
	c.busy = true
	c.work <- list // has room: the worker is idle
}

// finished notes that the worker is idle again.
func (c *control) finished() {
	c.busy = false
	c.kick()
}
