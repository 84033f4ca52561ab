package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// receiveBuffer holds about 100 ms at 200 Mbit/s, bytes of the kernel's memory.
const receiveBuffer = 16 << 20

// port is a packet socket bound to one interface.
type port struct {
	fd int
}

// openPort opens an interface of the calling thread's namespace.
func openPort(name string) (*port, error) {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	// Protocol 0 receives nothing until bound, so no frame of another
	// interface gets in between.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	p := &port{fd: fd}
	if err := p.configure(iface.Index); err != nil {
		return nil, errors.Join(fmt.Errorf("packet socket on %s: %w", name, err), p.close())
	}
	return p, nil
}

func (p *port) configure(index int) error {
	// The frames that the wire itself sends must not come back to it.
	if err := unix.SetsockoptInt(p.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return fmt.Errorf("ignore outgoing frames: %w", err)
	}
	if err := unix.SetsockoptInt(p.fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return fmt.Errorf("bypass the queueing discipline: %w", err)
	}
	for _, option := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		if err := unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, option, receiveBuffer); err != nil {
			return fmt.Errorf("socket buffer: %w", err)
		}
	}
	all := binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)
	addr := &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(all), Ifindex: index}
	if err := unix.Bind(p.fd, addr); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// drops returns how many frames the socket dropped since the last call.
func (p *port) drops() uint64 {
	stats, err := unix.GetsockoptTpacketStats(p.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0 // closed: nothing more will be dropped
	}
	return uint64(stats.Drops)
}

func (p *port) close() error {
	return unix.Close(p.fd)
}

// event is an eventfd that ends a poll.
type event struct {
	fd int
}

func newEvent() (event, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return event{}, fmt.Errorf("eventfd: %w", err)
	}
	return event{fd: fd}, nil
}

func (e event) set() error {
	one := binary.NativeEndian.AppendUint64(nil, 1)
	if _, err := unix.Write(e.fd, one); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	return nil
}

func (e event) close() error {
	return unix.Close(e.fd)
}
