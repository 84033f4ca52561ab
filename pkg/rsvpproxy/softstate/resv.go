package softstate

import (
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// handleResv is RESV MESSAGE ARRIVES of RFC 2209 section 2.
func (n *Node) handleResv(now time.Time, rx *Received) {
	m := rx.Msg
	if m.Hop == nil {
		n.drop(DropMalformed)
		return
	}
	out, ok := n.lih(rx)
	if !ok {
		n.drop(DropLIH)
		return
	}
	s := n.sessions[m.Session.Key()]
	if n.early != nil && !s.knows(m, out) && n.postpone(now, rx) {
		return
	}
	var refusal *Refusal
	switch existing, reserved := s.style(); {
	case s == nil && n.dstPortConflict(m.Session):
		refusal = &Refusal{Code: wire.ErrDstPorts}
	case s == nil:
		refusal = &Refusal{Code: wire.ErrNoPath}
	case reserved && m.Style != existing && !n.giveWay(now, s, m, out):
		// RFC 2205 Appendix B: the low 16 bits of the existing option vector.
		refusal = &Refusal{Code: wire.ErrStyleConflict, Value: uint16(existing)}
	case !m.Style.Known():
		refusal = &Refusal{Code: wire.ErrUnknownStyle}
	}
	if refusal == nil {
		if _, refusal = n.readPolicy(m.Policy); refusal != nil {
			n.drop(DropMalformed)
		}
	}
	if e := checkDClass(m); refusal == nil && e != nil {
		n.drop(DropMalformed)
		n.count.malformed[e.Kind]++
		if !e.Respond {
			return // it is no object at all: one code point is the least (RFC 2996 section 2)
		}
		refusal = &Refusal{Code: e.Code, Value: e.Value, Text: e.Detail}
	}
	if refusal != nil {
		n.refuseResv(rx, refusal)
		return
	}
	for i := range m.BadFlows {
		b := &m.BadFlows[i]
		why := &Refusal{Code: b.Err.Code, Value: b.Err.Value, Text: b.Err.Detail}
		n.sendResvErr(m.Session, out, m.Hop.Addr, complaint{style: m.Style, scope: m.Scope, flow: &b.FlowDescriptor, why: why, as: rx.Dst})
	}
	for i := range m.Flows { // each stands for itself (RFC 2205 section 3.1.8)
		if refusal := n.handleFlow(now, rx, s, out, &m.Flows[i]); refusal != nil {
			n.sendResvErr(m.Session, out, m.Hop.Addr, complaint{style: m.Style, scope: m.Scope, flow: &m.Flows[i], why: refusal, as: rx.Dst})
		}
	}
}

// knows says whether all senders that a RESV names have path state.
func (s *session) knows(m *wire.Message, out IfIndex) bool {
	if s == nil {
		return false
	}
	for i := range m.Flows {
		for _, f := range m.Flows[i].Filters {
			if s.psbs[f] == nil {
				return false
			}
		}
	}
	return m.Style != wire.WF || slices.ContainsFunc(s.order, func(p *psb) bool { return p.carries(out) })
}

// lih finds the outgoing interface that a message from downstream is about: the
// handle that our PATH gave it (RFC 2205 section 3.3). A neighbour that leaves
// it zero is understood by where the message arrived.
func (n *Node) lih(rx *Received) (IfIndex, bool) {
	out := n.byHandle(rx.Msg.Hop.LIH)
	if rx.Msg.Hop.LIH == 0 {
		out = rx.Iface
	}
	return out, n.uses(out, rx.Msg.Session.Dst)
}

// handleFlow takes one flow descriptor.
func (n *Node) handleFlow(now time.Time, rx *Received, s *session, out IfIndex, fd *wire.FlowDescriptor) *Refusal {
	style := rx.Msg.Style
	if style == wire.FF && len(fd.Filters) != 1 || style == wire.WF && len(fd.Filters) != 0 {
		n.drop(DropMalformed)
		return nil
	}
	key, filters, ok := s.match(style, fd.Filters, out)
	if !ok {
		return &Refusal{Code: wire.ErrNoSender}
	}
	if refusal := n.checkFlow(fd.FlowSpec, out); refusal != nil {
		return refusal
	}
	hop := wire.Hop{Addr: rx.Msg.Hop.Addr, LIH: uint32(out)}
	if s.conflicts(key, fd.FlowSpec.Service) {
		return &Refusal{Code: wire.ErrTrafficControl, Value: wire.TCServiceConflict, Text: intserv.ErrServiceConflict.Error()}
	}
	t := n.needTCSB(s, key, style)
	r := t.find(hop)
	if r == nil {
		if !n.holdRequest(neighborKey{rx.Iface, hop.Addr}) {
			n.dropEmpty(t)
			n.drop(DropLimitResv)
			return &Refusal{Code: wire.ErrRSVPSystem, Value: systemLimit, Text: "too many neighbours or requests"}
		}
		r = n.addRSB(t, hop, request{*fd.FlowSpec, filters})
		r.from = rx.Iface
		n.supplant(t)
	} else if r.from != rx.Iface && n.holdRequest(neighborKey{rx.Iface, hop.Addr}) {
		n.unholdRequest(r) // it comes another way now
		r.from = rx.Iface
	}
	t.senders(func(p *psb) { p.at(out).heard = true })
	n.prolong(r, filters, now.Add(n.lifetime(rx.Msg.TimeValues)))
	if w := r.wanted(); w.flow != *fd.FlowSpec || len(withFilters(w.filters, filters)) != len(w.filters) {
		r.next = &request{*fd.FlowSpec, withFilters(w.filters, filters)}
	}
	changed := n.take(now, r, rx.Msg, fd)
	n.updateTC(now, t, true)
	if r.next == nil {
		n.tellReduction(t, r) // again: it was lost, or not understood
	}
	n.heterogeneity(t, r)
	t.senders(func(p *psb) { n.settled(p, false) })
	if changed && t.installed != nil {
		if t.shared() {
			n.syncShared(now, s, nil, true, true)
		} else {
			n.forwardResv(now, &s.psbs[key.filter].up)
		}
	}
	return nil
}

// match finds the reservation that a flow descriptor is about. Filter specs of
// style SE that match no sender are left out (RFC 2209, RESV MESSAGE ARRIVES);
// false: no sender is left.
func (s *session) match(style wire.Style, list []wire.Filter, out IfIndex) (key tcKey, filters []wire.Filter, ok bool) {
	key.out = out
	if style == wire.WF {
		return key, nil, slices.ContainsFunc(s.order, func(p *psb) bool { return p.carries(out) })
	}
	for _, f := range list {
		// Where PATH ends nobody downstream can have path state to answer.
		if p := s.psbs[f]; p == nil || !p.carries(out) {
			continue
		}
		if style == wire.FF {
			key.filter = f
			return key, nil, true
		}
		filters = withFilters(filters, []wire.Filter{f})
	}
	return key, filters, len(filters) > 0
}

// conflicts says whether others reserve another service for the same data: all
// receivers of a session must use the same one (RFC 2210 section 2.2). Within
// one interface traffic control looks after it.
func (s *session) conflicts(key tcKey, service intserv.Service) bool {
	for k, t := range s.tcsbs {
		if k.filter == key.filter && k.out != key.out && t.rsbs[0].wanted().flow.Service != service {
			return true
		}
	}
	return false
}

// prolong restarts the lifetime of a request, in style SE of each filter spec
// that was named (RFC 2209, RESV MESSAGE ARRIVES).
func (n *Node) prolong(r *rsb, filters []wire.Filter, until time.Time) {
	if r.t.style != wire.SE {
		n.timers.Set(&r.life, until)
		return
	}
	if r.until == nil {
		r.until = map[wire.Filter]time.Time{}
	}
	for _, f := range filters {
		r.until[f] = until
	}
	for _, at := range r.until {
		if at.Before(until) {
			until = at
		}
	}
	n.timers.Set(&r.life, until)
}

// take copies what is not looked at here and says whether it changed.
func (n *Node) take(now time.Time, r *rsb, m *wire.Message, fd *wire.FlowDescriptor) bool {
	scope := n.scopeOf(now, r, m)
	policy := flowPolicy(m.Policy, r.t.style, r.t.key.filter)
	changed := !sameObject(r.raw, fd.Raw) || !sameObjects(r.policy, policy) ||
		!sameObjects(r.unknown, m.Unknown) || !sameObjects(r.flowUnknown, fd.Unknown) || !slices.Equal(r.scope, scope)
	r.scope = scope
	r.raw, r.policy, r.unknown, r.flowUnknown = fd.Raw, policy, m.Unknown, fd.Unknown
	r.said, _ = n.readPolicy(policy) // handleResv has refused what cannot be read
	r.confirm = m.ResvConfirm
	return changed
}

// checkFlow refuses a FLOWSPEC that traffic control could only refuse.
func (n *Node) checkFlow(f *intserv.FlowSpec, out IfIndex) *Refusal {
	if f == nil || !f.Service.Known() {
		return &Refusal{Code: wire.ErrTrafficControl, Value: wire.TCServiceUnsupported}
	}
	if err := f.Validate(); err != nil {
		return &Refusal{Code: wire.ErrTrafficControl, Value: wire.TCBadFlowSpec, Text: err.Error()}
	}
	if mtu := n.env.Hop(out).MTU; mtu != 0 && f.TSpec.MaxPacket > mtu {
		return &Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionMTU}
	}
	return nil
}

// handleResvTear is RTEAR MESSAGE ARRIVES of RFC 2209 section 2. It matches
// SESSION, STYLE, FILTER_SPEC and LIH (RFC 2205 section 3.1.6), and the next
// hop: another one's reservation is not its to end.
func (n *Node) handleResvTear(now time.Time, rx *Received) {
	n.torn = true
	defer func() { n.torn = false }()
	m := rx.Msg
	s := n.sessions[m.Session.Key()]
	if m.Hop == nil {
		n.drop(DropMalformed)
		return
	}
	out, ok := n.lih(rx)
	style, reserved := s.style()
	if !reserved || !ok || m.Style != style {
		n.drop(DropNoState)
		return
	}
	hop := wire.Hop{Addr: m.Hop.Addr, LIH: uint32(out)}
	if style == wire.FF {
		for i := range m.Flows {
			for _, f := range m.Flows[i].Filters {
				if r := s.request(tcKey{out, f}, hop); r != nil {
					n.tearRSB(now, r, m.Unknown)
				} else {
					n.drop(DropNoState)
				}
			}
		}
		return
	}
	r := s.request(tcKey{out: out}, hop)
	switch {
	case r == nil:
		n.drop(DropNoState)
	case style == wire.WF && n.narrow(r, rx.Dst):
		n.updateTC(now, r.t, true)
		n.resvChanged(now, r.t, m.Unknown)
	case style == wire.WF:
		n.tearRSB(now, r, m.Unknown)
	default:
		torn := func(f wire.Filter) bool {
			return slices.ContainsFunc(m.Flows, func(d wire.FlowDescriptor) bool { return slices.Contains(d.Filters, f) })
		}
		if !slices.ContainsFunc(r.wanted().filters, func(f wire.Filter) bool { return !torn(f) }) {
			n.tearRSB(now, r, m.Unknown)
		} else if !n.endFilters(now, r, torn, m.Unknown) {
			n.drop(DropNoState)
		}
	}
}

// request finds what a next hop asks for.
func (s *session) request(key tcKey, hop wire.Hop) *rsb {
	if t := s.tcsbs[key]; t != nil {
		return t.find(hop)
	}
	return nil
}

// resvExpired is the end of reservation state that nobody refreshed: as a
// ResvTear (RFC 2205 section 3.1.6).
func (n *Node) resvExpired(now time.Time, r *rsb) {
	n.count.resvTimeouts++
	over := func(f wire.Filter) bool { at, ok := r.until[f]; return !ok || !at.After(now) }
	switch {
	case r.t.style == wire.SE && slices.ContainsFunc(r.wanted().filters, func(f wire.Filter) bool { return !over(f) }):
		n.endFilters(now, r, over, nil)
	case n.resume(now, r):
	case r.t.style == wire.SE:
		n.endFilters(now, r, over, nil)
	default:
		n.endRSB(now, r, nil)
	}
}

// endFilters takes filter specs out of a next hop's request of style SE, and
// says whether there were any.
func (n *Node) endFilters(now time.Time, r *rsb, gone func(wire.Filter) bool, unknown []wire.Object) bool {
	t := r.t
	t.senders(n.touch)
	if !r.keep(func(f wire.Filter) bool { return !gone(f) }) {
		n.prolong(r, nil, r.earliest(now.Add(n.cfg.Refresh)))
		return false
	}
	if len(r.wanted().filters) == 0 {
		n.endRSB(now, r, unknown)
		return true
	}
	n.prolong(r, nil, r.earliest(now.Add(n.cfg.Refresh)))
	n.updateTC(now, t, true)
	n.resvChanged(now, t, unknown)
	return true
}

// earliest is when the first filter spec of r ends.
func (r *rsb) earliest(at time.Time) time.Time {
	first := true
	for _, u := range r.until {
		if first || u.Before(at) {
			at, first = u, false
		}
	}
	return at
}

// tearRSB is the end of what a next hop has torn down: the receiver proxy goes on
// where policy claims the flow, else it is over. Who wants nothing for the data
// that it receives has to tell the operator, or the sender.
func (n *Node) tearRSB(now time.Time, r *rsb, unknown []wire.Object) {
	if !n.resume(now, r) {
		n.endRSB(now, r, unknown)
	}
}

// endRSB takes one next hop's request away and passes the consequence on: a
// ResvTear, a smaller RESV, or nothing (RFC 2205 section 3.1.6).
func (n *Node) endRSB(now time.Time, r *rsb, unknown []wire.Object) {
	t := r.t
	n.removeRSB(r)
	if len(t.rsbs) > 0 {
		n.updateTC(now, t, true)
		if t.shared() {
			n.resvChanged(now, t, unknown)
		}
		return
	}
	n.resvChanged(now, t, unknown)
}
