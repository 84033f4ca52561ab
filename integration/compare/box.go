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
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/console"
)

//go:embed box.yaml
var boxConfig string

var boxTemplate = template.Must(template.New("box.yaml").Parse(boxConfig))

const (
	startPatience = 10 * time.Second
	stopPatience  = 8 * time.Second
)

// box is a running qosproxy.
type box struct {
	name    string
	process *rig.Process
	client  *console.Client
}

// boxValues are what the configuration is made of.
type boxValues struct {
	Number                   int
	Role, Capacity, ThinRate string
	Rate, State              string // State: directory
	Policies                 []variant
}

// configOf writes a box's configuration.
func configOf(v boxValues) (string, error) {
	var text strings.Builder
	if err := boxTemplate.Execute(&text, v); err != nil {
		return "", fmt.Errorf("configuration of box %d: %w", v.Number, err)
	}
	return text.String(), nil
}

// start runs a qosproxy in each box's namespace and waits until both work.
func (l *lab) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	dir, err := os.MkdirTemp("", "qosproxy-compare-")
	if err != nil {
		return err
	}
	if err := l.net.OnClose(func() error { return os.RemoveAll(dir) }); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	var boxed []variant
	for _, v := range l.variants {
		if v.boxes() {
			boxed = append(boxed, v)
		}
	}
	for i, ns := range []*netns.NetNS{l.net.Box1, l.net.Box2} {
		v := boxValues{Number: i + 1, Role: "sender", Capacity: capacity, Rate: reserved, Policies: boxed}
		if i == 1 {
			// The narrow way back is not shaped: nothing but ACKs and RSVP is there.
			v.Role, v.ThinRate, v.Capacity = "receiver", l.thinRate, ""
		}
		if err := l.startBox(ctx, dir, v, ns); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) startBox(ctx context.Context, dir string, v boxValues, ns *netns.NetNS) error {
	name := fmt.Sprintf("box%d", v.Number)
	v.State = filepath.Join(dir, name)
	text, err := configOf(v)
	if err != nil {
		return err
	}
	file, socket := filepath.Join(dir, name+".yaml"), filepath.Join(dir, name+".sock")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	p, err := l.net.Start(rig.ProcessConfig{NS: ns, Path: l.binary, Args: []string{"run", "-c", file, "-s", socket}})
	if err != nil {
		return err
	}
	b := &box{name: name, process: p, client: console.NewClient(socket)}
	l.boxes = append(l.boxes, b)
	if err := p.WaitSocket(ctx, socket); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for {
		status, err := b.client.Status(ctx)
		if err == nil && status.State == "running" {
			return nil
		}
		if !pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("%s is not ready: state %q: %w", name, status.State, errors.Join(err, ctx.Err()))
		}
	}
}

// stop ends box 1, whose tears box 2 then still hears, and box 2.
func (l *lab) stop() error {
	for _, b := range l.boxes {
		if err := b.process.Stop(stopPatience); err != nil {
			return fmt.Errorf("%s: %w\n%s", b.name, err, b.process.Stderr())
		}
	}
	return nil
}

func (l *lab) keepLogs() error {
	if l.logs == "" || len(l.boxes) == 0 {
		return nil
	}
	errs := []error{os.MkdirAll(l.logs, 0o755)}
	for _, b := range l.boxes {
		file := filepath.Join(l.logs, fmt.Sprintf("%s-%d.log", b.name, l.back/1000))
		errs = append(errs, os.WriteFile(file, []byte(b.process.Stderr()), 0o644))
	}
	return errors.Join(errs...)
}

// read asks a box what it has done for a transfer. That it does nothing where
// it should is an error: the figures would be another variant's.
func (b *box) read(ctx context.Context, source uint16, v variant, r *row) error {
	flows, err := b.client.Flows(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", b.name, err)
	}
	wanted := v.Reliable && b.name == "box1" || v.Thin && b.name == "box2"
	for i := range flows {
		f := &flows[i]
		if f.Protocol != "tcp" || f.Sport != source {
			continue
		}
		r.Thinned += f.AcksThinned
		r.Resent += f.Retransmits
		if wanted != (f.State == "cheated") {
			return fmt.Errorf("%s: state %q, reason %q", b.name, f.State, f.Reason)
		}
		return nil
	}
	return fmt.Errorf("%s does not know the transfer", b.name)
}
