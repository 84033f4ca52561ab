package wire

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize = 32
	maxFrame  = 2048 // bytes
)

// message is the kernel's struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// batch is a set of frames received or sent by one system call.
type batch struct {
	messages [batchSize]message
	vectors  [batchSize]unix.Iovec
	buffers  [batchSize][]byte
	used     int // of a batch to be sent
}

func newBatch() *batch {
	b := &batch{}
	for i := range b.messages {
		b.messages[i].header.Iov = &b.vectors[i]
		b.messages[i].header.SetIovlen(1)
	}
	return b
}

// setBuffer gives place i a buffer to receive into, or a frame to send.
func (b *batch) setBuffer(i int, buffer []byte) {
	b.buffers[i] = buffer
	b.vectors[i].Base = unsafe.SliceData(buffer)
	b.vectors[i].SetLen(len(buffer))
}

// frame returns the frame received at place i, and whether it is whole.
func (b *batch) frame(i int) ([]byte, bool) {
	m := &b.messages[i]
	return b.buffers[i][:m.length], m.header.Flags&unix.MSG_TRUNC == 0
}

// receive fills the batch without waiting and returns the number of frames.
func (b *batch) receive(fd int) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(&b.messages[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func (b *batch) reset()    { b.used = 0 }
func (b *batch) room() int { return batchSize - b.used }

func (b *batch) add(frame []byte) {
	b.setBuffer(b.used, frame)
	b.used++
}

// send sends the batch and returns how many frames the interface refused.
func (b *batch) send(fd int) uint64 {
	var refused uint64
	for next := 0; next < b.used; {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd),
			uintptr(unsafe.Pointer(&b.messages[next])), uintptr(b.used-next), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			refused++ // the first of the rest; those behind it are tried again
			next++
		default:
			next += int(n)
		}
	}
	return refused
}
