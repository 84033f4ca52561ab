package daemon

import (
	"context"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// beatEvery renews the guard of the queue rules, which lives for 1 s.
const beatEvery = 250 * time.Millisecond

// patience is how many heartbeats a worker may miss: a busy machine stalls for
// a quarter of a second now and then.
const patience = 2

// heartbeat keeps the queue rules working for as long as the workers behind
// them do. If one of them hangs, the guard is not renewed, and the rules open
// by themselves; systemd's watchdog is not told either.
func (d *Daemon) heartbeat(ctx context.Context) {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	last, missed := make([]uint64, len(d.pulses)), make([]int, len(d.pulses))
	hung := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		stuck := ""
		for i, p := range d.pulses {
			if n := p.n.Load(); n != last[i] {
				last[i], missed[i] = n, 0
			} else if missed[i]++; missed[i] > patience {
				stuck = d.queues[i].role
			}
			d.queues[i].q.Wake()
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
		d.beat()
	}
}

func (d *Daemon) beat() {
	if err := d.table.Load().Beat(); err != nil {
		d.beats.failed.add()
		d.log.Warn("the queue rules were not renewed: they open by themselves after a second", zap.Error(err))
		return
	}
	d.beats.done.add()
	if _, err := sd.SdNotify(false, sd.SdNotifyWatchdog); err != nil {
		d.log.Warn("systemd was not told", zap.Error(err))
	}
}
