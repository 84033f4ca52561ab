package inject

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// sendFragments sends a packet that was too long in parts that fit, if it may be
// sent so: the kernel does not fragment what brings its own header. RSVP
// messages are the ones that need it, now and then, so this may allocate.
func (s *Sender) sendFragments(pkt []byte, ifindex int) error {
	if !fragmentable(pkt) {
		return unix.EMSGSIZE
	}
	mtu, err := least6, error(nil)
	if pkt[0]>>4 == 4 {
		if mtu, err = s.mtu(pkt, ifindex); err != nil {
			return fmt.Errorf("inject: MTU towards the destination: %w", err)
		}
	}
	parts, err := fragment(pkt, mtu, s.fragmentID.Add(1))
	if err != nil {
		return err
	}
	for _, part := range parts {
		if err := s.transmit(part, ifindex); err != nil {
			return err
		}
	}
	s.fragmented.Add(1)
	return nil
}

// mtu asks the routes for the MTU towards an IPv4 packet's destination, in bytes.
func (s *Sender) mtu(pkt []byte, ifindex int) (mtu int, err error) {
	to := &unix.SockaddrInet4{Port: 9, Addr: [4]byte(pkt[16:20])}
	// A connected socket knows its route. Connecting a UDP socket sends nothing.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(s.mark)); err != nil {
		return 0, err
	}
	if ifindex != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, ifindex); err != nil {
			return 0, err
		}
	}
	if err := unix.Connect(fd, to); err != nil {
		return 0, err
	}
	return unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
}
