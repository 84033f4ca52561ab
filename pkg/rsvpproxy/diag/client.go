package diag

import (
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Bounds of what replies can make a client keep.
const (
	maxFragments = 256
	maxResponses = 1024
)

// Client is the asking side (RFC 2745 section 6). It repeats its request, has the
// reply come hop by hop from the second attempt on (section 5.1), puts fragments
// together, and if nothing helps asks for one hop, for two and so on, to find the
// one that does not answer (section 5.6).
type Client struct {
	q        Query
	attempts []*attempt
	search   int // hops asked for; 0: not yet searching
	tries    int // of what is asked for now
	deadline time.Time
	done     bool
	result   Result
}

// attempt is one request and its reply.
type attempt struct {
	id       uint32
	maxHops  uint8
	hopByHop bool
	parts    []part // by offset
	count    int    // responses in all parts
}

type part struct {
	offset, size int
	final        bool
	responses    []wire.DiagResponse
}

// NewClient returns a client that has not asked yet.
func NewClient(q Query) *Client { return &Client{q: q.withDefaults()} }

// Next returns the request that is to be sent now, nil if there is none: call it
// at the beginning, and when [Client.Deadline] has come.
func (c *Client) Next(now time.Time) *wire.Diag {
	if c.done || now.Before(c.deadline) {
		return nil
	}
	if n := len(c.attempts); n > 0 {
		c.timedOut()
	}
	if c.done {
		return nil
	}
	c.tries++
	maxHops := c.q.MaxHops
	if c.search > 0 {
		maxHops = uint8(c.search)
	}
	a := &attempt{id: c.q.ID + uint32(len(c.attempts)), maxHops: maxHops, hopByHop: c.q.HopByHop || c.tries > 1 || c.search > 0}
	c.attempts = append(c.attempts, a)
	c.result.Attempts++
	c.deadline = now.Add(c.q.Timeout)
	return c.q.request(a.id, a.maxHops, a.hopByHop)
}

// timedOut decides what is asked next.
func (c *Client) timedOut() {
	limit := maxByte
	if c.q.MaxHops != 0 {
		limit = int(c.q.MaxHops)
	}
	switch {
	case c.tries < c.q.Attempts:
	case c.search == 0 && limit > 1:
		c.search, c.tries = 1, 0
	default:
		c.finish(nil)
	}
}

// Deadline is when [Client.Next] wants to be called.
func (c *Client) Deadline() time.Time { return c.deadline }

// Done says whether the result is there.
func (c *Client) Done() bool { return c.done }

// Result is what is known when the client is done, or given up.
func (c *Client) Result() Result {
	if !c.done {
		c.finish(nil)
	}
	return c.result
}

// Handle takes a reply in. What answers none of the requests is ignored.
func (c *Client) Handle(now time.Time, d *wire.Diag) {
	if c.done || d.Type != wire.DiagReply || d.Session.Key() != c.q.Session.Key() || d.Diagnostic.Sender != c.q.Sender ||
		d.Diagnostic.LastHop != c.q.LastHop || d.Diagnostic.Requester != c.q.Requester {
		return
	}
	i := slices.IndexFunc(c.attempts, func(a *attempt) bool { return a.id == d.Diagnostic.RequestID })
	if i < 0 || !c.attempts[i].add(d) {
		return
	}
	a := c.attempts[i]
	hops, whole := a.hops()
	switch {
	case !whole:
		// The reassembly timer begins anew with each part (section 6).
		c.deadline = now.Add(c.q.Timeout)
	case c.search > 0 && int(a.maxHops) == c.search && outcome(hops, 0) == ReachedLimit && (c.q.MaxHops == 0 || a.maxHops < c.q.MaxHops) && c.search < maxByte:
		// One hop more. This one is what is known so far.
		c.result.Hops, c.result.Outcome, c.result.HopByHop = hops, Silent, a.hopByHop
		c.search++
		c.tries, c.deadline = 0, now
	case c.search > 0 && a.maxHops != 0 && a.maxHops != c.q.MaxHops && int(a.maxHops) < c.search:
		// A late copy of what is known.
	default:
		c.finish(a)
	}
}

// finish makes the result: of a whole reply, or without one of what there is.
func (c *Client) finish(a *attempt) {
	c.done = true
	if a != nil {
		c.result.Hops, _ = a.hops()
		c.result.HopByHop = a.hopByHop
		c.result.Outcome = outcome(c.result.Hops, a.maxHops)
		return
	}
	for _, a := range c.attempts {
		if hops, _ := a.hops(); len(hops) > len(c.result.Hops) {
			c.result.Hops, c.result.HopByHop, c.result.Outcome = hops, a.hopByHop, Partial
		}
	}
}

// outcome of a whole reply.
func outcome(hops []wire.DiagResponse, maxHops uint8) Outcome {
	if len(hops) == 0 {
		return NoAnswer
	}
	last := hops[len(hops)-1]
	switch {
	case last.Error&wire.DiagNoPath != 0:
		return NoPath
	case slices.ContainsFunc(hops[:len(hops)-1], func(r wire.DiagResponse) bool {
		return r.In == last.In && r.Out == last.Out && r.Previous == last.Previous
	}):
		return Looped
	case last.Previous.IsUnspecified():
		return ReachedEnd
	case maxHops == 0 && len(hops) >= maxByte:
		return Looped
	default:
		return ReachedLimit // or a sender that tells of a hop before itself
	}
}

// add takes a part in and says whether it was new.
func (a *attempt) add(d *wire.Diag) bool {
	p := part{offset: int(d.Diagnostic.FragmentOffset), size: d.ResponseBytes(), final: !d.Diagnostic.More, responses: d.Responses}
	i, found := slices.BinarySearchFunc(a.parts, p, func(x, y part) int { return x.offset - y.offset })
	if found || len(a.parts) >= maxFragments || a.count+len(p.responses) > maxResponses {
		return false
	}
	a.parts = slices.Insert(a.parts, i, p)
	a.count += len(p.responses)
	return true
}

// hops puts the parts together as far as they are there without a gap.
func (a *attempt) hops() (list []wire.DiagResponse, whole bool) {
	next := 0
	for _, p := range a.parts {
		if p.offset != next {
			return list, false
		}
		list = append(list, p.responses...)
		next += p.size
		if p.final {
			return list, true
		}
	}
	return list, false
}
