package traffic

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// Raw sends whole IP packets, header included, from inside a namespace.
type Raw struct {
	v4, v6 int // sockets, -1 where there is none
}

// OpenRaw opens raw sockets for IPv4 and, where the namespace has it, IPv6.
func OpenRaw(ns *netns.NetNS) (*Raw, error) {
	r := &Raw{v4: -1, v6: -1}
	err := ns.Do(func() (err error) {
		// IPPROTO_RAW implies that the header is included, and receives nothing.
		if r.v4, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
			return err
		}
		r.v6, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("raw socket in %s: %w", ns.Name(), err), r.Close())
	}
	return r, nil
}

// Send sends one packet to the destination in its header. The kernel fills in
// an IPv4 packet's length and header checksum, and its identification if 0.
func (r *Raw) Send(packet []byte) error {
	var err error
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		err = unix.Sendto(r.v4, packet, 0, &unix.SockaddrInet4{Addr: [4]byte(packet[16:20])})
	case len(packet) >= 40 && packet[0]>>4 == 6:
		err = unix.Sendto(r.v6, packet, 0, &unix.SockaddrInet6{Addr: [16]byte(packet[24:40])})
	default:
		return errors.New("send raw packet: not an IP packet")
	}
	if err != nil {
		return fmt.Errorf("send raw packet: %w", err)
	}
	return nil
}

// Close closes the sockets. It may be called again.
func (r *Raw) Close() error {
	var errs []error
	for _, fd := range []*int{&r.v4, &r.v6} {
		if *fd >= 0 {
			errs = append(errs, unix.Close(*fd))
		}
		*fd = -1
	}
	return errors.Join(errs...)
}
