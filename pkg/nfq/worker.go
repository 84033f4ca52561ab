package nfq

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// worker is what only the queue's thread touches.
type worker struct {
	q        *Queue
	h        Handler
	in       *receiver
	out      *verdictWriter
	pkt      Packet
	msg      message
	fds      [2]unix.PollFd
	timeout  unix.Timespec
	lastID   uint32
	owedFrom time.Time // when the first packet was handled whose verdict is not sent
	pause    time.Time // no timers before it: the handler's timer panicked
	reported time.Time // last OnError
	local    struct {  // counts of one group of packets
		packets, bytes, accepted, dropped, modified, requeued, refused, gso, truncated uint64
	}
}

func newWorker(q *Queue) *worker {
	s := &sender{fd: q.fd}
	w := &worker{
		q: q, h: q.cfg.Handler,
		in:  newReceiver(q.fd, q.cfg.Batch, int(q.cfg.CopyRange)+headroom),
		out: newVerdictWriter(q.cfg.Num, q.cfg.Batch, s.send),
	}
	w.fds[0] = unix.PollFd{Fd: int32(q.fd), Events: unix.POLLIN}
	w.fds[1] = unix.PollFd{Fd: int32(q.eventN), Events: unix.POLLIN}
	return w
}

func (w *worker) run() error {
	// Timers are for pacing: the default slack of 50 us would be seen. A
	// kernel that refuses leaves us with that.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	for !w.q.ending.Load() {
		n, err := w.in.read()
		if err != nil {
			w.readFailed(err)
		}
		called := n > 0
		if n > 0 {
			w.group(n)
		}
		now := time.Now()
		if w.q.woken.Swap(false) {
			w.q.tally.wakes.Add(1)
			w.guard(func() { w.h.Wake(now) })
			called = true
		}
		deadline, ok := w.deadline()
		if ok && !deadline.After(now) && !now.Before(w.pause) {
			w.q.tally.timers.Add(1)
			if !w.guard(func() { w.h.Advance(now) }) {
				w.pause = now.Add(panicPause)
			}
			called = true
		}
		if called {
			w.guard(func() { w.h.BatchEnd(now) })
		}
		if n == len(w.in.bufs) {
			continue // there is more, very likely
		}
		if err := w.wait(); err != nil {
			return err
		}
	}
	return w.drain()
}

// group handles n datagrams and answers all of them.
func (w *worker) group(n int) {
	for i := range n {
		b, ours := w.in.datagram(i)
		for ours && len(b) > 0 {
			rest, err := parseMessage(b, &w.pkt, &w.msg)
			w.one(err)
			if err != nil {
				break
			}
			b = rest
		}
	}
	w.publish() // first: who sees a packet arrive finds it counted
	w.flush()
}

// one handles what parseMessage found.
func (w *worker) one(err error) {
	switch {
	case w.msg.kind == kindError && w.msg.errno != 0:
		w.q.tally.verdictErrors.Add(1)
		w.report(fmt.Errorf("queue %d: the kernel refused a verdict: %w", w.q.cfg.Num, unix.Errno(w.msg.errno)))
	case err != nil:
		w.q.tally.parseErrors.Add(1)
		w.report(fmt.Errorf("queue %d: %w", w.q.cfg.Num, err))
		if w.msg.kind == kindPacket && w.msg.hasID {
			w.lastID = w.pkt.ID
			w.local.accepted++
			w.out.accept(w.pkt.ID)
		}
	case w.msg.kind == kindPacket:
		w.lastID = w.pkt.ID
		w.packet()
	}
}

func (w *worker) packet() {
	p, c := &w.pkt, &w.local
	now := time.Now()
	switch {
	case !w.out.hasID:
		w.owedFrom = now
	case now.Sub(w.owedFrom) > answerTime:
		// A slow handler: those before this packet need not wait for it too, nor be
		// lost should this process be killed.
		w.publish()
		w.flush()
		w.owedFrom = now
	}
	c.packets++
	c.bytes += uint64(p.OrigLen)
	if p.GSO {
		c.gso++
	}
	if p.Truncated {
		c.truncated++
	}
	whole := p.Data
	v := w.handle(now, p)
	if v == AcceptModified && (p.Truncated || !sendable(p.Data)) {
		// A payload shorter than a header has crashed kernels (CVE-2022-36946),
		// and the rest of a truncated packet would be lost for ever.
		c.refused++
		v = Accept
	}
	switch v {
	case Drop:
		c.dropped++
		w.out.drop(p.ID)
	case AcceptModified:
		c.modified++
		w.out.verdict(p.ID, nfAccept, p.SetMark, p.HasSetMark, p.Data)
		if !within(p.Data, whole) {
			w.flush() // the handler's own memory, which it may use again
		}
	case Requeue:
		c.requeued++
		w.out.verdict(p.ID, nfQueue|nfQueueBypass|uint32(p.RequeueTo)<<16, p.SetMark, p.HasSetMark, nil)
	case Accept:
		fallthrough
	default:
		c.accepted++
		if p.HasSetMark {
			w.out.verdict(p.ID, nfAccept, p.SetMark, true, nil)
		} else {
			w.out.accept(p.ID)
		}
	}
}

// within tells whether part is a slice of whole, cut anywhere but at its
// capacity.
func within(part, whole []byte) bool {
	p, q := part[:cap(part)], whole[:cap(whole)]
	return len(q) > 0 && len(p) > 0 && len(p) <= len(q) && &p[len(p)-1] == &q[len(q)-1]
}

// sendable tells whether data may be given to the kernel as a packet.
func sendable(data []byte) bool {
	if len(data) < 20 || len(data) > maxPayload {
		return false
	}
	switch data[0] >> 4 {
	case 4:
		return len(data) >= int(data[0]&15)*4
	case 6:
		return len(data) >= 40
	}
	return false
}

// handle calls the handler. A packet that makes it panic goes on unchanged.
func (w *worker) handle(now time.Time, p *Packet) (v Verdict) {
	defer func() {
		if r := recover(); r != nil {
			w.panicked(r)
			p.HasSetMark = false
			v = Accept
		}
	}()
	return w.h.Handle(now, p)
}

// guard runs one of the handler's other calls; false if it panicked.
func (w *worker) guard(f func()) (ok bool) {
	defer func() {
		if r := recover(); r != nil {
			w.panicked(r)
			ok = false
		}
	}()
	f()
	return true
}

func (w *worker) panicked(r any) {
	w.q.tally.panics.Add(1)
	w.report(fmt.Errorf("queue %d: the handler panicked: %v\n%s", w.q.cfg.Num, r, debug.Stack()))
}

func (w *worker) deadline() (t time.Time, ok bool) {
	if !w.guard(func() { t, ok = w.h.NextDeadline() }) {
		w.pause = time.Now().Add(panicPause)
		return time.Time{}, false
	}
	return t, ok
}

// wait sleeps until there is a packet, a wake, or the handler's deadline.
func (w *worker) wait() error {
	timeout := (*unix.Timespec)(nil)
	if deadline, ok := w.deadline(); ok {
		if deadline.Before(w.pause) {
			deadline = w.pause
		}
		w.timeout = unix.NsecToTimespec(max(0, int64(time.Until(deadline))))
		timeout = &w.timeout
	}
	w.fds[0].Revents, w.fds[1].Revents = 0, 0
	_, err := unix.Ppoll(w.fds[:], timeout, nil)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("queue %d: ppoll: %w", w.q.cfg.Num, err)
	}
	if w.fds[1].Revents != 0 {
		var count [8]byte
		// Nothing to read means that it was rung for what was seen already.
		_, _ = unix.Read(w.q.eventN, count[:])
	}
	return nil
}

// drain lets go what the kernel holds, and reads it for the count, until there
// is no more or the rules seem to be there still.
func (w *worker) drain() error {
	for end := time.Now().Add(drainTime); ; {
		w.out.releaseAll(w.lastID)
		n, err := w.in.read()
		if err != nil || n == 0 || !time.Now().Before(end) {
			break
		}
		for i := range n {
			if b, ours := w.in.datagram(i); ours {
				if _, err := parseMessage(b, &w.pkt, &w.msg); err == nil && w.msg.kind == kindPacket {
					w.lastID = w.pkt.ID
					w.local.packets++
					w.local.bytes += uint64(w.pkt.OrigLen)
					w.local.accepted++
				}
			}
		}
	}
	w.publish()
	return nil
}

func (w *worker) flush() {
	w.out.flush()
	if w.out.errors > 0 {
		w.q.tally.verdictErrors.Add(w.out.errors)
		w.out.errors = 0
		w.report(w.out.err)
	}
}

func (w *worker) publish() {
	c, t := &w.local, &w.q.tally
	t.batches.Add(1)
	t.packets.Add(c.packets)
	t.bytes.Add(c.bytes)
	t.accepted.Add(c.accepted)
	t.dropped.Add(c.dropped)
	t.modified.Add(c.modified)
	t.requeued.Add(c.requeued)
	t.refused.Add(c.refused)
	t.gso.Add(c.gso)
	t.truncated.Add(c.truncated)
	*c = struct {
		packets, bytes, accepted, dropped, modified, requeued, refused, gso, truncated uint64
	}{}
}

func (w *worker) readFailed(err error) {
	switch {
	case errors.Is(err, unix.EAGAIN):
		return
	case errors.Is(err, unix.ENOBUFS):
		w.q.tally.noBuffers.Add(1)
	default:
		w.q.tally.recvErrs.Add(1)
	}
	w.report(fmt.Errorf("queue %d: receive: %w", w.q.cfg.Num, err))
}

// report hands an error to OnError, at most once a second.
func (w *worker) report(err error) {
	now := time.Now()
	if w.q.cfg.OnError == nil || now.Sub(w.reported) < errorPause {
		return
	}
	w.reported = now
	w.q.cfg.OnError(err)
}
