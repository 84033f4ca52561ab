package softstate

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// SessionView is what there is to see of one sender of a session.
type SessionView struct {
	Session wire.Session
	Sender  wire.Filter
	Role    Role
	State   State
	PrevHop netip.Addr // invalid: none, the sender is proxied
	NextHop netip.Addr // invalid: none yet, or the receiver is proxied
	In, Out IfIndex    // Out is 0 without a route
	// Branches are the interfaces that the data leave by: one at most, or for a
	// group any number. What else is told is of the first that is reserved.
	Branches []BranchView
	Style    wire.Style // 0: nothing is reserved
	TSpec    intserv.TSpec
	FlowSpec *intserv.FlowSpec // what is asked for downstream; nil: nothing
	// Reservation is the ID of the reservation in place or asked for, 0: none.
	Reservation uint64
	Break       bool // a node without RSVP was crossed on the way here
	Confirmed   bool
	Failure     *Failure // nil: none
	// Priority is that of the reservation asked for, or before there is one that
	// of PATH (RFC 3181); nil: nobody has said anything.
	Priority *Priority
	// Identities are the users and applications that PATH and RESV name, for
	// people (RFC 3182). They are not proved.
	Identities []string
	DSCPs      []uint8 // of DCLASS in RESV (RFC 2996)
	Age        time.Duration
	// Expires is how long the path state lives without a refresh; 0: proxied
	// here, for ever.
	Expires time.Duration
}

// BranchView is how far a sender is on one of its outgoing interfaces.
type BranchView struct {
	Out         IfIndex
	State       State // inactive never, since it is a branch; path, requested or reserved
	Reservation uint64
}

// Error is the text of Failure, empty if there is none.
func (v *SessionView) Error() string { return v.Failure.String() }

// Sessions lists all senders, ordered by session and sender.
func (n *Node) Sessions(now time.Time) []SessionView {
	out := make([]SessionView, 0, n.room.senders.All())
	for _, s := range n.sessions {
		for _, p := range s.psbs {
			out = append(out, p.view(now))
		}
	}
	slices.SortFunc(out, func(a, b SessionView) int {
		return cmp.Or(a.Session.Compare(b.Session), a.Sender.Compare(b.Sender))
	})
	return out
}

// Session returns the view of one sender.
func (n *Node) Session(now time.Time, id wire.Session, f wire.Filter) (SessionView, bool) {
	if p := n.lookup(id, f); p != nil {
		return p.view(now), true
	}
	return SessionView{}, false
}

func (p *psb) view(now time.Time) SessionView {
	v := SessionView{
		Session: p.s.id, Sender: p.sender, Role: p.role(), State: p.state(), PrevHop: p.phop.Addr, In: p.in,
		TSpec: p.tspec, Break: p.nonRSVP || p.adspec != nil && p.adspec.Break, Confirmed: p.confirmed,
		Failure: p.failure, Age: now.Sub(p.created),
	}
	if len(p.outs) > 0 {
		v.Out = p.outs[0].out
	}
	for _, o := range p.outs {
		v.Branches = append(v.Branches, p.branchView(o.out))
	}
	if p.life.Armed() {
		v.Expires = p.life.At().Sub(now)
	}
	shown := p.installed()
	p.reservations(func(t *tcsb) {
		if v.Reservation != 0 || shown != nil && t != shown {
			return
		}
		v.Out = t.key.out
		flow := t.rsbs[0].wanted().flow
		if t.installed != nil {
			flow = t.fwd
		}
		v.Style, v.Reservation, v.FlowSpec, v.NextHop = t.style, t.id, &flow, t.rsbs[0].hop.Addr
		v.DSCPs = t.dscps()
	})
	v.Priority, v.Identities = p.priority(), p.identities()
	return v
}

func (p *psb) branchView(out IfIndex) BranchView {
	b := BranchView{Out: out, State: PathOnly}
	if t := p.reservation(out); t != nil {
		b.Reservation = t.id
		switch {
		case t.installed != nil:
			b.State = Reserved
		case t.asked != nil:
			b.State = Requested
		}
	}
	return b
}

func (p *psb) state() State {
	installed, asked := p.installed(), false
	p.reservations(func(t *tcsb) { asked = asked || t.asked != nil })
	upstream := p.failure != nil && p.failure.Upstream && p.failure.Flags&wire.InPlace == 0
	switch {
	case installed != nil && upstream && p.proxied() && (p.failure.Flags&wire.NotGuilty == 0 || p.blockades(installed.fwd)):
		return Rejected // what we ask for ourselves
	case installed != nil && upstream && p.blockades(installed.fwd):
		return Blockaded
	case installed != nil:
		return Reserved
	case p.failure != nil:
		return Rejected
	case asked:
		return Requested
	case len(p.outs) == 0:
		return Inactive
	default:
		return PathOnly
	}
}

// shown is what the last [Event] of a sender told.
type shown struct {
	ever        bool
	role        Role
	state       State
	reservation uint64
	flow        intserv.FlowSpec
	confirmed   bool
	failure     string
	flags       uint8 // of the failure
}

// touch makes flush look whether p has changed for people.
func (n *Node) touch(p *psb) {
	if !p.dirty {
		p.dirty = true
		n.dirty = append(n.dirty, p)
	}
}

func (n *Node) show(p *psb) {
	if !p.dirty {
		return
	}
	p.dirty = false
	now := shown{ever: true, role: p.role(), state: p.state(), confirmed: p.confirmed, failure: p.failure.String()}
	if p.failure != nil {
		now.flags = p.failure.Flags
	}
	if t := p.installed(); t != nil {
		now.reservation, now.flow = t.id, t.installed.flow
	}
	if now == p.shown {
		return
	}
	was := p.shown
	p.shown = now
	n.emit(p.event(was.state))
}

func (n *Node) showGone(p *psb) {
	p.dirty = false
	if !p.shown.ever {
		return
	}
	was := p.shown.state
	p.shown = shown{role: p.shown.role}
	e := p.event(was)
	e.Gone = true
	n.emit(e)
}

func (p *psb) event(was State) Event {
	e := Event{
		Session: p.s.id, Sender: p.sender, Role: p.shown.role, State: p.shown.state, Previous: was,
		Reservation: p.shown.reservation, FlowSpec: p.shown.flow, In: p.in,
		Confirmed: p.shown.confirmed, Failure: p.failure,
	}
	if len(p.outs) > 0 {
		e.Out = p.outs[0].out
	}
	return e
}
