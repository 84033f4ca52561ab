package softstate

import (
	"cmp"
	"math/rand/v2"
	"time"
)

// Defaults of [Config].
const (
	DefaultRefresh    = 30 * time.Second // RFC 2205 section 3.7 (4)
	DefaultK          = 3                // RFC 2205 section 3.7 (2)
	DefaultKb         = 4                // above the longest refresh interval, 1.5 R, with one loss to spare
	DefaultTTL        = 255
	DefaultRepair     = 2 * time.Second // W of RFC 2205 section 3.6
	DefaultQuick      = 3
	DefaultSessions   = 100_000
	DefaultPerSession = 1000
	DefaultNeighbors  = 1000
	DefaultErrorRate  = 1000
	DefaultShare      = 8
)

const (
	// slewMax limits how fast R may grow (RFC 2205 section 3.7 (5)).
	slewMax = 0.30
	// quickBase is the first of the quick refreshes after a change; each
	// further one waits twice as long (RFC 2205 section 3.7 (6)).
	quickBase = 500 * time.Millisecond
	// minRefresh and maxRefresh bound the R that a neighbour announces: zero
	// would make its state vanish as it comes, 49 days would keep it for ever.
	// An hour is 120 times the default, and as much as our own configuration
	// takes: such state lives for five hours and a quarter, one lost PathTear or a
	// flood of PATHs no longer. State of a larger R that is refreshed less often
	// than that does end.
	minRefresh = time.Second
	maxRefresh = time.Hour
)

// Config are the parameters of a [Node]. Zero values mean the defaults.
type Config struct {
	Refresh time.Duration // R, the mean interval between refreshes
	K       int           // K-1 refreshes in a row may be lost
	Kb      int           // blockade lasts Kb*R
	TTL     uint8         // IP TTL of messages that start here
	Repair  time.Duration // wait between a route change and the repair
	// Quick is how many extra refreshes follow a change of state, so that one
	// lost message does not cost a whole R; negative: none.
	Quick  int
	Limits Limits
	// ErrorRate is how many PathErr and ResvErr messages a second, and at once,
	// a neighbour's errors are answered with; negative: any number.
	ErrorRate int
	// IPv6 has the node take sessions of IPv6. Its owner must then be able to
	// carry such messages, and [Environment.Addr6] to answer.
	IPv6 bool
	// Transparent: the node speaks with its neighbours' addresses, its own are
	// neither needed nor told. Its [Environment] is an [Unseen] then, and its owner
	// finds out with [Claims] what is addressed to it.
	Transparent bool
	// Handle tells the logical interface handles of a transparent node from those of
	// others. It should be its own, and the same after a restart; 0: any.
	Handle uint32
	// Bridge: what goes on keeps its TTL, as the data do.
	Bridge bool
}

// Limits bound the state that neighbours can make a [Node] keep. Of each limit but
// PerSession every interface has a part of its own ([Node.SetInterfaces]).
type Limits struct {
	Sessions   int // sessions
	Senders    int // senders in all sessions together
	PerSession int // senders of one session
	Neighbors  int // different previous and next hops
	Requests   int // reservation requests of next hops
	// Share is how many times what is free of Sessions and Senders for its
	// interface one neighbour may hold: with 8 eight ninths of them, alone.
	// Negative: all.
	Share int
}

func (c Config) withDefaults() Config {
	c.Refresh = cmp.Or(c.Refresh, DefaultRefresh)
	c.K = cmp.Or(c.K, DefaultK)
	c.Kb = cmp.Or(c.Kb, DefaultKb)
	c.TTL = cmp.Or(c.TTL, DefaultTTL)
	c.Repair = cmp.Or(c.Repair, DefaultRepair)
	c.Quick = cmp.Or(c.Quick, DefaultQuick)
	c.Limits.Sessions = cmp.Or(c.Limits.Sessions, DefaultSessions)
	c.Limits.Senders = cmp.Or(c.Limits.Senders, c.Limits.Sessions)
	c.Limits.PerSession = cmp.Or(c.Limits.PerSession, DefaultPerSession)
	c.Limits.Neighbors = cmp.Or(c.Limits.Neighbors, DefaultNeighbors)
	c.Limits.Requests = cmp.Or(c.Limits.Requests, 2*c.Limits.Senders)
	c.ErrorRate = cmp.Or(c.ErrorRate, DefaultErrorRate)
	c.Limits.Share = cmp.Or(c.Limits.Share, DefaultShare)
	c.Refresh = max(c.Refresh, minRefresh)
	return c
}

// unseen is the environment of a transparent node, nil if it is none. It has a
// handle of its own then: one that is no small number, as those of most others.
func (c *Config) unseen(env Environment, rng *rand.Rand) (u Unseen) {
	if c.Transparent {
		u, _ = env.(Unseen)
	}
	if u == nil {
		c.Handle = 0
		return nil
	}
	if c.Handle == 0 {
		c.Handle = rng.Uint32()
	}
	c.Handle |= 1 << 31
	return u
}
