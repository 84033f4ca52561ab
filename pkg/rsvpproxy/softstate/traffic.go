package softstate

import (
	"cmp"
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
	want, err := n.want(t)
	switch {
	case err != nil:
		n.refuse(now, t, &Refusal{Code: wire.ErrTrafficControl, Value: wire.TCServiceConflict, Text: err.Error()}, true)
	case t.installed != nil && want.equal(t.installed):
		n.granted(now, t, grant{})
	case t.refused != nil && want.equal(t.refused):
	default:
		if why := t.heldDown(now, &want); why != nil {
			n.refuse(now, t, why, true)
			return
		}
		n.ask(t, want)
	}
}

func (n *Node) ask(t *tcsb, want demand) {
	for _, r := range t.rsbs {
		r.ask = r.next
	}
	t.asked = &want
	e := Reserve{
		ID: t.id, Change: t.installed != nil, Session: t.s.id, Filters: slices.Clone(want.filters),
		Style: t.style, Out: t.key.out, FlowSpec: want.flow, SenderTSpec: want.tspec, Police: want.police, Terms: want.terms,
		Priority: want.priority, DSCPs: slices.Clone(want.dscps), Identities: slices.Clone(want.identities),
	}
	if !t.shared() {
		e.Filters = []wire.Filter{t.key.filter}
	}
	t.senders(func(p *psb) {
		e.In, e.Role = p.in, p.role()
		n.touch(p)
	})
	n.count.reserves++
	n.emit(e)
}

// want adds up what t should be.
func (n *Node) want(t *tcsb) (demand, error) {
	list := t.asking()
	d := demand{merged: list[0].wanted().flow}
	for _, r := range list[1:] {
		var err error
		if d.merged, err = d.merged.Merge(r.wanted().flow); err != nil {
			return demand{}, err
		}
	}
	var tspecs []intserv.TSpec
	t.senders(func(p *psb) {
		if t.style == wire.SE && !slices.ContainsFunc(list, func(r *rsb) bool { return r.selects(p.sender) }) {
			return // only the receiver proxy's request, which stands by, names it
		}
		tspecs = append(tspecs, p.tspec)
		d.police.Entry = d.police.Entry || p.ePolice || p.local
		if t.shared() {
			d.filters = append(d.filters, p.sender)
		}
		if d.merged.Service != intserv.Guaranteed {
			return
		}
		if ad := n.advertise(p, t.key.out); ad != nil && ad.Guaranteed != nil {
			d.terms = d.terms.Max(ad.Guaranteed.Terms())
		}
	})
	d.tspec = intserv.Sum(tspecs...)
	d.flow = d.merged.Installed(d.tspec)
	if mtu := n.env.Hop(t.key.out).MTU; mtu != 0 && d.flow.TSpec.MaxPacket > mtu {
		// Receivers that name no M, and a sender that names one of its own
		// (Cisco's is 2^31-1): no packet that leaves here is larger than the MTU.
		d.flow.TSpec.MaxPacket = mtu
	}
	d.flow = n.reduced(t, d.flow)
	d.police.Merge = len(d.filters) > 1
	d.priority = t.priority(list)
	d.dscps, d.identities = t.dscps(), t.identities()
	t.group(func(o *tcsb) {
		if o != t && o.installed != nil && !d.merged.Covers(o.fwd) {
			d.police.Branch = true
		}
	})
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
	n.now = now
	quiet := t.quiet
	t.quiet = false
	if refusal == nil {
		news := t.installed == nil || !t.asked.alike(t.installed)
		t.installed, t.asked, t.refused = t.asked, nil, nil
		n.granted(now, t, grant{asked: true, news: news, quiet: quiet})
	} else {
		n.count.refused++
		r := *refusal
		r.Code = cmp.Or(r.Code, wire.ErrAdmission)
		t.refused, t.asked = t.asked, nil
		if !quiet {
			n.refuse(now, t, &r, false)
		}
	}
	if n.byID[id] == t {
		// Something else may have been asked for meanwhile, or the same again.
		n.updateTC(now, t, t.installed == nil)
	}
	return n.flush()
}

// grant is how requests were admitted.
type grant struct {
	asked bool // by a fresh answer
	news  bool // that has something to tell upstream, which goes at once
	quiet bool // nobody is told
}

// granted moves the requests that were admitted into place.
func (n *Node) granted(now time.Time, t *tcsb, g grant) {
	moved := false
	for _, r := range t.rsbs {
		if !g.asked {
			r.ask = r.next
		}
		if r.ask == nil {
			continue
		}
		moved = moved || !r.have || !r.now.equal(*r.ask)
		r.have, r.now = true, *r.ask
		if r.next == r.ask {
			r.next = nil
		}
		r.ask = nil
		if t.style == wire.SE { // a sender may have gone meanwhile
			r.keep(func(f wire.Filter) bool { p := t.s.psbs[f]; return p != nil && p.routes(t.key.out) })
		}
	}
	n.yield(t)
	n.heterogeneity(t, nil)
	if g.asked {
		t.endReduction()
	}
	if t.fwd != t.installed.merged {
		t.fwd = t.installed.merged
		n.recheck(t)
	}
	confirm := false
	for _, r := range t.rsbs {
		confirm = n.confirmRSB(t, r) || confirm
	}
	if g.asked {
		t.senders(func(p *psb) { n.settled(p, p.proxied()) }) // a proxy's new request is a new attempt
	}
	news := g.news && !g.quiet
	switch {
	case !news && !confirm && t.shared() && moved:
		// What traffic control has is the same, and yet a sender may be in nobody's
		// request any more: the receiver proxy's stands by while others ask.
		n.syncShared(now, t.s, nil, !g.quiet, false)
	case !news && !confirm && moved && !g.quiet:
		// The same for a request that has taken the place of another, which admission
		// control was looking at: nobody upstream has been told yet.
		t.senders(func(p *psb) {
			if !p.local && !p.up.unchanged() {
				n.forwardResv(now, &p.up)
			}
		})
	case !news && !confirm:
	case t.shared():
		n.syncShared(now, t.s, nil, true, false)
	default:
		t.senders(func(p *psb) {
			switch {
			case news && !confirm && len(p.outs) > 1 && p.up.unchanged():
				// merged away with another branch's
			case news:
				n.forwardResv(now, &p.up)
			default:
				n.resvRefresh(now, &p.up)
			}
		})
	}
}

// settled forgets the last error once all requests are met here. Errors from
// upstream stay until they are out of date, unless all is set.
func (n *Node) settled(p *psb, all bool) {
	n.touch(p)
	if p.failure == nil || p.failure.Upstream && !all || p.limit != nil && reduction(p.failure.Code, p.failure.Value) {
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
		n.timers.Stop(&p.failureTime)
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
		if r.next != nil && (failed == nil || !failed.equal(*r.next)) { // a newer request has come since
			stale = true
			continue
		}
		if failed == nil || r.next == nil {
			continue
		}
		told = true
		n.refuseRSB(now, r, *failed, refusal, flags)
		r.next, r.confirm = nil, netip.Addr{}
		if !r.have || t.style == wire.SE && len(r.now.filters) == 0 { // or its senders have gone meanwhile
			n.removeRSB(r)
		}
	}
	if told || stale || t.installed == nil {
		return
	}
	// No request was new: the sender's announcement was. The reservation stays.
	for _, r := range t.rsbs {
		if r.have && r.next == nil {
			n.refuseRSB(now, r, r.now, refusal, flags)
		}
	}
}

// refuseRSB sends a ResvErr to the next hop that asked, or a PathErr where that
// is ourselves.
func (n *Node) refuseRSB(now time.Time, r *rsb, q request, refusal *Refusal, flags uint8) {
	t := r.t
	if r.local() {
		t.senders(func(p *psb) {
			if b, _ := p.find(t.key.out); b.proxy {
				n.proxyFailed(now, p, refusal, flags|p.guilt(refusal.Code, q.flow))
			}
		})
		return
	}
	fd := wire.FlowDescriptor{FlowSpec: &q.flow, Filters: q.filters}
	if !t.shared() {
		fd.Filters = []wire.Filter{t.key.filter}
	}
	n.sendResvErr(t.s.id, t.key.out, r.hop.Addr, complaint{style: t.style, scope: r.scope, flow: &fd, why: refusal, flags: flags})
	n.notifyDown(r, &fd, refusal, flags)
	t.senders(func(p *psb) {
		n.fail(now, p, &Failure{
			Code: refusal.Code, Value: refusal.Value, Flags: flags | p.guilt(refusal.Code, q.flow), Text: refusal.Text, Node: n.addr(t.key.out, t.s.id.Dst),
		})
	})
}
