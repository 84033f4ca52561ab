package tunnel

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Tunnel is one tunnel interface.
type Tunnel struct {
	Name          string
	Iface         softstate.IfIndex
	Local, Remote netip.Addr // of the outer header
	Protocol      uint8      // of the outer packets
	Port          uint16     // of both ends, if that is UDP; else 0
	Overhead      uint32     // bytes that encapsulation adds to a packet
}

// away is the tunnel session of what this end sends, and home that of what it
// receives.
func (t *Tunnel) away() (wire.Session, wire.Filter) { return t.session(t.Local, t.Remote) }
func (t *Tunnel) home() (wire.Session, wire.Filter) { return t.session(t.Remote, t.Local) }

func (t *Tunnel) session(from, to netip.Addr) (wire.Session, wire.Filter) {
	return wire.Session{Dst: to, Protocol: t.Protocol, DstPort: t.Port}, wire.Filter{Src: from, SrcPort: t.Port}
}

// Config are the parameters of a [Table]. Zero values mean the defaults.
type Config struct {
	Refresh time.Duration // R of the tunnel sessions
	K       int
	// Wait is how long a reservation waits for the tunnel session.
	Wait time.Duration
	// Flows bounds the reservations over each tunnel.
	Flows int
}

// Defaults of [Config].
const (
	DefaultWait  = 5 * time.Second
	DefaultFlows = 10_000
)

// Network is what a [Table] has to know about its machine.
type Network interface {
	AddrTowards(i softstate.IfIndex, neighbor netip.Addr) netip.Addr // see [softstate.Multihomed]
}

// Counters are the figures of a [Table] since it was made.
type Counters struct {
	Held, Granted, Refused uint64 // reservations that waited for a tunnel
	TimedOut               uint64 // of the refused: nothing was heard in time
	Failed                 uint64 // errors of tunnel sessions that were told to receivers
	Full                   uint64 // reservations over the limit, which the tunnel session does not know
	Unbound                uint64 // PATH out of a tunnel that belongs to no tunnel session
	// Tunnels and Carried are what there is now.
	Tunnels, Carried int
}

// Table are the tunnels of one machine. It has no locks.
type Table struct {
	cfg   Config
	net   Network
	rng   *rand.Rand
	ends  map[softstate.IfIndex]*end
	count Counters
	out   []pipe.Effect
	now   time.Time
}

// end is this machine's end of a tunnel.
type end struct {
	Tunnel
	entry entry
	exit  exit
}

// New returns a Table without tunnels. rng spreads the refreshes.
func New(cfg Config, net Network, rng *rand.Rand) *Table {
	cfg.Refresh, cfg.K = cmp.Or(cfg.Refresh, softstate.DefaultRefresh), cmp.Or(cfg.K, softstate.DefaultK)
	cfg.Wait, cfg.Flows = cmp.Or(cfg.Wait, DefaultWait), cmp.Or(cfg.Flows, DefaultFlows)
	return &Table{cfg: cfg, net: net, rng: rng, ends: map[softstate.IfIndex]*end{}}
}

// SetRefresh changes R.
func (t *Table) SetRefresh(r time.Duration) { t.cfg.Refresh = r }

// Set tells which tunnels there are. What is known of those that stay as they
// were is kept; the tunnel sessions of the others end.
func (t *Table) Set(now time.Time, list []Tunnel) []pipe.Effect {
	t.now = now
	for i, e := range t.ends {
		if !slices.Contains(list, e.Tunnel) {
			t.leave(e)
			delete(t.ends, i)
		}
	}
	for _, u := range list {
		if t.ends[u.Iface] == nil {
			t.ends[u.Iface] = &end{Tunnel: u, entry: newEntry(), exit: newExit()}
		}
	}
	return t.flush()
}

// leave ends a tunnel: nobody waits for it any more.
func (t *Table) leave(e *end) {
	for _, c := range pipe.InOrder(e.entry.carried) {
		if c.held != nil {
			t.emit(pipe.Grant{Reserve: *c.held})
		}
	}
	t.silence(e)
	t.hangUp(e)
}

// Shutdown ends all tunnel sessions.
func (t *Table) Shutdown(now time.Time) []pipe.Effect { return t.Set(now, nil) }

// Outgoing looks at a message of the machine before it is sent, and adds what
// the other end of a tunnel has to know (RFC 2746 sections 2.3.1 and 2.3.2).
func (t *Table) Outgoing(s *softstate.Send) {
	e := t.ends[s.Out]
	if e == nil {
		return
	}
	m := *s.Msg
	switch {
	case m.Type == wire.Path && e.entry.has(m.Session):
		_, tunnel := e.away()
		m.Unknown = append(slices.Clip(m.Unknown), wire.SessionAssoc{Session: m.Session, Tunnel: tunnel}.Object())
	case m.Type == wire.Resv:
		m.TunnelEnd = true
	default:
		return
	}
	s.Msg = &m
}

// Incoming looks at a message before the machine does. consumed: it was the
// tunnel session's. What it changes of the message is changed in a copy.
func (t *Table) Incoming(now time.Time, rx *softstate.Received) (consumed bool, out []pipe.Effect) {
	if rx.Msg == nil || rx.Err != nil || len(t.ends) == 0 {
		return false, nil
	}
	t.now = now
	if e := t.ends[rx.Iface]; e != nil {
		switch rx.Msg.Type {
		case wire.Resv:
			e.entry.capable = rx.Msg.TunnelEnd
		case wire.Path:
			t.crossed(e, rx)
		default:
		}
		return false, t.flush()
	}
	for _, e := range t.ends {
		if session, _ := e.home(); session == rx.Msg.Session.Key() {
			t.received(e, rx)
			return true, t.flush()
		}
	}
	return false, nil
}

// Event tells of a change of the machine's state.
func (t *Table) Event(now time.Time, v softstate.Event) []pipe.Effect {
	if len(t.ends) == 0 {
		return nil
	}
	t.now = now
	for _, e := range t.ends {
		if session, sender := e.away(); session == v.Session.Key() && sender == v.Sender {
			t.tunnelChanged(e, v)
		}
	}
	if e := t.ends[v.In]; e != nil {
		t.reserved(e, v)
	}
	return t.flush()
}

// NextDeadline tells when [Table.Advance] has to be called; false: never.
func (t *Table) NextDeadline() (at time.Time, ok bool) {
	earlier := func(b time.Time) {
		if !b.IsZero() && (!ok || b.Before(at)) {
			at, ok = b, true
		}
	}
	for _, e := range t.ends {
		for _, c := range e.entry.carried {
			if c.held != nil {
				earlier(c.deadline)
			}
		}
		earlier(e.exit.refresh)
		earlier(e.exit.until)
		earlier(e.exit.retry)
	}
	return at, ok
}

// Advance does what is due.
func (t *Table) Advance(now time.Time) []pipe.Effect {
	t.now = now
	for _, e := range t.ends {
		t.advanceEntry(e)
		t.advanceExit(e)
	}
	return t.flush()
}

// Counters reads the figures.
func (t *Table) Counters() Counters {
	c := t.count
	c.Tunnels = len(t.ends)
	for _, e := range t.ends {
		c.Carried += len(e.entry.carried)
	}
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

// zeroFlow is no flow.
var zeroFlow intserv.FlowSpec
