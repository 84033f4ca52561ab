package nfq

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// receiver reads many datagrams with one system call into buffers of its own.
type receiver struct {
	fd   int
	bufs [][]byte
	msgs []mmsghdr
	iovs []unix.Iovec
	from []unix.RawSockaddrNetlink
}

func newReceiver(fd, batch, size int) *receiver {
	r := &receiver{
		fd: fd, bufs: make([][]byte, batch), msgs: make([]mmsghdr, batch),
		iovs: make([]unix.Iovec, batch), from: make([]unix.RawSockaddrNetlink, batch),
	}
	for i := range r.bufs {
		r.bufs[i] = make([]byte, size)
		r.iovs[i].Base = &r.bufs[i][0]
		r.iovs[i].SetLen(size)
		h := &r.msgs[i].hdr
		h.Iov = &r.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&r.from[i]))
	}
	return r
}

// read fills the buffers with what is there, without waiting.
func (r *receiver) read() (int, error) {
	for i := range r.msgs {
		h := &r.msgs[i].hdr // the kernel wrote over these
		h.Namelen, h.Flags = unix.SizeofSockaddrNetlink, 0
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(r.fd),
			uintptr(unsafe.Pointer(&r.msgs[0])), uintptr(len(r.msgs)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// datagram is the i-th one read; false if it did not come from the kernel.
func (r *receiver) datagram(i int) ([]byte, bool) {
	return r.bufs[i][:min(int(r.msgs[i].len), len(r.bufs[i]))], r.from[i].Pid == 0
}

// sender writes the parts of one datagram.
type sender struct {
	fd  int
	hdr unix.Msghdr
}

func (s *sender) send(iov []unix.Iovec) error {
	s.hdr.Iov = &iov[0]
	s.hdr.SetIovlen(len(iov))
	for {
		_, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.hdr)), 0)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}
