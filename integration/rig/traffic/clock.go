package traffic

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic reads the clock that all namespaces of the machine share, ns.
func monotonic() int64 {
	var ts unix.Timespec
	// It cannot fail for this clock and a valid address.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// clocks reads that clock and the wall clock (ns since 1970) at the same time. A
// pair with a pause in between, where the thread was preempted, is read again.
func clocks() (now, wall int64) {
	for range 10 {
		before := monotonic()
		wall = time.Now().UnixNano()
		now = monotonic()
		if now-before < int64(10*time.Microsecond) {
			break
		}
	}
	return now, wall
}

// sleepUntil sleeps to a time of that clock, on the calling thread: the
// runtime's own timers are up to 1 ms late.
func sleepUntil(deadline int64) {
	ts := unix.NsecToTimespec(deadline)
	for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil) == unix.EINTR {
		continue
	}
}

// bitsPerSecond is 0 for an empty time.
func bitsPerSecond(bytes int64, over time.Duration) float64 {
	if over <= 0 {
		return 0
	}
	return float64(bytes) * 8 / over.Seconds()
}
