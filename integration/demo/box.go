package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/box"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/console"
)

//go:embed box.yaml
var boxConfig string

var boxTemplate = template.Must(template.New("box.yaml").Parse(boxConfig))

const startPatience = 10 * time.Second

// boxValues are what differs between the two configurations.
type boxValues struct {
	Number                  int
	Role, Capacity, Mode    string
	StateDir                string
	PortRealtime, PortVoice int
	PortReliable            int
}

// writeConfig writes the configuration of a box.
func writeConfig(path string, v boxValues) error {
	v.PortRealtime, v.PortReliable, v.PortVoice = portRealtime, portReliable, portVoice
	var text strings.Builder
	if err := boxTemplate.Execute(&text, v); err != nil {
		return fmt.Errorf("configuration of box %d: %w", v.Number, err)
	}
	return os.WriteFile(path, []byte(text.String()), 0o600)
}

// configure writes the configuration of a box into a file.
type configure func(path, stateDir string) error

func asymmetricConfigs() (list []configure) {
	for i, v := range []boxValues{
		{Role: "sender", Capacity: boxCapacity},
		{Role: "receiver", Capacity: boxBack},
	} {
		list = append(list, func(path, stateDir string) error {
			v.Number, v.StateDir = i+1, stateDir
			return writeConfig(path, v)
		})
	}
	return list
}

// startBoxes runs a qosproxy in each box's namespace and waits until both work.
func (d *demonstration) startBoxes(ctx context.Context, configs []configure) error {
	d.say.printf("starting qosproxy in box 1 and in box 2")
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for i, write := range configs {
		ns := []*netns.NetNS{d.net.Box1, d.net.Box2}[i]
		if err := d.startBox(ctx, i+1, write, ns); err != nil {
			return err
		}
	}
	for _, b := range d.boxes {
		if err := b.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demonstration) startBox(ctx context.Context, number int, write configure, ns *netns.NetNS) error {
	name, config := fmt.Sprintf("box%d", number), d.configFile(number)
	socket := filepath.Join(d.work, name+".sock")
	if err := write(config, d.stateDir(number)); err != nil {
		return err
	}
	b, err := box.Start(ctx, d.net.Rig, box.Config{Name: name, NS: ns, Program: d.opts.Binary, Config: config, Socket: socket})
	if b != nil {
		d.boxes = append(d.boxes, b)
	}
	return err
}

// configFile is where a box's configuration is written.
func (d *demonstration) configFile(number int) string {
	dir := d.work
	if d.opts.PcapDir != "" {
		dir = d.opts.PcapDir
	}
	return filepath.Join(dir, fmt.Sprintf("box%d.yaml", number))
}

// stateDir is for reservations made by hand, which are none of the demonstration's:
// neither those of a qosproxy of this machine nor those of the other box.
func (d *demonstration) stateDir(number int) string {
	return filepath.Join(d.work, fmt.Sprintf("box%d.state", number))
}

// stopBoxes ends box 1, whose tears box 2 then still hears, and box 2.
func (d *demonstration) stopBoxes() error {
	d.say.printf("ending both qosproxy")
	for _, b := range d.boxes {
		if err := b.Stop(); err != nil {
			return err
		}
	}
	return nil
}

// keepLogs writes what the boxes said beside the packets.
func (d *demonstration) keepLogs() error {
	if d.opts.PcapDir == "" {
		return nil
	}
	var errs []error
	for _, b := range d.boxes {
		errs = append(errs, os.WriteFile(filepath.Join(d.opts.PcapDir, b.Name+".log"), []byte(b.Log()), 0o644))
	}
	return errors.Join(errs...)
}

// kernelState lists tables and qdiscs of the boxes' namespaces.
func (d *demonstration) kernelState() (rig.Snapshot, error) {
	s, err := rig.TakeSnapshot(rig.SnapshotConfig{Namespaces: []*netns.NetNS{d.net.Box1, d.net.Box2}})
	if err != nil {
		return nil, err
	}
	for line := range s {
		if !strings.HasPrefix(line, "table ") && !strings.HasPrefix(line, "qdisc ") {
			delete(s, line) // of the whole machine, looked at at the end
		}
	}
	return s, nil
}

// sample is what a box says of a phase's transfer and of the call beside it.
type sample struct {
	transfer, voice               console.FlowRow // zero where the box has none
	transferSession, voiceSession *console.SessionRow
	problems                      []string
}

// read asks a box for its flows and sessions.
func (s *sample) read(ctx context.Context, b *box.Box, p phase) error {
	flows, err := b.Client.Flows(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", b.Name, err)
	}
	sessions, err := b.Client.Sessions(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", b.Name, err)
	}
	status, err := b.Client.Status(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", b.Name, err)
	}
	s.problems = status.Problems
	for i := range flows {
		switch f := &flows[i]; {
		case f.Sport == p.sourcePort() && f.Dport == p.port() && f.Protocol == "tcp":
			s.transfer = *f
		case f.Sport == sourceAfter && f.Dport == portVoice && f.Protocol == "udp":
			s.voice = *f
		}
	}
	session := func(protocol string, source, port uint16) *console.SessionRow {
		i := slices.IndexFunc(sessions, func(s console.SessionRow) bool {
			return s.Protocol == protocol && s.Sport == source && s.Dport == port
		})
		if i < 0 {
			return nil
		}
		return &sessions[i]
	}
	s.transferSession, s.voiceSession = session("tcp", p.sourcePort(), p.port()), session("udp", sourceAfter, portVoice)
	return nil
}
