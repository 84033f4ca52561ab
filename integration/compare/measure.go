package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/box"
	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
)

const (
	forward = 20_000_000
	// capacity lets the reservation of 19 Mbit/s in, beside the 7% of it that a
	// box keeps for others; there are none here.
	capacity = "20.8mbit"
	reserved = "19mbit"
	// ethernet is what a frame has beside its bytes on the wire: preamble,
	// check sequence and gap.
	ethernet = 24
	// firstPort is the first of those of plain transfers; the others follow.
	// Each transfer has one of its own, and with it an RSVP session.
	firstPort = 5000
	ports     = 10 // of each variant
	drainFor  = 12 * time.Second
	settleFor = 30 * time.Second // a full queue on the way back takes ten
)

// Names of variants.
const (
	plain = "plain"
	thin  = "thin"
	both  = "reliable-thin"
)

// variant is what is done for a transfer.
type variant struct {
	Name           string
	Port           int // first of ports
	Reliable, Thin bool
}

// boxes tells whether a box does anything.
func (v variant) boxes() bool { return v.Reliable || v.Thin }

// To is the last port.
func (v variant) To() int { return v.Port + ports - 1 }

func variants() []variant {
	return []variant{
		{Name: plain, Port: firstPort},
		{Name: thin, Port: firstPort + ports, Thin: true},
		{Name: "reliable", Port: firstPort + 2*ports, Reliable: true},
		{Name: both, Port: firstPort + 3*ports, Reliable: true, Thin: true},
	}
}

// row is one transfer.
type row struct {
	Back    int64   `json:"way_back_bps"`
	CC      string  `json:"congestion_control"`
	Variant string  `json:"variant"`
	Goodput float64 `json:"goodput_bps"`
	// Used is what stood on the way back in the time that was measured, with
	// all headers.
	Used float64 `json:"way_back_used_bps"`
	// Retransmits are the source's, in all.
	Retransmits uint32 `json:"retransmits"`
	// Thinned are ACKs that box 2 dropped, Resent segments that box 1 sent
	// again.
	Thinned uint64 `json:"acks_thinned"`
	Resent  uint64 `json:"box_retransmits"`
	// Intact: what arrived is what was sent, and all of it if the end was
	// waited for.
	Intact bool `json:"intact"`
}

// compare measures everything.
func compare(ctx context.Context, o options) (rows []row, err error) {
	for _, back := range o.ways {
		got, err := compareOn(ctx, o, back)
		rows = append(rows, got...)
		if err != nil {
			return rows, fmt.Errorf("way back of %d kbit/s: %w", back/1000, err)
		}
	}
	return rows, nil
}

// lab is the network and what runs in it.
type lab struct {
	options
	net   *rig.Topology
	boxes []*box.Box
	back  int64
	next  uint16 // source port
}

func compareOn(ctx context.Context, o options, back int64) (rows []row, err error) {
	l := &lab{options: o, back: back, next: 40000}
	l.net, err = rig.NewTopology(wire.Config{
		AB: emulator.Params{Rate: forward, Delay: 50 * time.Millisecond, QueueFrames: 170, Overhead: ethernet},
		BA: emulator.Params{Rate: back, Delay: 50 * time.Millisecond, Queue: 64_000, Overhead: ethernet},
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.net.Close(), l.keepLogs()) }()
	for _, withBoxes := range []bool{false, true} {
		if withBoxes {
			if err := l.start(ctx); err != nil {
				return rows, err
			}
		}
		for _, v := range o.variants {
			if v.boxes() != withBoxes {
				continue
			}
			for _, cc := range o.controls {
				r, err := l.measure(ctx, v, cc)
				if err == nil {
					err = l.settle(ctx)
				}
				if err != nil {
					return rows, fmt.Errorf("%s, %s: %w", v.Name, cc, err)
				}
				rows = append(rows, r)
				o.say("%-4d kbit/s back, %-5s, %-13s  %6.2f Mbit/s", back/1000, cc, v.Name, r.Goodput/1e6)
			}
		}
	}
	return rows, l.stop()
}

// measure makes one transfer.
func (l *lab) measure(ctx context.Context, v variant, cc string) (row, error) {
	r := row{Back: l.back, CC: cc, Variant: v.Name}
	l.next++
	port := uint16(v.Port + int(l.next)%ports)
	length := l.warmup + l.window
	ctx, cancel := context.WithTimeout(ctx, length+2*drainFor+10*time.Second)
	defer cancel()
	sink, err := traffic.ListenBulk(ctx, traffic.BulkSinkConfig{
		NS: l.net.B, Listen: netip.AddrPortFrom(rig.AddrB, port), Seed: uint64(l.next),
	})
	if err != nil {
		return r, err
	}
	type received struct {
		traffic.BulkSinkResult
		err error
	}
	sunk := make(chan received, 1)
	go func() {
		got, err := sink.Receive(ctx)
		sunk <- received{got, err}
	}()
	used := make(chan error, 1)
	go func() { used <- l.watch(ctx, sink, v, &r) }()
	cfg := traffic.BulkSourceConfig{
		NS: l.net.A, Local: netip.AddrPortFrom(rig.AddrA, l.next), Remote: sink.Addr(),
		CongestionControl: cc, Seed: uint64(l.next), Duration: length,
	}
	if v.boxes() {
		cfg.Drain = drainFor // without boxes its queue may take longer than anybody waits
	}
	sent, err := traffic.SendBulk(ctx, cfg)
	watchErr := <-used
	if !sent.Drained {
		cancel()
	}
	got := <-sunk
	if err = errors.Join(err, watchErr); err != nil {
		return r, err
	}
	if v.boxes() && !sent.Drained {
		return r, fmt.Errorf("%d of %d bytes arrived, and then no more for %v", got.Bytes, sent.Bytes, drainFor)
	}
	r.Goodput = got.Series.Rate(l.warmup, length)
	r.Retransmits = sent.TCP.Retransmits
	whole := traffic.BulkResult{Source: sent, Sink: got.BulkSinkResult}
	r.Intact = got.Intact() && (!v.boxes() || whole.Complete())
	return r, nil
}

// watch measures the way back, and asks the boxes, while the transfer runs.
func (l *lab) watch(ctx context.Context, sink *traffic.BulkSink, v variant, r *row) error {
	for sink.Received() == 0 {
		if !rig.Pause(ctx, 5*time.Millisecond) {
			return fmt.Errorf("no byte arrived: %w", ctx.Err())
		}
	}
	if !rig.Pause(ctx, l.warmup) {
		return ctx.Err()
	}
	before, from := l.net.WAN.Counters(wire.BA), time.Now()
	// Not to the end: the flow must still be there.
	if !rig.Pause(ctx, l.window-time.Second) {
		return ctx.Err()
	}
	after := l.net.WAN.Counters(wire.BA)
	bytes := after.DeliveredBytes - before.DeliveredBytes + ethernet*(after.Delivered-before.Delivered)
	r.Used = float64(8*bytes) / time.Since(from).Seconds()
	for _, b := range l.boxes {
		if err := read(ctx, b, l.next, v, r); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until the boxes have given back the reservation, of which two do
// not fit, and until the way back is idle: the next RESV must not wait there.
func (l *lab) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	for before := uint64(0); ; {
		now := l.net.WAN.Counters(wire.BA).Delivered
		if now == before {
			break
		}
		before = now
		if !rig.Pause(ctx, 500*time.Millisecond) {
			return fmt.Errorf("the way back does not come to rest: %w", ctx.Err())
		}
	}
	for _, b := range l.boxes {
		if err := b.Settle(ctx); err != nil {
			return err
		}
	}
	return nil
}
