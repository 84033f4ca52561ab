package route

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// asker asks the kernel for routes over one rtnetlink socket, without allocating:
// each new session's set-up asks.
type asker struct {
	fd  int // -1: not open
	seq uint32
	buf [4096]byte
}

// patience is how long the kernel may take for an answer. It answers within the
// call that asks.
const patience = time.Second

var (
	errNoRoute  = errors.New("none")
	errReceived = errors.New("rtnetlink: an answer that is none")
)

// open opens the socket in the network namespace of this thread.
func (a *asker) open() error {
	if a.fd >= 0 {
		return nil
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	tv := unix.NsecToTimeval(int64(patience))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return errors.Join(os.NewSyscallError("setsockopt", err), unix.Close(fd))
	}
	a.fd = fd
	return nil
}

func (a *asker) close() {
	if a.fd >= 0 {
		_ = unix.Close(a.fd) // nothing is buffered in it
		a.fd = -1
	}
}

// ask asks for the route to dst. What the kernel answers leaves the socket
// sound; what else goes wrong may leave an answer in it, so it is closed.
func (a *asker) ask(dst netip.Addr) (Hop, error) {
	if err := a.open(); err != nil {
		return Hop{}, err
	}
	a.seq++
	err := unix.Send(a.fd, a.question(dst), 0)
	if err != nil {
		a.close()
		return Hop{}, os.NewSyscallError("send", err)
	}
	for {
		n, err := unix.Read(a.fd, a.buf[:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			a.close()
			return Hop{}, os.NewSyscallError("read", err)
		case n < unix.SizeofNlMsghdr:
			a.close()
			return Hop{}, errReceived
		case native.Uint32(a.buf[8:]) != a.seq:
			continue // of a question that was given up
		}
		return parseHop(a.buf[:n])
	}
}

var native = binary.NativeEndian

// question writes an RTM_GETROUTE for dst into the buffer.
func (a *asker) question(dst netip.Addr) []byte {
	b := append(a.buf[:0], make([]byte, unix.SizeofNlMsghdr+unix.SizeofRtMsg)...)
	family, bits := uint8(unix.AF_INET), uint8(32)
	if !dst.Is4() {
		family, bits = unix.AF_INET6, 128
	}
	native.PutUint16(b[4:], unix.RTM_GETROUTE)
	native.PutUint16(b[6:], unix.NLM_F_REQUEST)
	native.PutUint32(b[8:], a.seq)
	b[unix.SizeofNlMsghdr], b[unix.SizeofNlMsghdr+1] = family, bits
	b = native.AppendUint16(b, unix.SizeofRtAttr+uint16(bits/8))
	b = native.AppendUint16(b, unix.RTA_DST)
	if v := dst.As16(); dst.Is4() {
		b = append(b, v[12:]...)
	} else {
		b = append(b, v[:]...)
	}
	native.PutUint32(b, uint32(len(b)))
	return b
}

// parseHop reads the kernel's answer.
func parseHop(b []byte) (h Hop, err error) {
	n := int(native.Uint32(b))
	if n < unix.SizeofNlMsghdr || n > len(b) {
		return Hop{}, errReceived
	}
	kind, b := native.Uint16(b[4:]), b[unix.SizeofNlMsghdr:n]
	switch {
	case kind == unix.NLMSG_ERROR && len(b) >= 4:
		if code := -int32(native.Uint32(b)); code > 0 {
			return Hop{}, fmt.Errorf("kernel: %w", unix.Errno(code))
		}
		return Hop{}, errReceived
	case kind != unix.RTM_NEWROUTE || len(b) < unix.SizeofRtMsg:
		return Hop{}, errReceived
	}
	switch b[7] {
	case unix.RTN_LOCAL:
		h.Local = true
	case unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT, unix.RTN_THROW:
		return Hop{}, errNoRoute // IPv6 says it so, IPv4 by an error
	}
	for b = b[unix.SizeofRtMsg:]; len(b) >= unix.SizeofRtAttr; {
		n, attr := int(native.Uint16(b)), native.Uint16(b[2:])
		if n < unix.SizeofRtAttr || n > len(b) {
			return Hop{}, errReceived
		}
		value := b[unix.SizeofRtAttr:n]
		switch {
		case attr == unix.RTA_OIF && len(value) == 4:
			h.Index = int(native.Uint32(value))
		case attr == unix.RTA_GATEWAY:
			h.Gateway = address(value)
		case attr == unix.RTA_VIA && len(value) > 2: // a gateway of the other family
			h.Gateway = address(value[2:])
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return h, nil
}

func address(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b) // invalid: none
	return a.Unmap()
}
