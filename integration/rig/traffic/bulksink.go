package traffic

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// BulkSinkConfig describes a sink that takes one connection.
type BulkSinkConfig struct {
	NS     *netns.NetNS
	Listen netip.AddrPort
	// Seed of the content that is expected.
	Seed uint64
	// ReceiveBuffer is SO_RCVBUF in bytes, 0 for the kernel's own tuning.
	ReceiveBuffer int
	// ReadRate limits the reader, bytes per second, 0 for none.
	ReadRate int64
}

// BulkSinkResult is what arrived.
type BulkSinkResult struct {
	Bytes   int64         `json:"bytes"`
	SHA256  string        `json:"sha256"`
	Ended   bool          `json:"ended"`    // by the source's half-close, not by an error or deadline
	Wrong   int64         `json:"wrong_at"` // offset of the first byte that is not the source's, -1 for none
	Elapsed time.Duration `json:"elapsed_ns"`
	// Series counts bytes read since the connection was accepted.
	Series Series `json:"series"`
}

// Intact tells that all bytes that arrived are the source's, in order.
func (r BulkSinkResult) Intact() bool { return r.Wrong < 0 }

// BulkSink receives one TCP connection.
type BulkSink struct {
	cfg      BulkSinkConfig
	listener *net.TCPListener
	received atomic.Int64
}

// ListenBulk opens the sink's listener; the source may connect from then on.
func ListenBulk(ctx context.Context, cfg BulkSinkConfig) (*BulkSink, error) {
	listener, err := listenTCP(ctx, cfg.NS, cfg.Listen, "")
	if err != nil {
		return nil, err
	}
	return &BulkSink{cfg: cfg, listener: listener}, nil
}

// Addr returns the address listened at, with the port that the kernel chose if
// none was given.
func (s *BulkSink) Addr() netip.AddrPort {
	return s.listener.Addr().(*net.TCPAddr).AddrPort()
}

// Received returns the bytes read so far.
func (s *BulkSink) Received() int64 { return s.received.Load() }

// Receive takes one connection and reads it to its end, or until the context
// ends, which is not an error: the result then is what arrived by then.
func (s *BulkSink) Receive(ctx context.Context) (BulkSinkResult, error) {
	none := BulkSinkResult{Wrong: -1}
	stop := context.AfterFunc(ctx, func() { _ = s.listener.Close() })
	conn, err := s.listener.AcceptTCP()
	stop()
	closeErr := s.listener.Close()
	if err != nil {
		if ctx.Err() != nil {
			return none, fmt.Errorf("tcp sink: no connection: %w", ctx.Err())
		}
		return none, fmt.Errorf("tcp sink: %w", errors.Join(err, closeErr))
	}
	if s.cfg.ReceiveBuffer > 0 {
		if err := conn.SetReadBuffer(s.cfg.ReceiveBuffer); err != nil {
			return none, errors.Join(fmt.Errorf("tcp sink: %w", err), conn.Close())
		}
	}
	stop = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	result, err := s.read(conn)
	if ctx.Err() != nil {
		err = nil
	}
	return result, errors.Join(err, conn.Close())
}

func (s *BulkSink) read(conn *net.TCPConn) (BulkSinkResult, error) {
	start := time.Now()
	hash, verify := sha256.New(), newVerifier(s.cfg.Seed)
	result := BulkSinkResult{}
	buf := make([]byte, 128<<10)
	if s.cfg.ReadRate > 0 {
		// Reads of about 10 ms, so that the window opens in small steps.
		buf = buf[:min(len(buf), int(max(1, s.cfg.ReadRate/100)))]
	}
	var readErr error
	for readErr == nil {
		var n int
		n, readErr = conn.Read(buf)
		hash.Write(buf[:n])
		verify.write(buf[:n])
		result.Bytes += int64(n)
		s.received.Add(int64(n))
		result.Elapsed = time.Since(start)
		if n > 0 {
			result.Series.add(result.Elapsed, n)
		}
		if s.cfg.ReadRate > 0 {
			due := time.Duration(float64(result.Bytes) / float64(s.cfg.ReadRate) * float64(time.Second))
			time.Sleep(due - time.Since(start))
		}
	}
	result.SHA256 = hex.EncodeToString(hash.Sum(nil))
	result.Wrong = verify.mismatch
	result.Ended = errors.Is(readErr, io.EOF)
	if result.Ended {
		return result, nil
	}
	return result, fmt.Errorf("tcp sink after %d bytes: %w", result.Bytes, readErr)
}
