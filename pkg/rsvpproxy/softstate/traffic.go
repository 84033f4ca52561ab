package softstate

import (
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// updateTC is UPDATE TRAFFIC CONTROL of RFC 2209 section 2: it brings the
// reservation in line with what the next hops ask for and the senders announce.
// retry asks again for what was refused before.
func (n *Node) updateTC(now time.Time, t *tcsb, retry bool) {
	if len(t.rsbs) == 0 {
		n.deleteTCSB(t)
		return
	}
	if retry {
		t.refused = nil
	}
	if t.asked != nil {
		return // the answer will look again
	}
	want, err := t.want()
	switch {
	case err != nil:
		n.refuse(now, t, &Refusal{Code: wire.ErrTrafficControl, Value: wire.TCServiceConflict, Text: err.Error()}, true)
	case t.installed != nil && want == *t.installed:
		n.granted(now, t, false)
	case t.refused != nil && want == *t.refused:
	default:
		n.ask(t, want)
	}
}

func (n *Node) ask(t *tcsb, want demand) {
	for _, r := range t.rsbs {
		r.ask = r.next
	}
	t.asked = &want
	e := Reserve{
		ID: t.id, Change: t.installed != nil, Session: t.s.id, Filters: []wire.Filter{t.key.filter},
		Style: wire.FF, Out: t.key.out, FlowSpec: want.flow, SenderTSpec: want.tspec, Police: want.police,
	}
	t.senders(func(p *psb) {
		e.In, e.Role = p.in, p.role()
		n.touch(p)
	})
	n.count.reserves++
	n.emit(e)
}

// want adds up what t should be.
func (t *tcsb) want() (demand, error) {
	d := demand{merged: t.rsbs[0].wanted()}
	for _, r := range t.rsbs[1:] {
		var err error
		if d.merged, err = d.merged.Merge(r.wanted()); err != nil {
			return demand{}, err
		}
	}
	var tspecs []intserv.TSpec
	t.senders(func(p *psb) {
		tspecs = append(tspecs, p.tspec)
		d.police.Entry = d.police.Entry || p.ePolice || p.local
	})
	d.tspec = intserv.Sum(tspecs...)
	d.flow = d.merged.Installed(d.tspec)
	return d, nil
}

// ReserveResult answers the [Reserve] effect with this ID: nil for granted. An
// answer for a reservation that was released meanwhile changes nothing.
func (n *Node) ReserveResult(now time.Time, id uint64, refusal *Refusal) []Effect {
	t := n.byID[id]
	if t == nil || t.asked == nil {
		n.drop(DropLateResult)
		return n.flush()
	}
	if refusal == nil {
		t.installed, t.asked, t.refused = t.asked, nil, nil
		n.granted(now, t, true)
	} else {
		n.count.refused++
		r := *refusal
		def(&r.Code, wire.ErrAdmission)
		t.refused, t.asked = t.asked, nil
		n.refuse(now, t, &r, false)
	}
	if n.byID[id] == t {
		n.updateTC(now, t, false) // something else may have been asked for meanwhile
	}
	return n.flush()
}

// granted moves the requests that were admitted into place. asked: by a fresh
// answer, so that the news goes upstream at once.
func (n *Node) granted(now time.Time, t *tcsb, asked bool) {
	for _, r := range t.rsbs {
		if !asked {
			r.ask = r.next
		}
		if r.ask == nil {
			continue
		}
		r.have, r.flow = true, *r.ask
		if r.next == r.ask {
			r.next = nil
		}
		r.ask = nil
	}
	t.fwd = t.installed.merged
	confirm := false
	for _, r := range t.rsbs {
		confirm = n.confirmRSB(t, r) || confirm
	}
	if !asked && !confirm {
		return
	}
	t.senders(func(p *psb) {
		if asked {
			n.settled(p, p.proxied) // a proxy's new request is a new attempt
			n.forwardResv(now, p)
		} else {
			n.resvRefresh(now, p)
		}
	})
}

// settled forgets the last error once all requests are met here. Errors from
// upstream stay until they are out of date, unless all is set.
func (n *Node) settled(p *psb, all bool) {
	n.touch(p)
	if p.failure == nil || p.failure.Upstream && !all {
		return
	}
	met := p.installed() != nil
	p.reservations(func(t *tcsb) {
		for _, r := range t.rsbs {
			met = met && r.next == nil
		}
	})
	if met {
		p.failure, p.blockade = nil, nil
		n.timers.stop(&p.failureTime)
	}
}

// refuse tells everybody whose request could not be met, and puts back what was
// there before (RFC 2209 section 2, RFC 2205 section 3.1.8). all: those that
// were not asked for yet too.
func (n *Node) refuse(now time.Time, t *tcsb, refusal *Refusal, all bool) {
	var flags uint8
	if t.installed != nil {
		flags = wire.InPlace
	}
	told, stale := false, false
	for _, r := range slices.Clone(t.rsbs) {
		if all {
			r.ask = r.next
		}
		failed := r.ask
		r.ask = nil
		if failed != r.next { // a newer request has come since
			stale = true
			continue
		}
		if failed == nil {
			continue
		}
		told = true
		n.refuseRSB(now, r, *failed, refusal, flags)
		r.next, r.confirm = nil, netip.Addr{}
		if !r.have {
			n.removeRSB(r)
		}
	}
	if told || stale || t.installed == nil {
		return
	}
	// No request was new: the sender's announcement was. The reservation stays.
	for _, r := range t.rsbs {
		if r.have && r.next == nil {
			n.refuseRSB(now, r, r.flow, refusal, flags)
		}
	}
}

// refuseRSB sends a ResvErr to the next hop that asked, or a PathErr where that
// is ourselves.
func (n *Node) refuseRSB(now time.Time, r *rsb, flow intserv.FlowSpec, refusal *Refusal, flags uint8) {
	t := r.t
	if r.local() {
		t.senders(func(p *psb) { n.proxyFailed(now, p, refusal, flags) })
		return
	}
	fd := wire.FlowDescriptor{FlowSpec: &flow, Filters: []wire.Filter{t.key.filter}}
	n.sendResvErr(t.s.id, t.key.out, r.hop.Addr, wire.FF, &fd, refusal, flags)
	t.senders(func(p *psb) {
		n.fail(now, p, &Failure{
			Code: refusal.Code, Value: refusal.Value, Flags: flags, Text: refusal.Text, Node: n.env.Addr(t.key.out),
		})
	})
}

// Withdraw tells that traffic control has ended a reservation on its own, for
// example by preemption: the next hops get a ResvErr, the previous hop a
// ResvTear (RFC 2205 section 3.1.8). A zero Code means [wire.ErrPreempted].
func (n *Node) Withdraw(now time.Time, id uint64, refusal Refusal) []Effect {
	t := n.byID[id]
	if t == nil {
		n.drop(DropLateResult)
		return n.flush()
	}
	def(&refusal.Code, wire.ErrPreempted)
	for _, r := range slices.Clone(t.rsbs) {
		n.refuseRSB(now, r, r.wanted(), &refusal, 0)
	}
	n.deleteTCSB(t)
	t.senders(func(p *psb) { n.resvGone(p, nil) })
	return n.flush()
}
