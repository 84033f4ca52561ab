package nfq

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Reasons why Open fails.
var (
	ErrInUse        = errors.New("the queue is in use by another socket")
	ErrNotPermitted = errors.New("CAP_NET_ADMIN is missing")
	ErrUnsupported  = errors.New("the kernel has no nfnetlink_queue, or lacks what was asked of it")
)

// openSocket makes a netlink socket with room for bursts. It stays blocking:
// the worker waits in ppoll, and a verdict must not be refused for want of
// room.
func openSocket(cfg Config) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) {
			err = fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
		return -1, err
	}
	if err := setUpSocket(fd, cfg); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func setUpSocket(fd int, cfg Config) error {
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	// Packets that find the receive buffer full are lost and counted by the
	// kernel either way; without this option each loss would also make reads
	// fail.
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 1); err != nil {
		return fmt.Errorf("NETLINK_NO_ENOBUFS: %w", err)
	}
	// Refused verdicts come back without their payload.
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1); err != nil {
		return fmt.Errorf("NETLINK_CAP_ACK: %w", err)
	}
	if err := forceBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, cfg.RcvBuf); err != nil {
		return fmt.Errorf("receive buffer: %w", err)
	}
	if err := forceBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, 2*maxSend); err != nil {
		return fmt.Errorf("send buffer: %w", err)
	}
	return nil
}

// forceBuffer sets a buffer past the system's limit where that is permitted,
// else up to it.
func forceBuffer(fd, force, plain, size int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
}

// bindQueue takes the queue and sets it up with one message, so that no packet
// meets a queue that is half set up.
func bindQueue(fd int, cfg Config) error {
	flags := uint32(0)
	if cfg.GSO {
		flags |= flagGSO
	}
	if cfg.FailOpen {
		flags |= flagFailOpen
	}
	const attrs = (attrHeader + 4) + (attrHeader + 8) + 3*(attrHeader+4) // command, padded params, three words
	b := make([]byte, 0, nlHeaderLen+nfgenLen+attrs)
	b = binary.NativeEndian.AppendUint32(b, nlHeaderLen+nfgenLen+attrs)
	b = binary.NativeEndian.AppendUint16(b, msgConfig)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b = binary.NativeEndian.AppendUint32(b, 1) // sequence
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(b, unix.AF_UNSPEC, 0)
	b = binary.BigEndian.AppendUint16(b, cfg.Num)

	attr := func(typ uint16, v ...byte) {
		b = binary.NativeEndian.AppendUint16(b, uint16(attrHeader+len(v)))
		b = binary.NativeEndian.AppendUint16(b, typ)
		b = append(b, v...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	word := func(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
	attr(cfgCmd, cmdBind, 0, 0, 0)
	attr(cfgParams, append(word(cfg.CopyRange), copyPacket)...)
	attr(cfgMaxLen, word(cfg.MaxLen)...)
	attr(cfgMask, word(flagGSO|flagFailOpen)...)
	attr(cfgFlags, word(flags)...)
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	return awaitAck(fd, cfg, 1)
}

// awaitAck reads until the kernel answers. Where the rules stand already,
// packets may come first; they go on at once.
func awaitAck(fd int, cfg Config, seq uint32) error {
	buf := make([]byte, int(cfg.CopyRange)+headroom)
	s := sender{fd: fd}
	w := newVerdictWriter(cfg.Num, 1, s.send)
	var p Packet
	var m message
	for end := time.Now().Add(askTimeout); ; {
		left := time.Until(end)
		if left <= 0 {
			return errors.New("configure: the kernel does not answer")
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("configure: %w", err)
		}
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("configure: %w", err)
		}
		_, err = parseMessage(buf[:n], &p, &m)
		switch {
		case m.kind == kindPacket && m.hasID:
			w.accept(p.ID)
			w.flush()
		case err == nil && m.kind == kindError && m.seq == seq:
			if m.errno == 0 {
				return nil
			}
			return unix.Errno(m.errno)
		}
	}
}

// explain says in a sentence why the kernel refused the queue. It answers
// EPERM both to who has no right and to who asks for another's queue.
func explain(cfg Config, row KernelCounters, taken bool, err error) error {
	switch {
	case taken && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EBUSY)):
		return fmt.Errorf("queue %d: %w (netlink port %d, often its process id): %w", cfg.Num, ErrInUse, row.PortID, err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("queue %d: %w: %w", cfg.Num, ErrNotPermitted, err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, ErrUnsupported):
		if !errors.Is(err, ErrUnsupported) {
			err = fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
	}
	return fmt.Errorf("queue %d: %w", cfg.Num, err)
}
