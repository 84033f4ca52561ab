package daemon

import (
	"context"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/watchdog"
)

// beatEvery renews the guard of the queue rules, which lives for guardLife.
const (
	beatEvery = 250 * time.Millisecond
	guardLife = time.Second
)

// patience is how many heartbeats a worker may miss before the guard is not renewed: a
// busy machine stalls for a quarter of a second now and then.
const patience = 2

// heartbeat keeps the queue rules working for as long as the workers behind
// them do. If one of them hangs, the guard is not renewed, and the rules open
// by themselves. The watchdogs hear from the first heartbeat on that one misses: they
// have patience of their own, and ours looks whether the machine is busy.
//
// The kernel may take its time for the guard where it is busy with others' rules.
// It is asked beside this loop, so that such a wait is not taken for a hang of ours.
func (d *Daemon) heartbeat(ctx context.Context) {
	renew, renewed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(renewed)
		for range renew {
			d.beat()
		}
	}()
	defer func() { close(renew); <-renewed }()
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	calls := newRollCall(len(d.pulses))
	hung := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		all, silent := calls.take(func(i int) uint64 { return d.pulses[i].n.Load() })
		stuck := ""
		if silent >= 0 {
			stuck = d.queues[silent].role
		}
		for _, q := range d.queues {
			q.q.Wake()
		}
		if all {
			d.alive()
		}
		if hung != (stuck != "") {
			hung = stuck != ""
			d.log.Warn("a queue's worker does not answer: the rules open until it does",
				zap.Bool("hangs", hung), zap.String("queue", stuck))
		}
		if hung {
			d.beats.withheld.add()
			continue
		}
		select {
		case renew <- struct{}{}:
		default:
			d.beats.late.add() // the one before is not done yet
		}
	}
}

// rollCall follows which workers answer, by how often each has.
type rollCall struct {
	last   []uint64
	missed []int
}

func newRollCall(workers int) *rollCall {
	return &rollCall{last: make([]uint64, workers), missed: make([]int, workers)}
}

// take tells whether all have answered since the call before, and one that has not for
// longer than patience; -1: none.
func (r *rollCall) take(answers func(worker int) uint64) (all bool, silent int) {
	all, silent = true, -1
	for i := range r.last {
		if n := answers(i); n != r.last[i] {
			r.last[i], r.missed[i] = n, 0
			continue
		}
		all = false
		if r.missed[i]++; r.missed[i] > patience {
			silent = i
		}
	}
	return all, silent
}

// alive tells those who look after this process that all its workers answer.
func (d *Daemon) alive() {
	if d.dog != nil {
		d.dog.Beat()
	}
	if _, err := sd.SdNotify(false, sd.SdNotifyWatchdog); err != nil {
		d.log.Warn("systemd was not told", zap.Error(err))
	}
}

func (d *Daemon) beat() {
	began := time.Now()
	if err := d.table.Load().Beat(); err != nil {
		d.beats.failed.add()
		d.log.Warn("the queue rules were not renewed: they open by themselves after a second", zap.Error(err))
		return
	}
	d.beats.done.add()
	if took := time.Since(began); took > guardLife-beatEvery {
		d.log.Warn("the kernel was slow to renew the queue rules: they may have been open", zap.Duration("took", took), zap.Uint64("late_beats", d.beats.late.get()))
	}
}

// startWatchdog has a process of its own look after this one.
func (d *Daemon) startWatchdog(c *config.Config) {
	if len(d.opts.Watchdog) == 0 || !c.Watchdog {
		return
	}
	d.dog = watchdog.Start(append(d.opts.Watchdog, "--level", c.Log.Level, "--format", c.Log.Format), d.log)
}

// stopWatchdog ends it, before the heartbeat does.
func (d *Daemon) stopWatchdog() {
	if d.dog != nil {
		d.dog.Close()
	}
}

// Watchdog is that process: it returns when the daemon has ended.
func Watchdog(pid int, level, format string) error {
	log, err := newLogger(config.Log{Level: level, Format: format})
	if err != nil {
		return err
	}
	return watchdog.Watch(pid, log.Named("watchdog"))
}
