package traffic

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// knocks captures the loopback and sends datagrams of a size there, the reader being
// held up all the while.
func knocks(t *testing.T, n, size int) (c *Capture, release func()) {
	t.Helper()
	ns := island(t)
	c, err := StartCapture(ns, "lo", func(f []byte) bool { return len(f) > size })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	c.reading.Lock()
	if err := ns.Do(func() error { return datagrams(n, size) }); err != nil {
		t.Fatal(err)
	}
	return c, c.reading.Unlock
}

// datagrams sends to a socket that nobody reads.
func datagrams(n, size int) (err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	self := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}
	err = unix.Bind(fd, self)
	for i := 0; i < n && err == nil; i++ {
		err = unix.Sendto(fd, make([]byte, size), 0, self)
	}
	return err
}

// stamping has the kernel stamp what comes, which it begins some time after it was
// first asked to; before, a frame has the time at which it is read.
func stamping(t *testing.T) {
	t.Helper()
	for range 500 {
		c, release := knocks(t, 1, 100)
		sent := time.Now()
		time.Sleep(10 * time.Millisecond)
		release()
		frames, err := c.Frames()
		if err != nil {
			t.Fatal(err)
		}
		if len(frames) > 0 && !frames[0].At.After(sent) {
			return
		}
	}
	t.Fatal("the kernel does not stamp what comes")
}

// What had come before the call is there, though the reader has had no processor
// since, and so it is after Close; each frame twice, as it leaves and as it comes.
func TestCaptureCatchesUp(t *testing.T) {
	const n = 500
	stamping(t)
	c, release := knocks(t, n, 100)
	sent := time.Now()
	time.Sleep(50 * time.Millisecond)
	release()
	frames, err := c.Frames()
	if err != nil || len(frames) != 2*n {
		t.Errorf("%d frames of %d, %v", len(frames), 2*n, err)
	}
	for _, f := range frames {
		if f.At.After(sent) {
			t.Fatalf("stamped %s after it was sent", f.At.Sub(sent))
		}
	}
	c, release = knocks(t, n, 100)
	release()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if frames, err := c.Frames(); err != nil || len(frames) != 2*n {
		t.Errorf("after Close %d frames of %d, %v", len(frames), 2*n, err)
	}
}

// Wait looks once more when its time is over.
func TestCaptureWaitCatchesUp(t *testing.T) {
	c, release := knocks(t, 1, 100)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	time.AfterFunc(20*time.Millisecond, release)
	if _, err := c.Wait(ctx, func(f Frame) bool { return !f.Outgoing }); err != nil {
		t.Error(err)
	}
	if _, err := c.Wait(ctx, func(Frame) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Frames that the socket had no room for are told.
func TestCaptureTellsLoss(t *testing.T) {
	const size = 60_000
	c, release := knocks(t, queueRoom/size, size)
	release()
	frames, err := c.Frames()
	if err == nil || !strings.Contains(err.Error(), "not whole") || c.lost == 0 {
		t.Errorf("%d frames, %d lost, %v", len(frames), c.lost, err)
	}
	if got := uint64(len(frames)) + c.lost; got < 2*(queueRoom/size) {
		t.Errorf("%d of %d frames are spoken for", got, 2*(queueRoom/size))
	}
}

// Frames beyond what is kept are told too.
func TestCaptureTellsWhatItLeavesOut(t *testing.T) {
	c := &Capture{more: make(chan struct{})}
	for range maxCaptured + 3 {
		c.add(time.Now(), nil, false)
	}
	if err := c.missing(); c.omitted != 3 || err == nil {
		t.Errorf("%d left out, %v", c.omitted, err)
	}
}
