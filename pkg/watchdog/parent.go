package watchdog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
)

const (
	// again is the pause before a watchdog that has died is started again.
	again = time.Second
	// patience is how long it may take to end when it is told to. One that is stopped
	// by a signal never would.
	patience = time.Second
)

// Dog is the daemon's side of a watchdog.
type Dog struct {
	command []string
	log     *zap.Logger
	pipe    atomic.Pointer[os.File]
	missed  atomic.Uint64
	died    atomic.Uint64
	cancel  context.CancelFunc
	done    chan struct{}
}

// Start runs command, with the number of this process behind it, as a watchdog
// until Close, and starts it again if it dies.
func Start(command []string, log *zap.Logger) *Dog {
	ctx, cancel := context.WithCancel(context.Background())
	d := &Dog{command: append(slices.Clone(command), strconv.Itoa(os.Getpid())), log: log, cancel: cancel, done: make(chan struct{})}
	go d.keep(ctx)
	return d
}

// Beat tells it that all is well. It does not block.
func (d *Dog) Beat() {
	p := d.pipe.Load()
	if p == nil {
		return
	}
	err := p.SetWriteDeadline(time.Now().Add(time.Millisecond))
	if err == nil {
		_, err = p.Write([]byte{1})
	}
	if err != nil {
		d.missed.Add(1) // the pipe is full, or the watchdog is just dying
	}
}

// Running tells whether it is there.
func (d *Dog) Running() bool { return d.pipe.Load() != nil }

// Missed is how many beats it could not be given.
func (d *Dog) Missed() uint64 { return d.missed.Load() }

// Died is how often it had to be started again.
func (d *Dog) Died() uint64 { return d.died.Load() }

// Close ends it, before the beats do.
func (d *Dog) Close() {
	d.cancel()
	<-d.done
}

func (d *Dog) keep(ctx context.Context) {
	defer close(d.done)
	for {
		err := d.once(ctx)
		if ctx.Err() != nil {
			return
		}
		d.died.Add(1)
		d.log.Warn("the watchdog has ended and is started again", zap.Error(err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(again):
		}
	}
}

// once runs it until it ends or ctx does.
func (d *Dog) once(ctx context.Context) (err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	end := sync.OnceFunc(func() { d.shut(w) })
	defer end()
	cmd := exec.CommandContext(ctx, d.command[0], d.command[1:]...)
	cmd.Cancel = func() error { end(); return nil }
	cmd.WaitDelay = patience // and then it is killed
	cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{r}
	// systemd hears of the daemon from itself; and a watchdog needs no more than one
	// thread's worth of anything.
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "NOTIFY_SOCKET=") || strings.HasPrefix(v, "WATCHDOG_")
	}), "GOMAXPROCS=1")
	// A terminal's signals are for the daemon.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err = cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("watchdog: %w", err), r.Close())
	}
	d.pipe.Store(w)
	if ctx.Err() != nil {
		d.pipe.Store(nil) // it has been shut already, or will be
	}
	d.Beat()
	return errors.Join(r.Close(), cmd.Wait())
}

// shut ends the pipe, and by that the watchdog.
func (d *Dog) shut(w *os.File) {
	d.pipe.Store(nil)
	if err := w.Close(); err != nil {
		d.log.Warn("the watchdog's pipe", zap.Error(err))
	}
}
