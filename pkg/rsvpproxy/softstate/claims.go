package softstate

import (
	"maps"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Claims are the names that a transparent node goes by ([Config.Transparent]), each
// in one session and towards one interface, for as long as a neighbour may have state
// that was made with it. Its owner asks here what is addressed to the node: the
// addresses are those of hosts and other nodes, to whom everything else goes on
// untouched. It is not safe for concurrent use.
type Claims struct {
	k, limit int
	until    map[claim]time.Time
	sweep    int // how many there may be before those that are over are looked for
	swept    time.Time
	refused  uint64
}

type claim struct {
	session wire.Session
	name    netip.Addr
	iface   IfIndex
	next    bool // next hops use it: it is told in PATH
}

// NewClaims returns an empty set for a node of these parameters.
func NewClaims(cfg Config) *Claims {
	cfg = cfg.withDefaults()
	c := &Claims{k: cfg.K, limit: 4 * cfg.Limits.Senders, until: map[claim]time.Time{}}
	c.sweep = min(c.limit, leastSweep)
	return c
}

const (
	leastSweep = 1024
	sweepEvery = time.Second // at most: a full set is not gone through with each message
)

// Sent notes what a message tells a neighbour.
func (c *Claims) Sent(now time.Time, s *Send) {
	m := s.Msg
	if m.Hop == nil || m.Type != wire.Path && m.Type != wire.Resv {
		return
	}
	k := claim{m.Session.Key(), m.Hop.Addr, s.Out, m.Type == wire.Path}
	until := now.Add(Lifetime(Period(m.TimeValues, DefaultRefresh), c.k))
	if was, ok := c.until[k]; ok {
		if until.After(was) {
			c.until[k] = until
		}
		return
	}
	if len(c.until) >= c.sweep && now.Sub(c.swept) >= sweepEvery {
		maps.DeleteFunc(c.until, func(_ claim, at time.Time) bool { return !at.After(now) })
		c.sweep, c.swept = min(c.limit, max(leastSweep, 2*len(c.until))), now
	}
	if len(c.until) >= c.limit {
		c.refused++
		return
	}
	c.until[k] = until
}

// Mine says whether a message of type t about session s that came in by an
// interface and is addressed to dst is meant for the node. PATH and PathTear are looked at
// by every node on the way, and not asked for here.
func (c *Claims) Mine(now time.Time, t wire.MsgType, s wire.Session, dst netip.Addr, iface IfIndex) bool {
	k := claim{s.Key(), dst, iface, true}
	switch t {
	case wire.Resv, wire.ResvTear, wire.PathErr:
	case wire.ResvErr, wire.ResvConf:
		k.next = false
	default:
		return false
	}
	until, ok := c.until[k]
	return ok && until.After(now)
}

// Len is how many there are.
func (c *Claims) Len() int { return len(c.until) }

// Refused counts the names that found no room.
func (c *Claims) Refused() uint64 { return c.refused }
