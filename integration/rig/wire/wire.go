package wire

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/realtime"
)

// Direction of a wire.
type Direction int

// The directions: from port A to port B and back.
const (
	AB Direction = iota
	BA
)

// String returns "A->B" or "B->A".
func (d Direction) String() string {
	if d == AB {
		return "A->B"
	}
	return "B->A"
}

// Script decides about each frame as it enters the wire, and may change it in
// place. Each direction calls it from a thread of its own.
type Script func(dir Direction, frame []byte) emulator.Verdict

// Config of a wire. The interfaces must exist and be up.
type Config struct {
	NS     *netns.NetNS // where both interfaces are
	A, B   string       // interface names
	AB, BA emulator.Params
	Seed   uint64
	Script Script // may be nil
	Taps   Taps
}

// Taps are where frames are recorded; any of them may be nil, and one Pcap may
// serve several places.
type Taps struct {
	Enter [2]*Pcap // by Direction: what was sent into the wire, later dropped or not
	Leave [2]*Pcap // by Direction: what came out at the other end
}

// Wire is a running emulated link.
type Wire struct {
	lanes [2]*lane
	done  sync.WaitGroup
	once  sync.Once
	err   error
}

// Start makes the wire carry frames until Close.
func Start(cfg Config) (*Wire, error) {
	for dir, p := range []emulator.Params{cfg.AB, cfg.BA} {
		if err := p.Validate(); err != nil {
			return nil, fmt.Errorf("wire %s: %w", Direction(dir), err)
		}
	}
	realtime.Prepare()
	var a, b *port
	err := cfg.NS.Do(func() (err error) {
		if a, err = openPort(cfg.A); err != nil {
			return err
		}
		if b, err = openPort(cfg.B); err != nil {
			return errors.Join(err, a.close())
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("wire in %s: %w", cfg.NS.Name(), err)
	}
	w := &Wire{}
	for dir, ends := range [2]struct {
		from, to *port
		params   emulator.Params
	}{{a, b, cfg.AB}, {b, a, cfg.BA}} {
		stop, err := newEvent()
		if err != nil {
			return nil, errors.Join(err, a.close(), b.close(), w.closeEvents())
		}
		rng := rand.New(rand.NewPCG(cfg.Seed, uint64(dir)))
		w.lanes[dir] = &lane{
			dir: Direction(dir), from: ends.from, to: ends.to, stop: stop,
			script: cfg.Script, enter: cfg.Taps.Enter[dir], leave: cfg.Taps.Leave[dir],
			link: emulator.New(ends.params, rng),
		}
	}
	for _, l := range w.lanes {
		w.done.Go(l.run)
	}
	return w, nil
}

// Set changes the parameters of one direction for frames that enter from now on.
func (w *Wire) Set(dir Direction, p emulator.Params) error {
	if err := p.Validate(); err != nil {
		return fmt.Errorf("wire %s: %w", dir, err)
	}
	l := w.lanes[dir]
	l.mu.Lock()
	defer l.mu.Unlock()
	l.link.Set(p)
	return nil
}

// Counters returns one direction's counters.
func (w *Wire) Counters(dir Direction) Counters {
	return w.lanes[dir].read()
}

// Close stops the wire. It returns the first error that ended a direction
// early. It may be called again.
func (w *Wire) Close() error {
	w.once.Do(func() {
		var errs []error
		for _, l := range w.lanes {
			errs = append(errs, l.stop.set())
		}
		w.done.Wait()
		for _, l := range w.lanes {
			errs = append(errs, l.err, l.close())
		}
		w.err = errors.Join(append(errs, w.closeEvents())...)
	})
	return w.err
}

func (w *Wire) closeEvents() error {
	var errs []error
	for _, l := range w.lanes {
		if l != nil {
			errs = append(errs, l.stop.close())
		}
	}
	return errors.Join(errs...)
}
