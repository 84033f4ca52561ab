package traffic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/realtime"
)

// sentStream is what the source did.
type sentStream struct {
	packets uint64 // numbered from 0, the warm-up's included
	errors  int64  // after the warm-up
	elapsed time.Duration
	lag     time.Duration
}

// sendStream paces packets on a thread of its own.
func sendStream(ctx context.Context, cfg StreamConfig, remote netip.AddrPort) (sentStream, error) {
	dialer := net.Dialer{}
	if cfg.Local.IsValid() {
		dialer.LocalAddr = net.UDPAddrFromAddrPort(cfg.Local)
	}
	var conn net.Conn
	err := cfg.From.Do(func() (err error) {
		conn, err = dialer.DialContext(ctx, "udp", remote.String())
		return err
	})
	if err != nil {
		return sentStream{}, fmt.Errorf("stream source in %s: %w", cfg.From.Name(), err)
	}
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		return sentStream{}, errors.Join(err, conn.Close())
	}
	var sent sentStream
	var sendErr error
	done := make(chan error)
	realtime.Prepare()
	go func() {
		realtime.LockThread(realtime.Sending)
		// Control keeps the descriptor open. Writing directly keeps to this thread.
		done <- raw.Control(func(fd uintptr) { sent, sendErr = pace(ctx, int(fd), cfg) })
	}()
	controlErr := <-done
	return sent, errors.Join(controlErr, sendErr, conn.Close())
}

// pace sends every packet at its own time, counted from the start, so that
// lateness does not add up.
func pace(ctx context.Context, fd int, cfg StreamConfig) (sentStream, error) {
	if cfg.TOS != 0 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, cfg.TOS); err != nil {
			return sentStream{}, fmt.Errorf("stream source: type of service: %w", err)
		}
	}
	packet := make([]byte, cfg.Payload)
	newContent(0).fill(packet)
	var sent sentStream
	random := rand.New(rand.NewPCG(uint64(cfg.Interval), uint64(cfg.Payload)))
	start, first := monotonic(), cfg.first()
	for slot := start; slot < start+int64(cfg.Duration); slot += int64(cfg.Interval) {
		due := slot
		if cfg.Scatter {
			due += random.Int64N(int64(cfg.Interval))
		}
		if !sleepUntilOr(ctx, due) {
			break
		}
		sent.lag = max(sent.lag, time.Duration(monotonic()-due))
		for range cfg.train() {
			probe{seq: sent.packets, sent: monotonic()}.put(packet)
			if !sendOne(fd, packet) && sent.packets >= first {
				sent.errors++
			}
			sent.packets++
		}
	}
	sent.elapsed = time.Duration(monotonic() - start)
	return sent, nil
}

// sendOne sends a packet; a second try is for the error of an earlier packet
// (port unreachable), which the kernel reports with the next one.
func sendOne(fd int, packet []byte) bool {
	for range 2 {
		if _, err := unix.Write(fd, packet); err == nil {
			return true
		} else if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.EHOSTUNREACH) {
			return false
		}
	}
	return false
}

// sleepUntilOr sleeps until a time, in pieces so that the end of the context is
// seen; it returns false then.
func sleepUntilOr(ctx context.Context, deadline int64) bool {
	const piece = int64(50 * time.Millisecond)
	for now := monotonic(); now < deadline && ctx.Err() == nil; now = monotonic() {
		sleepUntil(min(deadline, now+piece))
	}
	return ctx.Err() == nil
}
