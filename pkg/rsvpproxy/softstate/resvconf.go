package softstate

import (
	"net/netip"

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
	forward := false
	t.senders(func(p *psb) {
		switch {
		case !p.local && p.blockades(r.flow):
			// dropped (section 3.1.4)
		case !p.local && p.largest(r):
			p.confirm, forward = to, true
		default:
			n.sendResvConf(t, r, to)
		}
	})
	return forward
}

// largest says whether r asks for more than every other request for p.
func (p *psb) largest(r *rsb) bool {
	largest := true
	p.reservations(func(t *tcsb) {
		for _, o := range t.rsbs {
			if o != r && o.have && r.flow.Compare(o.flow) != intserv.Greater {
				largest = false
			}
		}
	})
	return largest
}

func (n *Node) sendResvConf(t *tcsb, r *rsb, to netip.Addr) {
	out, local, ok := n.env.Route(to)
	if !ok || local {
		return
	}
	flow := r.flow
	n.send(out, to, &wire.Message{
		Type: wire.ResvConf, Session: t.s.id, Style: wire.FF, ResvConfirm: to,
		ErrorSpec: &wire.ErrorSpec{Node: n.env.Addr(t.key.out)}, // code 0: no error
		Flows:     []wire.FlowDescriptor{{FlowSpec: &flow, Raw: r.raw, Filters: []wire.Filter{t.key.filter}}},
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
	if n.env.Local(m.ResvConfirm) {
		n.confirmed(m)
		return
	}
	out, local, ok := n.env.Route(m.ResvConfirm)
	if !ok || local {
		n.drop(DropNoState)
		return
	}
	if rx.TTL <= 1 {
		n.drop(DropTTL)
		return
	}
	c := *m
	c.Integrity = nil
	n.sendFrom(out, n.env.Addr(out), m.ResvConfirm, rx.TTL-1, &c)
}

// confirmed notes the confirmation of a receiver proxy's request.
func (n *Node) confirmed(m *wire.Message) {
	found := false
	for i := range m.Flows {
		for _, f := range m.Flows[i].Filters {
			p := n.lookup(m.Session, f)
			if p == nil || !p.proxied || p.installed() == nil {
				continue
			}
			found = true
			p.confirmed, p.confirm, p.resvQ = true, netip.Addr{}, 0
			p.failure, p.blockade = nil, nil
			n.timers.stop(&p.failureTime)
			n.touch(p)
		}
	}
	if !found {
		n.drop(DropNoState)
	}
}
