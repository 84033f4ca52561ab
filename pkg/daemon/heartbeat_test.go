package daemon

import "testing"

// Of a worker that hangs while the others answer the watchdogs hear with the first
// heartbeat that it misses, and the guard of the queue rules is not renewed after
// patience.
func TestRollCall(t *testing.T) {
	r := newRollCall(3)
	answers := []uint64{0, 0, 0}
	for beat, want := range []struct {
		hangs  bool // worker 1
		all    bool
		silent int
	}{
		{false, true, -1},
		{true, false, -1},
		{true, false, -1},
		{true, false, 1},
		{true, false, 1},
		{false, true, -1},
		{true, false, -1},
	} {
		for i := range answers {
			if i != 1 || !want.hangs {
				answers[i]++
			}
		}
		if all, silent := r.take(func(i int) uint64 { return answers[i] }); all != want.all || silent != want.silent {
			t.Errorf("heartbeat %d: all %v, silent %d, want %v, %d", beat, all, silent, want.all, want.silent)
		}
	}
}
