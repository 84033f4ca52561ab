package reliable

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/fair"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/timers"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Layer is RFC 2961 for one node.
type Layer struct {
	cfg Config
	env Environment
	rng *rand.Rand

	epoch  uint32
	lastID uint32

	neighbors map[neighborKey]*neighbor
	states    map[stateKey]*sent
	byID      map[uint32]*sent
	targets   map[targetKey]*target
	// heard is for neighbours that a message came from. guessed is for those that
	// routing names as the next hop: which these are follows from the destinations
	// of sessions, and so from what others send.
	heard, guessed *fair.Quota
	received       *fair.Quota
	timers         timers.Heap[timed]
	count          Counters

	out []softstate.Send
	in  []softstate.Received
}

// New returns a Layer that knows nobody. Its epoch is random, so that
// neighbours notice a restart (RFC 2961 section 4.2).
func New(cfg Config, env Environment, rng *rand.Rand) *Layer {
	cfg = cfg.withDefaults()
	return &Layer{
		heard: fair.NewQuota(cfg.Limits.Neighbors), guessed: fair.NewQuota(cfg.Limits.Neighbors), received: fair.NewQuota(cfg.Limits.Received),
		cfg: cfg, env: env, rng: rng, epoch: rng.Uint32() & (1<<24 - 1),
		neighbors: map[neighborKey]*neighbor{}, states: map[stateKey]*sent{},
		byID: map[uint32]*sent{}, targets: map[targetKey]*target{},
	}
}

// SetInterfaces tells among which interfaces the limits are shared out.
func (l *Layer) SetInterfaces(list ...softstate.IfIndex) {
	ifaces := make([]int, 0, len(list))
	for _, i := range list {
		ifaces = append(ifaces, int(i))
	}
	for _, q := range []*fair.Quota{l.heard, l.guessed, l.received} {
		q.SetInterfaces(ifaces...)
	}
}

// Send takes a message of the node and returns what to transmit now, which may
// be nothing.
func (l *Layer) Send(now time.Time, s softstate.Send) []softstate.Send {
	switch t := s.Msg.Type; {
	case s.Probe:
		l.probe(now, s)
	case t == wire.Path, t == wire.Resv:
		l.sendState(now, s)
	case t == wire.PathTear, t == wire.ResvTear:
		l.sendTear(now, s)
	case t == wire.PathErr, t == wire.ResvErr, t == wire.Notify:
		l.sendOnce(now, s)
	default: // ResvConf is addressed to no neighbour
		l.plain(now, nil, s)
	}
	return l.takeOut()
}

// Receive takes a packet in. It returns the messages to hand to the node, and
// what to transmit now.
func (l *Layer) Receive(now time.Time, p Packet) ([]softstate.Received, []softstate.Send) {
	l.receive(now, p)
	in := l.in
	l.in = nil
	return in, l.takeOut()
}

// NextDeadline tells when [Layer.Advance] has to be called; false: never.
func (l *Layer) NextDeadline() (time.Time, bool) {
	return l.timers.Next()
}

// Advance runs the timers that are due and returns what to transmit.
func (l *Layer) Advance(now time.Time) []softstate.Send {
	for t := l.timers.Due(now); t != nil; t = l.timers.Due(now) {
		t.Owner.fire(l, now)
	}
	return l.takeOut()
}

// Flush returns all that waits for company, for a node that stops.
func (l *Layer) Flush(now time.Time) []softstate.Send {
	for _, nb := range l.neighbors {
		l.flush(now, nb, true)
	}
	return l.takeOut()
}

func (l *Layer) takeOut() []softstate.Send {
	out := l.out
	l.out = nil
	return out
}

// addr is our address on an interface, as a neighbour is to know it.
func (l *Layer) addr(i softstate.IfIndex, neighbor netip.Addr) netip.Addr {
	return l.env.AddrTowards(i, neighbor)
}

const (
	header4 = 24   // IPv4 with Router Alert
	header6 = 48   // the same of IPv6
	least6  = 1280 // every link of IPv6 carries that much (RFC 8200 section 5)
)

// room is how long a message to dst may be that is to travel unfragmented.
// Over IPv6 nobody on the way would fragment it.
func (l *Layer) room(out softstate.IfIndex, dst netip.Addr) int {
	mtu := l.env.MTU(out)
	if mtu <= 0 || mtu > wire.MaxMessage {
		mtu = 1500
	}
	if !dst.Is4() {
		return min(mtu, least6) - header6 - l.cfg.Overhead(out)
	}
	return max(mtu-header4-l.cfg.Overhead(out), 256)
}

// Waiting says whether a tear or an error is not acknowledged yet, or something
// waits to be sent.
func (l *Layer) Waiting() bool {
	for _, e := range l.byID {
		if e.once && !e.summary && e.flying() {
			return true
		}
	}
	for _, nb := range l.neighbors {
		if len(nb.queue)+len(nb.due) > 0 {
			return true
		}
	}
	return false
}
