package nfq

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Queue is an open NFQUEUE. Packets wait in it from Open on, so Run should
// follow soon.
type Queue struct {
	cfg    Config
	fd     int      // netlink
	event  *os.File // eventfd: Wake and the end; a File, so that a late Wake cannot hit another's number
	eventN int      // its number, for ppoll
	proc   procFile
	tally  tally
	woken  atomic.Bool
	ending atomic.Bool
	state  atomic.Int32 // opened, running, closed
}

const (
	opened int32 = iota
	running
	closed
)

// ErrClosed says that the queue was run or closed before.
var ErrClosed = errors.New("nfq: the queue was run or closed already")

// Open takes a queue in the calling thread's network namespace.
func Open(cfg Config) (*Queue, error) {
	cfg = cfg.withDefaults()
	if cfg.Handler == nil {
		return nil, errors.New("nfq: no handler")
	}
	proc := openProc()
	fd, err := openSocket(cfg)
	if err != nil {
		return nil, errors.Join(explain(cfg, KernelCounters{}, false, err), proc.close())
	}
	if err := bindQueue(fd, cfg); err != nil {
		row, taken := proc.row(cfg.Num)
		return nil, errors.Join(explain(cfg, row, taken, err), unix.Close(fd), proc.close())
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("eventfd: %w", err), unix.Close(fd), proc.close())
	}
	return &Queue{
		cfg: cfg, fd: fd, proc: proc,
		event: os.NewFile(uintptr(event), "eventfd"), eventN: event,
	}, nil
}

// Run works until ctx is done, then lets all packets go that the kernel holds,
// and closes the queue. The rules that fill the queue should be gone by then:
// what still comes between the last verdict and the close is lost.
func (q *Queue) Run(ctx context.Context) error {
	if !q.state.CompareAndSwap(opened, running) {
		return ErrClosed
	}
	stop := context.AfterFunc(ctx, func() {
		q.ending.Store(true)
		q.ring()
	})
	defer stop()
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread has a timer slack of its own and ends with
		// this goroutine.
		runtime.LockOSThread()
		done <- newWorker(q).run()
	}()
	err := <-done
	return errors.Join(err, q.close())
}

// Close gives back a queue that was never run. A queue that runs is ended by
// its context.
func (q *Queue) Close() error {
	if q.state.CompareAndSwap(opened, closed) {
		return q.close()
	}
	return nil
}

// close does not unbind first: the kernel does so when the socket goes, and
// both at once have raced there (CVE-2026-98624).
func (q *Queue) close() error {
	q.state.Store(closed)
	return errors.Join(unix.Close(q.fd), q.event.Close(), q.proc.close())
}

// Wake has the worker call Handler.Wake soon. Any goroutine may call it, at any
// time; calls that come before the worker looks are one.
func (q *Queue) Wake() {
	if !q.woken.Swap(true) {
		q.ring()
	}
}

// ring makes the worker's ppoll return.
func (q *Queue) ring() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	// It fails if the queue is closed, and if it was rung so often that ppoll
	// returns anyway.
	_, _ = q.event.Write(one[:])
}

// Num is the queue's number.
func (q *Queue) Num() uint16 { return q.cfg.Num }
