package softstate

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// SendPath sends the PATH of a sender now: the owner has something to add to it
// that its next hop has to learn soon (RFC 2746 section 4.2.4).
func (n *Node) SendPath(now time.Time, id wire.Session, f wire.Filter) []Effect {
	n.now = now
	if p := n.lookup(id, f); p != nil {
		n.forwardPath(now, p)
	}
	return n.flush()
}

// SendResv sends the RESV of a sender now: it had to wait (RFC 3175 section 2.5).
func (n *Node) SendResv(now time.Time, id wire.Session, f wire.Filter) []Effect {
	n.now = now
	if p := n.lookup(id, f); p != nil && !p.local && p.installed() != nil {
		if u := n.upOf(p); u != nil {
			n.forwardResv(now, u)
		}
	}
	return n.flush()
}

// ReserveAgain has what is reserved for a sender asked for again, as it is: something
// else than before is to answer for it.
func (n *Node) ReserveAgain(now time.Time, id wire.Session, f wire.Filter) []Effect {
	n.now = now
	if p := n.lookup(id, f); p != nil {
		p.reservations(func(t *tcsb) {
			if t.installed != nil && t.asked == nil {
				n.ask(t, *t.installed)
			}
		})
	}
	return n.flush()
}

// CrossingFailed tells that what is reserved for a sender cannot cross the link
// that it comes in by. It is an error of the previous hop, as if that had sent a
// ResvErr (RFC 2746 section 6.2).
func (n *Node) CrossingFailed(now time.Time, id wire.Session, f wire.Filter, why Refusal) []Effect {
	n.now = now
	p := n.lookup(id, f)
	if p == nil || p.local {
		return n.flush()
	}
	t := p.installed()
	if t == nil {
		return n.flush()
	}
	flow := t.fwd
	fd := wire.FlowDescriptor{FlowSpec: &flow}
	if t.style != wire.WF {
		fd.Filters = []wire.Filter{f}
	}
	hop := p.phop
	n.handle(now, &Received{
		Iface: p.in, Src: hop.Addr, Dst: n.addr(p.in, id.Dst), TTL: n.cfg.TTL,
		Msg: &wire.Message{
			Type: wire.ResvErr, SendTTL: n.cfg.TTL, Session: id.Key(), Hop: &hop, Style: t.style,
			ErrorSpec: &wire.ErrorSpec{Node: hop.Addr, Code: why.Code, Value: why.Value}, Flows: []wire.FlowDescriptor{fd},
		},
	})
	return n.flush()
}
