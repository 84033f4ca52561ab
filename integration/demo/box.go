package demo

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
	Role, Capacity          string
	Bridge                  bool
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

func asymmetricConfigs(bridge bool) (list []configure) {
	for i, v := range []boxValues{
		{Role: "sender", Capacity: boxCapacity},
		{Role: "receiver", Capacity: boxBack},
	} {
		list = append(list, func(path, stateDir string) error {
			v.Number, v.StateDir, v.Bridge = i+1, stateDir, bridge
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

// kernelState lists what is in the kernel of the boxes' namespaces: tables, qdiscs, and
// how interfaces and their sysctls are set.
func (d *demonstration) kernelState() (rig.Snapshot, error) {
	s, err := rig.TakeSnapshot(rig.SnapshotConfig{Namespaces: []*netns.NetNS{d.net.Box1, d.net.Box2}})
	if err != nil {
		return nil, err
	}
	for line := range s {
		switch kind, _, _ := strings.Cut(line, " "); kind {
		case "table", "qdisc", "link", "sysctl":
		default:
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

// read keeps what a box says of the phase's flows.
func (s *sample) read(ctx context.Context, b *box.Box, p phase) error {
	says, err := ask(ctx, b)
	if err != nil {
		return err
	}
	s.problems = says.problems
	s.transfer, s.transferSession = says.of("tcp", p.sourcePort(), p.port())
	s.voice, s.voiceSession = says.of("udp", sourceAfter, portVoice)
	return nil
}

// answers are what a box says when it is asked.
type answers struct {
	flows    []console.FlowRow
	sessions []console.SessionRow
	problems []string
}

// ask asks a box for its flows, its sessions and its problems.
func ask(ctx context.Context, b *box.Box) (a answers, err error) {
	var status console.Status
	if a.flows, err = b.Client.Flows(ctx); err == nil {
		if a.sessions, err = b.Client.Sessions(ctx); err == nil {
			status, err = b.Client.Status(ctx)
		}
	}
	if err != nil {
		return answers{}, fmt.Errorf("%s: %w", b.Name, err)
	}
	a.problems = status.Problems
	return a, nil
}

// of finds the rows of a flow: a zero one, and nil, where there is none.
func (a *answers) of(protocol string, source, port uint16) (flow console.FlowRow, session *console.SessionRow) {
	for i := range a.flows {
		if f := &a.flows[i]; f.Protocol == protocol && f.Sport == source && f.Dport == port {
			flow = *f
		}
	}
	for i := range a.sessions {
		if s := &a.sessions[i]; s.Protocol == protocol && s.Sport == source && s.Dport == port {
			session = s
		}
	}
	return flow, session
}
