package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
)

// phase is one transfer.
type phase struct {
	number int    // from 1; makes source ports and contents differ
	cc     string // the source's congestion control
	mode   string // TCP mode of the box, "" before there are boxes
}

// before tells that there are no boxes yet.
func (p phase) before() bool { return p.mode == "" }

func (p phase) String() string {
	if p.before() {
		return "without boxes, " + p.cc
	}
	return "with boxes, " + p.cc + ", " + p.mode
}

func (p phase) port() uint16 {
	if p.mode == modeReliable {
		return portReliable
	}
	return portRealtime
}

func (p phase) sourcePort() uint16 { return firstSource + uint16(p.number) }

// result is what a phase measured.
type result struct {
	phase
	transfer  traffic.BulkResult
	connected time.Duration // until A had its connection, since the start
	boxes     [2]sample     // of box 1 and box 2, shortly before the transfer's end
}

// goodput after the warm-up, bit/s. With boxes the warm-up begins when B takes
// the connection; without, where that may never happen, with the phase.
func (r *result) goodput() float64 {
	from := warmup
	if r.before() {
		from = max(0, warmup-r.connected)
	}
	return r.transfer.Goodput(from, from+window)
}

// measure runs one phase.
func (d *demonstration) measure(ctx context.Context, p phase) (result, error) {
	r := result{phase: p}
	connected := make(chan struct{})
	err := together(ctx,
		func(ctx context.Context) error { return d.transfer(ctx, &r, connected) },
		func(ctx context.Context) error {
			if p.before() || !wait(ctx, connected) || !rig.Pause(ctx, warmup+window-sampleBefore) {
				return nil
			}
			for i, b := range d.boxes {
				if err := r.boxes[i].read(ctx, b, p); err != nil {
					return err
				}
			}
			return nil
		},
	)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", p, err)
	}
	return r, nil
}

// call is a voice stream beside the transfers.
func (d *demonstration) call(ctx context.Context, source uint16, warmup, length time.Duration) (traffic.StreamResult, error) {
	cfg := traffic.Voice(d.net.A, d.net.B, netip.AddrPortFrom(rig.AddrB, portVoice), length)
	cfg.Local = netip.AddrPortFrom(rig.AddrA, source)
	cfg.Warmup, cfg.Drain = warmup, time.Second
	r, err := traffic.Stream(ctx, cfg)
	if err != nil {
		return r, fmt.Errorf("voice: %w", err)
	}
	return r, ctx.Err()
}

// transfer sends from A to B, and closes connected when the first byte is
// there, or when none will come. Without boxes it is cut off at the phase's end: making the connection
// and sending what A's kernel holds could take minutes. That such a transfer
// does not come through is a finding, not a failure of the demonstration.
func (d *demonstration) transfer(ctx context.Context, r *result, connected chan<- struct{}) error {
	limit := connectFor + warmup + window + drainFor
	if r.before() {
		limit = warmup + window
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start, seed := time.Now(), uint64(r.number)
	sink, err := traffic.ListenBulk(ctx, traffic.BulkSinkConfig{
		NS: d.net.B, Listen: netip.AddrPortFrom(rig.AddrB, r.port()), Seed: seed,
	})
	if err != nil {
		return err
	}
	sunk := make(chan error, 1)
	go func() {
		var err error
		r.transfer.Sink, err = sink.Receive(ctx)
		// B's answer to the end may wait for many seconds behind its ACKs, in
		// box 2 and in the WAN: when B has everything, that need not be awaited.
		time.AfterFunc(closeFor, cancel)
		sunk <- err
	}()
	go func() {
		defer close(connected)
		for sink.Received() == 0 && time.Since(start) < connectFor && rig.Pause(ctx, 10*time.Millisecond) {
			continue
		}
		if sink.Received() == 0 {
			cancel()
		}
	}()
	cfg := traffic.BulkSourceConfig{
		NS: d.net.A, Local: netip.AddrPortFrom(rig.AddrA, r.sourcePort()), Remote: sink.Addr(),
		CongestionControl: r.cc, Seed: seed, Duration: warmup + window,
	}
	if !r.before() {
		cfg.Drain = drainFor
	}
	r.transfer.Source, err = traffic.SendBulk(ctx, cfg)
	r.connected = r.transfer.Source.Connect
	timedOut := ctx.Err() != nil
	if !r.transfer.Source.Drained {
		cancel() // the reset may be lost on its way
	}
	sinkErr := <-sunk
	switch {
	case timedOut:
		return nil
	case !r.transfer.Source.Drained:
		return err
	default:
		return errors.Join(err, sinkErr)
	}
}

// wait returns false when the context ended first.
func wait(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-done:
		return true
	}
}

// together runs all at once, ends the others when one fails, and returns their
// errors.
func together(ctx context.Context, parts ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan error, len(parts))
	for _, part := range parts {
		go func() { results <- part(ctx) }()
	}
	var errs []error
	for range parts {
		err := <-results
		if err != nil {
			cancel()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
