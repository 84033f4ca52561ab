package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// LatencyConfig describes requests and responses, one at a time, over one TCP
// connection.
type LatencyConfig struct {
	From, To          *netns.NetNS
	Remote            netip.AddrPort // of the server; port 0 lets the kernel choose
	CongestionControl string
	Duration          time.Duration
	Pause             time.Duration // between a response and the next request
	// Period has requests start at multiples of it since Begin, instead of a
	// pause: connections with one period and different Begins take turns.
	Period            time.Duration
	Begin             time.Time
	Warmup            time.Duration // requests made so soon after connecting are not counted
	Request, Response int           // bytes, 0 is 64
}

// wait is how long to wait before the next request.
func (c *LatencyConfig) wait(now time.Time) time.Duration {
	if c.Period <= 0 {
		return c.Pause
	}
	late := now.Sub(c.Begin) % c.Period
	if late < 0 {
		return -late
	}
	return c.Period - late
}

// LatencyResult of all exchanges completed.
type LatencyResult struct {
	Times Distribution `json:"times"` // from request to the response's last byte
	TCP   TCPInfo      `json:"tcp"`   // of the client
}

// Latency runs server and client and measures each exchange.
func Latency(ctx context.Context, cfg LatencyConfig) (LatencyResult, error) {
	cfg.Request, cfg.Response = max(cfg.Request, 0), max(cfg.Response, 0)
	if cfg.Request == 0 {
		cfg.Request = 64
	}
	if cfg.Response == 0 {
		cfg.Response = 64
	}
	var result LatencyResult
	ctx, cancel := context.WithTimeout(ctx, cfg.Duration)
	defer cancel()
	listener, err := listenTCP(ctx, cfg.To, cfg.Remote, cfg.CongestionControl)
	if err != nil {
		return result, err
	}
	served := make(chan error, 1)
	go func() { served <- serve(ctx, listener, cfg) }()
	remote := listener.Addr().(*net.TCPAddr).AddrPort()
	clientErr := request(ctx, remote, cfg, &result)
	cancel()
	return result, errors.Join(clientErr, <-served)
}

func request(ctx context.Context, remote netip.AddrPort, cfg LatencyConfig, result *LatencyResult) error {
	conn, err := dialTCP(ctx, cfg.From, netip.AddrPort{}, remote, cfg.CongestionControl)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var times samples
	req, resp := make([]byte, cfg.Request), make([]byte, cfg.Response)
	connected := time.Now()
	if cfg.Period > 0 {
		pause(ctx, cfg.wait(connected))
	}
	for err == nil && ctx.Err() == nil {
		start := time.Now()
		if _, err = conn.Write(req); err == nil {
			_, err = io.ReadFull(conn, resp)
		}
		if err == nil {
			if start.Sub(connected) >= cfg.Warmup {
				times.add(time.Since(start))
			}
			pause(ctx, cfg.wait(time.Now()))
		}
	}
	if ctx.Err() != nil {
		err = nil // the planned end
	}
	result.Times = times.distribution()
	var infoErr error
	result.TCP, infoErr = readTCPInfo(conn)
	return errors.Join(err, infoErr, conn.SetLinger(0), conn.Close())
}

// serve answers one connection until the context ends.
func serve(ctx context.Context, listener *net.TCPListener, cfg LatencyConfig) error {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	conn, err := listener.AcceptTCP()
	stop()
	_ = listener.Close() // perhaps closed already
	if err != nil {
		if ctx.Err() != nil {
			return nil // the client tells why it did not come
		}
		return fmt.Errorf("latency server: %w", err)
	}
	stop = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	req, resp := make([]byte, cfg.Request), make([]byte, cfg.Response)
	for err == nil {
		if _, err = io.ReadFull(conn, req); err == nil {
			_, err = conn.Write(resp)
		}
	}
	if ctx.Err() != nil || errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, conn.Close())
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
