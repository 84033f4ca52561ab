package softstate

import (
	"bytes"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// handlePath is PATH MESSAGE ARRIVES of RFC 2209 section 2.
func (n *Node) handlePath(now time.Time, rx *Received) {
	m := rx.Msg
	if m.SenderTemplate == nil || m.SenderTSpec == nil && m.RawTSpec == nil || m.Hop == nil {
		n.drop(DropMalformed)
		return
	}
	if m.Session.DstPort == 0 && m.SenderTemplate.SrcPort != 0 {
		n.drop(DropMalformed) // bad source port: logged, not answered (RFC 2209 section 2)
		return
	}
	if !n.supports(m.Session.Dst, m.SenderTemplate.Src, rx.Iface) {
		n.refusePath(rx, &Refusal{Code: wire.ErrRSVPSystem, Value: systemVersion})
		return
	}
	if m.SenderTSpec == nil {
		n.refusePath(rx, &Refusal{Code: wire.ErrTrafficControl, Value: wire.TCBadTSpec})
		return
	}
	said, refusal := n.readPolicy(m.Policy)
	if refusal != nil {
		n.drop(DropMalformed)
		n.refusePath(rx, refusal)
		return
	}
	n.pathCame(now, rx, arrival{heard: now, until: now.Add(n.lifetime(m.TimeValues)), nonRSVP: n.nonRSVP(rx), said: said})
}

// arrival is what is found out of a PATH, and what it is for the state here.
type arrival struct {
	heard   time.Time // when it came
	until   time.Time // end of the state, unless it is refreshed
	nonRSVP bool
	said    policy

	created bool // there was no state
	moved   bool // another previous hop has it
	fresh   bool // ... that had none, and no RESV
}

// pathCame takes a PATH that can be understood.
func (n *Node) pathCame(now time.Time, rx *Received, a arrival) {
	m := rx.Msg
	p := n.lookup(m.Session, *m.SenderTemplate)
	if p != nil && p.local && p.in != rx.Iface && (p.in != 0 || p.routes(rx.Iface)) {
		n.drop(DropLoop)
		return
	}
	if p == nil {
		var refusal *Refusal
		if n.overShare(neighborKey{rx.Iface, m.Hop.Addr}, m.Session) {
			n.drop(DropShare)
			refusal = &Refusal{Code: wire.ErrRSVPSystem, Value: systemLimit, Text: "the neighbour holds its share of sessions"}
		} else {
			p, refusal = n.newPSB(now, m.Session, *m.SenderTemplate, rx.Iface)
		}
		if refusal == nil && !n.holdSender(neighborKey{rx.Iface, m.Hop.Addr}, false) {
			n.deletePSB(now, p)
			n.drop(DropLimitPath)
			refusal = &Refusal{Code: wire.ErrRSVPSystem, Value: systemLimit, Text: "too many neighbours"}
		}
		if refusal != nil {
			n.refusePath(rx, refusal)
			return
		}
		a.created = true
	} else if p.in != rx.Iface || p.phop != *m.Hop {
		if !p.local && n.beside(p, rx, a) {
			return
		}
		a.moved, a.fresh = true, true
		if p.local {
			n.holdSender(neighborKey{rx.Iface, m.Hop.Addr}, true) // what is there stays
		} else {
			a.fresh = n.replace(p, rx)
		}
	}
	n.adopt(now, p, rx, a)
	n.reverse(now, p)
	if a.created {
		n.catchUp(now, p.s.id)
	}
}

// adopt makes what a PATH tells p's state. Its previous hop has been counted.
func (n *Node) adopt(now time.Time, p *psb, rx *Received, a arrival) {
	changed := p.take(rx, a.nonRSVP) || a.created || a.fresh
	p.said, p.heard = a.said, a.heard
	n.recount(p)
	n.timers.Set(&p.life, a.until)
	if !a.moved && n.follow(now, p) {
		return
	}
	if n.reroute(p) {
		changed = true
	}
	if changed {
		p.retryAt = time.Time{}
		n.forwardPath(now, p)
	}
	n.answer(now, p)
	if changed {
		p.reservations(func(t *tcsb) { n.updateTC(now, t, false) })
	}
	if a.moved && p.failure != nil && p.failure.Upstream {
		p.failure, p.blockade = nil, nil // of the path that was left
		n.timers.Stop(&p.failureTime)
	}
	if a.moved || a.created {
		n.joinHop(now, p, a)
	}
	n.touch(p)
}

// joinHop follows a new or changed previous hop: it gets the RESV immediately
// (RFC 2205 section 3.6). In a shared style it may have one already, with a
// blockade; the hop that was left is not told.
func (n *Node) joinHop(now time.Time, p *psb, a arrival) {
	style, reserved := p.s.style()
	switch {
	case !reserved:
	case style == wire.FF:
		if a.moved {
			p.up.quick = n.quick(p.phop.Addr, p.in)
			n.resvSend(now, &p.up, true, a.fresh)
		}
	default:
		if style == wire.WF {
			p.blockade = nil
			for _, q := range p.s.order {
				if q != p && !q.local && q.in == p.in && q.phop == p.phop && q.blockade != nil {
					p.blockade = q.blockade
					n.timers.Set(&p.failureTime, q.failureTime.At())
					break
				}
			}
		}
		n.syncShared(now, p.s, nil, false, false)
		n.syncShared(now, p.s, nil, true, false)
	}
}

// take copies a PATH into p and says whether it told anything new, but for the
// previous hop.
func (p *psb) take(rx *Received, nonRSVP bool) bool {
	m := rx.Msg
	old := *p
	p.phop, p.in, p.ttl = *m.Hop, rx.Iface, rx.TTL
	p.tspec, p.rawTSpec, p.adspec = *m.SenderTSpec, m.RawTSpec, m.AdSpec
	p.policy, p.unknown, p.flags = m.Policy, m.Unknown, m.Session.Flags
	p.ePolice = m.Session.Flags&wire.SessionEPolice != 0
	p.nonRSVP = nonRSVP
	p.local = false
	if !sameObjects(p.policy, old.policy) {
		p.control = 0
		if !p.s.id.Dst.IsMulticast() { // it is for unicast alone
			p.control = wire.ProxyControlOf(p.policy)
		}
	}
	return p.tspec != old.tspec || p.flags != old.flags ||
		p.nonRSVP != old.nonRSVP || old.local || !samePath(p.adspec, old.adspec) ||
		!sameObject(p.rawTSpec, old.rawTSpec) || !sameObjects(p.policy, old.policy) ||
		!sameObjects(p.unknown, old.unknown)
}

// newPSB makes path state of a sender whose PATH, or data, comes in by in, or
// tells why not.
func (n *Node) newPSB(now time.Time, id wire.Session, f wire.Filter, in IfIndex) (*psb, *Refusal) {
	id = id.Key()
	s := n.sessions[id]
	switch {
	case s == nil && n.dstPortConflict(id):
		return nil, &Refusal{Code: wire.ErrDstPorts}
	case s != nil && s.srcPortConflict(f):
		return nil, &Refusal{Code: wire.ErrSrcPorts}
	case s == nil && n.room.sessions.Free(int(in)) == 0,
		s != nil && len(s.psbs) >= n.cfg.Limits.PerSession,
		n.room.senders.Free(int(in)) == 0:
		n.drop(DropLimitPath)
		return nil, &Refusal{Code: wire.ErrRSVPSystem, Value: systemLimit, Text: "too many sessions or senders"}
	}
	if s == nil {
		s = &session{id: id, psbs: map[wire.Filter]*psb{}, tcsbs: map[tcKey]*tcsb{}}
		n.sessions[id] = s
		n.usePort(id, 1)
		s.room = in
		n.room.sessions.Take(int(in))
	}
	p := &psb{s: s, sender: f, created: now, in: in, room: in}
	p.refresh = timer{Owner: owner{kind: timerPathRefresh, p: p}}
	p.life = timer{Owner: owner{kind: timerPathLife, p: p}}
	p.up = upstream{s: s, p: p}
	p.up.timer = timer{Owner: owner{kind: timerResvRefresh, u: &p.up}}
	p.failureTime = timer{Owner: owner{kind: timerFailure, p: p}}
	p.limitTime = timer{Owner: owner{kind: timerLimit, p: p}}
	s.insert(p)
	n.room.senders.Take(int(in))
	n.recount(p)
	return p, nil
}

// deletePSB removes path state and, without any further message, the
// reservations that depend on it: the PathTear that follows does the same
// downstream, and did it upstream (RFC 2205 section 3.1.5).
func (n *Node) deletePSB(now time.Time, p *psb) {
	s, outs := p.s, p.outs
	for _, t := range []*timer{&p.refresh, &p.life, &p.up.timer, &p.failureTime, &p.limitTime} {
		n.timers.Stop(t)
	}
	s.remove(p)
	p.outs = nil
	for _, b := range outs {
		n.detach(p, b.out)
	}
	p.outs = outs
	n.leaveOthers(p)
	n.unholdSender(p.prev())
	n.room.senders.Give(int(p.room), 1)
	n.showGone(p)
	n.syncShared(now, s, nil, false, false)
	if len(s.order) == 0 {
		delete(n.sessions, s.id)
		n.usePort(s.id, -1)
		n.room.sessions.Give(int(s.room), 1)
	} else {
		n.recount(s.order[0])
	}
	if p.turned {
		n.endReverse(now, p)
	}
}

func (n *Node) lookup(id wire.Session, f wire.Filter) *psb {
	if s := n.sessions[id.Key()]; s != nil {
		return s.psbs[f]
	}
	return nil
}

// samePath says whether two ADSPECs tell of the same path. Another estimate of
// its bandwidth is no change of state, to be told at once: it goes on with the
// next refresh, or the load of one link would have all PATHs across it repeated.
func samePath(a, b *intserv.AdSpec) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.SamePath(*b)
}

func sameObject(a, b *wire.Object) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Class == b.Class && a.CType == b.CType && bytes.Equal(a.Body, b.Body)
}

func sameObjects(a, b []wire.Object) bool {
	return slices.EqualFunc(a, b, func(x, y wire.Object) bool { return sameObject(&x, &y) })
}

// nonRSVP says whether a message has crossed routers without RSVP of which ADSPEC
// does not tell. Send_TTL below the TTL would be a lie, but no less a difference
// (RFC 2205 section 3.8).
func (n *Node) nonRSVP(rx *Received) bool {
	if rx.Hidden { // the aggregate's ADSPEC tells of the region (RFC 3175 section 1.4.5)
		return false
	}
	routers := int(rx.Msg.SendTTL) - int(rx.TTL)
	return routers != 0 && (routers < 0 || n.crosser == nil || !n.crosser.Crossed(rx.Iface, routers))
}
