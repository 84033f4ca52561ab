// Package realtime gives a goroutine a thread that the kernel runs on time, so
// that emulated links and paced sources are accurate on a busy machine.
package realtime

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// spareProcessors is how many goroutines may compute at once without a timed
// one having to wait for its turn in the Go scheduler.
const spareProcessors = 8

// Prepare readies the process, once. It lets Go run more threads than the machine has processors. A
// thread that returns from a system call needs one of GOMAXPROCS places, and
// with as few as two cores it waited up to 27 ms for busy goroutines to yield
// theirs. With places to spare it is the kernel that decides, by priority.
//
// It also puts the process, and with it those that it starts, ahead of
// bystanders. A thread that keeps time still waits now and then for a lock of
// the Go runtime, and whoever holds that must get to run.
var Prepare = sync.OnceFunc(func() {
	ahead()
	want := runtime.NumCPU() + spareProcessors
	if runtime.GOMAXPROCS(0) < want {
		runtime.GOMAXPROCS(want)
	}
})

// niceness of all threads that keep no time.
const niceness = -15

// ahead raises the priority of the process's threads; threads made later
// inherit it. A refusal costs accuracy only.
func ahead() {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, task := range tasks {
		if tid, err := strconv.Atoi(task.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, niceness)
		}
	}
}

// The share of a processor that a thread is promised in each period.
const (
	period = time.Millisecond
	// Carrying is for a thread that carries frames, at up to 200 Mbit/s.
	Carrying = 300 * time.Microsecond
	// Sending is for a paced source.
	Sending = 100 * time.Microsecond
)

// LockThread locks the calling goroutine to its thread for good, with timers
// without slack and a promised share of a processor in every millisecond; more
// than that if nobody else wants it. The thread ends with the goroutine, so
// that it never serves another.
//
// SCHED_DEADLINE keeps the promise within 2 ms on a loaded machine. SCHED_FIFO
// does not: since Linux 6.12 ordinary tasks are served in front of it for up to
// 50 ms in a second. It is what is left where the promise cannot be given, as
// with too many of them; where that is refused too, things still work. The
// wire's lateness counters and the sources' lag tell what it costs.
func LockThread(share time.Duration) {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	err := unix.SchedSetAttr(0, &unix.SchedAttr{
		Size:     unix.SizeofSchedAttr,
		Policy:   unix.SCHED_DEADLINE,
		Flags:    unix.SCHED_FLAG_RESET_ON_FORK | unix.SCHED_FLAG_RECLAIM,
		Runtime:  uint64(share),
		Deadline: uint64(period),
		Period:   uint64(period),
	}, 0)
	if err == nil {
		return
	}
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{
		Size:     unix.SizeofSchedAttr,
		Policy:   unix.SCHED_FIFO,
		Flags:    unix.SCHED_FLAG_RESET_ON_FORK,
		Priority: 1,
	}, 0)
}
