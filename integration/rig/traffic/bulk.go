package traffic

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// BulkConfig describes a whole transfer from one namespace to another.
type BulkConfig struct {
	From, To          *netns.NetNS
	Local             netip.AddrPort // of the source; optional
	Remote            netip.AddrPort // of the sink; port 0 lets the kernel choose
	CongestionControl string
	Seed              uint64
	Duration          time.Duration
	Bytes             int64
	Drain             time.Duration // see BulkSourceConfig
	// Deadline ends a transfer whatever happens; 0 is Duration + Drain + 10 s,
	// or a minute without a Duration.
	Deadline time.Duration
}

// BulkResult of a transfer.
type BulkResult struct {
	Source BulkSourceResult `json:"source"`
	Sink   BulkSinkResult   `json:"sink"`
}

// Goodput is the mean rate at which the sink's application received payload
// between two times since the start, bit/s.
func (r BulkResult) Goodput(from, to time.Duration) float64 {
	return r.Sink.Series.Rate(from, to)
}

// Complete tells that every byte sent arrived, unchanged.
func (r BulkResult) Complete() bool {
	return r.Sink.Ended && r.Sink.Intact() && r.Sink.Bytes == r.Source.Bytes && r.Sink.SHA256 == r.Source.SHA256
}

// Bulk runs a transfer and returns when both ends are done.
func Bulk(ctx context.Context, cfg BulkConfig) (BulkResult, error) {
	if cfg.Deadline == 0 {
		cfg.Deadline = time.Minute
		if cfg.Duration > 0 {
			cfg.Deadline = cfg.Duration + cfg.Drain + 10*time.Second
		}
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Deadline)
	defer cancel()
	var result BulkResult
	sink, err := ListenBulk(ctx, BulkSinkConfig{NS: cfg.To, Listen: cfg.Remote, Seed: cfg.Seed})
	if err != nil {
		return result, err
	}
	sunk := make(chan error, 1)
	go func() {
		var err error
		result.Sink, err = sink.Receive(ctx)
		sunk <- err
	}()
	var sendErr error
	result.Source, sendErr = SendBulk(ctx, BulkSourceConfig{
		NS: cfg.From, Local: cfg.Local, Remote: sink.Addr(), CongestionControl: cfg.CongestionControl, Seed: cfg.Seed,
		Duration: cfg.Duration, Bytes: cfg.Bytes, Drain: cfg.Drain,
	})
	if !result.Source.Drained {
		// The reset may be long on its way, or lost: the sink is told here.
		cancel()
	}
	sinkErr := <-sunk
	if sendErr == nil && !result.Source.Drained {
		sinkErr = nil // reset on purpose
	}
	return result, errors.Join(sendErr, sinkErr)
}
