package watchdog

import "time"

// The times of a silence, since the last beat. A daemon beats four times a second.
const (
	lookEvery   = 100 * time.Millisecond
	askAfter    = 300 * time.Millisecond  // what the daemon is and does is noted from here on
	wakeAfter   = time.Second             // a stopped one is told to go on
	killAfter   = 1500 * time.Millisecond // one that hangs is killed
	killAtLast  = 10 * time.Second        // and so is one that is held up by a busy machine
	speakWithin = 300 * time.Millisecond  // who waited for a disk until now may be about to speak
	wakeMost    = 3                       // so often in wakeWithin; who is stopped again then is killed
	wakeWithin  = 10 * time.Second
	// lateBy is how late a look of the watchdog itself may be. What exceeds that
	// was no silence of the daemon's: neither of them could speak.
	lateBy = 100 * time.Millisecond
	// busyShare is the part of a silence that a thread must have waited for a
	// processor, for the machine to be too busy to judge; so it is when a thread is
	// ready, and all of them had one for less than that part.
	busyShare = 4
)

// state is what the kernel says of a process.
type state struct {
	stopped bool // by a signal
	traced  bool // a debugger has it
	disk    bool // a thread of it waits for a disk, or for another's work in the kernel
	ready   bool // a thread of it runs, or waits for a processor now
	// waited is how long its threads have been ready to run, and waited for a
	// processor: the most of any of them, since it began. What one waits for now is
	// not in it yet, but counts when it gets one. used is the time that all of them
	// together had one.
	waited, used time.Duration
}

// verdict is what to do with the daemon.
type verdict uint8

const (
	nothing verdict = iota
	wake            // it was stopped: SIGCONT
	spare           // it is silent for a reason that is not its own
	kill
)

// judge decides from the beats and the looks. Pure: time is an argument.
type judge struct {
	beatAt  time.Duration // the last beat, or what counts as one
	lookAt  time.Duration
	at      state // at the first look after the beat
	known   bool
	told    bool          // that it is spared, in this silence
	diskAt  time.Duration // the last look at which a thread waited for a disk; 0: none
	wokenAt time.Duration
	wakes   int // since firstAt
	firstAt time.Duration
}

// beat is the daemon's.
func (j *judge) beat(now time.Duration) {
	j.beatAt, j.known, j.told, j.diskAt, j.wokenAt = now, false, false, 0, 0
}

// due is called at each look, and tells whether there is a silence worth asking the
// kernel about. A look that is late itself was no silence of the daemon's alone.
func (j *judge) due(now time.Duration) bool {
	if late := now - max(j.lookAt, j.beatAt) - lookEvery; late > lateBy {
		j.beatAt += late
	}
	j.lookAt = now
	return now-j.beatAt >= askAfter
}

// look judges by what the process is now, and says why.
func (j *judge) look(now time.Duration, s state) (verdict, string) {
	if !j.known {
		j.at, j.known = s, true
	}
	if s.disk {
		j.diskAt = now
	}
	silence := now - j.beatAt
	switch {
	case silence < wakeAfter:
		return nothing, ""
	case s.traced:
		return j.spare("a debugger has it")
	case s.stopped && j.wokenAt == 0:
		if now-j.firstAt > wakeWithin {
			j.wakes, j.firstAt = 0, now
		}
		if j.wakes++; j.wakes > wakeMost {
			return kill, "it is stopped by signals over and over"
		}
		j.wokenAt = now
		return wake, "it was stopped by a signal"
	case s.stopped && now-j.wokenAt < killAfter-wakeAfter, silence < killAfter:
		return nothing, ""
	case s.stopped:
		return kill, "it was stopped by a signal, and again when it was told to go on"
	case silence >= killAtLast:
		return kill, "it does not answer, for longer than a busy machine explains"
	case s.disk:
		return j.spare("it waits for a disk or for the kernel")
	case s.waited-j.at.waited > silence/busyShare,
		s.ready && s.used-j.at.used < silence/busyShare:
		return j.spare("the machine is busy")
	case j.diskAt > 0 && now-j.diskAt < speakWithin:
		return nothing, ""
	case s.ready || s.used-j.at.used > silence/2:
		return kill, "it does not answer, and is busy with something else"
	}
	return kill, "it does not answer, and waits for something"
}

func (j *judge) spare(why string) (verdict, string) {
	if j.told {
		return nothing, ""
	}
	j.told = true
	return spare, why
}
