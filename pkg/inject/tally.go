package inject

import (
	"errors"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Counters are what a sender did, or did not.
type Counters struct {
	Packets, Bytes uint64 // sent; IP bytes
	Errors         uint64 // not sent, for whatever reason
	TooLong        uint64 // of these: longer than the path's MTU
	NoBuffers      uint64 // of these: the kernel had no room, or the interface's queue
	NoFrame        uint64 // of these: to stations of a bridge of which no frame was seen
	NoPort         uint64 // of these: it was not known which port of a bridge leads there
	Fragmented     uint64 // of those sent: in fragments
}

// tally counts for a sender.
type tally struct {
	packets, bytes, errs, tooLong, outOfMemory, noFrame, noPort, fragmented atomic.Uint64
}

// note counts a packet that was sent, or not.
func (t *tally) note(n int, err error) error {
	if err == nil {
		t.packets.Add(1)
		t.bytes.Add(uint64(n))
		return nil
	}
	t.errs.Add(1)
	switch {
	case errors.Is(err, unix.EMSGSIZE):
		t.tooLong.Add(1)
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EAGAIN):
		t.outOfMemory.Add(1)
	case errors.Is(err, ErrNoFrame):
		t.noFrame.Add(1)
	case errors.Is(err, ErrNoPort):
		t.noPort.Add(1)
	}
	return err
}

// Counters reads the counters.
func (t *tally) Counters() Counters {
	return Counters{
		Packets: t.packets.Load(), Bytes: t.bytes.Load(), Errors: t.errs.Load(),
		TooLong: t.tooLong.Load(), NoBuffers: t.outOfMemory.Load(),
		NoFrame: t.noFrame.Load(), NoPort: t.noPort.Load(), Fragmented: t.fragmented.Load(),
	}
}
