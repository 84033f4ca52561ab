package softstate

import (
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// session holds what is known for one SESSION object.
type session struct {
	id    wire.Session // without flags
	psbs  map[wire.Filter]*psb
	order []*psb // the same, by sender: so that what is sent can be repeated
	tcsbs map[tcKey]*tcsb
	ups   []*upstream // of a shared style: a previous hop each
	room  IfIndex     // whose part of the limit on sessions it takes
	// kept: the receiver proxy goes on in the style of a host that fell silent,
	// whatever policy prefers, so that nothing has to be torn down.
	kept bool
	// several: the receiver proxy has chosen a style for several senders.
	several bool
	// outbid are reservations that had to make room a moment ago.
	outbid map[tcKey]*outbid
}

// psb is the path state of a sender: the forwarding PSB of RFC 2209 section 1,
// and the state of the sender's other previous hops: hops.go.
type psb struct {
	s      *session
	sender wire.Filter

	local bool      // declared here (sender proxy), not by a PATH
	own   *declared // by AddSender; nil: the sender is none of ours
	in    IfIndex   // where PATH, or the data, comes in
	room  IfIndex   // whose part of the limit on senders it takes: in
	phop  wire.Hop  // zero if local
	// others is the state of further previous hops.
	others []*otherHop
	heard  time.Time // when its PATH came last
	ttl    uint8     // as received

	nonRSVP bool // a hop without RSVP was crossed to get here
	ePolice bool // the sender could not police

	tspec           intserv.TSpec
	adspec          *intserv.AdSpec
	rawTSpec        *wire.Object
	policy, unknown []wire.Object
	said            policy // what is understood of policy
	flags           uint8  // of SESSION
	outs            []branch
	end             bool              // PATH is not sent on at all: the receivers are here or do not speak RSVP
	control         wire.ProxyControl // what PATH says of its receiver
	turned, barred  bool              // its PATH has made, or may not make, a sender of the other direction: reverse.go
	confirmed       bool
	confirm         netip.Addr    // RESV_CONFIRM of the receiver proxy until it is confirmed
	pathR           time.Duration // R announced last, for the slew limit
	pathQ           int           // quick refreshes left
	retryAt         time.Time     // receiver proxy: not to be asked for again before
	failure         *Failure
	blockade        *intserv.FlowSpec // Qb, until the failure timer fires
	limit           *intserv.FlowSpec // of the receiver proxy's request, after a reduction in place (RFC 4495)
	limitTime       timer
	created         time.Time
	shown           shown
	dirty           bool
	refresh, life   timer // PATH
	failureTime     timer
	up              upstream // fixed filter: each sender's reservation goes its own way
}

// branch is an outgoing interface of a sender's data.
type branch struct {
	out IfIndex
	// Nobody behind it is known to speak RSVP: PATH is not sent (end), or is to
	// find out (probe).
	end, probe bool
	// heard: somebody behind it has asked for a reservation.
	heard bool
	// probeR is the period that the last PATH told those who are not known to
	// listen, probeAt when the next may go there; zero: at once.
	probeR  time.Duration
	probeAt time.Time

	proxy bool              // we answer for the receivers behind it
	ask   *intserv.FlowSpec // with what, nil: not (yet)
	// priority is that of what we ask for, nil: not told.
	priority *Priority
	// yield: a next hop behind it has asked for itself, and from then on its
	// silence is a wish too (RFC 5946 section 4.1).
	yield bool
}

func (b branch) sameWay(o branch) bool {
	return b.out == o.out && b.end == o.end && b.probe == o.probe
}

// unknown says whether nobody behind b is known to speak RSVP.
func (b branch) unknown() bool { return b.end || b.probe }

// at returns p's branch by out, to be changed; nil if there is none.
func (p *psb) at(out IfIndex) *branch {
	for i := range p.outs {
		if p.outs[i].out == out {
			return &p.outs[i]
		}
	}
	return nil
}

// proxied says whether we answer for a receiver of p anywhere.
func (p *psb) proxied() bool {
	return slices.ContainsFunc(p.outs, func(b branch) bool { return b.proxy })
}

func (p *psb) find(out IfIndex) (branch, bool) {
	for _, b := range p.outs {
		if b.out == out {
			return b, true
		}
	}
	return branch{}, false
}

// routes says whether p's data leave by out.
func (p *psb) routes(out IfIndex) bool {
	_, ok := p.find(out)
	return ok
}

// carries says whether PATH goes out by out, so that a RESV may come back.
func (p *psb) carries(out IfIndex) bool {
	b, ok := p.find(out)
	return ok && !b.end
}

// probes says whether the PATH that goes out by b is to find out who listens: b
// has nobody's answer now.
func (p *psb) probes(b branch) bool {
	if !b.probe {
		return false
	}
	t := p.reservation(b.out)
	return t == nil || !t.foreign()
}

// unanswered says whether p's data leave, and only towards those who are not
// known to speak RSVP.
func (p *psb) unanswered() bool {
	return len(p.outs) > 0 && !slices.ContainsFunc(p.outs, func(b branch) bool { return !b.unknown() || b.heard })
}

// reservations calls f for each TCSB that serves p.
func (p *psb) reservations(f func(*tcsb)) {
	for _, b := range p.outs {
		if t := p.reservation(b.out); t != nil {
			f(t)
		}
	}
}

// reservation returns the TCSB that serves p on out, nil if there is none.
func (p *psb) reservation(out IfIndex) *tcsb {
	if t := p.s.tcsbs[tcKey{out, p.sender}]; t != nil {
		return t
	}
	if t := p.s.tcsbs[tcKey{out: out}]; t != nil && (t.style == wire.WF || t.selects(p.sender)) {
		return t
	}
	return nil
}

func (p *psb) role() Role {
	switch {
	case p.local && (p.end || p.proxied()):
		return BothProxy
	case p.local:
		return SenderProxy
	case p.end || p.proxied():
		return ReceiverProxy
	default:
		return Transit
	}
}

// insert and remove keep s.psbs and s.order alike.
func (s *session) insert(p *psb) {
	s.psbs[p.sender] = p
	i, _ := slices.BinarySearchFunc(s.order, p.sender, comparePSB)
	s.order = slices.Insert(s.order, i, p)
}

func (s *session) remove(p *psb) {
	delete(s.psbs, p.sender)
	if i, ok := slices.BinarySearchFunc(s.order, p.sender, comparePSB); ok {
		s.order = slices.Delete(s.order, i, i+1)
	}
}

func comparePSB(p *psb, f wire.Filter) int { return p.sender.Compare(f) }

// style is that of the existing reservations, if there are any: styles do not
// mix in a session (RFC 2205 section 2.4).
func (s *session) style() (wire.Style, bool) {
	if s == nil {
		return 0, false
	}
	for _, t := range s.tcsbs {
		return t.style, true
	}
	return 0, false
}

// foreign says whether anybody but the receiver proxy reserves.
func (s *session) foreign() bool {
	for _, t := range s.tcsbs {
		if t.foreign() {
			return true
		}
	}
	return false
}
