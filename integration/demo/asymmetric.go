package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/box"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
)

const (
	modeRealtime = "realtime"
	modeReliable = "reliable"
)

// measured is all that a run has found.
type measured struct {
	unloaded traffic.StreamResult // voice alone
	before   traffic.StreamResult // voice beside the transfers without boxes
	after    traffic.StreamResult // and with boxes
	results  []result
	rsvp     rsvpCheck
	changed  []string // in the boxes' kernels, after they had ended
	left     []string // on the machine, after everything was removed
	wan      [2]wire.Counters
	took     time.Duration
	efs      []efResult // of the scenario voice-admit, which has only these and unloaded
	unseen   *unseen    // nil: the boxes are routers
}

// demonstration is a run.
type demonstration struct {
	opts Options
	say  *progress
	work string // directory for sockets and files, removed at the end
	net  *rig.Topology
	taps *taps
	// bridged: the boxes are bridges.
	bridged bool
	boxes   []*box.Box
}

// perform runs a scenario and removes everything, whatever happens.
func perform(ctx context.Context, o Options, run func(*demonstration, context.Context, *leftovers, *measured) error) (m *measured, err error) {
	d := &demonstration{opts: o, say: newProgress(o.Progress)}
	watch, err := watchLeftovers()
	if err != nil {
		return nil, err
	}
	m = &measured{}
	err = run(d, ctx, watch, m)
	d.say.printf("removing everything")
	left, cleanErr := d.remove(watch)
	if cleanErr == nil && err != nil && len(left) > 0 {
		cleanErr = fmt.Errorf("left behind: %v", left)
	}
	switch {
	case cleanErr != nil:
		return nil, errors.Join(err, cleanErr)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("interrupted, and everything is removed: %w", ctx.Err())
	case err != nil:
		return nil, err
	}
	m.left, m.took = left, d.say.elapsed()
	return m, nil
}

// runAsymmetric is the scenario.
func (d *demonstration) runAsymmetric(ctx context.Context, watch *leftovers, m *measured) error {
	if err := d.build(watch, rig.Asymmetric(1)); err != nil {
		return err
	}
	var err error
	if d.bridged {
		if err := d.acquaint(ctx); err != nil {
			return err
		}
	}
	d.say.printf("voice alone, on the unloaded path")
	if m.unloaded, err = d.call(ctx, sourceUnloaded, arpWarmup, unloadedFor); err != nil {
		return err
	}
	d.sayVoice(m.unloaded)
	loadCtx, endLoad := context.WithCancel(ctx)
	load := make(chan error, 1)
	go func() { load <- d.load(loadCtx) }()
	err = d.underLoad(ctx, m)
	endLoad()
	if err := errors.Join(err, <-load); err != nil {
		return err
	}
	return d.finish(m)
}

// load floods the way to B and fills the way of the ACKs until the context ends.
func (d *demonstration) load(ctx context.Context) error {
	var parts []func(context.Context) error
	bulk := traffic.Flood(d.net.D, d.net.C, netip.AddrPortFrom(rig.AddrC, portBulk), bulkRate, loadFor)
	parts = append(parts, func(ctx context.Context) error { _, err := traffic.Stream(ctx, bulk); return err })
	// Several sources, because the packets of one would arrive so evenly that
	// they take nearly every place that falls free in a full queue.
	for i := range floodSources {
		to := netip.AddrPortFrom(rig.AddrB, portFlood+uint16(i))
		cfg := traffic.Flood(d.net.C, d.net.B, to, floodRate/floodSources, loadFor)
		parts = append(parts, func(ctx context.Context) error {
			_, err := traffic.Stream(ctx, cfg)
			return err
		})
	}
	return together(ctx, parts...)
}

func (d *demonstration) underLoad(ctx context.Context, m *measured) error {
	d.say.printf("flood of %s towards B, %s in the way of the ACKs", mbits(floodRate), mbits(bulkRate))
	if !rig.Pause(ctx, loadAhead) {
		return ctx.Err()
	}
	before, after := allPhases()
	if d.opts.phases != nil {
		before, after = nil, d.opts.phases
	}
	var err error
	if m.before, err = d.measureAll(ctx, before, sourceBefore, callBefore, m); err != nil {
		return err
	}
	found, err := d.kernelState()
	if err != nil {
		return err
	}
	if err := d.withBoxes(ctx, after, m); err != nil {
		return err
	}
	then, err := d.kernelState()
	m.changed = append(found.Added(then), then.Added(found)...)
	return err
}

// withBoxes runs them for as long as the phases take.
func (d *demonstration) withBoxes(ctx context.Context, after []phase, m *measured) (err error) {
	judge := func() error { return nil }
	if d.bridged {
		w, err := d.startWitness(m.unseen)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.close()) }()
		judge = w.judge
	}
	if err := d.startBoxes(ctx, asymmetricConfigs(d.bridged)); err != nil {
		return err
	}
	_, all := allPhases()
	length := callAfter * time.Duration(len(after)) / time.Duration(len(all))
	if m.after, err = d.measureAll(ctx, after, sourceAfter, length, m); err != nil {
		return err
	}
	if err := judge(); err != nil {
		return err
	}
	return d.stopBoxes()
}

// allPhases lists the phases without and with boxes. Two reservations of 8
// Mbit/s do not fit the link, so they come one after the other.
func allPhases() (before, after []phase) {
	for _, cc := range []string{"cubic", "bbr"} {
		before = append(before, phase{cc: cc})
		for _, mode := range []string{modeRealtime, modeReliable} {
			after = append(after, phase{cc: cc, mode: mode})
		}
	}
	return before, after
}

// measureAll runs phases one after the other, with a call beside them: a long
// one, because a percentile likes samples.
func (d *demonstration) measureAll(ctx context.Context, phases []phase, source uint16, length time.Duration, m *measured) (voice traffic.StreamResult, err error) {
	if len(phases) == 0 {
		return voice, nil
	}
	err = together(ctx,
		func(ctx context.Context) (err error) {
			voice, err = d.call(ctx, source, warmup, length)
			return err
		},
		func(ctx context.Context) error {
			for _, p := range phases {
				p.number = len(m.results) + 1
				d.say.printf("%s: transfer of %s, the first %s not counted", p, warmup+window, warmup)
				r, err := d.measure(ctx, p)
				if err != nil {
					return err
				}
				d.say.printf("  goodput %s", mbits(r.goodput()))
				m.results = append(m.results, r)
			}
			return nil
		},
	)
	if err == nil {
		d.sayVoice(voice)
	}
	return voice, err
}

func (d *demonstration) sayVoice(v traffic.StreamResult) {
	d.say.printf("  voice: lost %d of %d packets, delay p50 %s, p99 %s", v.Lost, v.Sent, millis(v.Delay.P50), millis(v.Delay.P99))
}

// build makes the network, with taps on its WAN.
func (d *demonstration) build(watch *leftovers, cfg wire.Config) error {
	d.say.printf("building the network: A - box 1 - WAN - box 2 - B, 8 namespaces")
	var err error
	if d.work, err = os.MkdirTemp("", "qosproxy-demo-"); err != nil {
		return err
	}
	if d.opts.PcapDir != "" {
		if err := os.MkdirAll(d.opts.PcapDir, 0o755); err != nil {
			return fmt.Errorf("directory for packets: %w", err)
		}
	}
	if d.taps, err = openTaps(d.work, d.opts.PcapDir); err != nil {
		return err
	}
	d.taps.attach(&cfg)
	build := rig.NewTopology
	if d.bridged {
		build = rig.NewBridgedTopology
	}
	if d.net, err = build(cfg); err != nil {
		return err
	}
	return watch.made(d.net.Rig)
}

// finish reads what is only known at the end.
func (d *demonstration) finish(m *measured) error {
	for _, dir := range []wire.Direction{wire.AB, wire.BA} {
		m.wan[dir] = d.net.WAN.Counters(dir)
	}
	// Frames stop first: the file would else still be written to.
	if err := errors.Join(d.net.WAN.Close(), d.taps.close()); err != nil {
		return err
	}
	d.say.printf("reading the RSVP messages of the WAN")
	var err error
	m.rsvp, err = checkRSVP(d.taps.rsvpFile)
	return err
}

// remove takes everything away and says what is left nevertheless.
func (d *demonstration) remove(watch *leftovers) ([]string, error) {
	var errs []error
	if d.net != nil {
		errs = append(errs, d.net.Close(), d.keepLogs())
	}
	if d.taps != nil {
		errs = append(errs, d.taps.close())
	}
	if d.work != "" {
		errs = append(errs, os.RemoveAll(d.work))
	}
	left, err := watch.find(d.work)
	return left, errors.Join(append(errs, err)...)
}
