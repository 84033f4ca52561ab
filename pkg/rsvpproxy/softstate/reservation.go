package softstate

import (
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// request is what a next hop asks for.
type request struct {
	flow    intserv.FlowSpec
	filters []wire.Filter // style SE: sorted; else nil
}

func (q request) equal(o request) bool {
	return q.flow == o.flow && slices.Equal(q.filters, o.filters)
}

// rsb is a reservation state block: what one next hop asks for.
type rsb struct {
	t    *tcsb
	hop  wire.Hop // next hop and our LIH; zero address: local, the receiver proxy
	from IfIndex  // where its RESV arrived, and whose part of the limits it takes
	life timer
	// until tells for each filter spec of style SE how long it lives: each is
	// refreshed by itself (RFC 2209, RESV MESSAGE ARRIVES).
	until map[wire.Filter]time.Time

	have bool // now was admitted
	now  request
	next *request
	ask  *request // the next that admission control is looking at

	scope []netip.Addr // SCOPE of style WF; empty: none came
	// scopes tells of a transparent node's next hop until when it wants each sender in
	// SCOPE: it may ask for them by several names of ours.
	scopes      map[netip.Addr]time.Time
	raw         *wire.Object // FLOWSPEC as it came, if flow cannot tell it
	confirm     netip.Addr
	policy      []wire.Object
	said        policy        // what is understood of policy
	forced      bool          // it was told that its priority forbids the merge
	unknown     []wire.Object // of the message
	flowUnknown []wire.Object // of the flow descriptor
}

// wanted is the newest request of the next hop.
func (r *rsb) wanted() request {
	if r.next != nil {
		return *r.next
	}
	return r.now
}

func (r *rsb) local() bool { return !r.hop.Addr.IsValid() }

// reaches says whether r's admitted request is to be sent towards p's sender:
// filter specs select it, or SCOPE lets it (RFC 2205 section 3.4).
func (r *rsb) reaches(p *psb) bool {
	switch {
	case !r.have:
		return false
	case r.t.style == wire.WF:
		return len(r.scope) == 0 || slices.Contains(r.scope, p.sender.Src)
	case r.t.style == wire.SE:
		return hasFilter(r.now.filters, p.sender)
	default:
		return true
	}
}

func hasFilter(list []wire.Filter, f wire.Filter) bool {
	_, ok := slices.BinarySearchFunc(list, f, wire.Filter.Compare)
	return ok
}

// withFilters is the union of two sorted lists.
func withFilters(list, more []wire.Filter) []wire.Filter {
	for _, f := range more {
		if i, ok := slices.BinarySearchFunc(list, f, wire.Filter.Compare); !ok {
			list = slices.Insert(slices.Clip(list), i, f)
		}
	}
	return list
}

// keep removes from r's requests the filter specs that ok does not want, and
// says whether there were any.
func (r *rsb) keep(ok func(wire.Filter) bool) (changed bool) {
	trim := func(list []wire.Filter) []wire.Filter {
		out := slices.DeleteFunc(slices.Clone(list), func(f wire.Filter) bool { return !ok(f) })
		changed = changed || len(out) != len(list)
		return out
	}
	r.now.filters = trim(r.now.filters)
	if r.next != nil {
		if q := (request{r.next.flow, trim(r.next.filters)}); !q.equal(*r.next) {
			r.next = &q // what admission control looks at is out of date
		}
	}
	for f := range r.until {
		if !ok(f) {
			delete(r.until, f)
		}
	}
	return changed
}

// tcKey tells the traffic control state blocks of a session apart. A shared
// style leaves the filter empty.
type tcKey struct {
	out    IfIndex
	filter wire.Filter
}

// tcsb is a traffic control state block: one reservation on one outgoing
// interface. It exists as long as it has RSBs.
type tcsb struct {
	s     *session
	key   tcKey
	style wire.Style
	id    uint64
	rsbs  []*rsb

	installed, asked, refused *demand
	quiet                     bool             // asked because path state went: nobody is told (RFC 2205 section 3.1.5)
	fwd                       intserv.FlowSpec // merged request that goes upstream, if installed

	limit      *intserv.FlowSpec // what is left after a reduction in place (RFC 4495), until limitUntil
	limitUntil time.Time
}

// demand is what is asked of traffic control.
type demand struct {
	flow    intserv.FlowSpec // effective
	merged  intserv.FlowSpec // what the receivers ask for
	tspec   intserv.TSpec    // Path_Te
	filters []wire.Filter    // of a shared style: its senders
	police  Police
	terms   intserv.ErrorTerms

	priority   Priority
	dscps      []uint8
	identities []Identity
}

func (d *demand) equal(o *demand) bool {
	return d.police == o.police && d.terms == o.terms && d.priority == o.priority && slices.Equal(d.dscps, o.dscps) && sameIdentities(d.identities, o.identities) && d.alike(o)
}

// alike ignores the policing flags (RFC 2209, UPDATE TRAFFIC CONTROL) and the
// error terms, of which nobody upstream is told, and what goes there in objects
// of its own.
func (d *demand) alike(o *demand) bool {
	return d.flow == o.flow && d.merged == o.merged && d.tspec == o.tspec && slices.Equal(d.filters, o.filters)
}

func (t *tcsb) shared() bool { return t.style != wire.FF }

// selects says whether a next hop asks for sender f in style SE.
func (t *tcsb) selects(f wire.Filter) bool {
	return slices.ContainsFunc(t.rsbs, func(r *rsb) bool { return r.selects(f) })
}

func (r *rsb) selects(f wire.Filter) bool {
	return hasFilter(r.now.filters, f) || r.next != nil && hasFilter(r.next.filters, f)
}

// senders calls f for each PSB that t serves.
func (t *tcsb) senders(f func(*psb)) {
	if !t.shared() {
		if p := t.s.psbs[t.key.filter]; p != nil && p.routes(t.key.out) {
			f(p)
		}
		return
	}
	for _, p := range t.s.order {
		if p.routes(t.key.out) && (t.style == wire.WF || t.selects(p.sender)) {
			f(p)
		}
	}
}

// covers says whether something of t is to be forwarded towards p's sender.
func (t *tcsb) covers(p *psb) bool {
	return t.installed != nil && slices.ContainsFunc(t.rsbs, func(r *rsb) bool { return r.reaches(p) })
}

// group calls f for the TCSBs that a reservation is merged from when it goes
// upstream: the same senders' on all outgoing interfaces.
func (t *tcsb) group(f func(*tcsb)) {
	for _, o := range t.s.tcsbs {
		if o.key.filter == t.key.filter {
			f(o)
		}
	}
}
