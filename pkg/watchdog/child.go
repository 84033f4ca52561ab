package watchdog

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// pipeFD is where the watchdog finds the pipe.
const pipeFD = 3

// Watch is the watchdog: it returns when the daemon, its parent, has ended. Signals
// that are for the daemon, by way of a terminal or of systemd, do not end it.
func Watch(parent int, log *zap.Logger) error {
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGTSTP)
	if err := unix.SetNonblock(pipeFD, true); err != nil {
		return errors.New("the watchdog is started by `qosproxy run`, and not by hand")
	}
	pipe := os.NewFile(pipeFD, "beats")
	defer func() { _ = pipe.Close() }() // only read
	// A handle on the process, whose number may be another's one day.
	daemon, err := os.FindProcess(parent)
	if err == nil && os.Getppid() != parent {
		return nil // it has ended already
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", parent, err)
	}
	w := &watch{pid: parent, pipe: pipe, signal: daemon.Signal, log: log, began: time.Now()}
	return w.run()
}

type watch struct {
	judge
	pid    int
	pipe   *os.File
	signal func(os.Signal) error
	log    *zap.Logger
	began  time.Time
	killed bool
}

func (w *watch) now() time.Duration { return time.Since(w.began) }

func (w *watch) run() error {
	w.beat(0)
	buf := make([]byte, 64)
	for {
		if err := w.pipe.SetReadDeadline(time.Now().Add(lookEvery)); err != nil {
			return fmt.Errorf("the watchdog's pipe: %w", err)
		}
		_, err := w.pipe.Read(buf)
		switch {
		case err == nil:
			w.beat(w.now())
		case errors.Is(err, os.ErrDeadlineExceeded):
			w.see()
		default:
			return nil // the daemon has ended
		}
	}
}

// see looks at the daemon, and does what has to be done. It judges by the time at which
// it began: a watchdog that waits for a processor while it reads has no silence to tell
// of, and the next look is late by that (judge.due).
func (w *watch) see() {
	now := w.now()
	if !w.due(now) {
		return
	}
	s, err := read("/proc", w.pid)
	if err != nil {
		return // it is ending: the pipe will tell
	}
	silent := zap.Duration("silent", (now - w.beatAt).Round(10*time.Millisecond))
	switch v, why := w.look(now, s); v {
	case nothing:
	case spare:
		w.log.Warn("the daemon is silent and is spared", zap.String("because", why), silent)
	case wake:
		w.log.Warn("the daemon was silent and is told to go on", zap.String("because", why), silent)
		w.send(unix.SIGCONT)
	case kill:
		if !w.killed {
			w.log.Error("the daemon is killed, so that what waits in its queues is free", zap.String("because", why), silent)
		}
		w.killed = true
		w.send(unix.SIGKILL)
	}
}

func (w *watch) send(s syscall.Signal) {
	if err := w.signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		w.log.Error("signal", zap.Stringer("signal", s), zap.Error(err))
	}
}
