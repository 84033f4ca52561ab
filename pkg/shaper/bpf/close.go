package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Close lets go of the table and leaves it in the kernel: the pins keep it.
func (t *Table) Close() error {
	var errs []error
	if t.alive >= 0 {
		errs = append(errs, unix.Close(t.alive))
		t.alive = -1
	}
	for _, a := range t.links {
		errs = append(errs, a.close())
	}
	t.links = map[string]*attachment{}
	errs = append(errs, t.Settle())
	for _, p := range []*ebpf.Program{t.change, t.changeGroup, t.changeLevel} {
		if p != nil {
			errs = append(errs, p.Close())
		}
	}
	for _, m := range []*ebpf.Map{t.flows, t.groups, t.lease, t.partial, t.dscps, t.fragments, t.frames} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

// Remove takes everything out of the kernel that the table is.
func (t *Table) Remove() error {
	unlock, err := lockPins()
	if err != nil {
		return err
	}
	return errors.Join(t.Close(), removePins(t.dir), unlock())
}

// removePins removes a pin directory and what was made to hold it.
func removePins(dir string) error {
	errs := []error{removeDir(dir)}
	parent := filepath.Dir(dir)
	if entries, err := os.ReadDir(parent); err == nil && len(entries) == 0 && parent != Mount {
		errs = append(errs, os.Remove(parent))
	}
	return errors.Join(append(errs, releaseMount())...)
}

// removeDir unpins all in a pin directory. Links detach with their last pin.
func removeDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the pin directory: %w", err)
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
	}
	return errors.Join(append(errs, os.Remove(dir))...)
}

// sweep removes the pins of network namespaces that are gone: their links are
// at no interface any more. A directory with maps and no link may be in use, as
// its interfaces may be yet to come; an empty one was left by a crash.
func sweep(parent, own string) error {
	dirs, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the pin directories: %w", err)
	}
	for _, d := range dirs {
		dir := filepath.Join(parent, d.Name())
		if dir == own || !d.IsDir() || !dead(dir) {
			continue
		}
		if err := removeDir(dir); err != nil {
			return fmt.Errorf("remove the pins of a network namespace that is gone: %w", err)
		}
	}
	return nil
}

func dead(dir string) bool {
	fd, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil { // its process lives
		return false
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	links := 0
	for _, e := range entries {
		if mapPin(e.Name()) {
			continue
		}
		l, err := link.LoadPinnedLink(filepath.Join(dir, e.Name()), nil)
		if err != nil {
			return false
		}
		index := attached(l)
		if l.Close() != nil || index != 0 {
			return false
		}
		links++
	}
	return links > 0 || len(entries) == 0
}
