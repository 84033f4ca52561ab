package wire

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/realtime"
)

// lane carries the frames of one direction on a thread of its own.
type lane struct {
	dir          Direction
	from, to     *port
	stop         event
	script       Script
	enter, leave *Pcap
	err          error // why run ended early; read after it returned

	mu       sync.Mutex // guards what follows against Set and Counters
	link     *emulator.Link
	counters Counters
	free     [][]byte // frame buffers to use again
	closed   bool     // the port's descriptor may belong to something else by now
}

// run carries frames until stop is set.
func (l *lane) run() {
	realtime.LockThread(realtime.Carrying)
	in, out := newBatch(), newBatch()
	l.refill(in)
	fds := []unix.PollFd{
		{Fd: int32(l.from.fd), Events: unix.POLLIN},
		{Fd: int32(l.stop.fd), Events: unix.POLLIN},
	}
	for {
		wait := l.deliver(out)
		if _, err := unix.Ppoll(fds, wait, nil); err != nil && !errors.Is(err, unix.EINTR) {
			l.err = fmt.Errorf("wire %s: poll: %w", l.dir, err)
			return
		}
		if fds[1].Revents != 0 {
			return
		}
		if fds[0].Revents == 0 {
			continue
		}
		n, err := in.receive(l.from.fd)
		if err != nil && !transient(err) {
			l.err = fmt.Errorf("wire %s: receive: %w", l.dir, err)
			return
		}
		l.accept(in, n)
	}
}

// accept offers n received frames to the link.
func (l *lane) accept(in *batch, n int) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range n {
		frame, whole := in.frame(i)
		if !whole {
			l.counters.Oversize++
			continue
		}
		l.enter.Write(now, frame)
		var verdict emulator.Verdict
		if l.script != nil {
			verdict = l.script(l.dir, frame)
		}
		if l.link.Push(now, frame, verdict) {
			in.setBuffer(i, l.buffer())
		}
	}
}

// deliver sends what is due and returns how long to wait for the next frame,
// nil for ever.
func (l *lane) deliver(out *batch) *unix.Timespec {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		at, ok := l.link.Next()
		if !ok {
			return nil
		}
		now := time.Now()
		if wait := at.Sub(now); wait > 0 {
			ts := unix.NsecToTimespec(int64(wait))
			return &ts
		}
		l.sendDue(out, now)
	}
}

// sendDue sends one batch of the frames due by now.
func (l *lane) sendDue(out *batch, now time.Time) {
	out.reset()
	// A duplicate takes a second place.
	for out.room() >= 2 {
		at, _ := l.link.Next()
		frame, duplicate, ok := l.link.Pop(now)
		if !ok {
			break
		}
		l.counters.add(now.Sub(at))
		l.leave.Write(now, frame)
		out.add(frame)
		if duplicate {
			l.leave.Write(now, frame)
			out.add(frame)
		}
		l.free = append(l.free, frame[:cap(frame)])
	}
	// The buffers just freed are not used again before this returns.
	l.counters.SendErrors += out.send(l.to.fd)
}

// buffer returns a frame buffer. There are never more than the link holds.
func (l *lane) buffer() []byte {
	if last := len(l.free) - 1; last >= 0 {
		b := l.free[last]
		l.free = l.free[:last]
		return b
	}
	return make([]byte, maxFrame)
}

func (l *lane) refill(in *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range batchSize {
		in.setBuffer(i, l.buffer())
	}
}

func (l *lane) read() Counters {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.counters.KernelDrops += l.from.drops()
	}
	c := l.counters
	c.Counters = l.link.Counters()
	return c
}

// close closes the port that the lane reads, keeping its last count.
func (l *lane) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counters.KernelDrops += l.from.drops()
	l.closed = true
	return l.from.close()
}

// transient tells errors that a socket reports once and recovers from: nothing
// to read, interrupted, or an interface that is down for now.
func transient(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN)
}
