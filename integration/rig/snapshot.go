package rig

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// bpfDir is where eBPF objects are pinned.
const bpfDir = "/sys/fs/bpf"

// Snapshot is what could be left behind on a machine: one line for each thing,
// such as "namespace qp12-1-box1", "table box1 ip qosproxy", "qdisc box1 wan0
// htb 1:", "link box1 wan0 genmode 0", "sysctl box1 bridge/bridge-nf-call-iptables 1",
// "pin qosproxy/flows" or "process qosproxy 4711".
type Snapshot map[string]struct{}

// SnapshotConfig says where to look beyond what belongs to the whole machine.
type SnapshotConfig struct {
	// Namespaces whose tables and qdiscs are listed. The caller's own is
	// listed as "host" if Host is set.
	Namespaces []*netns.NetNS
	Host       bool
	// Whole lists all that can be set of these namespaces' network, byte for byte,
	// and not only what has a name.
	Whole bool
	// Processes by their command name (the first 15 bytes of it).
	Processes []string
}

// TakeSnapshot lists this process's namespaces, the tables, qdiscs, interfaces
// and their sysctls of the namespaces given, pinned eBPF objects and processes. Other rigs at work on
// the machine do not show.
func TakeSnapshot(cfg SnapshotConfig) (Snapshot, error) {
	s := Snapshot{}
	errs := []error{s.namespaces(), s.pins(), s.processes(cfg.Processes)}
	for _, ns := range cfg.Namespaces {
		errs = append(errs, s.kernel(ns.Name(), ns.FD()), s.interfaces(ns))
		if cfg.Whole {
			errs = append(errs, s.whole(ns))
		}
	}
	if cfg.Host {
		file, err := os.Open("/proc/self/ns/net")
		if err == nil {
			err = errors.Join(s.kernel("host", int(file.Fd())), file.Close())
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return s, nil
}

// Added lists what a later snapshot has and this one has not, sorted.
func (s Snapshot) Added(later Snapshot) []string {
	var added []string
	for _, line := range slices.Sorted(maps.Keys(later)) {
		if _, known := s[line]; !known {
			added = append(added, line)
		}
	}
	return added
}

func (s Snapshot) add(format string, args ...any) {
	s[fmt.Sprintf(format, args...)] = struct{}{}
}

func (s Snapshot) namespaces() error {
	names, err := netns.Names()
	if err != nil {
		return err
	}
	orphans, err := netns.Orphans()
	if err != nil {
		return err
	}
	own := fmt.Sprintf("%s%d-", netns.Prefix, os.Getpid())
	for _, name := range names {
		if strings.HasPrefix(name, own) || slices.Contains(orphans, name) {
			s.add("namespace %s", name)
		}
	}
	return nil
}

// interfaces lists how they are set.
func (s Snapshot) interfaces(ns *netns.NetNS) error {
	links, err := listLinks(ns.FD())
	if err != nil {
		return fmt.Errorf("%s: %w", ns.Name(), err)
	}
	for _, l := range links {
		s.add("link %s %s", ns.Name(), l)
	}
	return ns.Do(func() error {
		sysctls, err := listSysctls()
		for _, l := range sysctls {
			s.add("sysctl %s %s", ns.Name(), l)
		}
		return err
	})
}

// kernel lists tables and qdiscs of one namespace.
func (s Snapshot) kernel(name string, fd int) error {
	tables, err := listTables(fd)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, t := range tables {
		s.add("table %s %s", name, t)
	}
	qdiscs, err := listQdiscs(fd)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, q := range qdiscs {
		s.add("qdisc %s %s", name, q)
	}
	return nil
}

func (s Snapshot) pins() error {
	return filepath.WalkDir(bpfDir, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // no eBPF file system, or a pin that goes away just now
		}
		if err != nil {
			return err
		}
		if rel, err := filepath.Rel(bpfDir, path); err == nil && rel != "." {
			s.add("pin %s", rel)
		}
		return nil
	})
}

func (s Snapshot) processes(names []string) error {
	if len(names) == 0 {
		return nil
	}
	files, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return err
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // ended meanwhile
		}
		comm := strings.TrimSpace(string(raw))
		for _, name := range names {
			if comm == name[:min(len(name), 15)] {
				s.add("process %s %s", comm, filepath.Base(filepath.Dir(file)))
			}
		}
	}
	return nil
}
