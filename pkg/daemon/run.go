package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/metrics"
	"github.com/qosproxy/qosproxy/pkg/shaper/nft"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// maxConfig is one byte more than config.Parse takes, so that it sees that a
// file is too large and says so.
const maxConfig = 1<<20 + 1

// LoadConfig reads and validates a configuration file. Its error is
// config.Errors where the contents are wrong.
func LoadConfig(path string) (c *config.Config, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("config file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig))
	if err != nil {
		return nil, fmt.Errorf("config file: %w", err)
	}
	return config.Parse(path, data)
}

// Run is the daemon: it runs until ctx ends, and leaves the kernel as `on_stop`
// says. SIGHUP reads the file again.
func Run(ctx context.Context, opts Options) error {
	// From the first moment on, or a SIGHUP would end the process.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	c, err := LoadConfig(opts.ConfigFile)
	if err != nil {
		return err
	}
	log := opts.Log
	if log == nil {
		if opts.whole, err = newLogger(c.Log); err != nil {
			return err
		}
		log = thinned(opts.whole)
		defer func() { _ = log.Sync() }() // a terminal cannot be synced
	}
	if err := privileges(); err != nil {
		return err
	}
	d, err := build(opts, c, log)
	if err != nil {
		return err
	}
	return d.run(ctx, hup)
}

// run starts everything in the order in which it can be relied on: the
// bridge, the treatment, the listeners, the rules that feed them; and ends it the other
// way round.
func (d *Daemon) run(ctx context.Context, hup <-chan os.Signal) error {
	c := d.cfg.Load()
	want := wanted(c, d.flows.current(), len(d.cheat.handlers), time.Now())
	setCtx, cancel := context.WithTimeout(ctx, 4*kernelTimeout)
	d.reloadMu.Lock()
	err := d.makeBridge(c)
	if err == nil {
		if err = d.setPlan(setCtx, want); err != nil {
			err = fmt.Errorf("shaping: %w", err)
		}
	}
	d.reloadMu.Unlock()
	cancel()
	if err != nil {
		// What an earlier process left is not ours to remove.
		clean := c.OnStop == config.OnStopClean && len(d.shape.Adopted()) == 0
		err = errors.Join(err, d.closeQueues(), d.promises.close(), d.shape.Close(clean), d.leaveBridge(true), d.stations.Close(), d.echo.Close(), d.sender.Close(), d.accounts.lines.close(), d.hands.file.close())
		if ctx.Err() != nil {
			return nil // told to stop before it began
		}
		return err
	}
	left := leftovers(d.shape.Adopted())
	d.tc.hold(left)
	d.accounts.resume(flowIDs(left))
	if d.shared != nil {
		// Not before what is in force is counted: it takes the place of what the
		// earlier process had registered.
		d.shared.Start(2 * c.Admission.Etcd.Timeout)
	}
	// Rooms outlive ctx: they are ended one after the other.
	alive := context.WithoutCancel(ctx)
	failed := make(chan error, 1)
	queues, rsvp, tasks := newGroup(alive, failed), newGroup(alive, failed), newGroup(alive, failed)
	for _, q := range d.queues {
		queues.start("queue "+q.role, q.q.Run)
	}
	rsvp.start("rsvp", d.rsvp.Run)
	tasks.start("echo", d.echo.Run)
	err = d.openRules(want.Queue, left)
	if err == nil {
		d.hands.restore(alive)
	}
	var listener net.Listener
	if err == nil {
		listener, err = d.listen(ctx)
	}
	if err == nil {
		d.startWatchdog(c)
		tasks.start("heartbeat", func(ctx context.Context) error { d.heartbeat(ctx); return nil })
		tasks.start("overload", func(ctx context.Context) error { d.overload.run(ctx); return nil })
		tasks.start("janitor", func(ctx context.Context) error { d.janitor(ctx); return nil })
		tasks.start("accounting", func(ctx context.Context) error { d.accounts.run(ctx); return nil })
		tasks.start("interfaces", func(ctx context.Context) error { d.watchLinks(ctx); return nil })
		tasks.start("clock", func(ctx context.Context) error { d.followClock(ctx); return nil })
		tasks.start("console", func(ctx context.Context) error { return d.serve(ctx, listener) })
		tasks.start("reload", func(ctx context.Context) error { d.hangups(ctx, hup); return nil })
		d.recover(time.Now(), left)
		d.recall(time.Now())
		d.ready()
		select {
		case <-ctx.Done():
		case err = <-failed:
			d.log.Error("a part of the daemon has failed: stopping", zap.Error(err))
		}
		d.drain()
	}
	return d.stop(err, rsvp, tasks, queues)
}

// stop ends all rooms, the last first.
func (d *Daemon) stop(err error, rsvp, tasks, queues *group) error {
	// RSVP first: its tears take the treatments away and tell the neighbours. To
	// keep the treatment for the next process, nothing is torn down: what the
	// neighbours know lives on until that process refreshes it.
	c := d.cfg.Load()
	if c.OnStop == config.OnStopKeep {
		d.rsvp.Abandon()
	}
	d.accounts.stopping.Store(true)
	d.stopWatchdog()
	errs := []error{err, rsvp.stop(), tasks.stop()}
	d.tc.close(c.OnStop == config.OnStopKeep)
	d.accounts.finish()
	d.leave(c.OnStop == config.OnStopKeep)
	// The rules before the listeners: a packet queued to nobody passes, one
	// queued to a listener that has gone is lost.
	if t := d.table.Load(); t != nil {
		errs = append(errs, t.Close())
	}
	errs = append(errs, queues.stop(), d.promises.close(), d.shape.Close(c.OnStop == config.OnStopClean))
	// Last, since traffic passes as long as the bridge stands.
	errs = append(errs, d.leaveBridge(err != nil), d.stations.Close(), d.sender.Close(), d.accounts.lines.close(), d.hands.file.close())
	if d.state.Load() != "starting" {
		d.log.Info("stopped") // a start that failed is told by its error alone
	}
	return errors.Join(errs...)
}

// openRules makes the queue table: with its first beat packets come.
func (d *Daemon) openRules(want plan.Queue, left []plan.Treatment) error {
	t, err := nft.Open(want)
	if err != nil {
		return err
	}
	d.table.Store(t)
	d.settleLeft(time.Now(), left, t)
	return t.Beat()
}

// listen opens the control socket.
func (d *Daemon) listen(ctx context.Context) (net.Listener, error) {
	path := d.opts.Socket
	if path == "" {
		path = d.cfg.Load().Console.Socket
	}
	return console.Listen(ctx, path)
}

// serve answers the control API and Prometheus.
func (d *Daemon) serve(ctx context.Context, l net.Listener) error {
	warn := func(err error) { d.log.Warn("console", zap.Error(err)) }
	return console.New(d, metrics.Handler(d), warn).Serve(ctx, l)
}

// ready tells the log and systemd that the box works.
func (d *Daemon) ready() {
	d.state.Store("running")
	capture := "the xt NFQUEUE target, since the kernel has no native queue expression"
	if d.table.Load().Native() {
		capture = "the native queue expression"
	}
	d.log.Info("running", zap.String("config", d.opts.ConfigFile), zap.String("capture", capture),
		zap.Int("policies", d.flows.current().table.Len()), zap.Int("cheat_queues", len(d.cheat.handlers)))
	if _, err := sd.SdNotify(false, sd.SdNotifyReady); err != nil {
		d.log.Warn("systemd was not told", zap.Error(err))
	}
}

// hangups reloads on SIGHUP.
func (d *Daemon) hangups(ctx context.Context, hup <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			// First, and whatever becomes of the configuration: who has moved the file
			// away waits for it to be let go.
			if err := d.accounts.lines.reopen(); err != nil {
				d.log.Error("the old file of accounting stays in use", zap.Error(err))
			}
			if err := d.Reload(ctx); err != nil {
				d.log.Error("reload refused: the old configuration stays", zap.Error(err))
			}
		}
	}
}

// drain hands cheated connections back to their ends, for as long as the
// configuration allows. Those that are then still waiting for their receiver
// are reset: a source that believes its bytes delivered must learn better.
func (d *Daemon) drain() {
	d.state.Store("draining")
	within := d.cfg.Load().TCP.DrainTimeout
	d.log.Info("stopping: cheated connections are drained", zap.Duration("within", within))
	d.flows.drain()
	d.cheat.drain()
	began := time.Now()
	for {
		own, recalled := d.cheat.busy()
		switch took := time.Since(began); {
		case own > 0 && took > within:
			d.log.Warn("drain_timeout is over: connections with undelivered bytes are reset", zap.Int("connections", own))
			d.cheat.abort()
			return
		case own > 0, recalled > 0 && took < min(within, recalledPatience):
		case recalled > 0:
			d.log.Info("connections that an earlier process has cheated are left to the next one", zap.Int("connections", recalled))
			return
		default:
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// recalledPatience is how long a process that stops goes on looking after what an
// earlier one has promised: most of it arrives by then, and the next process has the
// record of the rest.
const recalledPatience = 3 * time.Second
