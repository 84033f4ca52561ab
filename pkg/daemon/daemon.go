package daemon

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/admission/etcd"
	"github.com/qosproxy/qosproxy/pkg/bridge"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/echo"
	"github.com/qosproxy/qosproxy/pkg/nfq"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/nft"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
	"github.com/qosproxy/qosproxy/pkg/watchdog"
)

// Numbers of the queues: control, first, then the cheat queues.
const (
	queueControl = 100
	queueFirst   = 101
	queueCheat   = 102
)

// maxCheatQueues bounds the workers: beyond that the source's own machine is
// the limit.
const maxCheatQueues = 4

// Options are what a caller of Run says.
type Options struct {
	ConfigFile string
	Socket     string // path of the control socket; empty: the configuration's
	Version    string
	Log        *zap.Logger // nil: made from the configuration
	// Watchdog is the command that looks after this process, without its number; nil:
	// none does.
	Watchdog []string

	whole *zap.Logger // the log without its thinning; nil: Log
}

// Daemon is a running box.
type Daemon struct {
	opts    Options
	log     *zap.Logger
	started time.Time
	state   atomic.Value // string: starting, running, draining

	cfg      atomic.Pointer[config.Config]
	links    atomic.Pointer[links]
	flows    *flowTable
	admit    *admission.Control
	shared   *etcd.Ledger // of several boxes; nil: accounts are this box's alone
	shape    *shaper.Shaper
	bridge   *bridge.Bridge           // nil: a router
	stations bridge.Stations          // of it
	amiss    atomic.Pointer[[]string] // what was said last to be wrong with the bridge
	// unwatched is why the kernel does not tell changes of interfaces; nil, or of nil: it does.
	unwatched atomic.Pointer[error]
	kernel    *countedKernel
	table     atomic.Pointer[nft.QueueTable]
	sender    sender
	echo      *echo.Pinger
	rsvp      *rsvpproxy.Proxy
	tc        *trafficControl
	hands     *hands
	promises  *promises
	accounts  *accountKeeper
	events    *console.Hub
	signal    signaller // RSVP for those who speak by policy
	first     *firstHandler
	cheat     *cheatWorkers
	overload  *overload
	queues    []*queue
	pulses    []*pulse // of the queues' workers, in their order

	news     news
	reloadMu sync.Mutex       // one reload at a time, and none while the clock changes contracts
	shaped   []plan.Interface // what the kernel was told last; reloadMu
	reload   reloadStatus
	beats    struct{ done, failed, withheld, late counter }
	dog      *watchdog.Dog // nil: none
	ended    struct{ started, ended, leftAlone counter }
	reasons  reasons
}

// queue is one NFQUEUE with what it is for.
type queue struct {
	num  uint16
	role string
	q    *nfq.Queue
}

// build makes all rooms. Nothing in the kernel is changed yet, but for the
// queues, which are empty until there are rules.
func build(opts Options, c *config.Config, log *zap.Logger) (*Daemon, error) {
	d := &Daemon{opts: opts, log: log, started: time.Now(), news: newNews(), events: console.NewHub()}
	d.state.Store("starting")
	d.cfg.Store(c)
	l, err := readLinks(c, nil)
	if err != nil {
		return nil, err
	}
	d.links.Store(l)
	shards := min(max(runtime.NumCPU(), 1), maxCheatQueues)
	d.flows = newFlowTable(c.Limits.Flows, shards)
	d.overload = newOverload(log)
	d.flows.crowded = d.overload.full
	d.flows.configure(c.File, newPolicies(c), l.zones())
	ledger, shared, err := openLedger(c, log)
	if err != nil {
		return nil, err
	}
	d.shared = shared
	d.share(c, l.admission(d.started))
	d.admit = admission.New(ledger, c.Limits.Sessions, l.admission(d.started)...)
	d.admit.SetPolicy(admissionPolicy(c))
	if d.shape, err = shaper.New(shaper.Options{Log: log.Named("shaper"), OnCrash: outlives(c)}); err != nil {
		return nil, err
	}
	if d.sender, err = newSender(c, d.shape.Frames(), l); err != nil {
		return nil, errors.Join(fmt.Errorf("sockets for our own packets: %w", err), d.shape.Close(false))
	}
	if d.echo, err = echo.New(echo.Config{Mark: plan.DefaultMark}); err != nil {
		return nil, errors.Join(err, d.shape.Close(false), d.sender.Close())
	}
	d.kernel = &countedKernel{treater: d.shape}
	d.cheat = &cheatWorkers{first: queueCheat, failed: d.cheatFailed}
	d.learn(c)
	d.cheat.stripECN.Store(c.TCP.ECN == config.ECNStrip)
	d.tc = newTrafficControl()
	d.tc.flows, d.tc.admit, d.tc.kernel, d.tc.cheat = d.flows, d.admit, d.kernel, d.cheat
	d.tc.config, d.tc.links, d.tc.log = d.cfg.Load, d.links.Load, log
	d.rsvp = rsvpproxy.New(rsvpproxy.Config{
		Node: rsvpNode(c, l),
		Rate: c.Limits.RSVPRate, Control: dscpControl, Reliable: c.RSVP.Reliable, FollowRoutes: true,
	}, rsvpproxy.Hooks{
		Traffic: d.tc, Send: d.sender, Frames: d.shape.Frames(), Stations: d.stations.Port, Unlisted: d.unlisted, ReceiverProxy: d.tc.receiverProxy, Reverse: d.tc.reverse, Rest: d.tc.rest, DSCP: d.tc.mapping, Priority: d.tc.grantedPriority, Marks: d.tc.upstreamMark,
		Event: d.sessionEvent, Groups: d.news.regroup,
		Log: log.Named("rsvp"),
	})
	d.tc.branches = d.rsvp.Branches
	d.rsvp.SetInterfaces(l.rsvp())
	d.tc.withdraw = d.withdrawn
	d.byHand(c)
	if err := d.keepAccounts(c); err != nil {
		return nil, errors.Join(err, d.shape.Close(false), d.echo.Close(), d.sender.Close(), d.hands.file.close())
	}
	d.first = &firstHandler{
		settler: settler{current: d.flows.current},
		flows:   d.flows, tc: d.tc, ended: d.news.end, rsvp: d.signal, cheat: d.cheat, links: d.links.Load, log: log,
		steer: func() steering {
			if t := d.table.Load(); t != nil {
				return t
			}
			return nil
		},
	}
	d.keepPromises(c)
	if err := d.openQueues(c, shards); err != nil {
		return nil, errors.Join(err, d.promises.close(), d.shape.Close(false), d.echo.Close(), d.sender.Close(), d.accounts.lines.close(), d.hands.file.close())
	}
	return d, nil
}

// dscpControl is CS6, network control by RFC 4594 section 3.1.
const dscpControl = 48

// openQueues opens the NFQUEUE sockets: listeners first, rules later.
func (d *Daemon) openQueues(c *config.Config, shards int) error {
	open := func(num uint16, role string, failOpen bool, h nfq.Handler) (*nfq.Queue, error) {
		q, err := nfq.Open(nfq.Config{
			Num: num, GSO: true, FailOpen: failOpen, Handler: h,
			OnError: func(err error) { d.log.Warn("queue", zap.String("role", role), zap.Error(err)) },
		})
		if err != nil {
			return nil, fmt.Errorf("queue %d (%s): %w", num, role, err)
		}
		d.queues = append(d.queues, &queue{num: num, role: role, q: q})
		return q, nil
	}
	control := &controlHandler{rsvp: d.rsvp}
	d.pulses = append(d.pulses, &control.pulse, &d.first.pulse)
	_, err := open(queueControl, "control", true, control)
	if err == nil {
		_, err = open(queueFirst, "first", true, d.first)
	}
	for i := 0; i < shards && err == nil; i++ {
		// Never fail-open: a packet that overtakes those in the queue is worse
		// for a connection whose sequence is being spoken for than a lost one.
		h := &cheatHandler{
			engine: tcpcheat.New(tcpcheat.Limits{
				Flows: c.Limits.Flows, Buffered: int(c.Limits.Buffered) / shards,
				BufferedPerFlow: int(c.Limits.BufferedPerFlow), MaxUnacked: int(c.Limits.MaxUnacked),
				Idle: idleCheated,
			}),
			inject: d.sender, events: d.news.add,
		}
		h.engine.Record(d.promises, d.promises.since)
		h.ask = func(q tcpcheat.Echo) { askSource(d.flows, d.echo, h, q) }
		if bridged(c) {
			h.port = func(index int) int { return d.links.Load().port(index) }
		}
		var q *nfq.Queue
		if q, err = open(queueCheat+uint16(i), "cheat", false, h); err == nil {
			h.wake = q.Wake
			d.cheat.handlers = append(d.cheat.handlers, h)
			d.overload.add(h, q.Backlog)
			d.pulses = append(d.pulses, &h.pulse)
		}
	}
	if err != nil {
		return errors.Join(err, d.closeQueues())
	}
	return nil
}

func (d *Daemon) closeQueues() error {
	var errs []error
	for _, q := range d.queues {
		errs = append(errs, q.q.Close())
	}
	return errors.Join(errs...)
}

// wanted is the kernel state that the configuration asks for.
func wanted(c *config.Config, p *policies, shards int, now time.Time) plan.Plan {
	out := plan.Plan{Flows: 2 * c.Limits.Flows, Frames: frameRoom(c), Queue: plan.Queue{
		Control: queueControl, First: queueFirst, Mark: plan.DefaultMark, MarkMask: plan.DefaultMarkMask,
		Prefilters: p.prefilters(), HasIPv6: true,
		// On a bridge fragments pass as they are.
		Reassemble: !bridged(c), MaxSettled: 2 * c.Limits.Flows, MaxCheated: 2 * c.Limits.Flows,
	}}
	for i := range shards {
		out.Queue.Cheat = append(out.Queue.Cheat, queueCheat+uint16(i))
	}
	for _, i := range c.Interfaces {
		out.Interfaces = append(out.Interfaces, planned(&i, inForceAt(timeOfDay(now))))
	}
	return out
}

// Plan is the kernel state that a configuration asks for at this time of day, as
// text. It needs no privileges and changes nothing.
func Plan(c *config.Config) string {
	text := wanted(c, newPolicies(c), min(max(runtime.NumCPU(), 1), maxCheatQueues), time.Now()).String()
	if bridged(c) {
		text = bridge.Text(c.Bridge.Name, portsOf(c)) + text
	}
	return text
}

// sessionEvent notes in the flow table how far a reservation is.
func (d *Daemon) sessionEvent(e softstate.Event) {
	if e.Session.Format != wire.FormatPorts {
		d.log.Info("session", zap.Stringer("session", e.Session), zap.Stringer("sender", e.Sender), zap.Stringer("role", e.Role),
			zap.Stringer("state", e.State), zap.Bool("gone", e.Gone), zap.Stringer("error", e.Failure))
		return // no row of `flows` is this
	}
	key := flowKey(e.Session, e.Sender)
	d.log.Info("session", zap.Stringer("flow", key), zap.Stringer("role", e.Role), zap.Stringer("state", e.State),
		zap.Bool("gone", e.Gone), zap.Stringer("error", e.Failure))
	d.tellSession(&e)
	if e.Gone {
		d.hands.gone(key)
	}
	d.flows.told(time.Now(), key, e)
}

var _ console.Backend = (*Daemon)(nil)
