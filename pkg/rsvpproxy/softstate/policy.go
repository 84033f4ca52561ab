package softstate

import (
	"cmp"
	"errors"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Limits of the POLICY_DATA of one message. It is kept as long as its state.
const (
	maxPolicies   = 16
	maxPolicyData = 8 << 10 // bytes in all
	maxIdentities = 4
	maxIdentity   = 128 // characters shown
)

// Priority is the preemption priority of a flow (RFC 3181): Preempting is what
// it has while it asks to be admitted, Defending what it has from then on.
// Higher values are more important.
type Priority struct{ Preempting, Defending uint16 }

// PolicyData is the POLICY_DATA that tells of p, to be merged as RFC 3181 section
// 5.1.1 recommends.
func (p *Priority) PolicyData() []wire.Object {
	if p == nil {
		return nil
	}
	o, err := policyOf(wire.Preemption{
		Strategy: wire.MergeHighestQoS, Priority: p.Preempting, Defending: max(p.Preempting, p.Defending),
	})
	if err != nil {
		return nil // cannot be: all of it is made here
	}
	return []wire.Object{o}
}

func policyOf(list ...wire.Preemption) (wire.Object, error) {
	d := wire.PolicyData{}
	for _, p := range list {
		d.Elements = append(d.Elements, p.Element())
	}
	return d.Object()
}

func samePriority(a, b *Priority) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// priority is a PREEMPTION_PRI element that arrived.
type priority struct {
	wire.Preemption
	bound bool // its object has options: it travels as it is (RFC 3181 section 5.2)
}

// policy is what is understood of the POLICY_DATA of a message.
type policy struct {
	priorities []priority // at most one of a strategy
	identities []Identity
}

// readPolicy reads POLICY_DATA. What is for another policy node is not looked
// at (RFC 2750 section 3.2), nor what is protected by a key that we do not have,
// nor what has a C-Type of its own: they travel on unchanged.
func (n *Node) readPolicy(objects []wire.Object) (p policy, refusal *Refusal) {
	if len(objects) == 0 {
		return policy{}, nil
	}
	size, least := 0, &objects[0]
	for i := range objects {
		size += len(objects[i].Body)
		if len(objects[i].Body) < len(least.Body) {
			least = &objects[i]
		}
	}
	if len(objects) > maxPolicies || size > maxPolicyData {
		return policy{}, &Refusal{Code: wire.ErrPolicy, Value: wire.PolicyNoResources, Text: "too much POLICY_DATA", about: least}
	}
	for i := range objects {
		o := &objects[i]
		if o.CType != 1 {
			continue
		}
		if err := n.readObject(&p, *o); err != nil {
			r := &Refusal{Code: wire.ErrPolicy, Value: wire.PolicyBadSyntax, Text: err.Error(), about: o}
			if e, ok := errors.AsType[*wire.Error](err); ok {
				r.Code, r.Value = e.Code, e.Value
			}
			n.count.malformed[wire.KindPolicy]++
			return policy{}, r
		}
	}
	return p, nil
}

func (n *Node) readObject(p *policy, o wire.Object) error {
	d, err := wire.ParsePolicy(o)
	if err != nil {
		return err
	}
	opts, err := d.Read()
	if err != nil {
		return err
	}
	if opts.Integrity != nil || opts.Destination != nil && !n.env.Local(opts.Destination.Addr) {
		return nil
	}
	for _, e := range d.Elements {
		if len(e.Body) == 0 { // takes back what was said before (RFC 2750 section 3.4)
			continue
		}
		switch e.Type {
		case wire.PreemptionPriority:
			pri, err := wire.ParsePreemption(e)
			if err != nil {
				return err
			}
			p.prioritize(priority{pri, len(d.Options) > 0})
		case wire.AuthUser, wire.AuthApp:
			id, err := wire.ParseIdentity(e)
			if err != nil {
				return err
			}
			if len(p.identities) < maxIdentities {
				p.identities = append(p.identities, newIdentity(id))
			}
		case wire.ProxyControlType: // read where PATH is answered
		}
	}
	return nil
}

// prioritize takes an element in; of one strategy the last is in force (RFC 2750
// section 3.4). What reports an error asks for nothing.
func (p *policy) prioritize(pri priority) {
	if pri.Error != wire.PreemptionNoError {
		return
	}
	for i := range p.priorities {
		if p.priorities[i].Strategy == pri.Strategy {
			p.priorities[i] = pri
			return
		}
	}
	p.priorities = append(p.priorities, pri)
}

// forces is which of the priorities forbids a heterogeneous merge; -1: none.
func (p *policy) forces() int {
	return slices.IndexFunc(p.priorities, func(q priority) bool { return q.Strategy == wire.MergeForceError })
}

// bid is a request in a merge with one of its priority elements.
type bid struct {
	flow intserv.FlowSpec
	priority
}

// participates says whether a priority counts in the merge of reservations with
// these flowspecs (RFC 3181 section 5.1).
func (b *bid) participates(flows []intserv.FlowSpec) bool {
	switch b.Strategy {
	case wire.MergeHighestPriority:
		return true
	case wire.MergeForceError:
		return !slices.ContainsFunc(flows, func(f intserv.FlowSpec) bool { return f != b.flow })
	default:
		return b.contributes(flows)
	}
}

// contributes says whether the flow of b is a part of the merged one that is no
// subset of what the others ask for (RFC 3181 section 5.1.1).
func (b *bid) contributes(flows []intserv.FlowSpec) bool {
	var others *intserv.FlowSpec
	for _, f := range flows {
		switch {
		case f == b.flow:
		case others == nil:
			others = &f
		default:
			if m, err := others.Merge(f); err == nil {
				others = &m
			}
		}
	}
	return others == nil || !others.Covers(b.flow)
}

// mergePriorities computes the priority of merged reservations: the highest
// Preempting and, separately, the highest Defending of those that participate
// (RFC 3181 section 5.1). false: nobody said anything that counts.
func mergePriorities(bids []bid, flows []intserv.FlowSpec) (p Priority, ok bool) {
	for i := range bids {
		if b := &bids[i]; b.participates(flows) {
			p.Preempting, p.Defending = max(p.Preempting, b.Priority), max(p.Defending, b.Defending)
			ok = true
		}
	}
	return p, ok
}

// compress is what goes upstream of merged priorities: one element for each
// strategy (RFC 3181 section 5.2).
func compress(bids []bid, flows []intserv.FlowSpec) []wire.Preemption {
	var out []wire.Preemption
	for i := range bids {
		b := &bids[i]
		if b.bound || !b.participates(flows) {
			continue
		}
		j := slices.IndexFunc(out, func(p wire.Preemption) bool { return p.Strategy == b.Strategy })
		if j < 0 {
			out = append(out, b.Preemption)
			continue
		}
		out[j].Priority, out[j].Defending = max(out[j].Priority, b.Priority), max(out[j].Defending, b.Defending)
	}
	slices.SortFunc(out, func(a, b wire.Preemption) int { return cmp.Compare(a.Strategy, b.Strategy) })
	return out
}

// bids are the priorities of what r asks for with a flowspec: those of its next
// hop, or where that is the receiver proxy those of policy.
func (r *rsb) bids(flow intserv.FlowSpec) (list []bid) {
	if !r.local() {
		for _, p := range r.said.priorities {
			list = append(list, bid{flow, p})
		}
		return list
	}
	if p := r.own(); p != nil {
		list = append(list, bid{flow, priority{Preemption: wire.Preemption{
			Strategy: wire.MergeHighestQoS, Priority: p.Preempting, Defending: p.Defending,
		}}})
	}
	return list
}

// own is the priority that policy gives what the receiver proxy asks for; of
// several senders in a shared style the highest.
func (r *rsb) own() (out *Priority) {
	r.t.senders(func(p *psb) {
		b, _ := p.find(r.t.key.out)
		if !b.proxy || b.priority == nil {
			return
		}
		if out == nil {
			out = &Priority{}
		}
		out.Preempting = max(out.Preempting, b.priority.Preempting)
		out.Defending = max(out.Defending, b.priority.Defending)
	})
	return out
}

// objects is the POLICY_DATA that belongs to r.
func (r *rsb) objects() []wire.Object {
	if r.local() {
		return r.own().PolicyData()
	}
	return r.policy
}

// priority is what admission control is told of t: what the receivers say, or
// if they say nothing, what our own policy has for the senders.
func (t *tcsb) priority(list []*rsb) Priority {
	var bids []bid
	for _, r := range list {
		bids = append(bids, r.bids(r.wanted().flow)...)
	}
	if len(bids) > 0 { // else there is nothing to weigh them by
		flows := make([]intserv.FlowSpec, 0, len(list))
		for _, r := range list {
			flows = append(flows, r.wanted().flow)
		}
		if p, ok := mergePriorities(bids, flows); ok {
			return p
		}
	}
	var p Priority
	t.senders(func(s *psb) {
		if s.local && s.own != nil && s.own.priority != nil {
			p.Preempting = max(p.Preempting, s.own.priority.Preempting)
			p.Defending = max(p.Defending, s.own.priority.Defending)
		}
	})
	return p
}

// mergePolicy is the POLICY_DATA of a RESV that is merged from several: all of
// them, once each and unchanged (RFC 2750 section 4.2), but the priorities
// merged to one for each strategy (RFC 3181 section 5.2).
func mergePolicy(from []*rsb) []wire.Object {
	var all []wire.Object
	var bids []bid
	flows := make([]intserv.FlowSpec, 0, len(from))
	for _, r := range from {
		all = union(all, r.objects())
		flows = append(flows, r.now.flow)
		bids = append(bids, r.bids(r.now.flow)...)
	}
	if len(from) < 2 || !slices.ContainsFunc(bids, func(b bid) bool { return !b.bound }) {
		return all
	}
	out := make([]wire.Object, 0, len(all)+1)
	for _, o := range all {
		if rest, left := withoutPriority(o); left {
			out = union(out, []wire.Object{rest})
		}
	}
	if merged := compress(bids, flows); len(merged) > 0 {
		if o, err := policyOf(merged...); err == nil {
			out = append(out, o)
		}
	}
	return out
}

// withoutPriority takes the priorities out of an object that may be modified;
// false: nothing else is in it.
func withoutPriority(o wire.Object) (wire.Object, bool) {
	d, err := wire.ParsePolicy(o)
	if err != nil || len(d.Options) > 0 {
		return o, true
	}
	before := len(d.Elements)
	d.Elements = slices.DeleteFunc(d.Elements, func(e wire.PolicyElement) bool {
		return e.Type == wire.PreemptionPriority && len(e.Body) > 0
	})
	switch rest, err := d.Object(); {
	case len(d.Elements) == before || err != nil:
		return o, true
	case len(d.Elements) == 0:
		return wire.Object{}, false
	default:
		return rest, true
	}
}

// heterogeneity sends a priority back whose strategy forbids the merge that its
// reservation is in (RFC 3181 sections 5.1.3 and 6): the reservation stands, its
// priority does not count. again tells the next hop of r once more, whose RESV
// has come again.
func (n *Node) heterogeneity(t *tcsb, again *rsb) {
	forced := false
	t.group(func(o *tcsb) {
		forced = forced || slices.ContainsFunc(o.rsbs, func(r *rsb) bool { return r.said.forces() >= 0 })
	})
	if !forced {
		return
	}
	var all []*rsb
	for _, o := range t.s.sorted() {
		if o.key.filter == t.key.filter {
			all = append(all, o.rsbs...)
		}
	}
	for _, r := range all {
		i := r.said.forces()
		if i < 0 || r.local() || !r.have || r.next != nil {
			continue
		}
		if !slices.ContainsFunc(all, func(o *rsb) bool { return o != r && o.have && o.now.flow != r.now.flow }) {
			r.forced = false
			continue
		}
		if r.forced && r != again {
			continue
		}
		r.forced = true
		back := r.said.priorities[i].Preemption
		back.Error = wire.PreemptionHeterogeneous
		o, err := policyOf(back)
		if err != nil {
			continue
		}
		fd := wire.FlowDescriptor{FlowSpec: &r.now.flow, Filters: r.now.filters, Raw: r.raw}
		if !r.t.shared() {
			fd.Filters = []wire.Filter{r.t.key.filter}
		}
		n.sendResvErr(r.t.s.id, r.t.key.out, r.hop.Addr, complaint{
			style: r.t.style, scope: r.scope, flow: &fd, flags: wire.InPlace, policy: []wire.Object{o},
			why: &Refusal{Code: wire.ErrPolicy, Value: wire.PolicyMerge},
		})
	}
}

// flowPolicy are the objects that concern one flow: in fixed filter style each
// may name the senders that it is about (RFC 2750 section 3.2).
func flowPolicy(objects []wire.Object, style wire.Style, f wire.Filter) []wire.Object {
	if style != wire.FF || len(objects) == 0 {
		return objects
	}
	return slices.DeleteFunc(slices.Clone(objects), func(o wire.Object) bool {
		d, err := wire.ParsePolicy(o)
		if err != nil {
			return false
		}
		opts, err := d.Read()
		return err == nil && len(opts.Filters) > 0 && !slices.Contains(opts.Filters, f)
	})
}

// priority is what is known of p's for people.
func (p *psb) priority() *Priority {
	said := false
	var out Priority
	p.reservations(func(t *tcsb) {
		list := t.asking()
		for _, r := range list {
			said = said || len(r.bids(r.wanted().flow)) > 0
		}
		o := t.priority(list)
		out.Preempting, out.Defending = max(out.Preempting, o.Preempting), max(out.Defending, o.Defending)
	})
	switch {
	case said:
		return &out
	case p.local && p.own != nil:
		return p.own.priority
	}
	for _, s := range p.said.priorities {
		said = true
		out.Preempting, out.Defending = max(out.Preempting, s.Priority), max(out.Defending, s.Defending)
	}
	if !said {
		return nil
	}
	return &out
}
