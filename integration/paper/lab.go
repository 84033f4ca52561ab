package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/box"
	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
	"github.com/qosproxy/qosproxy/pkg/console"
)

//go:embed box.yaml
var boxConfig string

var boxTemplate = template.Must(template.New("box.yaml").Parse(boxConfig))

// The modes of tcp.
const (
	modeNone     = "none"
	modePace     = "pace"
	modeRealtime = "realtime"
	modeReliable = "reliable"
)

const (
	forward = 20_000_000
	// capacity is that of box 1, which counts no overhead.
	capacity = "20.8mbit"
	// maxBack is the way back's queue, bytes, but no more than a second's.
	maxBack = 64_000
	// ethernet is what a frame has on a real wire beside its bytes: preamble,
	// check sequence and gap.
	ethernet      = 24
	startPatience = 10 * time.Second
)

// policy is what a port of B, or with Down one of A, has done for data from A.
type policy struct {
	Name string
	Port uint16
	Mode string
	Down bool
}

// boxValues are what a configuration is made of.
type boxValues struct {
	Number               int
	Role, Capacity, Rate string
	State                string // directory
	Thin                 bool
	Policies             []policy
}

// TCP is what this box does: pacing is for both to have, so that the
// receiver's does it; all else is the sender's.
func (v boxValues) TCP(p policy) string {
	if v.Role == "sender" || p.Mode == modePace {
		return p.Mode
	}
	return modeNone
}

// Thins tells whether this box thins ACKs, as the receiver's does where the
// sender's needs few.
func (v boxValues) Thins(p policy) bool {
	return v.Thin && v.Role == "receiver" && (p.Mode == modeRealtime || p.Mode == modeReliable)
}

func (v boxValues) config() (string, error) {
	var text strings.Builder
	if err := boxTemplate.Execute(&text, v); err != nil {
		return "", fmt.Errorf("configuration of box %d: %w", v.Number, err)
	}
	return text.String(), nil
}

// lab is the network and what runs in it.
type lab struct {
	program string
	thin    bool
	rate    string // reserved for each policy
	dir     string
	net     *rig.Topology
	boxes   []*box.Box
}

// path is a way from A to B and back.
type path struct {
	delay time.Duration // one way
	back  int64         // bit/s
	loss  float64       // on the way back
}

func (p path) wire() wire.Config {
	return wire.Config{
		AB: emulator.Params{Rate: forward, Delay: p.delay, QueueFrames: 170, Overhead: ethernet},
		BA: emulator.Params{Rate: p.back, Delay: p.delay, Queue: int(min(maxBack, p.back/8)), Overhead: ethernet, Loss: p.loss},
	}
}

func newLab(o options, rate string, p path) (*lab, error) {
	net, err := rig.NewTopology(p.wire())
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "qosproxy-paper-")
	if err != nil {
		return nil, errors.Join(err, net.Close())
	}
	return &lab{program: o.program, thin: o.thin, rate: rate, dir: dir, net: net}, nil
}

func (l *lab) close() error { return errors.Join(l.net.Close(), os.RemoveAll(l.dir)) }

// set changes the path for packets that enter from now on.
func (l *lab) set(p path) error {
	c := p.wire()
	return errors.Join(l.net.WAN.Set(wire.AB, c.AB), l.net.WAN.Set(wire.BA, c.BA))
}

// start runs a qosproxy in each box's namespace and waits until both work. Box
// 2 does not shape the way back: nothing but ACKs and RSVP is there.
func (l *lab) start(ctx context.Context, policies []policy) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	list := make([]box.Written, 0, 2)
	for i, v := range []boxValues{
		{Role: "sender", Capacity: capacity},
		{Role: "receiver"},
	} {
		name := fmt.Sprintf("box%d", i+1)
		v.Number, v.Rate, v.Thin, v.Policies, v.State = i+1, l.rate, l.thin, policies, filepath.Join(l.dir, name)
		text, err := v.config()
		if err != nil {
			return err
		}
		list = append(list, box.Written{Name: name, NS: []*netns.NetNS{l.net.Box1, l.net.Box2}[i], Text: text})
	}
	boxes, err := box.StartAll(ctx, l.net.Rig, l.program, l.dir, list...)
	l.boxes = append(l.boxes, boxes...)
	return err
}

// stop ends box 1, whose tears box 2 then still hears, and box 2.
func (l *lab) stop() error {
	for _, b := range l.boxes {
		if err := b.Stop(); err != nil {
			return err
		}
	}
	l.boxes = nil
	return nil
}

// settle waits until the boxes have given back every reservation: two of the
// paper's do not fit.
func (l *lab) settle(ctx context.Context) error {
	for _, b := range l.boxes {
		if err := b.Settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// flow is what a box says of a flow of data from A by its policy; the zero row
// if it knows none.
func flow(ctx context.Context, b *box.Box, policy string) (console.FlowRow, error) {
	flows, err := b.Client.Flows(ctx)
	if err != nil {
		return console.FlowRow{}, fmt.Errorf("%s: %w", b.Name, err)
	}
	for i := range flows {
		if f := &flows[i]; f.Policy == policy && f.Src == rig.AddrA.String() {
			return *f, nil
		}
	}
	return console.FlowRow{}, nil
}
