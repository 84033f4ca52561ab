package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// leftovers looks for what a run has left behind. Others may be at work on the
// machine, so it looks for what belongs to this run's namespaces, and for
// changes in the namespace it runs in.
type leftovers struct {
	before  rig.Snapshot
	mounted bool // there was a bpf file system before
	spaces  []space
}

// space identifies a namespace after its name is gone.
type space struct {
	name  string
	inode uint64
	pins  string // directory
}

func watchLeftovers() (*leftovers, error) {
	before, err := hostState()
	if err != nil {
		return nil, err
	}
	mounted, err := bpfMounted()
	if err != nil {
		return nil, err
	}
	return &leftovers{before: before, mounted: mounted}, nil
}

// hostState lists tables and qdiscs of the namespace that the process is in,
// and the namespaces that it has made.
func hostState() (rig.Snapshot, error) {
	s, err := rig.TakeSnapshot(rig.SnapshotConfig{Host: true})
	if err != nil {
		return nil, err
	}
	own := fmt.Sprintf("namespace %s%d-", netns.Prefix, os.Getpid())
	for line := range s {
		kind, _, _ := strings.Cut(line, " ")
		if kind != "table" && kind != "qdisc" && !strings.HasPrefix(line, own) {
			delete(s, line)
		}
	}
	return s, nil
}

// made notes the namespaces of a rig.
func (l *leftovers) made(r *rig.Rig) error {
	for _, ns := range r.Namespaces() {
		inode, err := ns.Inode()
		if err != nil {
			return err
		}
		pins, err := rig.PinDir(ns)
		if err != nil {
			return err
		}
		l.spaces = append(l.spaces, space{name: ns.Name(), inode: inode, pins: pins})
	}
	return nil
}

// find lists what is left, and removes pinned objects, which would stay for
// ever: a box that had to be killed could not do that.
func (l *leftovers) find(work string) ([]string, error) {
	after, err := hostState()
	if err != nil {
		return nil, err
	}
	left := l.before.Added(after)
	processes, err := processSpaces()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, s := range l.spaces {
		for _, pid := range processes[s.inode] {
			left = append(left, fmt.Sprintf("process %d in %s", pid, s.name))
		}
		if _, err := os.Lstat(s.pins); !errors.Is(err, fs.ErrNotExist) {
			left = append(left, s.pins+" (removed now)")
			errs = append(errs, os.RemoveAll(s.pins))
		}
	}
	if work != "" {
		if _, err := os.Lstat(work); !errors.Is(err, fs.ErrNotExist) {
			left = append(left, work)
		}
	}
	errs = append(errs, l.removeMount())
	slices.Sort(left)
	return left, errors.Join(errs...)
}

// processSpaces lists the processes by the inode of their network namespace.
func processSpaces() (map[uint64][]int, error) {
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, err
	}
	found := map[uint64][]int{}
	for _, link := range links {
		var st unix.Stat_t
		if unix.Stat(link, &st) != nil {
			continue // ended meanwhile
		}
		if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil && pid != os.Getpid() {
			found[st.Ino] = append(found[st.Ino], pid)
		}
	}
	return found, nil
}

// bpfMount is where the boxes mount a bpf file system if nobody has.
const bpfMount = "/sys/fs/bpf"

func bpfMounted() (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(bpfMount, &st); err != nil {
		return false, fmt.Errorf("%s: %w", bpfMount, err)
	}
	return st.Type == unix.BPF_FS_MAGIC, nil
}

// removeMount takes away an empty bpf file system that was not there before. A
// qosproxy that starts elsewhere at this moment waits for the lock.
func (l *leftovers) removeMount() (err error) {
	if mounted, err := bpfMounted(); err != nil || l.mounted || !mounted {
		return err
	}
	lock, err := os.Open("/sys/fs")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock /sys/fs: %w", err)
	}
	// Not empty: another qosproxy is at work there now.
	if err := os.Remove(rig.PinRoot); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	entries, err := os.ReadDir(bpfMount)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".debug") { // those are the kernel's
			return nil
		}
	}
	if err := unix.Unmount(bpfMount, 0); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("unmount %s: %w", bpfMount, err)
	}
	return nil
}
