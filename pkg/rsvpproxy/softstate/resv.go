package softstate

import (
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
	var refusal *Refusal
	switch existing, reserved := s.style(); {
	case s == nil && n.dstPortConflict(m.Session):
		refusal = &Refusal{Code: wire.ErrDstPorts}
	case s == nil:
		refusal = &Refusal{Code: wire.ErrNoPath}
	case reserved && m.Style != existing:
		// RFC 2205 Appendix B: the low 16 bits of the existing option vector.
		refusal = &Refusal{Code: wire.ErrStyleConflict, Value: uint16(existing)}
	case m.Style != wire.FF:
		refusal = &Refusal{Code: wire.ErrUnknownStyle}
	}
	if refusal != nil {
		n.refuseResv(rx, refusal)
		return
	}
	for i := range m.BadFlows {
		b := &m.BadFlows[i]
		n.sendResvErr(m.Session, out, m.Hop.Addr, m.Style, &b.FlowDescriptor,
			&Refusal{Code: b.Err.Code, Value: b.Err.Value, Text: b.Err.Detail}, 0)
	}
	for i := range m.Flows { // each stands for itself (RFC 2205 section 3.1.8)
		if refusal := n.handleFlow(now, rx, s, out, &m.Flows[i]); refusal != nil {
			n.sendResvErr(m.Session, out, m.Hop.Addr, m.Style, &m.Flows[i], refusal, 0)
		}
	}
}

// lih finds the outgoing interface that a message from downstream is about: the
// handle that our PATH gave it (RFC 2205 section 3.3). A neighbour that leaves
// it zero is understood by where the message arrived.
func (n *Node) lih(rx *Received) (IfIndex, bool) {
	out := IfIndex(rx.Msg.Hop.LIH)
	if out == 0 {
		out = rx.Iface
	}
	return out, n.env.Addr(out).IsValid()
}

// style is that of the existing reservations, if there are any.
func (s *session) style() (wire.Style, bool) { return wire.FF, s != nil && len(s.tcsbs) > 0 }

// handleFlow takes one flow descriptor of fixed-filter style.
func (n *Node) handleFlow(now time.Time, rx *Received, s *session, out IfIndex, fd *wire.FlowDescriptor) *Refusal {
	if len(fd.Filters) != 1 {
		n.drop(DropMalformed)
		return nil
	}
	p := s.psbs[fd.Filters[0]]
	if p == nil || !p.routes(out) || p.end {
		// Where PATH ends nobody downstream can have path state to answer.
		return &Refusal{Code: wire.ErrNoSender}
	}
	if refusal := n.checkFlow(fd.FlowSpec, out); refusal != nil {
		return refusal
	}
	t := n.needTCSB(s, tcKey{out, p.sender})
	hop := wire.Hop{Addr: rx.Msg.Hop.Addr, LIH: uint32(out)}
	r := t.find(hop)
	if r == nil {
		if !n.hold(hop.Addr) {
			n.dropEmpty(t)
			n.drop(DropLimitResv)
			return &Refusal{Code: wire.ErrRSVPSystem, Value: systemLimit, Text: "too many neighbours"}
		}
		r = n.addRSB(t, hop)
		r.next = new(*fd.FlowSpec)
	}
	n.timers.set(&r.life, now.Add(n.lifetime(rx.Msg.TimeValues)))
	if r.wanted() != *fd.FlowSpec {
		r.next = new(*fd.FlowSpec)
	}
	changed := r.take(rx.Msg, fd)
	n.updateTC(now, t, true)
	n.settled(p, false)
	if changed && t.installed != nil {
		n.forwardResv(now, p)
	}
	return nil
}

// take copies what is not looked at here and says whether it changed.
func (r *rsb) take(m *wire.Message, fd *wire.FlowDescriptor) bool {
	changed := !sameObject(r.raw, fd.Raw) || !sameObjects(r.policy, m.Policy) ||
		!sameObjects(r.unknown, m.Unknown) || !sameObjects(r.flowUnknown, fd.Unknown)
	r.raw, r.policy, r.unknown, r.flowUnknown = fd.Raw, m.Policy, m.Unknown, fd.Unknown
	r.confirm = m.ResvConfirm
	return changed
}

// checkFlow refuses a FLOWSPEC that traffic control could only refuse.
func (n *Node) checkFlow(f *intserv.FlowSpec, out IfIndex) *Refusal {
	if f == nil || !f.Service.Requestable() {
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
	m := rx.Msg
	s := n.sessions[m.Session.Key()]
	if m.Hop == nil {
		n.drop(DropMalformed)
		return
	}
	out, ok := n.lih(rx)
	if s == nil || !ok || m.Style != wire.FF {
		n.drop(DropNoState)
		return
	}
	for i := range m.Flows {
		for _, f := range m.Flows[i].Filters {
			t := s.tcsbs[tcKey{out, f}]
			if t == nil {
				n.drop(DropNoState)
				continue
			}
			r := t.find(wire.Hop{Addr: m.Hop.Addr, LIH: uint32(out)})
			if r == nil {
				n.drop(DropNoState)
				continue
			}
			n.endRSB(now, r, m.Unknown)
		}
	}
}

func (n *Node) resvExpired(now time.Time, r *rsb) {
	n.count.resvTimeouts++
	n.endRSB(now, r, nil)
}

// endRSB takes one next hop's request away and passes the consequence on: a
// ResvTear, a smaller RESV, or nothing (RFC 2205 section 3.1.6).
func (n *Node) endRSB(now time.Time, r *rsb, unknown []wire.Object) {
	t := r.t
	n.removeRSB(r)
	if len(t.rsbs) > 0 {
		n.updateTC(now, t, true)
		return
	}
	t.senders(func(p *psb) { n.resvGone(p, unknown) })
}
