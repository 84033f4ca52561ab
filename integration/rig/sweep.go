package rig

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// Sweep removes the namespaces of rigs whose process lives no longer, and
// kills the processes that are still inside them.
func Sweep() error {
	orphans, err := netns.Orphans()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range orphans {
		if err := sweepOne(name); err != nil {
			errs = append(errs, fmt.Errorf("sweep %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func sweepOne(name string) error {
	ns, err := netns.OpenNamed(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil // another process sweeps too
	}
	if err != nil {
		return err
	}
	inode, err := ns.Inode()
	if err != nil {
		return errors.Join(err, ns.Close())
	}
	return errors.Join(killInside(inode), ns.Close())
}

// killInside kills all processes of a namespace and waits until they are gone.
func killInside(inode uint64) error {
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		pids, err := inside(inode)
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not die", pids)
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill %d: %w", pid, err)
			}
		}
	}
}

// inside lists the processes of a namespace, zombies not among them, and never
// this one, one of whose threads may be inside.
func inside(inode uint64) ([]int, error) {
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, link := range links {
		var st unix.Stat_t
		// A process that ended meanwhile, or a zombie, has no namespace.
		if unix.Stat(link, &st) != nil || st.Ino != inode {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(link))))
		if err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
