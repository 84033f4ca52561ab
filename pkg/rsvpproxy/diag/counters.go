package diag

import "github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"

// Counters are the figures of a [Node] since it was made.
type Counters struct {
	RequestsIn, RepliesIn   uint64 // received
	RequestsOut, RepliesOut uint64 // sent, other nodes' included
	Fragments               uint64 // of RepliesOut: parts of a reply that was longer than the MTU
	Passed                  uint64 // requests handed on towards their LAST-HOP, untouched
	NoPath                  uint64 // requests for a session without path state
	RouteTooLong            uint64 // ROUTE objects that were cut off
	Loops                   uint64 // requests that have been here before, or at 255 nodes
	Malformed               uint64
	Limited                 uint64 // more than [Config.Rate]
	Stray                   uint64 // not for this node, or not on the way that they tell
	Expired                 uint64 // TTL or fragment offset at its end
	Unreachable             uint64 // no way to where the message should go
}

func (c *Counters) sent(d *wire.Diag) {
	if d.Type == wire.DiagRequest {
		c.RequestsOut++
		return
	}
	c.RepliesOut++
	if d.Diagnostic.More {
		c.Fragments++
	}
}
