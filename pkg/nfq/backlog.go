package nfq

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Backlog is how full a queue is.
type Backlog struct {
	Waiting uint64  // packets without a verdict
	Fill    float64 // of the queue or of the socket, whichever is fuller; 1 is full
	Lost    uint64  // packets that found one of them full, since the queue was opened
	Handled uint64  // packets that were answered since then
}

// Backlog reads it; false if the kernel does not tell. It may be called by any
// goroutine, until Run returns.
func (q *Queue) Backlog() (Backlog, bool) {
	if q.state.Load() == closed {
		return Backlog{}, false
	}
	row, ok := q.proc.row(q.cfg.Num)
	if !ok {
		return Backlog{}, false
	}
	b := Backlog{
		Waiting: row.Waiting, Lost: row.QueueDropped + row.UserDropped, Handled: q.tally.packets.Load(),
		Fill: float64(row.Waiting) / float64(q.cfg.MaxLen),
	}
	if used, size, ok := receiveBuffer(q.fd); ok {
		b.Fill = max(b.Fill, float64(used)/float64(size))
	}
	return b, true
}

// receiveBuffer tells how many bytes of a socket's buffer are in use: super-packets
// fill it long before there are too many of them.
func receiveBuffer(fd int) (used, size uint32, ok bool) {
	// SK_MEMINFO_RMEM_ALLOC, SK_MEMINFO_RCVBUF and what follows.
	var info [9]uint32
	n := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&n)), 0)
	return info[0], info[1], errno == 0 && n >= 8 && info[1] > 0
}
