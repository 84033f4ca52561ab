package rig

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Freeze has a running program, with all its threads, do nothing more, as if it had
// come to wait for something that never happens: other than one that was stopped by a
// signal it does not go on at another, but it can be killed. undo has it go on if it
// still runs, and must be called. It needs control groups of version 2.
func Freeze(p *Process) (undo func() error, err error) {
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "unified", "cgroup.procs")); err == nil {
		root = filepath.Join(root, "unified") // beside those of version 1
	}
	home, err := groupOf(p.PID())
	if err != nil {
		return nil, fmt.Errorf("freeze: %w", err)
	}
	dir := filepath.Join(root, fmt.Sprintf("qosproxy-freeze-%d", p.PID()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("freeze: %w", err)
	}
	pid := []byte(strconv.Itoa(p.PID()))
	undo = func() error {
		errs := []error{os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("0"), 0)}
		if err := os.WriteFile(filepath.Join(root, home, "cgroup.procs"), pid, 0); err != nil && p.running() {
			errs = append(errs, err)
		}
		return errors.Join(append(errs, os.Remove(dir))...)
	}
	for _, step := range []struct {
		file  string
		value []byte
	}{{"cgroup.procs", pid}, {"cgroup.freeze", []byte("1")}} {
		if err := os.WriteFile(filepath.Join(dir, step.file), step.value, 0); err != nil {
			return nil, errors.Join(fmt.Errorf("freeze: %w", err), undo())
		}
	}
	// It takes a moment, until the last thread does nothing.
	for until := time.Now().Add(2 * time.Second); ; time.Sleep(time.Millisecond) {
		events, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
		if err == nil && bytes.Contains(events, []byte("frozen 1")) {
			return undo, nil
		}
		if err != nil || time.Now().After(until) {
			return nil, errors.Join(fmt.Errorf("freeze: %q, %w", events, errOr(err, "not frozen within 2 s")), undo())
		}
	}
}

// groupOf is the control group of version 2 that a process is in.
func groupOf(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	for line := range bytes.Lines(text) {
		if group, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("0::")); ok {
			return string(group), nil
		}
	}
	return "", errors.New("there are no control groups of version 2")
}
