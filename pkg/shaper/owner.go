package shaper

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// ownerSocket is an abstract address (unix(7)): there is one of the name in a
// network namespace, and it is free again when the process is gone, however it
// went.
const ownerSocket = "@qosproxy-shaper"

// ownership keeps other processes out of the network namespace.
type ownership struct {
	fd     int
	cookie uint64
}

func own() (*ownership, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	o := &ownership{fd: fd}
	if o.cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil {
		err = fmt.Errorf("%w: the network namespace's cookie (Linux 5.14): %w", ErrKernel, err)
		return nil, errors.Join(err, o.release())
	}
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: ownerSocket})
	if errors.Is(err, unix.EADDRINUSE) {
		err = fmt.Errorf("%w: stop it first", ErrInUse)
	}
	if err != nil {
		return nil, errors.Join(err, o.release())
	}
	return o, nil
}

// namespace names the network namespace among all since the machine started.
func (o *ownership) namespace() string {
	return "netns-" + strconv.FormatUint(o.cookie, 10)
}

func (o *ownership) release() error {
	return unix.Close(o.fd)
}
