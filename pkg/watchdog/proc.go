package watchdog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// clockTick is USER_HZ, which is 100 on every architecture that Go has for Linux.
const clockTick = 10 * time.Millisecond

// errStat says that the kernel's line is not as expected.
var errStat = errors.New("/proc: unexpected form")

// read asks the kernel about a process.
func read(proc string, pid int) (s state, err error) {
	dir := filepath.Join(proc, strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return s, err
	}
	letter, used, err := parseStat(stat)
	if err != nil {
		return s, err
	}
	s.stopped, s.traced, s.used = letter == 'T', letter == 't', used
	if status, err := os.ReadFile(filepath.Join(dir, "status")); err == nil {
		s.traced = s.traced || tracer(status) != 0
	}
	tasks, err := os.ReadDir(filepath.Join(dir, "task"))
	if err != nil {
		return s, err
	}
	for _, t := range tasks {
		// A thread may end while it is looked at.
		task := filepath.Join(dir, "task", t.Name())
		if text, err := os.ReadFile(filepath.Join(task, "stat")); err == nil {
			if letter, _, err := parseStat(text); err == nil {
				s.disk, s.ready = s.disk || letter == 'D', s.ready || letter == 'R'
			}
		}
		if text, err := os.ReadFile(filepath.Join(task, "schedstat")); err == nil {
			s.waited = max(s.waited, runDelay(text))
		}
	}
	return s, nil
}

// parseStat reads the state's letter and the processor time of a stat line. The
// program's name, in parentheses, may have any character in it.
func parseStat(line []byte) (letter byte, used time.Duration, err error) {
	i := bytes.LastIndexByte(line, ')')
	if i < 0 {
		return 0, 0, errStat
	}
	f := bytes.Fields(line[i+1:])
	const utime, stime = 14 - 3, 15 - 3 // as proc(5) counts, behind the name
	if len(f) <= stime || len(f[0]) != 1 {
		return 0, 0, errStat
	}
	u, err1 := strconv.ParseInt(string(f[utime]), 10, 64)
	k, err2 := strconv.ParseInt(string(f[stime]), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, fmt.Errorf("%w: %w", errStat, err)
	}
	return f[0][0], time.Duration(u+k) * clockTick, nil
}

// tracer is who traces a process, 0 for nobody, from its status.
func tracer(status []byte) int {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("TracerPid:")); ok {
			n, err := strconv.Atoi(string(bytes.TrimSpace(rest)))
			if err == nil {
				return n
			}
		}
	}
	return 0
}

// runDelay is how long a thread has waited for a processor, from its schedstat;
// 0 where the kernel does not say.
func runDelay(text []byte) time.Duration {
	f := bytes.Fields(text)
	if len(f) < 2 {
		return 0
	}
	n, err := strconv.ParseInt(string(f[1]), 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(n)
}
