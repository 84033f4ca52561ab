package softstate

import "time"

type timerKind uint8

const (
	timerPathRefresh timerKind = iota
	timerPathLife
	timerResvRefresh
	timerResvLife
	timerFailure
	timerLimit
)

// timer is one entry of the heap, embedded in the state that it belongs to:
// psb for all kinds but timerResvLife, which has an rsb, and timerResvRefresh.
type timer struct {
	at   time.Time
	idx  int // position in the heap plus one; zero: not set
	kind timerKind
	p    *psb
	r    *rsb
	u    *upstream
}

// timers is a binary heap by time. The standard heap would cost an interface
// call per comparison; a refresh moves two timers.
type timers []*timer

func (h *timers) set(t *timer, at time.Time) {
	t.at = at
	if t.idx == 0 {
		*h = append(*h, t)
		t.idx = len(*h)
	}
	h.down(h.up(t.idx - 1))
}

func (h *timers) stop(t *timer) {
	if t.idx == 0 {
		return
	}
	i, last := t.idx-1, len(*h)-1
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	t.idx = 0
	if i < last {
		h.down(h.up(i))
	}
}

// due removes and returns the first timer that is not after now.
func (h *timers) due(now time.Time) *timer {
	if len(*h) == 0 || (*h)[0].at.After(now) {
		return nil
	}
	t := (*h)[0]
	h.stop(t)
	return t
}

func (h timers) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].idx, h[j].idx = i+1, j+1
}

func (h timers) up(i int) int {
	for i > 0 {
		parent := (i - 1) / 2
		if !h[i].at.Before(h[parent].at) {
			break
		}
		h.swap(i, parent)
		i = parent
	}
	return i
}

func (h timers) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h[c+1].at.Before(h[c].at) {
			c++
		}
		if !h[c].at.Before(h[i].at) {
			return
		}
		h.swap(i, c)
		i = c
	}
}
