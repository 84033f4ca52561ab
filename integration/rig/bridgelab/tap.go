package bridgelab

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/routerlab"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
)

// Tap receives the frames that come in by an interface, as they were on the wire:
// the kernel takes the outer VLAN tag off, and tells it beside the frame.
type Tap struct {
	fd   int
	in   []byte
	side []byte
}

// NewTap listens on an interface until the test ends.
func NewTap(t testing.TB, ns *netns.NetNS, dev string) *Tap {
	t.Helper()
	p := &Tap{in: make([]byte, 1<<17), side: make([]byte, 256)}
	routerlab.Must(t, ns.Do(func() (err error) {
		p.fd, err = Socket(dev)
		return err
	}))
	t.Cleanup(func() { routerlab.Must(t, unix.Close(p.fd)) })
	routerlab.Must(t, unix.SetsockoptInt(p.fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1))
	routerlab.Must(t, unix.SetsockoptInt(p.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	routerlab.Must(t, unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20000}))
	return p
}

// Socket is a packet socket for whole frames of an interface, in the calling
// thread's namespace.
func Socket(dev string) (int, error) {
	all := uint16(unix.ETH_P_ALL)
	proto := all<<8 | all>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	req, err := unix.NewIfreq(dev)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: int(req.Uint32())})
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// Next is the next frame that want accepts, nil if none comes for a while.
func (p *Tap) Next(want func(frame []byte) bool) []byte {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		if f := p.read(); f != nil && want(f) {
			return f
		}
	}
	return nil
}

// None tells whether no such frame comes until one that last accepts does.
func (p *Tap) None(unwanted, last func(frame []byte) bool) bool {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		switch f := p.read(); {
		case f == nil:
		case unwanted(f):
			return false
		case last(f):
			return true
		}
	}
	return false
}

func (p *Tap) read() []byte {
	n, side, _, _, err := unix.Recvmsg(p.fd, p.in, p.side, 0)
	if err != nil {
		return nil
	}
	return bytes.Clone(traffic.WithTag(p.in[:n], p.side[:side]))
}

// Send has a host send a whole frame.
func Send(t testing.TB, ns *netns.NetNS, dev string, frame []byte) {
	t.Helper()
	routerlab.Must(t, ns.Do(func() error {
		fd, err := Socket(dev)
		if err != nil {
			return err
		}
		_, err = unix.Write(fd, frame)
		return errors.Join(err, unix.Close(fd))
	}))
}
