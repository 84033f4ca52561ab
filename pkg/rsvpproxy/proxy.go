package rsvpproxy

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/aggregate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/diag"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/fair"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/reliable"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/tunnel"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// captureQueue is how many captured messages wait for the event loop: some
// 20 ms of the rate at which the loop works. What comes on top is dropped and
// counted; RSVP repeats itself.
const captureQueue = 4096

// Config are the parameters of a Proxy.
type Config struct {
	Node softstate.Config
	// Rate is how many messages a second are accepted, shared out among the
	// neighbours (package fair); 0: any number.
	Rate int
	// Control is the DSCP of our own messages (CS6 by RFC 4594 section 3.1).
	Control uint8
	// Reliable: RFC 2961 towards the neighbours that have it, with the
	// parameters of Reduction.
	Reliable  bool
	Reduction reliable.Config
	// FollowRoutes: the kernel tells of changed routes, which are then repaired
	// at once (RFC 2205 section 3.6).
	FollowRoutes bool
}

// Interface is one of the box's interfaces.
type Interface struct {
	route.Link
	// Interior: it leads into an aggregation region, and those that do not lead out of
	// it (RFC 3175 section 1.3).
	Interior  *aggregate.Interior // nil: it does not
	Hosts     bool                // unaware hosts are behind it
	Discover  bool                // ... and are sent PATH, lest one of them should speak RSVP
	Bandwidth float64             // bytes/s that the path may be told of; 0: unknown
	// Refresh is an R of the interface's own (RFC 2205 section 3.7); 0: the node's.
	Refresh time.Duration
	// Tunnel is what the interface is the end of; nil: it is none.
	Tunnel *tunnel.Tunnel
	// Guaranteed is what the interface adds to the error terms of guaranteed
	// service (RFC 2212); nil: it does not have that service.
	Guaranteed *intserv.GuaranteedHop
	// Region is what lies behind it up to the next router that speaks RSVP; nil:
	// nothing is known of that. Of more routers than its Hops, if it has any, nothing
	// is known either.
	Region   *intserv.Region
	Security *Security // of RSVP messages (RFC 2747); nil: none
}

// TrafficControl does what RFC 2205 section 3.11.2 calls by that name:
// admission, and the classifier and scheduler in the kernel. Its methods are
// called by one goroutine, in the order of the protocol's wishes.
type TrafficControl interface {
	// Reserve returns nil if the reservation is in place.
	Reserve(softstate.Reserve) *softstate.Refusal
	Release(id uint64)
	// Torn is Release of what a next hop has taken back, see [softstate.Release].
	Torn(id uint64)
}

// Sender sends a complete IP packet out of an interface.
type Sender interface {
	SendVia(pkt []byte, ifindex int) error
}

// Hooks join the Proxy to its surroundings.
type Hooks struct {
	Traffic TrafficControl
	Send    Sender
	// Frames is what a bridge has learned of its ports ([softstate.Config.Bridge]).
	Frames route.Frames
	// Stations tells where its stations are ([route.Bridge]); nil: nobody can be asked.
	Stations func(of int, mac [6]byte) (int, error)
	// Unlisted tells whether the bridge has ports that are none of the interfaces
	// ([route.Bridge]); nil: it has none.
	Unlisted func() bool
	// ReceiverProxy says whether a receiver behind this box is spoken for.
	ReceiverProxy func(softstate.PathInfo) (softstate.ReserveSpec, bool)
	// Reverse says whether a PATH makes this box speak for its receiver as the
	// sender of the other direction, and with what. nil: never.
	Reverse func(softstate.PathInfo) (intserv.TSpec, bool)
	// Rest tells what can still be reserved on an interface, in bytes/s; 0: not
	// known. It must not block. nil: never known.
	Rest func(ifindex int) float64
	// DSCP is the mapping policy of aggregation (RFC 3175 section 1.4.3): what a sender's
	// packets are marked with inside the region, for a service, or 0 while it is not
	// known which. It must not block. nil: there are no regions.
	DSCP func(wire.Session, wire.Filter, intserv.Service) uint8
	// Priority is what is granted of the priority that a reservation in an aggregate asks
	// for, before the aggregate asks for room with it; nil: all.
	Priority func(softstate.Reserve) softstate.Priority
	// Marks has a say in what RESV tells of marking (RFC 2996). It must not block.
	// nil: what comes from downstream goes on.
	Marks func(softstate.Marking) ([]uint8, bool)
	// Event is told of changes, in the event loop: it must not block.
	Event func(softstate.Event)
	// Groups is told of multicast groups whose routes have changed. It must not
	// block. nil: nobody wants to know.
	Groups func([]netip.Prefix)
	Log    *zap.Logger
}

// Proxy is RSVP on this machine. Make one with New, then call Run.
type Proxy struct {
	cfg     Config
	hooks   Hooks
	in      chan captured
	ifaces  atomic.Pointer[interfaces]
	groups  atomic.Pointer[route.Multicast] // nil before Run, and where they cannot be read
	share   *fair.Table                     // of the message rate
	lines   *fair.Lines                     // of the log
	capture captureCounters
	sends   sendCounters

	mu       sync.Mutex
	commands []command
	closed   bool
	wake     chan struct{}

	control    *control
	abandoned  atomic.Bool
	node       *softstate.Node
	layer      *reliable.Layer // nil: RFC 2205 alone
	tunnels    *tunnel.Table
	aggregates *aggregate.Table
	diag       *diag.Node
	replies    *net.UDPConn // of RFC 2745; nil: none was sent yet
	tracing    chan struct{}
	env        *environment
	ways       ways
	unseen     *unseen // nil: neighbours see the box
	guards     guards
	tally      tally
	// queue are effects that wait for those before them.
	queue      []softstate.Effect
	performing bool
	buf        []byte
	ipID       uint16
}

// command runs in the event loop.
type command func(now time.Time, n *softstate.Node) []softstate.Effect

type interfaces struct {
	byIndex map[int]Interface
	ports   []int // their indexes, in order
	edge    bool  // some are interior
	local   map[netip.Addr]bool
}

// changes lists the interfaces that are not what they were.
func (s *interfaces) changes(old *interfaces) (list []softstate.IfIndex) {
	for index, i := range s.byIndex {
		if was, ok := old.byIndex[index]; !ok || was.Addr4 != i.Addr4 || was.Addr6 != i.Addr6 || was.Up != i.Up || was.MTU != i.MTU || was.Refresh != i.Refresh ||
			!slices.Equal(was.Own, i.Own) || was.Discover != i.Discover {
			list = append(list, softstate.IfIndex(index))
		}
	}
	for index := range old.byIndex {
		if _, ok := s.byIndex[index]; !ok {
			list = append(list, softstate.IfIndex(index))
		}
	}
	return list
}

// SendCounters count what was sent.
type SendCounters struct {
	Sent   uint64
	Errors uint64 // the kernel refused, or the message did not fit
	Scoped uint64 // not sent: the group's data do not pass the interface's threshold
}

type sendCounters struct{ sent, errors, scoped atomic.Uint64 }

// ErrStopped is returned by calls that come after Run has ended.
var ErrStopped = errors.New("rsvp is stopped")

// New returns a Proxy that knows no interface yet.
func New(cfg Config, hooks Hooks) *Proxy {
	p := &Proxy{
		cfg: cfg, hooks: hooks, in: make(chan captured, captureQueue), wake: make(chan struct{}, 1),
		share: fair.NewTable(float64(cfg.Rate), cmp.Or(cfg.Node.Limits.Neighbors, softstate.DefaultNeighbors)),
		lines: fair.NewLines(complaintEvery), control: newControl(hooks.Traffic),
		ipID: uint16(rand.Uint32()), // so that a restart does not repeat the last one's
	}
	p.tally = newTally(cmp.Or(cfg.Node.Limits.Neighbors, softstate.DefaultNeighbors))
	p.ifaces.Store(&interfaces{})
	p.ways.table = route.NewTable()
	p.env = &environment{p: p, aware: map[netip.Addr]time.Time{}, routes: route.NewTable()}
	if cfg.Node.Transparent { // RFC 2961 is for neighbours that know each other
		cfg.Reliable = false
		p.cfg.Reliable = false
		p.unseen = newUnseen(cfg.Node, route.Bridge{Frames: hooks.Frames, Stations: hooks.Stations, Unlisted: hooks.Unlisted})
	}
	if cfg.Reliable {
		cfg.Reduction.Overhead = p.grows
		bound(&cfg.Reduction.Limits, cfg.Node.Limits)
		p.layer = reliable.New(cfg.Reduction, p.env, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	}
	p.node = softstate.New(cfg.Node, p.env, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	p.tunnels = tunnel.New(tunnel.Config{Refresh: cfg.Node.Refresh, K: cfg.Node.K}, p.env, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	p.aggregates = aggregate.New(aggregate.Config{Refresh: cfg.Node.Refresh, K: cfg.Node.K, Flows: cfg.Node.Limits.Senders}, p.env,
		rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	p.diag, p.tracing = diag.New(diag.Config{TTL: cfg.Node.TTL}, p.node, p.env), make(chan struct{}, maxTraces)
	return p
}

// SetInterfaces tells which interfaces take part. The sessions behind those that
// have changed are brought up to date.
func (p *Proxy) SetInterfaces(list []Interface) {
	s := &interfaces{byIndex: map[int]Interface{}, local: map[netip.Addr]bool{}}
	for _, i := range list {
		s.byIndex[i.Index] = i
		s.ports = append(s.ports, i.Index)
		s.edge = s.edge || i.Interior != nil
		for _, a := range append([]netip.Addr{i.Addr4, i.Addr6}, i.Addrs...) {
			if a.IsValid() {
				s.local[a] = true
			}
		}
	}
	slices.Sort(s.ports)
	indices := make([]softstate.IfIndex, len(s.ports))
	for k, i := range s.ports {
		indices[k] = softstate.IfIndex(i)
	}
	if changed := s.changes(p.ifaces.Swap(s)); len(changed) > 0 {
		// An error says that the proxy has stopped.
		_ = p.do(func(now time.Time, n *softstate.Node) []softstate.Effect {
			p.forgetRoutes()
			n.SetInterfaces(indices...)
			if p.layer != nil {
				p.layer.SetInterfaces(indices...)
			}
			for _, i := range list {
				n.SetInterfaceRefresh(softstate.IfIndex(i.Index), i.Refresh)
			}
			n.InterfacesChanged(now, changed...)
			return nil
		})
	}
	p.setPipes(list)
	p.share.SetInterfaces(s.ports...)
	p.poke() // new keys are proved at once
}

// poke has the event loop look around.
func (p *Proxy) poke() {
	select {
	case p.wake <- struct{}{}:
	default: // a wake-up is on its way already
	}
}

// do queues a command for the event loop. It never blocks.
func (p *Proxy) do(c command) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrStopped
	}
	p.commands = append(p.commands, c)
	p.poke()
	return nil
}

// AddSender starts to speak for a sender behind this box. What becomes of it is
// told by events; refused is called in the event loop if it cannot be done at
// all. It does not block.
func (p *Proxy) AddSender(s softstate.Sender, refused func(error)) error {
	return p.do(func(now time.Time, n *softstate.Node) []softstate.Effect {
		effects, err := n.AddSender(now, s)
		if err != nil {
			refused(err)
		}
		return effects
	})
}

// RemoveSender ends what AddSender began.
func (p *Proxy) RemoveSender(session wire.Session, sender wire.Filter) error {
	return p.do(func(now time.Time, n *softstate.Node) []softstate.Effect { return n.RemoveSender(now, session, sender) })
}

// ReceiverChanged tells that Hooks.ReceiverProxy says something else of a
// sender now.
func (p *Proxy) ReceiverChanged(session wire.Session, sender wire.Filter) error {
	return p.do(func(now time.Time, n *softstate.Node) []softstate.Effect {
		return n.ReceiverChanged(now, session, sender)
	})
}

// Withdraw tells that traffic control has ended a reservation on its own. It does
// not block.
func (p *Proxy) Withdraw(id uint64, why softstate.Refusal) error {
	return p.do(func(now time.Time, n *softstate.Node) []softstate.Effect { return n.Withdraw(now, id, why) })
}

// Abandon has Run leave all state at its end: neighbours and kernel keep what
// they have for the process that comes next.
func (p *Proxy) Abandon() { p.abandoned.Store(true) }

// SetRefresh changes the refresh period R.
func (p *Proxy) SetRefresh(r time.Duration) error {
	return p.do(func(_ time.Time, n *softstate.Node) []softstate.Effect {
		n.SetRefresh(r)
		p.tunnels.SetRefresh(r)
		p.aggregates.SetRefresh(r)
		return nil
	})
}

// View is a look at the protocol's state.
type View struct {
	Sessions []softstate.SessionView
	Counters softstate.Counters
	// Reliable are the figures of RFC 2961, nil if it is off.
	Reliable *reliable.Counters
	// Security is nil if no interface was ever secured.
	Security *SecurityView
	Diag     diag.Counters   // of RFC 2745
	Tunnels  tunnel.Counters // of RFC 2746
	// Aggregates are those that begin or end here (RFC 3175), Aggregation the figures of
	// all, and Riding which senders' reservations are in which.
	Aggregates  []aggregate.View
	Aggregation aggregate.Counters
	Riding      map[Riding]Riding
	// GroupsLimited counts entries of the multicast forwarding cache that found no
	// room in our copy.
	GroupsLimited uint64
	At            time.Time
}

// Session asks the event loop for one sender of a session; false if it has none.
func (p *Proxy) Session(session wire.Session, sender wire.Filter) (softstate.SessionView, bool, error) {
	type answer struct {
		view  softstate.SessionView
		known bool
	}
	a, err := ask(p, func(now time.Time, n *softstate.Node) (a answer) {
		a.view, a.known = n.Session(now, session, sender)
		return a
	})
	return a.view, a.known, err
}

// ask has the event loop look at the machine, and waits for what it sees.
func ask[T any](p *Proxy, look func(now time.Time, n *softstate.Node) T) (T, error) {
	return tell(p, func(now time.Time, n *softstate.Node) (T, []softstate.Effect) { return look(now, n), nil })
}

// tell has the event loop do something with the machine, and waits for what
// comes of it. After an error it may be done all the same, later.
func tell[T any](p *Proxy, what func(now time.Time, n *softstate.Node) (T, []softstate.Effect)) (v T, err error) {
	reply := make(chan T, 1)
	err = p.do(func(now time.Time, n *softstate.Node) []softstate.Effect {
		v, effects := what(now, n)
		reply <- v
		return effects
	})
	if err != nil {
		return v, err
	}
	select {
	case v := <-reply:
		return v, nil
	case <-time.After(5 * time.Second):
		return v, errors.New("rsvp did not answer within 5 s; what was asked for may still be done")
	}
}

// View asks the event loop for its state.
func (p *Proxy) View() (View, error) {
	return ask(p, func(now time.Time, n *softstate.Node) View {
		v := View{Sessions: n.Sessions(now), Counters: n.Counters(), Security: p.security(now), Diag: p.diag.Counters(), Tunnels: p.tunnels.Counters(), At: now}
		v.Aggregates, v.Aggregation, v.Riding = p.aggregates.Views(now), p.aggregates.Counters(), p.riding(v.Sessions)
		if p.layer != nil {
			c := p.layer.Counters()
			v.Reliable = &c
		}
		if p.env.groups != nil {
			v.GroupsLimited = p.env.groups.Limited()
		}
		return v
	})
}

// SendCounters reads the counters of sent messages.
func (p *Proxy) SendCounters() SendCounters {
	return SendCounters{Sent: p.sends.sent.Load(), Errors: p.sends.errors.Load(), Scoped: p.sends.scoped.Load()}
}

// hopOf is what an interface contributes to an ADSPEC. Its latency is not known
// (RFC 2215 section 3.4). Controlled load is offered everywhere; guaranteed
// service where there are error terms, with what can still be reserved as its
// own path bandwidth (section 3.3).
func hopOf(i Interface, rest float64) intserv.Hop {
	h := intserv.Hop{
		Bandwidth: i.Bandwidth, Latency: intserv.IndeterminateLatency, MTU: uint32(max(i.MTU, 0)),
		ControlledLoad: &intserv.ServiceHop{},
	}
	if i.Guaranteed != nil {
		g := *i.Guaranteed
		if rest > 0 {
			g.Override = intserv.Params{Set: intserv.ParamBandwidth, Bandwidth: rest}
		}
		h.Guaranteed = &g
	}
	if i.Region != nil {
		return h.Across(*i.Region)
	}
	return h
}
