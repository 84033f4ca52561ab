package bridge

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Config is what shall be joined.
type Config struct {
	Name  string   // of the bridge that is made, where the ports are in none
	Ports []string // names of interfaces
	File  string   // the record of what was found
	// Sysctls is the directory of all sysctls; empty: /proc/sys.
	Sysctls string
}

// Bridge is a bridge that stands. Its methods may be called from several goroutines.
type Bridge struct {
	mu     sync.Mutex
	c      Config
	state  state
	record *record
	name   string
	made   bool
	found  bool // by an earlier process
	// settled are the bridge and the ports that have been set up, by name, with their
	// indexes: what somebody changes there later is theirs.
	settled  map[string]int
	among    []string           // the ports that are being set up
	unlisted []int              // ports by index, as Repair has found them
	failed   map[string]failure // by port
}

const (
	sysctlDir  = "/proc/sys"
	vlanTagged = "net/bridge/bridge-nf-filter-vlan-tagged"
	callTables = "net/bridge/bridge-nf-call-iptables" // is there where br_netfilter is
)

// ErrNetfilter is returned where the kernel shows nothing of a bridge to netfilter.
var ErrNetfilter = errors.New("the kernel module br_netfilter is not loaded, without which packets on a bridge cannot be queued: modprobe br_netfilter, and name it in /etc/modules-load.d")

// Make joins the interfaces, or takes over what an earlier process has joined. If it
// fails all is as it was found: a path that was open stays open.
func Make(c Config) (*Bridge, error) {
	b, err := open(c)
	if err != nil {
		return nil, fmt.Errorf("bridge: %w", err)
	}
	if err := b.make(); err != nil {
		return nil, errors.Join(fmt.Errorf("bridge: %w", err), b.Close())
	}
	return b, nil
}

// Undo takes back what an earlier process has left in the kernel, by its record. It
// tells whether there was any.
func Undo(file string) (bool, error) {
	b, err := open(Config{File: file})
	if err != nil {
		return false, fmt.Errorf("bridge: %w", err)
	}
	found := len(b.record.Changes) > 0
	return found, b.Undo()
}

func open(c Config) (*Bridge, error) {
	if c.Sysctls == "" {
		c.Sysctls = sysctlDir
	}
	r, err := load(c.File)
	if err != nil {
		return nil, err
	}
	k, err := dial()
	if err != nil {
		return nil, err
	}
	return &Bridge{c: c, state: state{kernel: k, sysctls: c.Sysctls}, record: r, settled: map[string]int{}, failed: map[string]failure{}}, nil
}

func (b *Bridge) make() error {
	if _, err := os.Stat(filepath.Join(b.c.Sysctls, callTables)); err != nil {
		return ErrNetfilter
	}
	all, err := b.state.read()
	if err != nil {
		return err
	}
	ch, err := choose(all, b.c, b.madeBefore)
	if err != nil {
		return err
	}
	b.name, b.made, b.found = ch.name, ch.made, len(b.record.Changes) > 0
	if err := b.release(); err != nil {
		return err
	}
	return b.apply(b.c.Ports, nothing)
}

// madeBefore tells whether the bridge of a name was made by an earlier process.
func (b *Bridge) madeBefore(name string) bool {
	return slices.ContainsFunc(b.record.Changes, func(c change) bool { return c.Kind == kindMade && c.Link == name })
}

// release lets go what the record has of interfaces that are no longer ours.
func (b *Bridge) release() error {
	var keep, foreign []change
	for _, c := range b.record.Changes {
		if c.Link == "" || c.Link == b.name || slices.Contains(b.c.Ports, c.Link) {
			keep = append(keep, c)
		} else {
			foreign = append(foreign, c)
		}
	}
	if len(foreign) == 0 {
		return nil
	}
	left, err := b.state.undo(foreign)
	b.record.Changes = append(keep, left...)
	return errors.Join(err, b.record.save(b.c.File))
}

// Name of the bridge.
func (b *Bridge) Name() string { return b.name }

// Made tells whether the bridge is one of ours, and not an adopted one.
func (b *Bridge) Made() bool { return b.made }

// Found tells whether an earlier process has made or adopted the bridge, and died or left
// it.
func (b *Bridge) Found() bool { return b.found }

// Index of the bridge, which netfilter's hooks have as the interface of its packets; 0
// while it is gone.
func (b *Bridge) Index() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.settled[b.name]
}

// Unlisted are the indexes of the ports that were not listed, as Repair has seen them last.
// A station may be behind them, too.
func (b *Bridge) Unlisted() []int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.unlisted)
}

// Repair puts ports that have come back into the bridge again, each by itself, and makes
// the bridge again if it was ours. A port that cannot be put back is left alone for a
// while, and stays silent. What is wrong and not for us to mend is told in sentences.
func (b *Bridge) Repair() (complaints []string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	err = b.repair(time.Now())
	all, readErr := b.state.read()
	if readErr != nil {
		return nil, errors.Join(err, fmt.Errorf("bridge: %w", readErr))
	}
	b.unlisted = nil
	if l := all.named(b.name); l != nil {
		for _, p := range all.unlisted(l.index, b.c.Ports) {
			b.unlisted = append(b.unlisted, p.index)
		}
	}
	return wrong(all, b.name, b.made, b.c.Ports), err
}

// Undo leaves everything as it was found, but for what somebody else has changed since.
// What could not be undone stays in the record.
func (b *Bridge) Undo() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	left, err := b.state.undo(b.record.Changes)
	b.record.Changes = left
	err = errors.Join(err, b.record.save(b.c.File), b.state.conn.Close())
	if err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	return nil
}

// Close leaves everything as it is, for the next process.
func (b *Bridge) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state.conn.Close()
}
