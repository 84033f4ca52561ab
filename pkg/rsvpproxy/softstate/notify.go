package softstate

import (
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// This file is sender notification by Notify (RFC 5946 section 3.2, RFC 3473
// sections 4.2 and 4.3), beside that by PathErr. A sender proxy asks for it in
// PATH. A receiver proxy that finds such a request in a PATH puts it into its
// RESV (direct notification), or its own address where senders share a
// reservation (indirect), so that the node where it fails can tell.

// requested is what p's PATH carries on beside what is known: as sender proxy we
// ask for a Notify to ourselves.
func (n *Node) requested(p *psb, out IfIndex) []wire.Object {
	if !p.local {
		return p.unknown
	}
	if n.unseen != nil { // there is no address that a Notify could come to
		return nil
	}
	// Not of a group: many receivers' proxies would tell the same (section 3.1).
	if a := n.addr(out, p.s.id.Dst); a.IsValid() && !p.s.id.Dst.IsMulticast() {
		return []wire.Object{wire.NotifyRequest(a)}
	}
	return nil
}

// passRequest is the NOTIFY_REQUEST for the receiver proxy's own request.
func (n *Node) passRequest(t *tcsb) []wire.Object {
	var to []netip.Addr
	var hop neighborKey
	t.senders(func(p *psb) {
		if a := wire.NotifyNode(p.unknown); a.IsValid() && !p.local && !slices.Contains(to, a) {
			to, hop = append(to, a), p.prev()
		}
	})
	switch {
	case len(to) == 0, t.shared() && n.unseen != nil:
		return nil
	case t.shared():
		return []wire.Object{wire.NotifyRequest(n.addr(hop.iface, near(hop.addr, t.s.id.Dst)))}
	default:
		return []wire.Object{wire.NotifyRequest(to[0])}
	}
}

// notify sends a Notify about an error to whom has asked for it; about tells the
// session and one of its descriptors. It goes to no neighbour, and without
// Router Alert; a transparent node, which has no name to send it in, leaves it at the
// error message.
func (n *Node) notify(to, node netip.Addr, r *Refusal, flags uint8, about *wire.Message) {
	if n.unseen != nil || !to.IsValid() || !n.family(to) || n.env.Local(to) || to.Is4() != node.Is4() || !n.mayComplain(to) {
		return
	}
	out, local, ok := n.env.Route(to)
	src := n.addr(out, to)
	if !ok || local || !src.IsValid() {
		return
	}
	about.Type, about.SendTTL = wire.Notify, n.cfg.TTL
	about.ErrorSpec = &wire.ErrorSpec{Node: node, Flags: flags, Code: r.Code, Value: r.Value}
	n.count.notifiesOut++
	n.emit(Send{Out: out, Src: src, Dst: to, TTL: n.cfg.TTL, Msg: about})
}

// notifyDown tells of a RESV that was refused to whom it names.
func (n *Node) notifyDown(r *rsb, fd *wire.FlowDescriptor, refusal *Refusal, flags uint8) {
	about := wire.Message{Session: r.t.s.id, Style: r.t.style, Policy: refusal.policy()}
	about.Flows = []wire.FlowDescriptor{{FlowSpec: fd.FlowSpec, Filters: fd.Filters}}
	n.notify(wire.NotifyNode(r.unknown), n.addr(r.t.key.out, r.t.s.id.Dst), refusal, flags, &about)
}

// handleNotify takes a Notify to us. As any error it changes no state: a sender
// that we speak for has failed, or one that has asked us, as its receiver's
// proxy, to be told.
func (n *Node) handleNotify(now time.Time, rx *Received) {
	n.count.notifiesIn++
	if !n.Mine(wire.Notify, rx.Dst) {
		n.drop(DropNotForUs)
		return
	}
	found := false
	for _, m := range append([]*wire.Message{rx.Msg}, rx.Msg.More...) {
		s := n.sessions[m.Session.Key()]
		if s == nil || m.ErrorSpec == nil {
			continue
		}
		for _, p := range s.order {
			if (p.local || p.proxied()) && toldOf(m, p) {
				found = true
				n.notified(now, p, m)
			}
		}
	}
	if !found {
		n.drop(DropNoState)
	}
}

// toldOf says whether one session's part of a Notify is about p.
func toldOf(m *wire.Message, p *psb) bool {
	if m.SenderTemplate != nil {
		return *m.SenderTemplate == p.sender && p.local
	}
	return m.Style == wire.WF || slices.ContainsFunc(m.Flows, func(d wire.FlowDescriptor) bool { return slices.Contains(d.Filters, p.sender) })
}

// notified: the sender proxy notes the error, a receiver proxy hands it on to
// the sender (RFC 5946 section 3.2). PathErr follows the ResvErr.
func (n *Node) notified(now time.Time, p *psb, m *wire.Message) {
	e := m.ErrorSpec
	if p.local {
		f := failureOf(m)
		f.Upstream = m.SenderTemplate == nil
		n.fail(now, p, &f)
		return
	}
	tspec := p.tspec
	n.notify(wire.NotifyNode(p.unknown), n.addr(p.in, p.s.id.Dst), proxyRefusal(&Refusal{Code: e.Code, Value: e.Value}), e.Flags&wire.InPlace, &wire.Message{
		Session: p.s.id, SenderTemplate: &p.sender, Policy: m.Policy,
		SenderTSpec: &tspec, RawTSpec: p.rawTSpec, AdSpec: p.adspec,
	})
}
