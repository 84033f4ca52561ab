package softstate

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// answer is the receiver proxy (RFC 5946 section 3): where PATH ends, policy is
// asked, and if it says so this node behaves as if a RESV had arrived on the
// downstream interface. Where PATH goes on it is the same, until somebody there
// answers for himself (RFC 5946 section 4.1).
func (n *Node) answer(now time.Time, p *psb) {
	for i := range p.outs {
		n.answerOn(now, p, p.outs[i].out)
	}
}

// ReceiverChanged tells that [Environment.ReceiverProxy] says something else of
// a sender now, so that it is not left to the next PATH to find out.
func (n *Node) ReceiverChanged(now time.Time, id wire.Session, f wire.Filter) []Effect {
	n.now = now
	if p := n.lookup(id, f); p != nil {
		p.retryAt = time.Time{}
		n.answer(now, p)
		n.touch(p)
	}
	return n.flush()
}

func (n *Node) answerOn(now time.Time, p *psb, out IfIndex) {
	b := p.at(out)
	if !b.end && p.answered(*b) {
		return
	}
	if p.control == wire.ProxyNotNeeded { // the sender knows better (RFC 5946 section 4.2)
		n.unproxy(now, p, out)
		return
	}
	info := n.pathInfo(p, out)
	if !b.unknown() { // a hop between neighbours: not worth an ADSPEC with every PATH
		if _, yes := n.env.ReceiverProxy(info); !yes {
			n.unproxy(now, p, out)
			return
		}
	}
	info.AdSpec = n.advertise(p, out)
	spec, yes := n.env.ReceiverProxy(info)
	if !yes {
		n.unproxy(now, p, out)
		if p.end || p.unanswered() && now.Sub(p.created) >= n.cfg.Refresh {
			// Nobody behind us answers, and policy forbids that we do.
			n.proxyFailed(now, p, &Refusal{Code: wire.ErrPolicy, Text: "no policy answers for the receiver"}, 0)
		}
		return
	}
	if spec.Refusal != nil {
		if !b.unknown() && !b.proxy {
			return // it is for those behind us to ask
		}
		b.proxy = true
		flags := uint8(0)
		if t := p.reservation(out); t != nil && t.installed != nil {
			flags = wire.InPlace
		}
		n.proxyFailed(now, p, spec.Refusal, flags)
		return
	}
	refusal := n.suits(spec, info.AdSpec)
	if refusal == nil && !p.local && !n.receiverNamed(p) {
		refusal = &Refusal{Code: wire.ErrRSVPSystem, Value: systemVersion, Text: "receivers of a group have no address that a transparent box could reserve with"}
	}
	if refusal == nil {
		spec.Style, refusal = n.proxyStyle(now, p, spec)
	}
	flow := spec.FlowSpec.Wire()
	if p.limit != nil {
		flow = flow.AtMost(*p.limit)
	}
	if refusal == nil && p.s.conflicts(proxyKey(p, out, spec.Style), flow.Service) {
		refusal = &Refusal{Code: wire.ErrTrafficControl, Value: wire.TCServiceConflict, Text: intserv.ErrServiceConflict.Error()}
	}
	if refusal != nil && !b.unknown() && !b.proxy {
		return // it is for those behind us to ask, and to be told
	}
	b.proxy = true
	if refusal != nil {
		n.proxyFailed(now, p, refusal, 0)
		return
	}
	flow.TSpec.MaxPacket = n.fitPacket(flow.TSpec.MaxPacket, info.AdSpec, flow.Service, out)
	was, news := b.ask, !samePriority(b.priority, spec.Priority)
	b.ask, b.priority = &flow, spec.Priority

	t := n.needTCSB(p.s, proxyKey(p, out, spec.Style), spec.Style)
	want, err := t.proxied()
	if err != nil {
		b.ask = was
		n.dropEmpty(t)
		n.proxyFailed(now, p, &Refusal{Code: wire.ErrTrafficControl, Value: wire.TCServiceConflict, Text: err.Error()}, 0)
		return
	}
	r := t.find(local(out))
	if waiting := now.Before(p.retryAt); r == nil && !waiting {
		r = n.addRSB(t, local(out), want)
		r.inherit(t)
	} else if waiting && (r == nil || !r.wanted().equal(want)) {
		n.dropEmpty(t)
		return
	}
	r.unknown = n.passRequest(t)
	n.displace(t) // PATH ends here now: those who asked cannot any more
	if spec.Confirm && !p.confirmed && !p.local {
		p.confirm = n.confirmTo(p)
	}
	if !r.wanted().equal(want) {
		r.next = &want
	}
	n.updateTC(now, t, true)
	n.settled(p, false)
	if news && n.byID[t.id] == t && t.installed != nil && !p.local { // a new POLICY_DATA only
		if t.shared() {
			n.syncShared(now, p.s, nil, true, true)
		} else {
			n.forwardResv(now, &p.up)
		}
	}
}

// confirmTo is where the receiver proxy wants to be told that p's reservation is in
// place.
func (n *Node) confirmTo(p *psb) netip.Addr {
	if n.unseen != nil {
		return n.receiver(p.s, p.in)
	}
	return n.addr(p.in, near(p.phop.Addr, p.s.id.Dst))
}

// local is the hop of the receiver proxy's own requests.
func local(out IfIndex) wire.Hop { return wire.Hop{LIH: uint32(out)} }

// pathInfo is without the ADSPEC.
func (n *Node) pathInfo(p *psb, out IfIndex) PathInfo {
	return PathInfo{Session: p.s.id, Sender: p.sender, TSpec: p.tspec, In: p.in, Out: out, Needed: p.control == wire.ProxyNeeded}
}

func proxyKey(p *psb, out IfIndex, style wire.Style) tcKey {
	if style == wire.FF {
		return tcKey{out, p.sender}
	}
	return tcKey{out: out}
}

// proxied is what the receiver proxy asks for: in a shared style the merge of
// what policy has for each sender, since one of them is heard at a time.
func (t *tcsb) proxied() (q request, err error) {
	first := true
	add := func(p *psb) {
		b, ok := p.find(t.key.out)
		if !ok || !b.proxy || b.ask == nil || err != nil {
			return
		}
		if t.style == wire.SE {
			q.filters = append(q.filters, p.sender) // in order
		}
		if first {
			q.flow, first = *b.ask, false
			return
		}
		q.flow, err = q.flow.Merge(*b.ask)
	}
	if !t.shared() {
		if p := t.s.psbs[t.key.filter]; p != nil {
			add(p)
		}
		return q, err
	}
	for _, p := range t.s.order {
		add(p)
	}
	return q, err
}

// reproxy brings the receiver proxy's own request in a shared style up to date
// after a sender has gone. The caller looks after traffic control.
func (n *Node) reproxy(t *tcsb) {
	r := t.find(local(t.key.out))
	if r == nil {
		return
	}
	switch want, err := t.proxied(); {
	case err != nil || want.flow.Service == 0:
		n.removeRSB(r)
	case !r.wanted().equal(want):
		r.next = &want
	}
}

// proxyStyle chooses the style of the receiver proxy's request. Styles do not
// mix (RFC 2205 section 2.4): where other receivers have reserved in theirs, it
// is theirs or none.
func (n *Node) proxyStyle(now time.Time, p *psb, spec ReserveSpec) (wire.Style, *Refusal) {
	style := cmp.Or(spec.Style, wire.FF)
	existing, reserved := p.s.style()
	foreign := p.s.foreign()
	p.s.kept, p.s.several = p.s.kept && reserved, p.s.several && reserved
	switch {
	case spec.Auto && foreign, p.s.kept:
		return existing, nil
	case spec.Auto && len(p.s.order) == 1 && !p.s.several:
		style = wire.WF
	case spec.Auto:
		// For as long as it lasts: senders that come and go would have the style
		// change each time.
		style, p.s.several = wire.FF, true
	}
	if !reserved || style == existing {
		return style, nil
	}
	conflict := &Refusal{Code: wire.ErrStyleConflict, Value: uint16(existing)}
	if foreign || n.restyling {
		return 0, conflict
	}
	n.restyling = true // policies that want different styles get one of them
	defer func() { n.restyling = false }()
	n.changeStyle(now, p.s, style, p.s.served())
	for _, q := range p.s.order {
		if q != p && q.proxied() {
			n.answer(now, q)
		}
	}
	if existing, reserved = p.s.style(); reserved && existing != style {
		return 0, conflict
	}
	return style, nil
}

// served lists the senders that have a reservation, or for which one is asked.
func (s *session) served() (list []wire.Filter) {
	for _, t := range s.sorted() {
		if !t.shared() {
			list = append(list, t.key.filter)
		}
		for _, d := range []*demand{t.installed, t.asked} {
			if d != nil {
				list = append(list, d.filters...)
			}
		}
	}
	return list
}

// suits refuses what the path does not offer: the absence of a service's ADSPEC
// fragment means that it must not be asked for (RFC 2210 section 3.3).
func (n *Node) suits(spec ReserveSpec, ad *intserv.AdSpec) *Refusal {
	switch {
	case spec.Style != 0 && !spec.Style.Known():
		return &Refusal{Code: wire.ErrUnknownStyle}
	case ad != nil && spec.FlowSpec.Service == intserv.Guaranteed && ad.Guaranteed == nil,
		ad != nil && spec.FlowSpec.Service == intserv.ControlledLoad && ad.ControlledLoad == nil:
		return &Refusal{
			Code: wire.ErrTrafficControl, Value: wire.TCServiceUnsupported,
			Text: "the path does not offer " + spec.FlowSpec.Service.String(),
		}
	}
	if err := spec.FlowSpec.Validate(); err != nil {
		return &Refusal{Code: wire.ErrTrafficControl, Value: wire.TCBadFlowSpec, Text: err.Error()}
	}
	return nil
}

// fitPacket bounds M by the path's MTU, as the receiver has to (RFC 2210
// section 2.3.2).
func (n *Node) fitPacket(m uint32, ad *intserv.AdSpec, s intserv.Service, out IfIndex) uint32 {
	mtu := n.env.Hop(out).MTU
	if ad != nil {
		if p, _ := ad.For(s); p.Set&intserv.ParamMTU != 0 && p.MTU != 0 {
			mtu = p.MTU
		}
	}
	if mtu == 0 || m != 0 && m <= mtu {
		return m
	}
	return mtu
}

// unproxy takes the receiver proxy's own request for p on out back.
func (n *Node) unproxy(now time.Time, p *psb, out IfIndex) {
	b := p.at(out)
	if !b.proxy && !b.end {
		return
	}
	b.proxy, b.ask = false, nil
	t := p.reservation(out)
	if t == nil {
		return
	}
	if b.end { // nobody but us asks where PATH ends
		n.displace(t)
	}
	if r := t.find(local(out)); r != nil && t.shared() {
		n.reproxy(t)
	} else if r != nil {
		n.removeRSB(r)
	}
	n.dropEmpty(t)
	if n.byID[t.id] == t {
		n.updateTC(now, t, false)
	}
	n.resvChanged(now, t, nil)
}

// proxyFailed tells the sender that the receiver proxy cannot reserve. The
// error goes unchanged for codes 1 and 2 and within code 36 for all others
// (RFC 5946 section 3.1.2).
func (n *Node) proxyFailed(now time.Time, p *psb, r *Refusal, flags uint8) {
	p.retryAt = now.Add(n.cfg.Refresh / 2)
	n.refuseSender(p, proxyRefusal(r), flags&wire.InPlace)
	p.failure = &Failure{Code: r.Code, Value: r.Value, Text: r.Text, Flags: flags}
	n.timers.Stop(&p.failureTime)
	n.touch(p)
}

func proxyRefusal(r *Refusal) *Refusal {
	if r.Code == wire.ErrAdmission || r.Code == wire.ErrPolicy {
		return r
	}
	return &Refusal{Code: wire.ErrReceiverProxy, Value: 1<<8 | uint16(r.Code), Text: r.Text, By: r.By}
}
