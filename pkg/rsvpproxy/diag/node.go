package diag

import (
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Defaults of [Config].
const (
	DefaultTTL  = 255
	DefaultRate = 100
)

// Config are the parameters of a [Node]. Zero values mean the defaults.
type Config struct {
	TTL uint8 // IP TTL of what starts here
	// Rate is how many diagnostic messages a second, and at once, are dealt with:
	// whoever asks is not known, and the answer goes where the question says.
	// Negative: any number.
	Rate int
}

// State is the RSVP state that is reported: a [softstate.Node].
type State interface {
	Inspect(id wire.Session, f wire.Filter, out softstate.IfIndex) (softstate.Inspection, bool)
}

// Network is what a [Node] has to know about its machine; see
// [softstate.Environment].
type Network interface {
	Route(dst netip.Addr) (out softstate.IfIndex, local, ok bool)
	AddrTowards(i softstate.IfIndex, to netip.Addr) netip.Addr // see [softstate.Multihomed]
	Local(netip.Addr) bool
	Aware(dst netip.Addr, out softstate.IfIndex) bool
	MTU(softstate.IfIndex) int
}

// Received is a message with what its IP packet tells.
type Received struct {
	Iface    softstate.IfIndex
	Src, Dst netip.Addr
	TTL      uint8 // as it arrived
	Msg      *wire.Diag
	Raw      []byte // Msg as it came
	Err      error  // what wire.ParseDiag said; Msg is then nil
}

// Send asks for a message to be sent as one IP datagram: of protocol 46 out of an
// interface, or, to a requester who named a port, of UDP.
type Send struct {
	Out      softstate.IfIndex // not of UDP, whose way the kernel chooses
	Src, Dst netip.Addr        // Src: not of UDP
	TTL      uint8
	Port     uint16 // of UDP; 0: protocol 46
	Msg      *wire.Diag
	Raw      []byte // in Msg's place: another's message, as it came
}

// Node deals with the diagnostic messages of one machine. It has no locks and
// keeps nothing from one message to the next (RFC 2745 section 6).
type Node struct {
	cfg   Config
	state State
	net   Network
	count Counters

	tokens float64
	last   time.Time
}

// New returns a Node.
func New(cfg Config, state State, net Network) *Node {
	if cfg.TTL == 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.Rate == 0 {
		cfg.Rate = DefaultRate
	}
	return &Node{cfg: cfg, state: state, net: net}
}

// Counters reads the figures.
func (n *Node) Counters() Counters { return n.count }

// Handle takes a message in. It keeps Msg.
func (n *Node) Handle(now time.Time, rx Received) []Send {
	switch {
	case !n.allow(now):
		n.count.Limited++
		return nil
	case rx.Err != nil || rx.Msg == nil:
		n.count.Malformed++
		return nil
	case rx.Msg.Type == wire.DiagRequest:
		n.count.RequestsIn++
		return n.request(now, &rx)
	default:
		n.count.RepliesIn++
		return n.reply(&rx)
	}
}

// Ask sends a request of this machine on its way: to its LAST-HOP, or if that is
// here as if it had come from its requester.
func (n *Node) Ask(now time.Time, d *wire.Diag) []Send {
	if n.lastHop(d) {
		d.SendTTL = n.cfg.TTL
		return n.request(now, &Received{Src: d.Diagnostic.Requester.Src, Dst: d.Diagnostic.LastHop, TTL: n.cfg.TTL, Msg: d})
	}
	return n.routed(d.Diagnostic.LastHop, d)
}

// allow is a token bucket.
func (n *Node) allow(now time.Time) bool {
	if n.cfg.Rate < 0 {
		return true
	}
	rate := float64(n.cfg.Rate)
	if n.last.IsZero() {
		n.tokens = rate
	} else if since := now.Sub(n.last); since > 0 {
		n.tokens = min(rate, n.tokens+since.Seconds()*rate)
	}
	n.last = now
	if n.tokens < 1 {
		return false
	}
	n.tokens--
	return true
}

// addr is our address on an interface towards dst, and of its family; zero if
// there is none, as the objects of RFC 2745 have it.
func (n *Node) addr(i softstate.IfIndex, dst netip.Addr) netip.Addr {
	a, zero := netip.Addr{}, netip.IPv6Unspecified()
	if dst.Is4() {
		zero = netip.IPv4Unspecified()
	}
	if i != 0 {
		a = n.net.AddrTowards(i, dst)
	}
	if !a.IsValid() {
		return zero
	}
	return a
}

// raw sends a message of our own towards dst.
func (n *Node) raw(out softstate.IfIndex, dst netip.Addr, d *wire.Diag) []Send {
	src := n.addr(out, dst)
	if src.IsUnspecified() {
		n.count.Unreachable++
		return nil
	}
	d.SendTTL, d.Hop.Addr, d.Integrity = n.cfg.TTL, src, nil // INTEGRITY is from hop to hop
	n.count.sent(d)
	return []Send{{Out: out, Src: src, Dst: dst, TTL: n.cfg.TTL, Msg: d}}
}

// routed is raw on the way that the kernel's routes give.
func (n *Node) routed(dst netip.Addr, d *wire.Diag) []Send {
	out, local, ok := n.net.Route(dst)
	if !ok || local {
		n.count.Unreachable++
		return nil
	}
	return n.raw(out, dst, d)
}
