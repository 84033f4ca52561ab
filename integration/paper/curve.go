package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
)

const (
	reserved = 19_000_000 // bit/s of IP packets
	// A segment carries mss bytes of payload in mss + overhead bytes of IP: 20
	// for IP, 20 for TCP, 12 for its time stamps.
	mss      = 1448
	overhead = 52
	// carries is the payload that the reservation can carry, bit/s.
	carries = float64(reserved) * mss / (mss + overhead)

	oneWay    = 50 * time.Millisecond
	drainFor  = 15 * time.Second
	portFirst = 5001
	// askBefore the end of what is measured a box is asked for the last time.
	askBefore = 200 * time.Millisecond
	askEach   = 200 * time.Millisecond
)

// The figures.
const (
	figureRate = "rate" // against the way back's rate
	figureLoss = "loss" // against its loss
)

// point is one transfer.
type point struct {
	Figure  string  `json:"figure"` // rate or loss
	CC      string  `json:"congestion_control"`
	Mode    string  `json:"tcp_mode"`
	Thinned bool    `json:"thin_acks"` // by box 2
	Back    int64   `json:"way_back_bps"`
	Loss    float64 `json:"way_back_loss"` // share of the packets
	// Goodput is the payload that B's application got after the warm-up.
	Goodput float64 `json:"goodput_bps"`
	// What box 1 said at the end.
	State        string `json:"state"`
	Reason       string `json:"reason"`
	Reserved     uint64 `json:"reserved_bps"`
	SetupUS      uint64 `json:"setup_us"` // first packet to reservation
	FakeAcks     uint64 `json:"fake_acks"`
	BoxResent    uint64 `json:"box_retransmits"`
	AcksThinned  uint64 `json:"acks_thinned"`
	SourceResent uint32 `json:"source_retransmits"`
	// Intact: no byte that arrived was another one. Whole: all that were sent
	// arrived, by SHA-256; null for a transfer that is cut off.
	Intact bool  `json:"intact"`
	Whole  *bool `json:"whole"`
}

// good tells that the point is what its mode promises.
func (p *point) good() bool {
	cheats := p.Mode == modeRealtime || p.Mode == modeReliable
	return p.Intact && (p.Whole == nil || *p.Whole) && p.Reserved == reserved &&
		cheats == (p.State == console.FlowCheated && p.FakeAcks > 0)
}

func policies(modes []string) []policy {
	var list []policy
	for i, mode := range modes {
		list = append(list, policy{Name: mode, Port: portFirst + uint16(i), Mode: mode})
	}
	return list
}

// curves measures every point of both figures.
func curves(ctx context.Context, o options) (points []point, err error) {
	l, err := newLab(o, rate(reserved), path{delay: oneWay, back: forward})
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := l.close(); err == nil {
			err = closeErr
		}
	}()
	for _, back := range o.rates {
		got, err := l.pointsOf(ctx, o, figureRate, path{delay: oneWay, back: back}, uint16(len(points)))
		points = append(points, got...)
		if err != nil {
			return points, fmt.Errorf("way back of %s: %w", unit(back), err)
		}
	}
	for _, loss := range o.losses {
		got, err := l.pointsOf(ctx, o, figureLoss, path{delay: oneWay, back: forward, loss: loss}, uint16(len(points)))
		points = append(points, got...)
		if err != nil {
			return points, fmt.Errorf("%s lost on the way back: %w", percent(loss), err)
		}
	}
	return points, nil
}

// pointsOf measures each mode on one path. Boxes are started anew for
// each, so that nothing of the last one is left in them.
func (l *lab) pointsOf(ctx context.Context, o options, figure string, p path, done uint16) (points []point, err error) {
	if err := l.set(p); err != nil {
		return nil, err
	}
	if err := l.start(ctx, policies(o.modes)); err != nil {
		return nil, err
	}
	for i, pol := range policies(o.modes) {
		pt := point{Figure: figure, CC: o.cc, Mode: pol.Mode, Thinned: boxValues{Thin: l.thin, Role: "receiver"}.Thins(pol), Back: p.back, Loss: p.loss}
		if err := l.measure(ctx, o, pol, 1+done+uint16(i), &pt); err != nil {
			return points, fmt.Errorf("%s: %w", pol.Mode, err)
		}
		o.say("%-9s back, %-4s lost, %-5s, %-8s  %6s Mbit/s  %s", rate(p.back), percent(p.loss), o.cc, pt.Mode, mbits(pt.Goodput), pt.remark())
		points = append(points, pt)
	}
	return points, l.stop()
}

// measure makes one transfer. One that promises every byte is awaited to its
// end; others are cut off: without cheating what A's kernel holds could take
// minutes.
func (l *lab) measure(ctx context.Context, o options, pol policy, number uint16, pt *point) error {
	length := o.warmup + o.window
	cfg := traffic.BulkConfig{
		From: l.net.A, To: l.net.B, Local: netip.AddrPortFrom(rig.AddrA, 40000+number), Remote: netip.AddrPortFrom(rig.AddrB, pol.Port),
		CongestionControl: o.cc, Seed: uint64(number), Duration: length, Deadline: length + 2*drainFor,
	}
	if pol.Mode == modeReliable {
		cfg.Drain = drainFor
	}
	type answer struct {
		row console.FlowRow
		err error
	}
	thinned, err := l.thinned(ctx)
	if err != nil {
		return err
	}
	asking, stop := context.WithCancel(ctx)
	defer stop()
	said := make(chan answer, 1)
	go func() {
		row, err := l.ask(asking, pol.Name, length-askBefore)
		said <- answer{row, err}
	}()
	r, err := traffic.Bulk(ctx, cfg)
	stop()
	got := <-said
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = got.err
	}
	if err != nil {
		return err
	}
	pt.Goodput, pt.Intact, pt.SourceResent = r.Goodput(o.warmup, length), r.Sink.Intact(), r.Source.TCP.Retransmits
	if cfg.Drain > 0 {
		pt.Whole = new(r.Complete())
	}
	f := &got.row
	pt.State, pt.Reason, pt.Reserved, pt.SetupUS, pt.FakeAcks, pt.BoxResent = f.State, f.Reason, f.ReservedBPS, f.SetupUS, f.FakeAcks, f.Retransmits
	pt.AcksThinned, err = l.thinned(ctx)
	if err != nil {
		return err
	}
	pt.AcksThinned -= thinned
	settle, cancel := context.WithTimeout(ctx, drainFor)
	defer cancel()
	return l.settle(settle)
}

// ask follows what box 1 says of the transfer until shortly before its end, and
// returns the last.
func (l *lab) ask(ctx context.Context, policy string, length time.Duration) (last console.FlowRow, err error) {
	var since time.Time
	for since.IsZero() || time.Since(since) < length {
		row, err := flow(ctx, l.boxes[0], policy)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return last, err
		}
		if row.Packets > 0 && since.IsZero() {
			since = time.Now()
		}
		if row.Packets > 0 {
			last = row
		}
		if !rig.Pause(ctx, askEach) {
			break
		}
	}
	return last, nil
}

// thinned is how many ACKs box 2 has dropped since it started.
func (l *lab) thinned(ctx context.Context) (uint64, error) {
	st, err := l.boxes[1].Client.Stats(ctx)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", l.boxes[1].Name, err)
	}
	return st.Cheat.AcksThinned, nil
}
