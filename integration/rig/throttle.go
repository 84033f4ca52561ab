package rig

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// throttleQuota is what a throttled program gets at once, the least that the kernel
// takes: often enough for it not to stall for long.
const throttleQuota = time.Millisecond

// throttleDebt is how long a throttled program pays at most for what it had too much
// of. The kernel takes all of it back, and the program stands still until then. It is
// charged with a whole stay in the kernel, and with the time for which somebody else had
// the processor of a virtual machine, if that is not told: at a sixth of a processor 3 s
// of these are 18 s of a standstill, which no slow machine has.
const throttleDebt = time.Second

// throttle is the control group of a program.
type throttle struct {
	root, dir    string
	file, quota  string // what is written where to begin anew
	p            *Process
	stop, ended  chan struct{}
	failed, undo error
	once         sync.Once
}

// Throttle gives a running program, with all its threads, at most a share of one
// processor, as if the machine were so much slower. undo ends it, and must be called
// when the program has ended at the latest. It needs the control group of
// processors, of either version.
func Throttle(p *Process, share float64) (undo func() error, err error) {
	quota, period := throttleQuota.Microseconds(), int64(float64(throttleQuota.Microseconds())/share)
	for _, v := range []struct{ root, period, quota, weight, most string }{
		{"/sys/fs/cgroup/cpu", "cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.shares", "262144"},
		{"/sys/fs/cgroup", "", "cpu.max", "cpu.weight", "10000"},
	} {
		if _, err := os.Stat(filepath.Join(v.root, "cgroup.procs")); err != nil {
			continue
		}
		t := &throttle{
			root: v.root, dir: filepath.Join(v.root, fmt.Sprintf("qosproxy-rig-%d", p.PID())), p: p,
			file: v.quota, quota: strconv.FormatInt(quota, 10), stop: make(chan struct{}), ended: make(chan struct{}),
		}
		if err := os.Mkdir(t.dir, 0o755); err != nil {
			return nil, fmt.Errorf("throttle: %w", err)
		}
		if v.period != "" {
			err = t.write(v.period, strconv.FormatInt(period, 10))
		} else {
			t.quota = fmt.Sprintf("%d %d", quota, period)
		}
		// In a group all its threads would have the weight of one outside, and not even
		// their share where many others want a processor.
		err = errors.Join(err, t.write(v.weight, v.most), t.write(t.file, t.quota), t.write("cgroup.procs", strconv.Itoa(p.PID())))
		go t.forgive()
		if err != nil {
			return nil, errors.Join(err, t.end())
		}
		return t.end, nil
	}
	return nil, errors.New("throttle: there is no control group of processors")
}

func (t *throttle) write(file, value string) error {
	if err := os.WriteFile(filepath.Join(t.dir, file), []byte(value), 0); err != nil {
		return fmt.Errorf("throttle: %w", err)
	}
	return nil
}

// forgive ends the group's debts, over and over: its quota being written they begin anew.
func (t *throttle) forgive() {
	defer close(t.ended)
	tick := time.NewTicker(throttleDebt)
	defer tick.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-tick.C:
			t.failed = errors.Join(t.failed, t.write(t.file, t.quota))
		}
	}
}

// end removes the group, which goes when nobody is in it. It may be called again.
func (t *throttle) end() error {
	t.once.Do(func() {
		close(t.stop)
		<-t.ended
		t.undo = t.failed
		err := os.WriteFile(filepath.Join(t.root, "cgroup.procs"), []byte(strconv.Itoa(t.p.PID())), 0)
		if t.p.running() && err != nil {
			t.undo = errors.Join(t.undo, fmt.Errorf("throttle: %w", err))
		}
		t.undo = errors.Join(t.undo, os.Remove(t.dir))
	})
	return t.undo
}

func (p *Process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}
