// Package timers is a heap of timers that are embedded in the state that they
// belong to. RSVP has several for each session, and every refresh moves two of
// them: setting, stopping and finding the next one cost O(log n) and allocate
// nothing.
package timers

import (
	"fmt"
	"time"
)

// Timer is one timer with what it belongs to. The zero Timer is not set. It must
// not be copied while it is set.
type Timer[O any] struct {
	Owner O
	at    time.Time
	place int // in the heap plus one; zero: not set
}

// Armed says whether the timer is set.
func (t *Timer[O]) Armed() bool { return t.place != 0 }

// At is when the timer fires, or when it would have or did.
func (t *Timer[O]) At() time.Time { return t.at }

// Heap is a set of timers, the earliest first. The zero Heap is empty.
//
// Four children to a node and the times beside the pointers: with 100,000
// sessions the heap is far larger than the processor's cache, and what it costs
// is the lines of memory that it touches.
type Heap[O any] struct {
	base  time.Time
	slots []slot[O]
}

type slot[O any] struct {
	after time.Duration // base
	t     *Timer[O]
}

// children of a node.
const children = 4

// Len is the number of timers that are set.
func (h *Heap[O]) Len() int { return len(h.slots) }

// Next is when the first timer fires; false: there is none.
func (h *Heap[O]) Next() (time.Time, bool) {
	if len(h.slots) == 0 {
		return time.Time{}, false
	}
	return h.slots[0].t.at, true
}

// Set sets a timer, or moves it.
func (h *Heap[O]) Set(t *Timer[O], at time.Time) {
	if h.base.IsZero() {
		h.base = at
	}
	t.at = at
	s := slot[O]{at.Sub(h.base), t}
	if t.place == 0 {
		h.slots = append(h.slots, s)
		t.place = len(h.slots)
	}
	h.settle(t.place-1, s)
}

// Sooner sets a timer to at unless it fires before.
func (h *Heap[O]) Sooner(t *Timer[O], at time.Time) {
	if t.place == 0 || at.Before(t.at) {
		h.Set(t, at)
	}
}

// Stop takes a timer out; one that is not set may be stopped again.
func (h *Heap[O]) Stop(t *Timer[O]) {
	if t.place == 0 {
		return
	}
	i, last := t.place-1, len(h.slots)-1
	s := h.slots[last]
	h.slots[last] = slot[O]{}
	h.slots = h.slots[:last]
	t.place = 0
	if i < last {
		h.settle(i, s)
	}
}

// Due takes out the first timer that is not after now; nil if there is none.
func (h *Heap[O]) Due(now time.Time) *Timer[O] {
	if len(h.slots) == 0 || h.slots[0].t.at.After(now) {
		return nil
	}
	t := h.slots[0].t
	h.Stop(t)
	return t
}

// settle finds the place for s, beginning with i, which is free.
func (h *Heap[O]) settle(i int, s slot[O]) {
	for i > 0 {
		parent := (i - 1) / children
		if s.after >= h.slots[parent].after {
			break
		}
		h.put(i, h.slots[parent])
		i = parent
	}
	for {
		first := children*i + 1
		if first >= len(h.slots) {
			break
		}
		least := first
		for c := first + 1; c < min(first+children, len(h.slots)); c++ {
			if h.slots[c].after < h.slots[least].after {
				least = c
			}
		}
		if h.slots[least].after >= s.after {
			break
		}
		h.put(i, h.slots[least])
		i = least
	}
	h.put(i, s)
}

func (h *Heap[O]) put(i int, s slot[O]) {
	h.slots[i] = s
	s.t.place = i + 1
}

// Check says what is wrong with the heap, and calls each for every timer. It is
// for tests.
func (h *Heap[O]) Check(each func(*Timer[O]) error) error {
	for i, s := range h.slots {
		switch {
		case s.t.place != i+1:
			return fmt.Errorf("timer at %d believes to be at %d", i, s.t.place-1)
		case i > 0 && s.t.at.Before(h.slots[(i-1)/children].t.at):
			return fmt.Errorf("timer at %d is before its parent", i)
		}
		if err := each(s.t); err != nil {
			return err
		}
	}
	return nil
}
