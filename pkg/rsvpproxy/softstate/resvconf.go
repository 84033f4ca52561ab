package softstate

import (
	"net/netip"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// confirmRSB deals with the RESV_CONFIRM of a request that is in place (RFC
// 2205 section 3.1.4): it goes on with the next RESV if the request is larger
// than all others of its sender, else it is answered here. It says whether the
// former is the case.
func (n *Node) confirmRSB(t *tcsb, r *rsb) bool {
	to := r.confirm
	if !to.IsValid() || !r.have || r.next != nil {
		return false
	}
	r.confirm = netip.Addr{}
	forward, answer := false, false
	t.senders(func(p *psb) {
		switch {
		case !r.reaches(p):
		case !p.local && p.blockades(r.now.flow):
			// dropped (section 3.1.4)
		case !p.local && p.largest(r):
			n.needUp(p).confirm, forward = to, true
		default:
			answer = true
		}
	})
	if answer {
		n.sendResvConf(t, r, to)
	}
	return forward
}

// largest says whether r asks for more than every other request for p.
func (p *psb) largest(r *rsb) bool {
	largest := true
	p.reservations(func(t *tcsb) {
		for _, o := range t.rsbs {
			if o != r && o.have && r.now.flow.Compare(o.now.flow) != intserv.Greater {
				largest = false
			}
		}
	})
	return largest
}

func (n *Node) sendResvConf(t *tcsb, r *rsb, to netip.Addr) {
	out, local, ok := n.env.Route(to)
	node := n.addr(t.key.out, t.s.id.Dst)
	if n.unseen != nil {
		out, local, ok, node = t.key.out, false, true, netip.Addr{}
		n.facings(t.s, out, nil, func(as netip.Addr, _ []wire.Filter) { node = as })
	}
	if !ok || local || to.Is4() != node.Is4() {
		return
	}
	flow, filters := r.now.flow, r.now.filters
	if !t.shared() {
		filters = []wire.Filter{t.key.filter}
	}
	n.sendAs(n.source(out, to, node), out, to, &wire.Message{
		Type: wire.ResvConf, Session: t.s.id, Style: t.style, ResvConfirm: to,
		ErrorSpec: &wire.ErrorSpec{Node: node}, // code 0: no error
		Flows:     []wire.FlowDescriptor{{FlowSpec: &flow, Raw: r.raw, Filters: filters}},
	})
}

// handleResvConf is RESV CONFIRM ARRIVES of RFC 2209 section 2.
func (n *Node) handleResvConf(rx *Received) {
	m := rx.Msg
	switch {
	case !m.ResvConfirm.IsValid() || m.ErrorSpec == nil:
		n.drop(DropMalformed)
		return
	case m.ResvConfirm != rx.Dst:
		n.drop(DropConfirmDst) // RFC 2205 Appendix B
		return
	}
	if n.env.Local(m.ResvConfirm) || n.confirmsUs(rx) {
		n.confirmed(m)
		return
	}
	out, local, ok := n.onward(m.ResvConfirm, rx.Src, rx.Iface)
	if !ok || local || n.unseen != nil && out == rx.Iface {
		n.drop(DropNoState)
		return
	}
	if rx.TTL <= 1 {
		n.drop(DropTTL)
		return
	}
	c := *m
	c.Integrity, c.SendTTL = nil, rx.TTL-1
	if n.cfg.Bridge {
		c.SendTTL = rx.TTL
	}
	n.transmit(Send{
		Out: out, From: rx.Iface, Src: n.source(out, m.ResvConfirm, rx.Src), Dst: m.ResvConfirm, TTL: c.SendTTL, RouterAlert: true, Msg: &c,
	})
}

// confirmsUs says whether a confirmation to a receiver is for a transparent node that
// has asked for it in the receiver's name.
func (n *Node) confirmsUs(rx *Received) bool {
	s := n.sessions[rx.Msg.Session.Key()]
	if n.unseen == nil || s == nil || rx.Msg.ResvConfirm != s.id.Dst {
		return false
	}
	return slices.ContainsFunc(s.order, func(p *psb) bool { return p.proxied() && p.in == rx.Iface })
}

// confirmed notes the confirmation of a receiver proxy's request.
func (n *Node) confirmed(m *wire.Message) {
	found := false
	note := func(p *psb) {
		if p == nil || !p.proxied() || p.installed() == nil {
			return
		}
		found = true
		p.confirmed, p.confirm, p.blockade = true, netip.Addr{}, nil
		if u := n.upOf(p); u != nil {
			u.quick = 0
		}
		if p.limit == nil { // what is confirmed is all that policy wants
			p.failure = nil
			n.timers.Stop(&p.failureTime)
		}
		n.touch(p)
	}
	s := n.sessions[m.Session.Key()]
	if s != nil && m.Style == wire.WF {
		for _, p := range s.order {
			note(p)
		}
	}
	for i := range m.Flows {
		for _, f := range m.Flows[i].Filters {
			note(n.lookup(m.Session, f))
		}
	}
	if !found {
		n.drop(DropNoState)
	}
}
