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
	"os"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// BulkSourceConfig describes a transfer. It ends after Duration or Bytes,
// whichever comes first; one of them is needed.
type BulkSourceConfig struct {
	NS     *netns.NetNS
	Local  netip.AddrPort // optional
	Remote netip.AddrPort
	// CongestionControl, such as "cubic"; empty for the kernel's default.
	CongestionControl string
	Seed              uint64
	Duration          time.Duration
	Bytes             int64
	// SendBuffer is SO_SNDBUF in bytes, 0 for the kernel's own tuning.
	SendBuffer int
	// Drain is how long to wait, after the half-close, for the sink to have
	// read everything. 0 resets the connection at once: for background traffic.
	Drain time.Duration
}

// BulkSourceResult is what the source's side saw.
type BulkSourceResult struct {
	Bytes   int64         `json:"bytes"` // given to the kernel
	SHA256  string        `json:"sha256"`
	Drained bool          `json:"drained"` // the sink closed after the half-close
	Connect time.Duration `json:"connect_ns"`
	Elapsed time.Duration `json:"elapsed_ns"` // of sending, without connecting and draining
	TCP     TCPInfo       `json:"tcp"`        // at the end
}

// SendBulk connects and sends. That the context ends is not an error once the
// connection stands.
func SendBulk(ctx context.Context, cfg BulkSourceConfig) (BulkSourceResult, error) {
	var result BulkSourceResult
	if cfg.Duration <= 0 && cfg.Bytes <= 0 {
		return result, errors.New("tcp source: neither duration nor bytes given")
	}
	begin := time.Now()
	conn, err := dialTCP(ctx, cfg.NS, cfg.Local, cfg.Remote, cfg.CongestionControl)
	if err != nil {
		return result, err
	}
	result.Connect = time.Since(begin)
	// What the kernel still holds after a drained transfer is nothing; after
	// any other it must not go on being sent.
	err = errors.Join(conn.SetLinger(0), send(ctx, conn, cfg, &result))
	return result, errors.Join(err, conn.Close())
}

func send(ctx context.Context, conn *net.TCPConn, cfg BulkSourceConfig, result *BulkSourceResult) error {
	if cfg.SendBuffer > 0 {
		if err := conn.SetWriteBuffer(cfg.SendBuffer); err != nil {
			return fmt.Errorf("tcp source: %w", err)
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	start := time.Now()
	if cfg.Duration > 0 && ctx.Err() == nil {
		if err := conn.SetWriteDeadline(start.Add(cfg.Duration)); err != nil {
			return fmt.Errorf("tcp source: %w", err)
		}
	}
	sendErr := write(ctx, conn, cfg, start, result)
	result.Elapsed = time.Since(start)
	if sendErr == nil && cfg.Drain > 0 && ctx.Err() == nil {
		result.Drained = drain(ctx, conn, cfg.Drain)
	}
	var err error
	result.TCP, err = readTCPInfo(conn)
	return errors.Join(sendErr, err)
}

// write sends content until the end of the transfer.
func write(ctx context.Context, conn *net.TCPConn, cfg BulkSourceConfig, start time.Time, result *BulkSourceResult) error {
	content, hash := newContent(cfg.Seed), sha256.New()
	defer func() { result.SHA256 = hex.EncodeToString(hash.Sum(nil)) }()
	buf := make([]byte, 64<<10)
	for ctx.Err() == nil && (cfg.Duration == 0 || time.Since(start) < cfg.Duration) {
		b := buf
		if cfg.Bytes > 0 {
			b = b[:min(int64(len(b)), cfg.Bytes-result.Bytes)]
		}
		if len(b) == 0 {
			return nil
		}
		content.fill(b)
		n, err := conn.Write(b)
		hash.Write(b[:n])
		result.Bytes += int64(n)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil // the duration or the context: the planned ends
		}
		if err != nil {
			return fmt.Errorf("tcp source after %d bytes: %w", result.Bytes, err)
		}
	}
	return nil
}

// drain half-closes and waits until the sink closes too.
func drain(ctx context.Context, conn *net.TCPConn, patience time.Duration) bool {
	if conn.CloseWrite() != nil || conn.SetReadDeadline(time.Now().Add(patience)) != nil {
		return false
	}
	if ctx.Err() != nil {
		return false // it may have ended just before the deadline was moved
	}
	_, err := io.Copy(io.Discard, conn)
	return err == nil
}
