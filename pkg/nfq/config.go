package nfq

import "time"

// Config describes a queue.
type Config struct {
	Num uint16 // the queue's number
	// MaxLen is how many packets may wait in the kernel; 0 is 8192.
	MaxLen uint32
	// RcvBuf is the socket's receive buffer in bytes; 0 is 16 MiB.
	RcvBuf int
	// GSO takes super-packets whole. Without it the kernel splits them, which
	// costs ten times the throughput.
	GSO bool
	// FailOpen lets packets pass when the queue is full. They overtake those
	// that wait: never for flows whose sequence numbers are rewritten.
	FailOpen bool
	// CopyRange is how many bytes of a packet are read; 0 is all of it.
	CopyRange uint32
	// Batch is how many packets are read at once; 0 is 32. Each takes a buffer
	// of CopyRange bytes.
	Batch   int
	Handler Handler
	// OnError is told what went wrong, at most once a second; the counters have
	// all of it. It is called by the worker and must not block. May be nil.
	OnError func(error)
}

const (
	defaultMaxLen = 8192
	defaultRcvBuf = 16 << 20
	defaultBatch  = 32
	maxBatch      = 256

	// askTimeout is how long the kernel may take to answer a configuration.
	askTimeout = 2 * time.Second
	// answerTime is how long a packet may wait for the verdicts of those behind it,
	// which are sent together.
	answerTime = time.Millisecond
	// drainTime bounds the reading at the end, should the rules that fill the
	// queue still be there.
	drainTime = 200 * time.Millisecond
	// panicPause keeps a handler that panics in its timer from burning the CPU.
	panicPause = 10 * time.Millisecond
	errorPause = time.Second
)

func (c Config) withDefaults() Config {
	if c.MaxLen == 0 {
		c.MaxLen = defaultMaxLen
	}
	if c.RcvBuf == 0 {
		c.RcvBuf = defaultRcvBuf
	}
	if c.CopyRange == 0 || c.CopyRange > maxPayload {
		c.CopyRange = maxPayload
	}
	if c.Batch <= 0 {
		c.Batch = defaultBatch
	}
	c.Batch = min(c.Batch, maxBatch)
	return c
}
