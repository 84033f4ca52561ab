package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// streamSink counts a stream's packets.
type streamSink struct {
	cfg  StreamConfig
	conn *net.UDPConn

	highest atomic.Uint64 // packets known to have been sent: highest number + 1
	arrived atomic.Uint64 // different packets, the warm-up's included

	// Only receive writes these, until it returned.
	seen       []uint64 // bitmap by number
	received   int64
	duplicates int64
	reordered  int64
	delay      samples
	jitter     jitter
	begin, end int64 // arrival of the first and the last packet
}

func listenStream(ctx context.Context, cfg StreamConfig) (*streamSink, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		controlErr := raw.Control(func(fd uintptr) {
			// The kernel's own time of arrival: the reader may be late.
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
			if err == nil {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
			}
		})
		return errors.Join(controlErr, err)
	}}
	s := &streamSink{cfg: cfg, seen: make([]uint64, (int(cfg.Duration/cfg.Interval)+1)*cfg.train()/64+2)}
	err := cfg.To.Do(func() error {
		conn, err := config.ListenPacket(ctx, "udp", cfg.Remote.String())
		if err == nil {
			s.conn = conn.(*net.UDPConn)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("stream sink in %s: %w", cfg.To.Name(), err)
	}
	return s, nil
}

func (s *streamSink) addr() netip.AddrPort {
	return s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// receive reads until finish ends it.
func (s *streamSink) receive() error {
	buf, oob := make([]byte, 64<<10), make([]byte, 128)
	for {
		n, oobn, _, _, err := s.conn.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = nil
			}
			return errors.Join(err, s.conn.Close())
		}
		p, ok := parseProbe(buf[:n])
		if ok && p.seq/64 < uint64(len(s.seen)) {
			s.count(p, arrivalTime(oob[:oobn]))
		}
	}
}

func (s *streamSink) count(p probe, arrival int64) {
	word, bit := p.seq/64, uint64(1)<<(p.seq%64)
	late := p.seq+1 < s.highest.Load()
	again := s.seen[word]&bit != 0
	s.seen[word] |= bit
	if !again {
		s.arrived.Add(1)
	}
	if !late {
		s.highest.Store(p.seq + 1)
	}
	if p.seq < s.cfg.first() {
		return
	}
	if again {
		s.duplicates++
		return
	}
	if late {
		s.reordered++
	}
	s.received++
	delay := time.Duration(arrival - p.sent)
	s.delay.add(delay)
	if s.received == 1 {
		s.begin = arrival
	}
	s.end = max(s.end, arrival)
	s.jitter.add(delay)
}

// finish ends receive when all of so many packets arrived or none is waited
// for any more.
func (s *streamSink) finish(ctx context.Context, sent uint64, drain time.Duration) {
	deadline := time.Now().Add(drain)
	for s.arrived.Load() < sent && time.Now().Before(deadline) && ctx.Err() == nil {
		pause(ctx, 5*time.Millisecond)
	}
	_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // fails only if reading has ended
}

// result is called after receive has returned.
func (s *streamSink) result(sent sentStream) StreamResult {
	counted := int64(sent.packets) - int64(min(sent.packets, s.cfg.first()))
	over := sent.elapsed - min(sent.elapsed, s.cfg.Warmup)
	payload := int64(s.cfg.Payload)
	// From the first packet to the last there is one interval less.
	span, after := time.Duration(s.end-s.begin), max(0, s.received-int64(s.cfg.train()))
	return StreamResult{
		Sent:        counted - sent.errors,
		SendErrors:  sent.errors,
		Received:    s.received,
		Lost:        counted - sent.errors - s.received,
		Duplicates:  s.duplicates,
		Reordered:   s.reordered,
		Delay:       s.delay.distribution(),
		Jitter:      s.jitter.value,
		MaxJitter:   s.jitter.max,
		PayloadRate: bitsPerSecond(after*payload, span),
		IPRate:      bitsPerSecond(after*(payload+udpHeaders), span),
		SendRate:    bitsPerSecond((counted-sent.errors)*(payload+udpHeaders), over),
		MaxSendLag:  sent.lag,
	}
}

// jitter is the interarrival jitter of RFC 3550 6.4.1: the difference of two
// packets' transit times, smoothed by 1/16.
type jitter struct {
	last       time.Duration
	any        bool
	value, max time.Duration
}

func (j *jitter) add(transit time.Duration) {
	if j.any {
		difference := (transit - j.last).Abs()
		j.value += (difference - j.value) / 16
		j.max = max(j.max, j.value)
	}
	j.last, j.any = transit, true
}

// arrivalTime turns the kernel's time stamp of a packet, which is of the wall
// clock, into CLOCK_MONOTONIC; without a stamp it is now.
func arrivalTime(oob []byte) int64 {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return monotonic()
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
			seconds := int64(binary.NativeEndian.Uint64(m.Data))
			stamp := seconds*int64(time.Second) + int64(binary.NativeEndian.Uint64(m.Data[8:]))
			now, wall := clocks()
			return now - max(0, wall-stamp)
		}
	}
	return monotonic()
}
