package aggregate

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/timers"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Interior is an interface that leads into the aggregation region.
type Interior struct {
	Name  string
	Iface softstate.IfIndex
	Size  Size // of aggregates that end here
	// Most is what an aggregate that begins here may grow to, in bytes/s: the deaggregator
	// learns it by PATH, and asks for no more (RFC 3175 section 2.4).
	Most float64
	MTU  uint32
}

// Config are the parameters of a [Table]. Zero values mean the defaults.
type Config struct {
	Refresh time.Duration // R of the aggregate sessions
	K       int
	// Wait is how long a reservation waits for its aggregate, PathWait how long a PATH
	// does for the ADSPEC of one.
	Wait, PathWait time.Duration
	// Aggregates bounds those that begin, and those that end here. Flows bounds the
	// end-to-end senders and reservations on each side.
	Aggregates, Flows int
}

// Defaults of [Config].
const (
	DefaultWait       = 5 * time.Second
	DefaultPathWait   = 2 * time.Second
	DefaultAggregates = 1000
	DefaultFlows      = 100_000
)

func (c Config) withDefaults() Config {
	c.Refresh = cmp.Or(c.Refresh, softstate.DefaultRefresh)
	c.K = cmp.Or(c.K, softstate.DefaultK)
	c.Wait = cmp.Or(c.Wait, DefaultWait)
	c.PathWait = cmp.Or(c.PathWait, DefaultPathWait)
	c.Aggregates = cmp.Or(c.Aggregates, DefaultAggregates)
	c.Flows = cmp.Or(c.Flows, DefaultFlows)
	return c
}

// Network is what a [Table] has to know about its machine.
type Network interface {
	AddrTowards(i softstate.IfIndex, neighbor netip.Addr) netip.Addr // see [softstate.Multihomed]
	Local(a netip.Addr) bool
	// DSCP is the mapping policy (RFC 3175 section 1.4.3): the code point that
	// packets of a sender have inside the region if its receiver asks for a service. 0
	// for the service: it has not asked yet.
	DSCP(wire.Session, wire.Filter, intserv.Service) uint8
	// Priority is what policy grants a reservation of the priority that it asks for.
	Priority(softstate.Reserve) softstate.Priority
}

// Counters are the figures of a [Table] since it was made.
type Counters struct {
	Held, Granted, Refused uint64 // reservations that waited for an aggregate, at either edge
	TimedOut               uint64 // of the refused: the aggregate did not grow in time
	Withdrawn              uint64 // reservations that lost their aggregate, at the aggregator
	Failed                 uint64 // ... and at the deaggregator
	Changes                uint64 // of the size of aggregates that end here, first and last of each included
	Needed                 uint64 // NEW-AGGREGATE-NEEDED that was sent
	Asked                  uint64 // ... and that came
	Strange                uint64 // of those: about a sender that does not go in here, or not to be understood
	Unknown                uint64 // PATHs that went on without the ADSPEC of an aggregate
	Full                   uint64 // aggregates, senders or reservations over a limit
	// Begin and End are the aggregates that there are now, by the edge; Carried and
	// Riding the reservations in them.
	Begin, End, Carried, Riding int
}

// Table are the aggregates of one machine. It has no locks.
type Table struct {
	cfg   Config
	net   Network
	rng   *rand.Rand
	ifs   map[softstate.IfIndex]*Interior
	count Counters
	out   []pipe.Effect
	now   time.Time

	timers timers.Heap[due]

	// Of the aggregator.
	begin    map[key]*begin
	entering map[wire.Session]*entering
	carried  map[uint64]*carried
	senders  int // in entering
	// Of the deaggregator.
	end      map[key]*end
	leaving  map[wire.Session]*leaving
	riders   map[uint64]*rider
	arriving int // senders in leaving
}

// due is what a timer belongs to.
type due interface{ fire(t *Table, which *timer) }

type timer = timers.Timer[due]

// New returns a Table of a machine that is at the edge of no region. rng spreads the
// refreshes.
func New(cfg Config, net Network, rng *rand.Rand) *Table {
	return &Table{
		cfg: cfg.withDefaults(), net: net, rng: rng, ifs: map[softstate.IfIndex]*Interior{},
		begin: map[key]*begin{}, entering: map[wire.Session]*entering{}, carried: map[uint64]*carried{},
		end: map[key]*end{}, leaving: map[wire.Session]*leaving{}, riders: map[uint64]*rider{},
	}
}

// SetRefresh changes R.
func (t *Table) SetRefresh(r time.Duration) { t.cfg.Refresh = r }

// Set tells which interfaces lead inside. Aggregates of those that stay are kept, as
// long as they have the addresses that they are known by.
func (t *Table) Set(now time.Time, list []Interior) []pipe.Effect {
	t.now = now
	ifs := map[softstate.IfIndex]*Interior{}
	for _, i := range list {
		i.Size = i.Size.withDefaults()
		ifs[i.Iface] = &i
	}
	t.ifs = ifs
	for _, b := range inKeyOrder(t.begin) {
		if i := ifs[b.key.iface]; i == nil || t.net.AddrTowards(i.Iface, b.key.far) != b.sender.Src {
			t.endBegin(b)
		} else {
			b.in = i
			t.announce(b)
		}
	}
	for _, e := range inKeyOrder(t.end) {
		if i := ifs[e.key.iface]; i == nil || e.session.Dst.IsValid() && !t.net.Local(e.session.Dst) {
			t.endEnd(e)
		} else {
			e.in = i
			t.fit(e)
		}
	}
	return t.flush()
}

// Shutdown ends all aggregates.
func (t *Table) Shutdown(now time.Time) []pipe.Effect { return t.Set(now, nil) }

// Interior says whether an interface leads into the region.
func (t *Table) Interior(i softstate.IfIndex) bool { return t.ifs[i] != nil }

// Outgoing looks at a message of the machine before it is sent. drop: it must not be
// sent yet. What it changes of the message is changed in a copy.
func (t *Table) Outgoing(now time.Time, s *softstate.Send) (drop bool) {
	if len(t.ifs) == 0 {
		return false
	}
	t.now = now
	m := s.Msg
	switch s.Hidden = Hides(s, t.Interior); {
	case s.Hidden:
		t.enters(s)
	case m.Type == wire.Path && s.From == 0 && t.Interior(s.Out) && IsAggregate(m.Session):
		s.Msg = fromHere(m)
	case m.Type == wire.Resv && EndToEnd(m.Session) && t.Interior(s.Out):
		return t.offers(s)
	case m.Type == wire.Resv && EndToEnd(m.Session):
		t.unclass(s)
	}
	return false
}

// Incoming looks at a message before the machine does. consumed: it is not for the
// machine, or not yet. What it changes of the message is changed in a copy.
func (t *Table) Incoming(now time.Time, rx *softstate.Received) (consumed bool, out []pipe.Effect) {
	m := rx.Msg
	i := t.ifs[rx.Iface]
	if m == nil || rx.Err != nil || i == nil {
		return false, nil
	}
	t.now = now
	switch {
	case IsAggregate(m.Session):
		if m.Session.Format != wire.FormatAggregate || !t.net.Local(m.Session.Dst) {
			return false, nil
		}
		t.received(i, rx)
		return true, t.flush()
	case !EndToEnd(m.Session):
		return false, nil
	case m.Type == wire.Path && rx.Hidden:
		consumed = t.leaves(i, rx)
	case m.Type == wire.Path || m.Type == wire.PathTear:
		if m.SenderTemplate != nil {
			t.left(m, rx.Hidden)
		}
	case m.Type == wire.PathErr && m.ErrorSpec != nil && m.ErrorSpec.Code == wire.ErrNewAggregate:
		t.needed(i, rx)
		consumed = true
	case m.Type == wire.Resv:
		t.maps(i, rx)
	}
	return consumed, t.flush()
}

// Reserve looks at a wish for a reservation before traffic control does. held: it
// waits for its aggregate, and comes back as [pipe.Grant] or [pipe.Refuse].
func (t *Table) Reserve(now time.Time, r softstate.Reserve) (held bool, out []pipe.Effect) {
	if len(t.ifs) == 0 || !EndToEnd(r.Session) {
		return false, nil
	}
	t.now = now
	if t.Interior(r.Out) {
		held = t.carry(r)
	} else {
		held = t.ride(r)
	}
	return held, t.flush()
}

// Result tells what traffic control said to a wish that was granted.
func (t *Table) Result(now time.Time, id uint64, granted bool) []pipe.Effect {
	t.now = now
	if granted {
		return nil
	}
	if c := t.carried[id]; c != nil && c.held == nil {
		t.takeBack(c)
	}
	if r := t.riders[id]; r != nil && r.held == nil {
		t.getOff(r)
	}
	return t.flush()
}

// Release looks at the end of a reservation before traffic control does, which
// never knew of one that is unknown.
func (t *Table) Release(now time.Time, id uint64) (unknown bool, out []pipe.Effect) {
	t.now = now
	if c := t.carried[id]; c != nil {
		unknown = !c.placed
		t.uncarry(c)
	} else if r := t.riders[id]; r != nil {
		unknown = !r.placed
		t.unride(r)
	}
	return unknown, t.flush()
}

// Event tells of a change of the machine's state.
func (t *Table) Event(now time.Time, v softstate.Event) []pipe.Effect {
	if len(t.ifs) == 0 && len(t.begin) == 0 {
		return nil
	}
	t.now = now
	switch {
	case v.Session.Format == wire.FormatAggregate:
		t.changed(v)
	case v.Gone:
		t.gone(v.Session, v.Sender)
	}
	return t.flush()
}

// NextDeadline tells when [Table.Advance] has to be called; false: never.
func (t *Table) NextDeadline() (time.Time, bool) { return t.timers.Next() }

// Advance does what is due.
func (t *Table) Advance(now time.Time) []pipe.Effect {
	t.now = now
	for w := t.timers.Due(now); w != nil; w = t.timers.Due(now) {
		w.Owner.fire(t, w)
	}
	return t.flush()
}

// Counters reads the figures.
func (t *Table) Counters() Counters {
	c := t.count
	c.Begin, c.End, c.Carried, c.Riding = len(t.begin), len(t.end), len(t.carried), len(t.riders)
	return c
}

func (t *Table) emit(e pipe.Effect) { t.out = append(t.out, e) }

func (t *Table) flush() []pipe.Effect {
	out := t.out
	t.out = nil
	return out
}

func (t *Table) lifetime(m *wire.Message) time.Duration {
	return softstate.Lifetime(softstate.Period(m.TimeValues, t.cfg.Refresh), t.cfg.K)
}

// usable says whether an aggregate can have an address at one of its ends: it has to
// be known beyond the link.
func usable(a, peer netip.Addr) bool {
	return a.IsValid() && peer.IsValid() && a.Is4() == peer.Is4() && a.IsGlobalUnicast() && peer.IsGlobalUnicast()
}

// quickest is the first of the repetitions of what was not answered; each further
// one waits twice as long.
const quickest = 500 * time.Millisecond

// slow is for what is only refreshed.
const slow = 10

// again is how long to wait for the next repetition: at most the refresh period.
func (t *Table) again(tries int) time.Duration {
	d := t.cfg.Refresh
	if tries < slow {
		d = min(d, quickest<<tries)
	}
	return softstate.Jitter(t.rng, d)
}
