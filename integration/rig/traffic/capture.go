package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// maxCaptured bounds a capture, frames.
const maxCaptured = 1 << 16

// Frame is a captured Ethernet frame.
type Frame struct {
	At       time.Time
	Outgoing bool // sent by this namespace, not received
	Data     []byte
}

// Capture records the frames of one interface.
type Capture struct {
	file   *os.File
	filter func([]byte) bool
	done   chan struct{}
	closed atomic.Bool

	mu      sync.Mutex
	frames  []Frame
	omitted uint64
	more    chan struct{} // closed and replaced when a frame arrives
	err     error
}

// StartCapture records, until Close, the frames of an interface that the
// filter accepts; nil accepts all. After 65,536 frames further ones are only
// counted.
func StartCapture(ns *netns.NetNS, iface string, filter func(frame []byte) bool) (*Capture, error) {
	var fd int
	err := ns.Do(func() (err error) {
		fd, err = openCapture(iface)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("capture on %s in %s: %w", iface, ns.Name(), err)
	}
	c := &Capture{
		file:   os.NewFile(uintptr(fd), "capture"),
		filter: filter,
		done:   make(chan struct{}),
		more:   make(chan struct{}),
	}
	go c.run()
	return c, nil
}

func openCapture(name string) (int, error) {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	all := binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)
	addr := &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(all), Ifindex: iface.Index}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	if err == nil {
		err = unix.Bind(fd, addr)
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func (c *Capture) run() {
	defer close(c.done)
	raw, err := c.file.SyscallConn()
	// A super-packet may be longer than 64 kB by its Ethernet header.
	buf := make([]byte, 66<<10)
	for err == nil {
		var n int
		var from unix.Sockaddr
		var receiveErr error
		err = raw.Read(func(fd uintptr) bool {
			n, from, receiveErr = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			return !errors.Is(receiveErr, unix.EAGAIN)
		})
		switch {
		case err != nil || errors.Is(receiveErr, unix.EINTR) || errors.Is(receiveErr, unix.ENETDOWN):
		case receiveErr != nil:
			err = receiveErr
		default:
			link, ok := from.(*unix.SockaddrLinklayer)
			c.add(buf[:n], ok && link.Pkttype == unix.PACKET_OUTGOING)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed.Load() {
		c.err = err
	}
}

func (c *Capture) add(data []byte, outgoing bool) {
	if c.filter != nil && !c.filter(data) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.frames) >= maxCaptured {
		c.omitted++
		return
	}
	c.frames = append(c.frames, Frame{At: time.Now(), Outgoing: outgoing, Data: slices.Clone(data)})
	close(c.more)
	c.more = make(chan struct{})
}

// Frames returns what was captured so far, and how many frames were left out.
func (c *Capture) Frames() ([]Frame, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.frames), c.omitted
}

// Wait returns the first captured frame that the function accepts, waiting for
// it if need be.
func (c *Capture) Wait(ctx context.Context, accept func(Frame) bool) (Frame, error) {
	for next := 0; ; {
		c.mu.Lock()
		fresh, more := c.frames[next:], c.more
		c.mu.Unlock()
		for _, frame := range fresh {
			if accept(frame) {
				return frame, nil
			}
		}
		next += len(fresh)
		select {
		case <-more:
		case <-c.done:
			return Frame{}, errors.New("capture ended before the awaited frame came")
		case <-ctx.Done():
			return Frame{}, fmt.Errorf("captured %d frames, not the awaited one: %w", next, ctx.Err())
		}
	}
}

// Close ends the capture; what was captured stays. It may be called again.
func (c *Capture) Close() error {
	c.closed.Store(true)
	if err := c.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close capture: %w", err)
	}
	<-c.done
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
