package reliable

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Defaults of [Config].
const (
	DefaultRf           = 500 * time.Millisecond // RFC 2961 section 6.2
	DefaultDelta        = 1.0                    // RFC 2961 section 6.2
	DefaultRl           = 3                      // RFC 2961 section 6.2
	DefaultMinRf        = 50 * time.Millisecond
	DefaultAckDelay     = 5 * time.Millisecond
	DefaultBundleDelay  = 5 * time.Millisecond
	DefaultMulticastAck = 200 * time.Millisecond // below Rf (RFC 2961 section 4.7)
	DefaultTTL          = 255
	DefaultK            = 3
	DefaultNeighbors    = 1000
	DefaultMessages     = 500_000
)

// all is to read what this package wrote itself, and what was read before.
var all = wire.Options{RefreshReduction: true, Formats: wire.AllFormats}

// Config are the parameters of a [Layer]. Zero values mean the defaults,
// negative times mean none.
type Config struct {
	Rf    time.Duration // first retransmission interval
	Delta float64       // each interval is 1+Delta times the one before
	Rl    int           // transmissions, if the interval begins with Rf
	// MinRf bounds the first interval where it is taken from the measured round
	// trip (RFC 2961 section 6.2); the intervals then grow up to the same last
	// one. Negative: it is always Rf.
	MinRf        time.Duration
	AckDelay     time.Duration // wait for a message to carry an acknowledgment
	BundleDelay  time.Duration // wait for more to bundle; negative: no bundles
	MulticastAck time.Duration // acknowledgments of multicast are spread over this
	TTL          uint8         // IP TTL of Ack and Srefresh
	K            int           // K-1 refreshes in a row may be lost
	Limits       Limits
	// Parse reads a message; nil: [wire.Options.Parse]. INTEGRITY has been looked
	// at before.
	Parse func(Packet) (*wire.Message, error)
	// Overhead tells by how many bytes a message grows after it has left here:
	// INTEGRITY, which each message of a Bundle has for itself. nil: by none.
	Overhead func(out softstate.IfIndex) int
}

// Limits bound what neighbours can make a [Layer] keep. Of Neighbors and Received
// every interface has a part of its own ([Layer.SetInterfaces]); Sent follows from
// what the machine keeps.
type Limits struct {
	Neighbors int // that have spoken, and as many that never did
	Sent      int // messages that were sent with a MESSAGE_ID
	Received  int // messages kept for their Srefresh
}

// Environment is what a [Layer] has to know about the machine.
type Environment interface {
	// AddrTowards returns our address on an interface for what is said to a
	// neighbour, see [softstate.Multihomed].
	AddrTowards(i softstate.IfIndex, neighbor netip.Addr) netip.Addr
	// MTU returns an interface's MTU in bytes, 0 if it is not known.
	MTU(softstate.IfIndex) int
	// NextHop returns the address of the next hop towards dst, which is dst
	// itself on a link; false if routing does not tell.
	NextHop(dst netip.Addr, out softstate.IfIndex) (netip.Addr, bool)
	// Forwards says whether multicast from src that arrives by in is forwarded
	// to group.
	Forwards(src, group netip.Addr, in softstate.IfIndex) bool
}

// Packet is an RSVP message as it arrived.
type Packet struct {
	Iface       softstate.IfIndex
	Src, Dst    netip.Addr
	TTL         uint8
	RouterAlert bool
	Hidden      bool   // see [softstate.Received]
	Payload     []byte // not kept
}

func (c Config) withDefaults() Config {
	c.Rf = cmp.Or(c.Rf, DefaultRf)
	c.Delta = cmp.Or(c.Delta, DefaultDelta)
	c.Rl = cmp.Or(c.Rl, DefaultRl)
	c.MinRf = cmp.Or(c.MinRf, DefaultMinRf)
	c.AckDelay = cmp.Or(c.AckDelay, DefaultAckDelay)
	c.BundleDelay = cmp.Or(c.BundleDelay, DefaultBundleDelay)
	c.MulticastAck = cmp.Or(c.MulticastAck, DefaultMulticastAck)
	c.TTL = cmp.Or(c.TTL, DefaultTTL)
	c.K = cmp.Or(c.K, DefaultK)
	c.Limits.Neighbors = cmp.Or(c.Limits.Neighbors, DefaultNeighbors)
	c.Limits.Sent = cmp.Or(c.Limits.Sent, DefaultMessages)
	c.Limits.Received = cmp.Or(c.Limits.Received, DefaultMessages)
	if c.Parse == nil {
		c.Parse = func(p Packet) (*wire.Message, error) {
			return all.Parse(p.Payload)
		}
	}
	if c.Overhead == nil {
		c.Overhead = func(softstate.IfIndex) int { return 0 }
	}
	return c
}

// lastInterval is the longest retransmission interval: that of the Rl-th
// transmission if the first waits Rf.
func (c Config) lastInterval() time.Duration {
	d := float64(c.Rf)
	for range c.Rl - 1 {
		d *= 1 + c.Delta
	}
	return time.Duration(d)
}
