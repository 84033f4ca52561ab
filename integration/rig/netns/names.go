package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Prefix starts the name of every namespace of a rig; the number of the
// process that made it follows, so that Sweep knows whose it is.
const Prefix = "qp"

var serial atomic.Int64

// NewGroup returns a name prefix no other rig on this machine uses,
// qpPID-SERIAL-.
func NewGroup() string {
	return fmt.Sprintf("%s%d-%d-", Prefix, os.Getpid(), serial.Add(1))
}

// Names lists the named namespaces of the machine, sorted.
func Names() ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names, nil
}

// Orphans lists the names that were made by NewGroup in processes that live no
// longer.
func Orphans() ([]string, error) {
	names, err := Names()
	if err != nil {
		return nil, err
	}
	var orphans []string
	for _, name := range names {
		if pid, ok := maker(name); ok && !alive(pid) {
			orphans = append(orphans, name)
		}
	}
	return orphans, nil
}

// OpenNamed opens a namespace that exists. Close then removes its name.
func OpenNamed(name string) (*NetNS, error) {
	path := filepath.Join(Dir, filepath.Base(name))
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open namespace: %w", err)
	}
	return &NetNS{name: name, path: path, file: file}, nil
}

// maker reads the process number out of qpPID-SERIAL-ROLE.
func maker(name string) (int, bool) {
	rest, ok := strings.CutPrefix(name, Prefix)
	if !ok {
		return 0, false
	}
	digits, rest, ok := strings.Cut(rest, "-")
	if !ok {
		return 0, false
	}
	number, _, ok := strings.Cut(rest, "-")
	if _, err := strconv.Atoi(number); !ok || err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(digits)
	return pid, err == nil && pid > 0
}

func alive(pid int) bool {
	return !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}
