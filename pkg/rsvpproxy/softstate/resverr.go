package softstate

import (
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// refuseResv answers a RESV that is in error as a whole: one ResvErr for each
// flow descriptor, since each has room for one only (RFC 2205 section 3.1.8).
func (n *Node) refuseResv(rx *Received, r *Refusal) {
	m := rx.Msg
	out, ok := n.lih(rx)
	if !ok {
		out = rx.Iface
	}
	for i := range m.Flows {
		n.sendResvErr(m.Session, out, m.Hop.Addr, m.Style, &m.Flows[i], r, 0)
	}
	for i := range m.BadFlows {
		n.sendResvErr(m.Session, out, m.Hop.Addr, m.Style, &m.BadFlows[i].FlowDescriptor, r, 0)
	}
	if len(m.Flows)+len(m.BadFlows) == 0 {
		n.sendResvErr(m.Session, out, m.Hop.Addr, m.Style, nil, r, 0)
	}
}

// sendResvErr starts a ResvErr at this node.
func (n *Node) sendResvErr(s wire.Session, out IfIndex, to netip.Addr, st wire.Style, fd *wire.FlowDescriptor, r *Refusal, flags uint8) {
	n.count.resvErrs[r.Code]++
	m := &wire.Message{
		Type: wire.ResvErr, Session: s.Key(), Hop: n.hop(out), Style: st,
		ErrorSpec: &wire.ErrorSpec{Node: n.env.Addr(out), Flags: flags, Code: r.Code, Value: r.Value},
	}
	if fd != nil {
		m.Flows = []wire.FlowDescriptor{{FlowSpec: fd.FlowSpec, Filters: fd.Filters, Raw: fd.Raw}}
	}
	n.send(out, to, m)
}

// handleResvErr is RERR MESSAGE ARRIVES of RFC 2209 section 2. Reservations
// stay as they are: it is for the receiver to decide.
func (n *Node) handleResvErr(now time.Time, rx *Received) {
	m := rx.Msg
	s := n.sessions[m.Session.Key()]
	if m.ErrorSpec == nil {
		n.drop(DropMalformed)
		return
	}
	if s == nil || m.Style != wire.FF {
		n.drop(DropNoState)
		return
	}
	found := false
	for i := range m.Flows {
		for _, f := range m.Flows[i].Filters {
			if p := s.psbs[f]; p != nil && !p.local {
				found = true
				n.resvErrFor(now, rx, p, &m.Flows[i])
			}
		}
	}
	if !found {
		n.drop(DropNoState)
	}
}

func (n *Node) resvErrFor(now time.Time, rx *Received, p *psb, fd *wire.FlowDescriptor) {
	m, e := rx.Msg, rx.Msg.ErrorSpec
	inPlace := e.Flags&wire.InPlace != 0
	n.fail(now, p, &Failure{Code: e.Code, Value: e.Value, Flags: e.Flags, Node: e.Node, Upstream: true})
	admission := e.Code == wire.ErrAdmission && fd.FlowSpec != nil
	if admission {
		qb := *fd.FlowSpec
		p.blockade = &qb
		p.reservations(func(t *tcsb) {
			if t.installed != nil && !p.blockades(t.fwd) && !p.proxied {
				n.forwardResv(now, p) // what did not fail goes up at once (section 3.5 rule 4)
			}
		})
	}
	p.reservations(func(t *tcsb) {
		if t.key.out == rx.Iface {
			return
		}
		for _, r := range t.rsbs {
			if admission && inPlace && !p.blockades(r.wanted()) {
				continue // the failure was not this one's (section 3.5 rule 5)
			}
			if r.local() {
				// RFC 5946 section 3.1: the sender has to learn of it.
				n.refuseSender(p, proxyRefusal(&Refusal{Code: e.Code, Value: e.Value}), e.Flags&wire.InPlace)
				continue
			}
			n.send(t.key.out, r.hop.Addr, &wire.Message{
				Type: wire.ResvErr, Session: p.s.id, Hop: n.hop(t.key.out), ErrorSpec: e, Style: m.Style,
				Flows:  []wire.FlowDescriptor{{FlowSpec: fd.FlowSpec, Raw: fd.Raw, Filters: []wire.Filter{p.sender}, Unknown: fd.Unknown}},
				Policy: m.Policy, Unknown: m.Unknown,
			})
		}
	})
}
