// Package inject sends IP packets of our own making: fake ACKs, retransmissions,
// RSVP. On a router they leave by raw sockets, pass the output and postrouting hooks
// only, and carry a mark that keeps them out of our own queues. On a bridge they
// leave as whole frames by a packet socket.
package inject

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// sndBuf is room for a retransmission burst, in bytes.
const sndBuf = 4 << 20

// Config says how packets are sent.
type Config struct {
	Mark uint32 // packet mark of everything that is sent
}

// ErrPacket is returned for bytes that are no IP packet.
var ErrPacket = errors.New("inject: not an IP packet")

// Sender sends complete IP packets. It is safe for concurrent use and
// allocates nothing.
type Sender struct {
	v4, v6     int
	mark       uint32
	fragmentID atomic.Uint32
	tally
}

// New opens the raw sockets in the calling thread's network namespace.
func New(cfg Config) (*Sender, error) {
	v4, err := open(unix.AF_INET, cfg.Mark)
	if err != nil {
		return nil, err
	}
	v6, err := open(unix.AF_INET6, cfg.Mark)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		v6 = -1 // a kernel without IPv6 has no IPv6 flows either
	} else if err != nil {
		return nil, errors.Join(err, unix.Close(v4))
	}
	return &Sender{v4: v4, v6: v6, mark: cfg.Mark}, nil
}

func open(family int, mark uint32) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	if err != nil {
		if errors.Is(err, unix.EPERM) {
			return -1, fmt.Errorf("raw socket: CAP_NET_RAW is missing: run as root: %w", err)
		}
		return -1, fmt.Errorf("raw socket: %w", err)
	}
	// IPPROTO_RAW implies IP_HDRINCL and IPV6_HDRINCL: the header is ours, and
	// the source address need not be.
	if err := errors.Join(
		wrap("raw socket: SO_MARK", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark))),
		wrap("raw socket: SO_SNDBUF", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sndBuf)),
		wrap("raw socket: options", setOptions(fd, family)),
	); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// setOptions has the kernel tell what a queueing discipline drops, which would
// count as sent otherwise, and keeps multicast from coming back to us.
func setOptions(fd, family int) error {
	if family == unix.AF_INET {
		return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0))
	}
	return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0))
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Send sends a packet on the way that the kernel's routes give its destination.
// The kernel computes the IPv4 header checksum and, if it is 0 and DF is not set,
// chooses the identification. A packet longer than the MTU is sent in fragments if it may
// be: IPv4 without DF, and RSVP over IPv6, whose sender we are; this in fragments
// that every link of IPv6 carries. Errors wrap
// EMSGSIZE, ENOBUFS and so on.
func (s *Sender) Send(pkt []byte) error { return s.send(pkt, 0) }

// SendVia sends a packet out of an interface, whatever the routes say. Over
// IPv6 there must be some route out of that interface, else it is ENETUNREACH.
func (s *Sender) SendVia(pkt []byte, ifindex int) error { return s.send(pkt, ifindex) }

// Close closes the sockets; nothing may be sent afterwards.
func (s *Sender) Close() error {
	err := unix.Close(s.v4)
	if s.v6 >= 0 {
		err = errors.Join(err, unix.Close(s.v6))
	}
	return err
}

func (s *Sender) send(pkt []byte, ifindex int) error {
	var err error = unix.EMSGSIZE
	if !long6(pkt) {
		err = s.transmit(pkt, ifindex)
	}
	if err == unix.EMSGSIZE { //nolint:errorlint // a bare errno of transmit
		err = s.sendFragments(pkt, ifindex)
	}
	return s.note(len(pkt), err)
}
