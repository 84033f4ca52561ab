package softstate

import (
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Inspection is the state of one sender as a diagnostic message reports it (RFC
// 2745 section 4.1). It may be read only until the Node's next call.
type Inspection struct {
	In      IfIndex  // where the sender's messages come in
	PrevHop wire.Hop // who sends PATH; zero: this node speaks for the sender
	Outs    []IfIndex
	End     bool // PATH is not sent on by any of Outs: this is the last hop
	Merged  bool // reservations of several of Outs are merged towards the sender
	K       int
	Refresh time.Duration // R
	// Report holds the path state and, of the outgoing interface that was asked
	// for, the reservation state.
	Report wire.Report
}

// Inspect tells the state of a sender with the reservation on out; out 0 is the
// first interface that its data leaves by.
func (n *Node) Inspect(id wire.Session, f wire.Filter, out IfIndex) (Inspection, bool) {
	p := n.lookup(id, f)
	if p == nil {
		return Inspection{}, false
	}
	tspec := p.tspec
	v := Inspection{
		In: p.in, PrevHop: p.phop, End: p.end || p.unanswered(), K: n.cfg.K, Refresh: n.cfg.Refresh,
		Report: wire.Report{SenderTemplate: &p.sender, SenderTSpec: &tspec, RawTSpec: p.rawTSpec, AdSpec: p.adspec},
	}
	if p.phop.Addr.IsValid() {
		hop := p.phop
		v.Report.Hop = &hop
	}
	branches := 0
	for _, b := range p.outs {
		v.Outs = append(v.Outs, b.out)
		if t := p.reservation(b.out); t != nil && t.covers(p) {
			branches++
		}
	}
	v.Merged = branches > 1
	if out == 0 && len(v.Outs) > 0 {
		out = v.Outs[0]
	}
	if t := p.reservation(out); t != nil && t.installed != nil && p.routes(out) {
		t.report(p, &v.Report)
	}
	return v, true
}

// report adds the reservation state: what was asked for by the next hops
// together and is in place.
func (t *tcsb) report(p *psb, r *wire.Report) {
	flow := t.fwd
	r.Style, r.FlowSpec = t.style, &flow
	if t.style == wire.FF {
		r.Filters = []wire.Filter{p.sender}
	}
	for _, b := range t.rsbs {
		if t.style == wire.SE && b.have {
			r.Filters = withFilters(r.Filters, b.now.filters)
		}
		r.Scope = append(r.Scope, b.scope...)
		if b.confirm.IsValid() {
			r.ResvConfirm = b.confirm
		}
	}
	slices.SortFunc(r.Scope, netip.Addr.Compare)
	r.Scope = slices.Compact(r.Scope)
}
