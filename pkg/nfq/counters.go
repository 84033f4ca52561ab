package nfq

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
)

// Counters are what a queue did since it was opened.
type Counters struct {
	Packets, Bytes                        uint64 // read; bytes of IP packets
	Accepted, Dropped, Modified, Requeued uint64 // verdicts, by kind
	Refused                               uint64 // changes that could not be sent: the packet was truncated, or the result no IP packet
	GSO, Truncated                        uint64 // packets read, by kind
	ParseErrors                           uint64 // messages that made no sense
	VerdictErrors                         uint64 // verdicts that the kernel refused, or that could not be sent
	NoBuffers                             uint64 // ENOBUFS when reading: packets were lost before they got here
	ReceiveErrors                         uint64 // any other error when reading
	Panics                                uint64 // of the handler; the packets were accepted
	Batches, Wakes, Timers                uint64
	// Kernel are the kernel's own columns; KernelKnown tells that they could
	// be read.
	Kernel      KernelCounters
	KernelKnown bool
}

// KernelCounters is a row of /proc/net/netfilter/nfnetlink_queue.
type KernelCounters struct {
	PortID       uint32 // netlink port of the listener
	Waiting      uint64 // packets without a verdict
	QueueDropped uint64 // the queue was full
	UserDropped  uint64 // the socket's buffer was full
	LastID       uint64
}

// tally is what the worker counts; atomics, since others read them.
type tally struct {
	packets, bytes, accepted, dropped, modified, requeued, refused  atomic.Uint64
	gso, truncated, parseErrors, verdictErrors, noBuffers, recvErrs atomic.Uint64
	panics, batches, wakes, timers                                  atomic.Uint64
}

// Counters may be called at any time by any goroutine.
func (q *Queue) Counters() Counters {
	t := &q.tally
	c := Counters{
		Packets: t.packets.Load(), Bytes: t.bytes.Load(),
		Accepted: t.accepted.Load(), Dropped: t.dropped.Load(),
		Modified: t.modified.Load(), Requeued: t.requeued.Load(), Refused: t.refused.Load(),
		GSO: t.gso.Load(), Truncated: t.truncated.Load(),
		ParseErrors: t.parseErrors.Load(), VerdictErrors: t.verdictErrors.Load(),
		NoBuffers: t.noBuffers.Load(), ReceiveErrors: t.recvErrs.Load(), Panics: t.panics.Load(),
		Batches: t.batches.Load(), Wakes: t.wakes.Load(), Timers: t.timers.Load(),
	}
	c.Kernel, c.KernelKnown = q.proc.row(q.cfg.Num)
	return c
}

// procPath is the calling thread's view; /proc/net would be the network
// namespace of the process's first thread.
const procPath = "/proc/thread-self/net/netfilter/nfnetlink_queue"

// procFile keeps the file open: it then shows the namespace of the thread that
// opened it, whoever reads.
type procFile struct{ file *os.File }

func openProc() procFile {
	f, err := os.Open(procPath)
	if err != nil {
		return procFile{} // without it a queue works all the same
	}
	return procFile{f}
}

func (p procFile) close() error {
	if p.file == nil {
		return nil
	}
	return p.file.Close()
}

// A row has at most 80 bytes; procRoom is for more queues than anybody has. The text
// is read fifty times a second for each cheat queue.
const procRoom = 64 << 10

var procText = sync.Pool{New: func() any { return new([procRoom]byte) }}

// row reads the row of a queue; false if there is none.
func (p procFile) row(num uint16) (KernelCounters, bool) {
	if p.file == nil {
		return KernelCounters{}, false
	}
	text := procText.Get().(*[procRoom]byte)
	defer procText.Put(text)
	n, err := p.file.ReadAt(text[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return KernelCounters{}, false
	}
	for line := range bytes.Lines(text[:n]) {
		if row, c, err := parseRow(line); err == nil && row == num {
			return c, true
		}
	}
	return KernelCounters{}, false
}

// parseRow reads "num portid waiting mode range queue_dropped user_dropped id 1".
func parseRow(line []byte) (uint16, KernelCounters, error) {
	fields := bytes.Fields(line)
	if len(fields) < 8 {
		return 0, KernelCounters{}, fmt.Errorf("nfnetlink_queue row has %d columns", len(fields))
	}
	var v [8]uint64
	for i := range v {
		var err error
		if v[i], err = strconv.ParseUint(string(fields[i]), 10, 32); err != nil {
			return 0, KernelCounters{}, fmt.Errorf("nfnetlink_queue column %d: %w", i+1, err)
		}
	}
	if v[0] > 0xffff {
		return 0, KernelCounters{}, fmt.Errorf("queue number %d", v[0])
	}
	return uint16(v[0]), KernelCounters{
		PortID: uint32(v[1]), Waiting: v[2], QueueDropped: v[5], UserDropped: v[6], LastID: v[7],
	}, nil
}
