package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// box is one router, on which `qosproxy run` may be running.
type box struct {
	*console.Client
	lab  *lab
	ns   *netns.NetNS
	name string
	// number is its place in the lab, from 0.
	number int
	dir    string // of its config file and control socket
	proc   *rig.Process
	env    []string // of the program, besides the test's own
	// expected are words of checkLog that the scenario provokes.
	expected []string
}

func newBox(t *testing.T, l *lab, ns *netns.NetNS, i int) *box {
	t.Helper()
	dir, err := os.MkdirTemp("", "qpbox") //nolint:usetesting // t.TempDir's path may be too long for a socket, and is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	// After the programs have ended, which write into it to the last.
	if err := l.OnClose(func() error { return os.RemoveAll(dir) }); err != nil {
		t.Fatal(err)
	}
	b := &box{lab: l, ns: ns, name: fmt.Sprintf("box%d", i+1), number: i, dir: dir}
	b.Client = console.NewClient(b.socket())
	return b
}

func (b *box) socket() string { return filepath.Join(b.dir, "control.sock") }
func (b *box) config() string { return filepath.Join(b.dir, "box.yaml") }
func (b *box) state() string  { return filepath.Join(b.dir, "state") }

// promises are the files in which the box keeps what it has promised: one at most, in
// memory or in its state_dir.
func (b *box) promises(t *testing.T) (files []string) {
	t.Helper()
	sum := sha256.Sum256([]byte(b.state()))
	name := "qosproxy/promises-" + hex.EncodeToString(sum[:8])
	for _, pattern := range []string{"/run/" + name, "/dev/shm/" + name, filepath.Join(b.state(), "promises")} {
		got, err := filepath.Glob(pattern + "*")
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, got...)
	}
	return files
}

// forgetPromises removes what a box that was killed has left.
func (b *box) forgetPromises(t *testing.T) {
	t.Helper()
	for _, file := range b.promises(t) {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		if dir := filepath.Dir(file); dir != b.state() {
			_ = os.Remove(dir) // if no other box has something there
		}
	}
}

// write makes the config file, with a state_dir of this box alone. What a scenario has
// written for routers is made that of a bridge, where the lab has bridges: a
// transparent hop has no RFC 2961.
func (b *box) write(t *testing.T, config string) {
	t.Helper()
	if b.lab.isBridge(b.number) && !strings.Contains(config, "mode: ") {
		config = "mode: bridge\n" + strings.ReplaceAll(config, "reliable: true", "reliable: false")
	}
	config += "\nstate_dir: " + b.state() + "\n"
	if err := os.WriteFile(b.config(), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
}

// launch runs the program and does not wait for anything.
func (b *box) launch(t *testing.T, config string) {
	t.Helper()
	b.write(t, config)
	var err error
	b.proc, err = b.lab.Start(rig.ProcessConfig{
		NS: b.ns, Path: program, Args: []string{"run", "-c", b.config(), "-s", b.socket()}, Env: append(os.Environ(), b.env...),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// start runs the program and waits until it works.
func (b *box) start(t *testing.T, config string) {
	t.Helper()
	b.launch(t, config)
	b.wait(t)
}

func (b *box) wait(t *testing.T) {
	t.Helper()
	ctx, cancel := rig.Within(t.Context(), 10*time.Second)
	defer cancel()
	if err := b.proc.WaitSocket(ctx, b.socket()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, b.name+" runs", func() error {
		st, err := b.Status(t.Context())
		if err == nil && st.State != "running" {
			err = fmt.Errorf("state %s", st.State)
		}
		return err
	})
}

// startAll starts every box with its own config. One config is for all.
func (l *lab) startAll(t *testing.T, configs ...string) {
	t.Helper()
	for i, b := range l.boxes {
		b.launch(t, configs[min(i, len(configs)-1)])
	}
	for _, b := range l.boxes {
		b.wait(t)
	}
}

// stop ends the program by SIGTERM, and fails the test if that is not clean.
func (b *box) stop(t *testing.T) {
	t.Helper()
	if err := b.proc.Stop(10 * time.Second); err != nil {
		t.Errorf("%s ended with %v:\n%s", b.name, err, b.proc.Stderr())
	}
}

func (b *box) signal(t *testing.T, s unix.Signal) {
	t.Helper()
	if err := b.proc.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func (b *box) kill(t *testing.T) {
	t.Helper()
	if err := b.proc.Kill(); err != nil {
		t.Fatal(err)
	}
}

// checkLog fails the test over what no box may ever say.
func (b *box) checkLog(t *testing.T) {
	t.Helper()
	if b.proc == nil {
		return
	}
	for _, word := range []string{"panic:", "DATA RACE", "fatal error:", `"level":"error"`} {
		if text := b.proc.Stderr(); strings.Contains(text, word) && !slices.Contains(b.expected, word) {
			_, rest, _ := strings.Cut(text, word)
			t.Errorf("%s says %s%s", b.name, word, rest[:min(len(rest), 1500)])
		}
	}
}

// eventually tries until there is no error. The bound is generous: what is
// waited for takes far less on an idle machine. A machine that stands still is no
// fault of what is waited for.
func eventually(t *testing.T, bound time.Duration, what string, try func() error) {
	t.Helper()
	watch := rig.StartWatch()
	for {
		err := try()
		if err == nil {
			return
		}
		if watch.Shown() > bound {
			t.Fatalf("%s: not within %s: %v", what, bound, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// config writes a box's configuration: its interfaces by zone, then policies.
type config struct {
	hosts, network []string // names of interfaces
	capacity       string   // of the network's; empty: not shaped
	extra          string   // further top-level lines
	reliable       bool     // RFC 2961; without it every message is whole and alone on the wire
	policies       string
	secured        string // keys of the network's interfaces that are about RFC 2747
	bridge         bool   // it is one, and a transparent hop, which has no RFC 2961
	hop            string // rsvp.hop; empty: the default
}

// edge is the configuration of the first or the last box of a row.
func (l *lab) edge(i int, policies, extra string) config {
	c := config{hosts: []string{lanIface}, network: []string{rightWAN}, capacity: "19mbit", policies: policies, extra: extra, bridge: l.forms[i] != routed}
	if i > 0 {
		c.network = []string{leftWAN}
	}
	return c
}

func (c config) String() string {
	var s strings.Builder
	if c.bridge {
		s.WriteString("mode: bridge\n")
	}
	hop := ""
	if c.hop != "" {
		hop = ", hop: " + c.hop
	}
	fmt.Fprintf(&s, "on_crash: 5s\nlog: {level: info, format: json}\nrsvp: {refresh: 1s, reliable: %t%s}\n%s\ninterfaces:\n", c.reliable && !c.bridge, hop, c.extra)
	for _, name := range c.hosts {
		fmt.Fprintf(&s, "  - {name: %s, zone: hosts}\n", name)
	}
	for _, name := range c.network {
		capacity := ""
		if c.capacity != "" {
			capacity = fmt.Sprintf(", capacity: %s, reservable: 80%%", c.capacity)
		}
		fmt.Fprintf(&s, "  - {name: %s, zone: network%s%s}\n", name, capacity, c.secured)
	}
	fmt.Fprintf(&s, "policies:\n%s", c.policies)
	return s.String()
}

// startEdges starts the two boxes of a lab with the same policies.
func (l *lab) startEdges(t *testing.T, policies, extra string) {
	t.Helper()
	one, two := l.edge(0, policies, extra), l.edge(1, policies, extra)
	one.reliable, two.reliable = true, true
	l.startAll(t, one.String(), two.String())
}

// startPlainEdges is startEdges for tests that read the messages between them.
func (l *lab) startPlainEdges(t *testing.T, policies string) {
	t.Helper()
	l.startAll(t, l.edge(0, policies, "").String(), l.edge(1, policies, "").String())
}

const (
	portRealtime = 5001
	portReliable = 5002
	portReverse  = 5003 // A listens there, B connects, the data goes from A to B
	portVoice    = 5004
	portPaced    = 5005 // of pacePolicy, where it is beside the others
	portOther    = 7000 // no policy has it
	reservedRate = 8_000_000
)

const tcpReserve = "reserve: {role: both, service: controlled-load, tspec: {rate: 8mbit, burst: 64kB, peak: 16mbit, min_unit: 64B, max_packet: 1500B}}"

// policies of most scenarios.
const usualPolicies = `
  - name: realtime
    match: {protocol: tcp, to_port: 5001}
    ` + tcpReserve + `
    mark: af31
    tcp: realtime
  - name: reliable
    match: {protocol: tcp, to_port: 5002}
    ` + tcpReserve + `
    mark: af31
    tcp: reliable
  - name: reverse
    match: {protocol: tcp, from: 10.1.0.0/16, from_port: 5003}
    ` + tcpReserve + `
    mark: af31
    tcp: reliable
` + voicePolicy

const voicePolicy = `
  - name: voice
    match: {protocol: udp, to_port: 5004-5020}
    reserve: {role: both, service: controlled-load, tspec: {rate: 80kbit, burst: 800B, max_packet: 400B}}
    mark: voice-admit
`
