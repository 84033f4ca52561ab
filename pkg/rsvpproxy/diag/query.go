package diag

import (
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Defaults of [Query].
const (
	DefaultTimeout  = time.Second
	DefaultAttempts = 3
	DefaultPathMTU  = 1500
)

// Query is what a client wants to know.
type Query struct {
	Session   wire.Session
	Sender    wire.Filter
	LastHop   netip.Addr // where to begin
	Requester wire.Filter
	Hop       wire.Hop // our address towards LastHop
	// ID is the Request ID of the first attempt; each further one has the next.
	ID       uint32
	PathMTU  uint16
	MaxHops  uint8 // 0: up to the sender
	HopByHop bool  // reply along ROUTE from the first attempt on
	Select   []wire.ClassCType

	Timeout  time.Duration // of one attempt
	Attempts int
}

func (q Query) withDefaults() Query {
	if q.PathMTU == 0 {
		q.PathMTU = DefaultPathMTU
	}
	if q.Timeout <= 0 {
		q.Timeout = DefaultTimeout
	}
	if q.Attempts <= 0 {
		q.Attempts = DefaultAttempts
	}
	return q
}

// request is a DREQ.
func (q *Query) request(id uint32, maxHops uint8, hopByHop bool) *wire.Diag {
	d := &wire.Diag{
		Type: wire.DiagRequest, Session: q.Session, Hop: q.Hop, Select: q.Select,
		Diagnostic: wire.Diagnostic{
			MaxHops: maxHops, RequestID: id, PathMTU: q.PathMTU, LastHop: q.LastHop, Sender: q.Sender, Requester: q.Requester,
		},
	}
	if hopByHop {
		d.Route = wire.NewRoute(!q.Session.Dst.Is4())
	}
	return d
}

// Outcome is how a trace ended.
type Outcome uint8

// The outcomes. The hops of all but NoAnswer are whole up to where it ended.
const (
	NoAnswer     Outcome = iota // nobody answered
	ReachedEnd                  // the last hop told of is the sender, or speaks for it
	ReachedLimit                // Query.MaxHops
	NoPath                      // the last hop told of has no path state for the sender
	Looped                      // the last hop told of was there before: path state points in a circle
	Silent                      // the hop behind the last one told of does not answer
	Partial                     // parts of the reply were lost
)

var outcomeNames = [...]string{"no-answer", "sender", "max-hops", "no-path", "loop", "silent", "partial"}

// String returns the name that the API uses.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return "unknown"
}

// Result is the answer to a [Query].
type Result struct {
	Outcome  Outcome
	Hops     []wire.DiagResponse // from the receiver's side to the sender's
	Attempts int                 // requests sent
	HopByHop bool                // the reply came along ROUTE
}
