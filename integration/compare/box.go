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

	"github.com/qosproxy/qosproxy/integration/rig/box"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

//go:embed box.yaml
var boxConfig string

var boxTemplate = template.Must(template.New("box.yaml").Parse(boxConfig))

const startPatience = 10 * time.Second

// The boxes' names.
const (
	box1 = "box1"
	box2 = "box2"
)

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
	list := make([]box.Written, 0, 2)
	for i, v := range []boxValues{
		{Role: "sender", Capacity: capacity},
		// The narrow way back is not shaped: nothing but ACKs and RSVP is there.
		{Role: "receiver", ThinRate: l.thinRate},
	} {
		name := []string{box1, box2}[i]
		v.Number, v.Rate, v.Policies, v.State = i+1, reserved, boxed, filepath.Join(dir, name)
		text, err := configOf(v)
		if err != nil {
			return err
		}
		list = append(list, box.Written{Name: name, NS: []*netns.NetNS{l.net.Box1, l.net.Box2}[i], Text: text})
	}
	boxes, err := box.StartAll(ctx, l.net.Rig, l.binary, dir, list...)
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
	return nil
}

func (l *lab) keepLogs() error {
	if l.logs == "" || len(l.boxes) == 0 {
		return nil
	}
	errs := []error{os.MkdirAll(l.logs, 0o755)}
	for _, b := range l.boxes {
		file := filepath.Join(l.logs, fmt.Sprintf("%s-%d.log", b.Name, l.back/1000))
		errs = append(errs, os.WriteFile(file, []byte(b.Log()), 0o644))
	}
	return errors.Join(errs...)
}

// read asks a box what it has done for a transfer. That it does nothing where
// it should is an error: the figures would be another variant's.
func read(ctx context.Context, b *box.Box, source uint16, v variant, r *row) error {
	flows, err := b.Client.Flows(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", b.Name, err)
	}
	wanted := v.Reliable && b.Name == box1 || v.Thin && b.Name == box2
	for i := range flows {
		f := &flows[i]
		if f.Protocol != "tcp" || f.Sport != source {
			continue
		}
		r.Thinned += f.AcksThinned
		r.Resent += f.Retransmits
		if wanted != (f.State == "cheated") {
			return fmt.Errorf("%s: state %q, reason %q", b.Name, f.State, f.Reason)
		}
		return nil
	}
	return fmt.Errorf("%s does not know the transfer", b.Name)
}
