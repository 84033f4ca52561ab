package softstate

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// unusedReverse is how long a PATH speaks for a sender of the other direction
// whom nobody has declared, that is, who has sent nothing. Two boxes that take
// each other's PATH as the trigger would else keep their state for ever.
const unusedReverse = 10 * time.Minute

// reversed is the session and sender of the other direction. A destination port
// of zero goes with a source port of zero only (RFC 2205 section 3.2).
func reversed(s wire.Session, f wire.Filter) (wire.Session, wire.Filter, bool) {
	ok := !s.Dst.IsMulticast() && s.Format == wire.FormatPorts && f.Format == wire.FormatPorts && (s.DstPort == 0) == (f.SrcPort == 0)
	return wire.Session{Dst: f.Src, Protocol: s.Protocol, DstPort: f.SrcPort}, wire.Filter{Src: s.Dst, SrcPort: s.DstPort}, ok
}

// reverse is the path-triggered sender proxy for the reverse direction (RFC
// 5945 section 4.2): where PATH reaches its receiver's side, we speak for the
// receiver as a sender, as long as the PATH lives. What others have declared, or
// what the receiver says itself, needs no trigger.
func (n *Node) reverse(now time.Time, p *psb) {
	if n.rev == nil || p.local || p.barred || len(p.outs) != 1 {
		return
	}
	id, f, ok := reversed(p.s.id, p.sender)
	if !ok {
		return
	}
	info := n.pathInfo(p, p.outs[0].out)
	tspec, yes := n.rev.Reverse(info)
	q := n.lookup(id, f)
	switch {
	case !yes:
		if p.turned {
			n.endReverse(now, p)
		}
	case q == nil, p.turned && q.local && !q.own.owned:
		if q != nil && now.Sub(q.own.triggered) > unusedReverse {
			p.barred = true
			n.endReverse(now, p)
			return
		}
		since := now
		if q != nil {
			since = q.own.triggered
		}
		// An error is a limit or a port conflict, counted there; the next PATH tries again.
		if err := n.declare(now, Sender{Session: id, Filter: f, TSpec: tspec, In: info.Out}, true); err == nil {
			p.turned = true
			n.lookup(id, f).own.triggered = since
		}
	}
}

// endReverse ends what p's PATH has begun.
func (n *Node) endReverse(now time.Time, p *psb) {
	p.turned = false
	id, f, _ := reversed(p.s.id, p.sender)
	q := n.lookup(id, f)
	if q == nil || q.own == nil || q.own.triggered.IsZero() {
		return
	}
	q.own.triggered = time.Time{}
	n.unowned(now, q)
}

// disown is the end of a declaration by AddSender.
func (n *Node) disown(now time.Time, p *psb) {
	if !p.own.owned {
		return
	}
	p.own.owned = false
	if !p.own.triggered.IsZero() {
		p.own.triggered = now // it has something to show for ten minutes more
		return
	}
	id, f, ok := reversed(p.s.id, p.sender)
	if q := n.lookup(id, f); ok && q != nil {
		q.barred = true // its flow has ended: no trigger brings it back
	}
	n.unowned(now, p)
}

// unowned ends a sender that nobody wants any more.
func (n *Node) unowned(now time.Time, p *psb) {
	if p.own.owned || !p.own.triggered.IsZero() {
		return
	}
	p.own = nil
	if p.local {
		n.teardown(now, p, nil)
	}
}
