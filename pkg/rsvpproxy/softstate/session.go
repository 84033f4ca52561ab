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
	tcsbs map[tcKey]*tcsb
}

// psb is a path state block (RFC 2209 section 1). For a unicast session the
// previous hop is not part of its key: it flips among the candidates while a
// route changes (RFC 2205 section 3.1.3, first choice).
type psb struct {
	s      *session
	sender wire.Filter

	local bool     // declared here (sender proxy), not by a PATH
	in    IfIndex  // where PATH, or the data, comes in
	phop  wire.Hop // zero if local
	ttl   uint8    // as received

	nonRSVP bool // a hop without RSVP was crossed to get here
	ePolice bool // the sender could not police

	tspec             intserv.TSpec
	adspec            *intserv.AdSpec
	rawTSpec          *wire.Object
	policy, unknown   []wire.Object
	flags             uint8 // of SESSION
	outs              []IfIndex
	end               bool // PATH is not sent on: the receiver is here or does not speak RSVP
	proxied           bool // we answer for the receiver
	resvSent          bool // the previous hop has reservation state from us
	confirmed         bool
	confirm           netip.Addr    // RESV_CONFIRM to go with the next RESV
	pathR, resvR      time.Duration // R announced last, for the slew limit
	pathQ, resvQ      int           // quick refreshes left
	retryAt           time.Time     // receiver proxy: not to be asked for again before
	failure           *Failure
	blockade          *intserv.FlowSpec // Qb, until the failure timer fires
	created           time.Time
	shown             shown
	dirty             bool
	refresh, life     timer // PATH
	resv, failureTime timer
}

// rsb is a reservation state block: what one next hop asks for.
type rsb struct {
	t    *tcsb
	hop  wire.Hop // next hop and our LIH; zero address: local, the receiver proxy
	life timer

	have bool             // flow was admitted
	flow intserv.FlowSpec // if have
	next *intserv.FlowSpec
	ask  *intserv.FlowSpec // the next that admission control is looking at

	raw         *wire.Object // FLOWSPEC as it came, if flow cannot tell it
	confirm     netip.Addr
	policy      []wire.Object
	unknown     []wire.Object // of the message
	flowUnknown []wire.Object // of the flow descriptor
}

// wanted is the newest flowspec that the next hop asked for.
func (r *rsb) wanted() intserv.FlowSpec {
	if r.next != nil {
		return *r.next
	}
	return r.flow
}

func (r *rsb) local() bool { return !r.hop.Addr.IsValid() }

// tcKey tells the traffic control state blocks of a session apart. A shared
// style will leave the filter empty.
type tcKey struct {
	out    IfIndex
	filter wire.Filter
}

// tcsb is a traffic control state block: one reservation on one outgoing
// interface. It exists as long as it has RSBs.
type tcsb struct {
	s    *session
	key  tcKey
	id   uint64
	rsbs []*rsb

	installed, asked, refused *demand
	fwd                       intserv.FlowSpec // merged request that goes upstream, if installed
}

// demand is what is asked of traffic control. It is comparable.
type demand struct {
	flow   intserv.FlowSpec // effective
	merged intserv.FlowSpec // what the receivers ask for
	tspec  intserv.TSpec    // Path_Te
	police Police
}

// senders calls f for each PSB that t serves.
func (t *tcsb) senders(f func(*psb)) {
	if p := t.s.psbs[t.key.filter]; p != nil && p.routes(t.key.out) {
		f(p)
	}
}

func (p *psb) routes(out IfIndex) bool {
	return slices.Contains(p.outs, out)
}

// reservations calls f for each TCSB that serves p.
func (p *psb) reservations(f func(*tcsb)) {
	for _, out := range p.outs {
		if t := p.s.tcsbs[tcKey{out, p.sender}]; t != nil {
			f(t)
		}
	}
}

func (p *psb) role() Role {
	switch {
	case p.local && p.end:
		return BothProxy
	case p.local:
		return SenderProxy
	case p.end:
		return ReceiverProxy
	default:
		return Transit
	}
}
