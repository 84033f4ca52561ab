package softstate

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/timers"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Node is the RSVP state of one machine. It has no locks.
type Node struct {
	cfg     Config
	env     Environment
	rng     *rand.Rand
	rev     Reverser                  // nil: env is none
	sure    Assurer                   // likewise
	crosser Crosser                   // likewise
	find    Discoverer                // likewise
	home    Multihomed                // likewise
	unseen  Unseen                    // nil: not [Config.Transparent]
	own     map[IfIndex]time.Duration // R of interfaces that have their own

	sessions  map[wire.Session]*session
	ports     map[portKey]*portUse
	byID      map[uint64]*tcsb
	neighbors map[neighborKey]*neighbor
	room      rooms
	lastID    uint64
	timers    timers.Heap[owner]
	count     counters
	// now is the time of the call that is being worked on.
	now        time.Time
	complaints [complaints]bucket

	out      []Effect
	dirty    []*psb
	branches []*session // whose policing flags may have changed

	lastDrop   Drop // of the latest message
	hasDropped bool

	// Tears that a transparent node repeats.
	farewells map[farewellKey][]*said
	saying    int

	// What Recover has begun: RESV messages that wait for their PATH.
	recovery time.Time
	early    map[wire.Session][]Received

	restyling bool // the receiver proxy is changing a session's style
	torn      bool // reservations that end now were taken back, see [Release]
}

// New returns a Node without state. rng spreads the refreshes.
func New(cfg Config, env Environment, rng *rand.Rand) *Node {
	rev, _ := env.(Reverser)
	sure, _ := env.(Assurer)
	crosser, _ := env.(Crosser)
	find, _ := env.(Discoverer)
	home, _ := env.(Multihomed)
	cfg = cfg.withDefaults()
	unseen := cfg.unseen(env, rng)
	return &Node{
		cfg: cfg, env: env, rng: rng, rev: rev, sure: sure, crosser: crosser, find: find, home: home, unseen: unseen, room: newRooms(cfg.Limits),
		sessions: map[wire.Session]*session{}, ports: map[portKey]*portUse{},
		byID: map[uint64]*tcsb{}, farewells: map[farewellKey][]*said{}, neighbors: map[neighborKey]*neighbor{},
		count: counters{
			malformed: map[wire.Kind]uint64{},
			pathErrs:  map[wire.ErrorCode]uint64{}, resvErrs: map[wire.ErrorCode]uint64{},
		},
	}
}

// Received is a message with what its IP packet tells.
type Received struct {
	Iface    IfIndex
	Src, Dst netip.Addr
	// TTL is that of the IP header as it arrived, before any forwarding.
	TTL uint8
	// RouterAlert: the IP header had the option. Only told, never required: RFC 6398.
	RouterAlert bool
	// Hidden: it has crossed an aggregation region as protocol 134 (RFC 3175 section
	// 2.3). The routers in between are no routers without RSVP.
	Hidden bool
	Msg    *wire.Message
	// Err is what wire.Parse said, nil if nothing. Msg may then be nil.
	Err error
}

// Mine says whether a message of type t to dst is for this node; what is not
// has to be forwarded untouched (RFC 2209 section 2), and so has IPv6 unless it
// is enabled: the node is then a hop without RSVP. Of a transparent node that is
// for [Claims] to say.
func (n *Node) Mine(t wire.MsgType, dst netip.Addr) bool {
	return n.family(dst) && (n.unseen != nil || t.NeedsRouterAlert() || n.env.Local(dst))
}

// family says whether addresses like a are in use.
func (n *Node) family(a netip.Addr) bool {
	return a.Is4() || n.cfg.IPv6 && a.Is6() && !a.Is4In6()
}

// addr is our address on an interface, for what is said to a neighbour or by the
// route to dst, and of the same family.
func (n *Node) addr(i IfIndex, dst netip.Addr) netip.Addr {
	switch {
	case n.home != nil:
		return n.home.AddrTowards(i, dst)
	case dst.Is4():
		return n.env.Addr(i)
	default:
		return n.env.Addr6(i)
	}
}

// near is where what is said to a neighbour in a session with dst goes, as far
// as our own address depends on it.
func near(neighbor, dst netip.Addr) netip.Addr {
	if neighbor.Is4() == dst.Is4() && neighbor.IsValid() {
		return neighbor
	}
	return dst
}

// Handle takes a message in.
func (n *Node) Handle(now time.Time, rx Received) []Effect {
	n.now, n.hasDropped = now, false
	n.handle(now, &rx)
	return n.flush()
}

func (n *Node) handle(now time.Time, rx *Received) {
	if rx.Err != nil {
		n.handleBroken(rx)
		return
	}
	m := rx.Msg
	if m != nil && m.Type == wire.Notify {
		n.handleNotify(now, rx)
		return
	}
	if m == nil || !m.Type.Known() {
		n.drop(DropMalformed)
		return
	}
	n.count.in[m.Type]++
	switch {
	case !n.Mine(m.Type, rx.Dst):
		n.drop(DropNotForUs)
		return
	case !n.family(m.Session.Dst) || m.Session.Dst.Is6() && !n.uses(rx.Iface, m.Session.Dst):
		n.drop(DropFamily)
		return
	case m.Hop != nil && !n.neighborly(m.Hop.Addr), n.apart(m):
		n.drop(DropHop)
		return
	case n.echoed(m):
		n.drop(DropLoop)
		return
	}
	switch m.Type {
	case wire.Path:
		n.handlePath(now, rx)
	case wire.PathTear:
		n.handlePathTear(now, rx)
	case wire.PathErr:
		n.handlePathErr(now, rx)
	case wire.Resv:
		n.handleResv(now, rx)
	case wire.ResvTear:
		n.handleResvTear(now, rx)
	case wire.ResvErr:
		n.handleResvErr(now, rx)
	case wire.ResvConf:
		n.handleResvConf(rx)
	default: // not Known, see above
	}
}

// neighborly says whether a can be a neighbour's address: a unicast address
// that is not ours (RFC 2205 Appendix B, illegal hop address).
func (n *Node) neighborly(a netip.Addr) bool {
	return n.family(a) && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255}) && !n.env.Local(a)
}

// handleBroken answers what the codec refused, where RFC 2205 wants an answer
// (sections 3.10 and 3.1.8), and counts the rest (Appendix B).
func (n *Node) handleBroken(rx *Received) {
	we, ok := errors.AsType[*wire.Error](rx.Err)
	if ok {
		n.count.malformed[we.Kind]++
	}
	m := rx.Msg
	if !ok || !we.Respond || m == nil || m.Hop == nil || !n.neighborly(m.Hop.Addr) || !n.uses(rx.Iface, m.Hop.Addr) || n.apart(m) || n.echoed(m) || !n.Mine(m.Type, rx.Dst) {
		n.drop(DropMalformed)
		return
	}
	n.count.in[m.Type]++
	refusal := &Refusal{Code: we.Code, Value: we.Value, Text: we.Detail}
	switch m.Type {
	case wire.Path:
		n.refusePath(rx, refusal)
	case wire.Resv:
		n.refuseResv(rx, refusal)
	default:
		n.drop(DropMalformed)
	}
}

// NextDeadline tells when [Node.Advance] has to be called; false: never.
func (n *Node) NextDeadline() (time.Time, bool) {
	return n.timers.Next()
}

// Advance runs the timers that are due.
func (n *Node) Advance(now time.Time) []Effect {
	n.now = now
	for t := n.timers.Due(now); t != nil; t = n.timers.Due(now) {
		switch o := t.Owner; o.kind {
		case timerPathRefresh:
			n.pathRefresh(now, o.p)
		case timerPathLife:
			n.pathExpired(now, o.p)
		case timerResvRefresh:
			n.resvRefresh(now, o.u)
		case timerResvLife:
			n.resvExpired(now, o.r)
		case timerFailure:
			o.p.failure, o.p.blockade = nil, nil
			n.touch(o.p)
		case timerLimit:
			n.unlimit(now, o.p)
		case timerHopLife:
			n.hopExpired(now, o.p, t)
		case timerSaid:
			n.sayAgain(now, o.w)
		}
	}
	return n.flush()
}

func (n *Node) emit(e Effect) { n.out = append(n.out, e) }

// flush adds the events for what has changed and hands the effects over.
func (n *Node) flush() []Effect {
	n.recheckBranches()
	for _, p := range n.dirty {
		n.show(p)
	}
	n.dirty = n.dirty[:0]
	out := n.out
	n.out = nil
	return out
}

// sendAs emits a message that starts at this node towards a neighbour, from an address
// of ours or, of a transparent node, from a name.
func (n *Node) sendAs(src netip.Addr, out IfIndex, dst netip.Addr, m *wire.Message) {
	m.SendTTL = n.cfg.TTL
	n.transmit(Send{Out: out, Src: src, Dst: dst, TTL: n.cfg.TTL, RouterAlert: m.Type.NeedsRouterAlert(), Msg: m})
}

func (n *Node) transmit(s Send) {
	n.count.out[s.Msg.Type]++
	n.emit(s)
	if n.unseen != nil {
		n.repeat(s)
	}
}

func (n *Node) jitter(r time.Duration) time.Duration { return Jitter(n.rng, r) }

func (n *Node) lifetime(tv *wire.TimeValues) time.Duration {
	return Lifetime(Period(tv, n.cfg.Refresh), n.cfg.K)
}

func timeValues(r time.Duration) *wire.TimeValues {
	return &wire.TimeValues{Refresh: uint32(r.Milliseconds())}
}

// quick is how many quick refreshes a message to dst gets that leaves by out.
func (n *Node) quick(dst netip.Addr, out IfIndex) int {
	if n.sure != nil && n.sure.Assured(dst, out) {
		return 0
	}
	return max(n.cfg.Quick, 0)
}

// interval returns how long to wait for the next refresh: quick ones first.
func (n *Node) interval(r time.Duration, quick *int) time.Duration {
	if *quick > 0 {
		d := quickBase << (n.cfg.Quick - *quick)
		*quick--
		if d < r {
			return n.jitter(d)
		}
	}
	return n.jitter(r)
}
