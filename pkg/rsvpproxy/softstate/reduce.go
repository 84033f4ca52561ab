package softstate

import (
	"errors"
	"fmt"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Reasons why a reservation cannot be reduced, for errors.Is.
var (
	ErrNoReservation = errors.New("no such reservation is in place")
	ErrNoReduction   = errors.New("not less than what is in place")
)

// Reduce takes bandwidth away from a reservation that is in place, for another
// one, without ending it (RFC 4495 section 5.3): limit has the average and peak
// rates, and the service rate, that are left to it. Traffic control is asked for
// the smaller one; the next hops that ask for more get a ResvErr that tells what
// is left, and no ResvTear goes out. Where we answer for the receiver, the
// smaller RESV follows at once. A next hop that goes on asking for the same is
// told again with each of its refreshes; after Kb*R traffic control is asked for
// it once more.
func (n *Node) Reduce(now time.Time, id uint64, limit intserv.FlowSpec) ([]Effect, error) {
	n.now = now
	t := n.byID[id]
	if t == nil || t.installed == nil {
		return nil, fmt.Errorf("reservation %d: %w", id, ErrNoReservation)
	}
	limit = limit.Wire()
	if err := limit.Validate(); err != nil {
		return nil, fmt.Errorf("reservation %d: %w", id, err)
	}
	if limit.Service != t.installed.flow.Service || t.installed.flow.Within(limit) {
		return nil, fmt.Errorf("reservation %d: %v of %v: %w", id, limit, t.installed.flow, ErrNoReduction)
	}
	t.limit, t.limitUntil = &limit, now.Add(n.patience())
	for _, r := range t.rsbs {
		if !r.local() {
			n.tellReduction(t, r)
		}
	}
	t.senders(func(p *psb) {
		if b, _ := p.find(t.key.out); b.proxy {
			n.refuseSender(p, &Refusal{Code: wire.ErrPolicy, Value: wire.PolicyPartialPreempted}, wire.InPlace)
			n.limitProxy(now, p, limit, Failure{Code: wire.ErrPolicy, Value: wire.PolicyPartialPreempted})
		}
	})
	if n.byID[id] == t {
		n.updateQuietly(t)
	}
	return n.flush(), nil
}

// Left is what a reduction by hand leaves to a reservation, in bytes/s.
type Left struct {
	Bandwidth float64 // as admission counts it: R of guaranteed service, else r
	Peak      float64 // 0: as it is
}

// Reduction tells what became of a reservation.
type Reduction struct {
	Was, Left intserv.FlowSpec
	Lasts     time.Duration // before it may be asked for in full again
}

// ReduceTo is [Node.Reduce] to a bandwidth: what else the next hops ask for stays.
func (n *Node) ReduceTo(now time.Time, id uint64, left Left) (Reduction, []Effect, error) {
	t := n.byID[id]
	if t == nil || t.installed == nil {
		return Reduction{}, nil, fmt.Errorf("reservation %d: %w", id, ErrNoReservation)
	}
	limit := t.installed.merged
	limit.TSpec.Rate = min(limit.TSpec.Rate, left.Bandwidth)
	limit.RSpec.Rate = min(limit.RSpec.Rate, left.Bandwidth)
	if left.Peak > 0 {
		limit.TSpec.Peak = min(limit.TSpec.Peak, left.Peak)
	}
	r := Reduction{Was: t.installed.flow, Left: t.installed.flow.AtMost(limit.Wire()), Lasts: n.patience()}
	effects, err := n.Reduce(now, id, limit)
	return r, effects, err
}

// patience is how long a reduction holds, as a blockade does.
func (n *Node) patience() time.Duration { return time.Duration(n.cfg.Kb) * n.cfg.Refresh }

// reduced applies a reduction that holds. More that is newly asked for is for
// traffic control to decide.
func (n *Node) reduced(t *tcsb, f intserv.FlowSpec) intserv.FlowSpec {
	if t.limit == nil || !n.now.Before(t.limitUntil) {
		return f
	}
	for _, r := range t.rsbs {
		if r.next != nil && !r.next.flow.Within(*t.limit) {
			return f
		}
	}
	return f.AtMost(*t.limit)
}

// tellReduction sends a next hop that asks for too much what is left (RFC 4495
// sections 5.1 and 5.2).
func (n *Node) tellReduction(t *tcsb, r *rsb) {
	q := r.wanted()
	if t.limit == nil || !n.now.Before(t.limitUntil) || q.flow.Within(*t.limit) {
		return
	}
	left := q.flow.AtMost(*t.limit)
	fd := wire.FlowDescriptor{FlowSpec: &left, Filters: q.filters}
	if !t.shared() {
		fd.Filters = []wire.Filter{t.key.filter}
	}
	n.sendResvErr(t.s.id, t.key.out, r.hop.Addr, complaint{
		style: t.style, scope: r.scope, flow: &fd, flags: wire.InPlace, policy: preempted(r.policy),
		why: &Refusal{Code: wire.ErrPolicy, Value: wire.PolicyPartialPreempted},
	})
}

// endReduction follows an answer of traffic control: it gave more than was left,
// or all ask for what is left, so that there is nothing to hold down.
func (t *tcsb) endReduction() {
	if t.limit == nil {
		return
	}
	for _, r := range t.rsbs {
		if t.installed.flow.Within(*t.limit) && !r.wanted().flow.Within(*t.limit) {
			return
		}
	}
	t.limit = nil
}

// preempted is the PREEMPTION_PRI of a request, sent back as that of a flow that
// was preempted (RFC 4495 section 5.1, RFC 3181 section 6).
func preempted(policy []wire.Object) (out []wire.Object) {
	for _, o := range policy {
		d, err := wire.ParsePolicy(o)
		if err != nil {
			continue // passed on by those who do not judge it; nothing to answer with
		}
		e, ok := d.Element(wire.PreemptionPriority)
		if !ok {
			continue
		}
		p, err := wire.ParsePreemption(e)
		if err != nil {
			continue
		}
		p.Error = wire.PreemptionPreempted
		if back, err := (&wire.PolicyData{Elements: []wire.PolicyElement{p.Element()}}).Object(); err == nil {
			out = append(out, back)
		}
	}
	return out
}

// limitProxy has the receiver proxy ask for no more than limit for a while (RFC
// 4495 section 5.3).
func (n *Node) limitProxy(now time.Time, p *psb, limit intserv.FlowSpec, why Failure) {
	why.Flags |= wire.InPlace // a reduction leaves a reservation, whether it says so or not
	p.limit = &limit
	n.timers.Set(&p.limitTime, now.Add(n.patience()))
	p.retryAt = time.Time{}
	n.answer(now, p)
	p.failure = &why
	n.timers.Set(&p.failureTime, now.Add(n.patience()))
	n.touch(p)
}

// unlimit ends that while: what policy wants is asked for again.
func (n *Node) unlimit(now time.Time, p *psb) {
	p.limit = nil
	if p.failure != nil && reduction(p.failure.Code, p.failure.Value) {
		p.failure = nil
		n.timers.Stop(&p.failureTime)
	}
	n.touch(p)
	n.answer(now, p)
}

// reduction says whether an error is a reduction in place (RFC 4495 section 5.1).
func reduction(c wire.ErrorCode, value uint16) bool {
	return c == wire.ErrPolicy && value == wire.PolicyPartialPreempted
}
