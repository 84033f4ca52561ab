package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// pcapBacklog is the most frames that wait to be written; with frames of
// maxFrame bytes that is 16 MB.
const pcapBacklog = 8192

// Pcap writes frames to a pcap file with nanosecond times. Writing never
// waits: when the file is slower than the wire, frames are left out and counted.
type Pcap struct {
	frames  chan pcapFrame
	free    sync.Pool
	written chan error
	omitted atomic.Uint64

	mu     sync.RWMutex // guards closed against Write
	closed bool
	once   sync.Once
	err    error
}

type pcapFrame struct {
	at   time.Time
	data *[]byte
}

// NewPcap starts writing to w. The caller closes w after Close.
func NewPcap(w io.Writer) (*Pcap, error) {
	buffered := bufio.NewWriterSize(w, 1<<16)
	file := pcapgo.NewWriterNanos(buffered)
	if err := file.WriteFileHeader(maxFrame, layers.LinkTypeEthernet); err != nil {
		return nil, fmt.Errorf("pcap header: %w", err)
	}
	p := &Pcap{frames: make(chan pcapFrame, pcapBacklog), written: make(chan error, 1)}
	go func() { p.written <- errors.Join(p.copy(file), buffered.Flush()) }()
	return p, nil
}

// Write records a copy of a frame. A nil Pcap records nothing.
func (p *Pcap) Write(at time.Time, frame []byte) {
	if p == nil {
		return
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return
	}
	data, ok := p.free.Get().(*[]byte)
	if !ok {
		data = new([]byte)
	}
	*data = append((*data)[:0], frame...)
	select {
	case p.frames <- pcapFrame{at: at, data: data}:
	default:
		p.omitted.Add(1)
		p.free.Put(data)
	}
}

// Omitted returns how many frames were left out.
func (p *Pcap) Omitted() uint64 { return p.omitted.Load() }

// Close writes what waits and returns the first error of the file. It may be
// called again.
func (p *Pcap) Close() error {
	p.once.Do(func() {
		p.mu.Lock()
		p.closed = true
		close(p.frames)
		p.mu.Unlock()
		p.err = <-p.written
	})
	return p.err
}

// copy writes until the channel is closed, and goes on emptying it after an
// error.
func (p *Pcap) copy(file *pcapgo.Writer) error {
	var failed error
	for frame := range p.frames {
		if failed == nil {
			info := gopacket.CaptureInfo{Timestamp: frame.at, CaptureLength: len(*frame.data), Length: len(*frame.data)}
			if err := file.WritePacket(info, *frame.data); err != nil {
				failed = fmt.Errorf("pcap: %w", err)
			}
		}
		p.free.Put(frame.data)
	}
	return failed
}
