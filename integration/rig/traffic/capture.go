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

// queueRoom is what may wait in a capture's socket until its reader gets a processor,
// in bytes as the kernel counts them: with what it keeps beside each frame. smallest
// is the least that it counts for one.
const (
	queueRoom = 128 << 20
	smallest  = 512
)

// Frame is a captured Ethernet frame, with its VLAN tags as on the wire.
type Frame struct {
	At       time.Time // when the kernel had it
	Outgoing bool      // sent by this namespace, not received
	Data     []byte
}

// Capture records the frames of one interface.
type Capture struct {
	file   *os.File
	filter func([]byte) bool
	done   chan struct{}
	closed atomic.Bool

	reading sync.Mutex // held while frames are taken from the socket, before mu
	buf     []byte     // reading
	beside  []byte     // reading

	mu      sync.Mutex
	frames  []Frame
	omitted uint64        // frames beyond maxCaptured
	lost    uint64        // frames that the socket had no room for
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
		// A super-packet may be longer than 64 kB by its Ethernet header.
		buf: make([]byte, 66<<10), beside: make([]byte, 256),
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
	// The kernel doubles it.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, queueRoom/2)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1)
	}
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
	var takeErr error
	if err == nil {
		err = raw.Read(func(fd uintptr) bool {
			empty := false
			for !empty && takeErr == nil {
				empty, takeErr = c.take(int(fd))
			}
			return takeErr != nil
		})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := errors.Join(takeErr, err); !c.closed.Load() {
		c.err = err
	}
}

// take takes all frames that wait in the socket, and notes how many had no room
// there. Those that come meanwhile do not keep it for ever: then the socket is not empty
// in the end.
func (c *Capture) take(fd int) (empty bool, err error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for range queueRoom / smallest {
		n, besides, _, from, err := unix.Recvmsg(fd, c.buf, c.beside, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return true, c.countLost(fd)
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN):
		case err != nil:
			return false, err
		default:
			link, ok := from.(*unix.SockaddrLinklayer)
			beside := c.beside[:besides]
			c.add(arrival(beside), WithTag(c.buf[:n], beside), ok && link.Pkttype == unix.PACKET_OUTGOING)
		}
	}
	return false, c.countLost(fd)
}

// countLost reads how many frames the socket had no room for since it was read last.
func (c *Capture) countLost(fd int) error {
	s, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return fmt.Errorf("lost frames: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost += uint64(s.Drops)
	return nil
}

// arrival is when the kernel had the frame, by a control message.
func arrival(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		}
	}
	return time.Now()
}

func (c *Capture) add(at time.Time, data []byte, outgoing bool) {
	if c.filter != nil && !c.filter(data) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.frames) >= maxCaptured {
		c.omitted++
		return
	}
	c.frames = append(c.frames, Frame{At: at, Outgoing: outgoing, Data: slices.Clone(data)})
	close(c.more)
	c.more = make(chan struct{})
}

// catchUp takes in what has come before the call, however far behind the reader is.
func (c *Capture) catchUp() error {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	var takeErr error
	if err := raw.Control(func(fd uintptr) { _, takeErr = c.take(int(fd)) }); err != nil {
		if c.closed.Load() {
			return nil // Close has caught up
		}
		return fmt.Errorf("capture: %w", err)
	}
	return takeErr
}

// Frames returns what was captured: all that the interface has had before the call,
// or before Close. An error says that this is not all of it.
func (c *Capture) Frames() ([]Frame, error) {
	err := c.catchUp()
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.frames), errors.Join(err, c.err, c.missing())
}

// missing says that frames are. The caller holds mu.
func (c *Capture) missing() error {
	if c.lost+c.omitted == 0 {
		return nil
	}
	return fmt.Errorf("the capture is not whole: beside %d frames %d were lost, since the socket's buffer was full, and %d left out, since no more are kept",
		len(c.frames), c.lost, c.omitted)
}

// Wait returns the first captured frame that the function accepts, waiting for
// it if need be.
func (c *Capture) Wait(ctx context.Context, accept func(Frame) bool) (Frame, error) {
	ended := error(nil)
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
		if ended != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			return Frame{}, errors.Join(fmt.Errorf("captured %d frames, not the awaited one: %w", next, ended), c.missing())
		}
		select {
		case <-more:
		case <-c.done:
			ended = errors.New("the capture has ended")
		case <-ctx.Done():
			ended = errors.Join(context.Cause(ctx), c.catchUp())
		}
	}
}

// Close ends the capture; what has come before stays. It may be called again.
func (c *Capture) Close() error {
	var err error
	if !c.closed.Swap(true) {
		err = c.catchUp()
	}
	if err := c.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close capture: %w", err)
	}
	<-c.done
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(err, c.err)
}
