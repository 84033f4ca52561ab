package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/metrics"
	"github.com/qosproxy/qosproxy/pkg/shaper/nft"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// LoadConfig reads and validates a configuration file. Its error is
// config.Errors where the contents are wrong.
func LoadConfig(path string) (*config.Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return config.Parse(path, data)
}

// Run is the daemon: it runs until ctx ends, and leaves the kernel as `on_stop`
// says. SIGHUP reads the file again.
func Run(ctx context.Context, opts Options) error {
	c, err := LoadConfig(opts.ConfigFile)
	if err != nil {
		return err
	}
	log := opts.Log
	if log == nil {
		if log, err = newLogger(c.Log); err != nil {
			return err
		}
		defer func() { _ = log.Sync() }() // a terminal cannot be synced
	}
	if err := privileges(); err != nil {
		return err
	}
	d, err := build(opts, c, log)
	if err != nil {
		return err
	}
	return d.run(ctx)
}

// run starts everything in the order in which it can be relied on: the
// treatment, the listeners, the rules that feed them; and ends it the other
// way round.
func (d *Daemon) run(ctx context.Context) error {
	c := d.cfg.Load()
	// Rooms outlive ctx: they are ended one after the other below.
	alive, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	queuesAlive, killQueues := context.WithCancel(alive)
	defer killQueues()
	rsvpAlive, killRSVP := context.WithCancel(alive)
	defer killRSVP()
	tasksAlive, killTasks := context.WithCancel(alive)
	defer killTasks()

	want := wanted(c, d.flows.current(), len(d.cheat.handlers))
	setCtx, cancel := context.WithTimeout(ctx, 4*kernelTimeout)
	err := d.shape.Set(setCtx, want)
	cancel()
	if err != nil {
		return errors.Join(fmt.Errorf("shaping: %w", err), d.closeQueues(), d.shape.Close(false), d.sender.Close())
	}
	var queues, rsvp, tasks errgroup.Group
	for _, q := range d.queues {
		queues.Go(func() error { return q.q.Run(queuesAlive) })
	}
	rsvp.Go(func() error { return d.rsvp.Run(rsvpAlive) })
	err = d.openRules(want.Queue)
	var listener net.Listener
	if err == nil {
		listener, err = d.listen(ctx)
	}
	if err == nil {
		tasks.Go(func() error { d.heartbeat(tasksAlive); return nil })
		tasks.Go(func() error { d.janitor(tasksAlive); return nil })
		tasks.Go(func() error { return d.serve(tasksAlive, listener) })
		tasks.Go(func() error { d.hangups(tasksAlive); return nil })
		d.ready()
		<-ctx.Done()
		d.log.Info("stopping: cheated connections are drained", zap.Duration("within", c.TCP.DrainTimeout))
		d.drain()
	}
	// RSVP first: its tears take the treatments away and tell the neighbours. To
	// keep the treatment for the next process, nothing is torn down: what the
	// neighbours know lives on until that process refreshes it.
	if c = d.cfg.Load(); c.OnStop == config.OnStopKeep {
		d.rsvp.Abandon()
	}
	killRSVP()
	errs := []error{err, rsvp.Wait()}
	killTasks()
	errs = append(errs, tasks.Wait())
	// The rules before the listeners: a packet queued to nobody passes, one
	// queued to a listener that has gone is lost.
	if t := d.table.Load(); t != nil {
		errs = append(errs, t.Close())
	}
	killQueues()
	errs = append(errs, queues.Wait(), d.shape.Close(c.OnStop == config.OnStopClean), d.sender.Close())
	d.log.Info("stopped")
	return errors.Join(errs...)
}

// openRules makes the queue table: from here on packets come.
func (d *Daemon) openRules(want plan.Queue) error {
	t, err := nft.Open(want)
	if err != nil {
		return err
	}
	d.table.Store(t)
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
func (d *Daemon) hangups(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			if err := d.Reload(ctx); err != nil {
				d.log.Error("reload refused: the old configuration stays", zap.Error(err))
			}
		}
	}
}

// drain hands cheated connections back to their ends, for as long as the
// configuration allows.
func (d *Daemon) drain() {
	d.state.Store("draining")
	d.cheat.drain()
	deadline := time.Now().Add(d.cfg.Load().TCP.DrainTimeout)
	for n := d.cheat.busy(); n > 0; n = d.cheat.busy() {
		if time.Now().After(deadline) {
			d.log.Warn("connections are still cheated at the end of drain_timeout", zap.Int("connections", n))
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
