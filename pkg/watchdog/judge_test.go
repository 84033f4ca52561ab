package watchdog

import (
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

// silence has a watchdog look every 100 ms at a daemon that does not beat any more,
// and returns what it does and when.
func silence(t *testing.T, most time.Duration, is func(silent time.Duration) state) (acts []string, at []time.Duration) {
	t.Helper()
	j := &judge{}
	now := time.Hour
	j.beat(now)
	for d := lookEvery; d <= most; d += lookEvery {
		if !j.due(now + d) {
			continue
		}
		v, why := j.look(now+d, is(d))
		if v == nothing {
			continue
		}
		acts, at = append(acts, [...]string{"", "wake", "spare", "kill"}[v]+": "+why), append(at, d)
		if v == kill {
			break
		}
	}
	return acts, at
}

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		name string
		is   func(d time.Duration) state
		acts []string
		at   []time.Duration
	}{
		{
			"all threads wait for something", func(time.Duration) state { return state{} },
			[]string{"kill: it does not answer, and waits"},
			[]time.Duration{1500 * ms},
		},
		{
			"a worker goes round in circles", func(d time.Duration) state { return state{used: d, waited: d / 100} },
			[]string{"kill: it does not answer, and is busy"},
			[]time.Duration{1500 * ms},
		},
		{
			"stopped, and again when told to go on", func(time.Duration) state { return state{stopped: true} },
			[]string{"wake: it was stopped", "kill: it was stopped by a signal, and again"},
			[]time.Duration{1000 * ms, 1500 * ms},
		},
		{
			"goes on when told to, and hangs", func(d time.Duration) state { return state{stopped: d <= time.Second} },
			[]string{"wake: it was stopped", "kill: it does not answer"},
			[]time.Duration{1000 * ms, 1500 * ms},
		},
		{
			"under a debugger", func(time.Duration) state { return state{stopped: true, traced: true} },
			[]string{"spare: a debugger has it"},
			[]time.Duration{1000 * ms},
		},
		{
			"a thread waits for a processor half of the time", func(d time.Duration) state { return state{waited: time.Minute + d/2, used: d / 4} },
			[]string{"spare: the machine is busy", "kill: it does not answer, for longer"},
			[]time.Duration{1500 * ms, 10 * time.Second},
		},
		{
			// The kernel counts a wait when it is over.
			"a thread waits for a processor all the time", func(time.Duration) state { return state{ready: true} },
			[]string{"spare: the machine is busy", "kill: it does not answer, for longer"},
			[]time.Duration{1500 * ms, 10 * time.Second},
		},
		{
			"a thread runs now and then, and another hangs", func(d time.Duration) state { return state{ready: d%(300*ms) == 0, used: d / 10} },
			[]string{"spare: the machine is busy", "kill: it does not answer, and waits"},
			[]time.Duration{1500 * ms, 1600 * ms},
		},
		{
			"a worker goes round in circles on a processor that it shares", func(d time.Duration) state { return state{ready: true, used: d / 3, waited: d / 5} },
			[]string{"kill: it does not answer, and is busy"},
			[]time.Duration{1500 * ms},
		},
		{
			"a worker goes round in circles, and is ready", func(d time.Duration) state { return state{ready: true, used: d} },
			[]string{"kill: it does not answer, and is busy"},
			[]time.Duration{1500 * ms},
		},
		{
			"a thread waits for a disk", func(time.Duration) state { return state{disk: true} },
			[]string{"spare: it waits for a disk", "kill: it does not answer, for longer"},
			[]time.Duration{1500 * ms, 10 * time.Second},
		},
		{
			// A renewal of the rules that waits for another's commit ends so, and the
			// beat comes a moment later.
			"a thread has waited for the kernel until now", func(d time.Duration) state { return state{disk: d < 1900*ms} },
			[]string{"spare: it waits for a disk or for the kernel", "kill: it does not answer, and waits"},
			[]time.Duration{1500 * ms, 2100 * ms},
		},
		{
			"a thread has waited for the kernel until shortly before", func(d time.Duration) state { return state{disk: d < 1450*ms} },
			[]string{"kill: it does not answer, and waits"},
			[]time.Duration{1700 * ms},
		},
	} {
		acts, at := silence(t, 30*time.Second, tc.is)
		if len(acts) != len(tc.acts) {
			t.Errorf("%s: %q at %v", tc.name, acts, at)
			continue
		}
		for i := range acts {
			if !strings.HasPrefix(acts[i], tc.acts[i]) || at[i] != tc.at[i] {
				t.Errorf("%s: %q at %v", tc.name, acts[i], at[i])
			}
		}
	}
}

// A watchdog that did not run itself has heard no silence: the machine was busy, or
// asleep.
func TestJudgeWasLateItself(t *testing.T) {
	j := &judge{}
	j.beat(0)
	now := time.Duration(0)
	for range 20 {
		now += 900 * ms
		if j.due(now) {
			if v, why := j.look(now, state{}); v == kill && now < 10*time.Second {
				t.Fatalf("killed at %s: %s", now, why)
			}
		}
	}
	j = &judge{}
	j.beat(0)
	j.due(100 * ms)
	if j.due(time.Hour) {
		if v, _ := j.look(time.Hour, state{}); v != nothing {
			t.Errorf("after an hour's sleep: %v", v)
		}
	}
}

// A beat ends a silence, and all that was thought of it.
func TestJudgeBeat(t *testing.T) {
	j := &judge{}
	j.beat(0)
	for d := lookEvery; d < 20*time.Second; d += lookEvery {
		if d%(1400*ms) == 0 {
			j.beat(d)
		}
		if j.due(d) {
			if v, why := j.look(d, state{stopped: d%(4200*ms) == 1000*ms}); v == kill {
				t.Fatalf("%s at %s", why, d)
			}
		}
	}
}

// A look that takes long, since the watchdog itself has no processor, may be the first
// that sees a stopped daemon: that one has not been told to go on yet.
func TestJudgeLateLook(t *testing.T) {
	j := &judge{}
	j.beat(0)
	for _, l := range []struct {
		at   time.Duration
		want verdict
	}{{2400 * ms, wake}, {2500 * ms, nothing}, {2800 * ms, nothing}, {2900 * ms, kill}} {
		if v, why := j.look(l.at, state{stopped: true}); v != l.want {
			t.Errorf("after %s: %v, %s; want %v", l.at, v, why, l.want)
		}
	}
}
