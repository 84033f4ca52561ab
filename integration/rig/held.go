package rig

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// The metronome beats every beat; what a beat is late by, if that is more than lag, is
// time in which this process did not run though it wanted to.
const (
	metronomeBeat = 10 * time.Millisecond
	metronomeLag  = 50 * time.Millisecond
)

// metronome counts the time for which the machine was somebody else's.
type metronome struct {
	start sync.Once
	mu    sync.Mutex
	held  time.Duration // by the beats that have come
	last  time.Time     // beat
}

var ours metronome

// Held is for how long this process has been kept from running since the first call, a
// machine that stood still among it: what was waited for meanwhile had no time either,
// so that a test takes it off where it judges how long something took. Whatever is
// less than a twentieth of a second is not in it.
func Held() time.Duration {
	m := &ours
	m.start.Do(func() {
		m.last = time.Now()
		go func() {
			for {
				time.Sleep(metronomeBeat)
				m.mu.Lock()
				now := time.Now()
				m.held += m.late(now)
				m.last = now
				m.mu.Unlock()
			}
		}()
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held + m.late(time.Now()) // with that of a beat that has not come
}

// late is by how much the next beat is, if that is worth a word. The caller holds mu.
func (m *metronome) late(now time.Time) time.Duration {
	if late := now.Sub(m.last) - metronomeBeat; late > metronomeLag {
		return late
	}
	return 0
}

// Watch is a stopwatch that stands still while this process is kept from running.
type Watch struct {
	at   time.Time
	held time.Duration
}

// StartWatch starts one.
func StartWatch() Watch {
	held := Held()
	return Watch{at: time.Now(), held: held}
}

// Shown is what it shows.
func (w Watch) Shown() time.Duration {
	took := time.Since(w.at)
	return max(took-(Held()-w.held), 0)
}

// Within is a context that ends when a watch that starts now shows d.
func Within(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	go func() {
		for w := StartWatch(); w.Shown() < d && Pause(ctx, min(d-w.Shown()+1, 100*time.Millisecond)); {
			continue
		}
		cancel(fmt.Errorf("not within %s", d))
	}()
	return ctx, func() { cancel(nil) }
}
