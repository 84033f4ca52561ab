package softstate

import (
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// PATHs of one sender may arrive from more than one previous hop (RFC 2205
// section 3.1.3): for a while after a route has changed, where the old way and
// the new one join, or all the time on a multicast tree. One of these hops is the
// one that path state is of and that PATH is sent on for: the newest, since a
// route change brings it, or for a group one that is where routing expects the
// packets. It stands back for one that has something new to tell, or if it is
// silent for as long as another one would live that refreshes. The state of the
// others stands beside it. Which of them the data come from cannot be told, so
// that all get RESV (the second of the choices that the section leaves for
// unicast); for a group only those on the expected interface do (section 3.9).

// maxOthers bounds the previous hops of a sender beside the one that counts.
const maxOthers = 3

// otherHop is the path state of a further previous hop.
type otherHop struct {
	p       *psb
	rx      Received // its last PATH
	nonRSVP bool
	heard   time.Time
	life    timer
}

func (h *otherHop) key() neighborKey { return neighborKey{h.rx.Iface, h.rx.Msg.Hop.Addr} }

func (h *otherHop) is(in IfIndex, hop wire.Hop) bool { return h.rx.Iface == in && *h.rx.Msg.Hop == hop }

// otherAt finds the state of a hop that stands beside p's.
func (p *psb) otherAt(in IfIndex, hop wire.Hop) *otherHop {
	for _, h := range p.others {
		if h.is(in, hop) {
			return h
		}
	}
	return nil
}

// serving says whether h's hop gets RESV.
func (h *otherHop) serving() bool { return !h.p.s.id.Dst.IsMulticast() || h.rx.Iface == h.p.in }

// hops calls f for each previous hop that gets RESV, p's own first.
func (p *psb) hops(f func(IfIndex, wire.Hop)) {
	if p.local {
		return
	}
	f(p.in, p.phop)
	for _, h := range p.others {
		if h.serving() {
			f(h.rx.Iface, *h.rx.Msg.Hop)
		}
	}
}

// cameBy says whether a hop is one of them.
func (p *psb) cameBy(in IfIndex, hop wire.Hop) bool {
	if p.local {
		return false
	}
	if p.in == in && p.phop == hop {
		return true
	}
	h := p.otherAt(in, hop)
	return h != nil && h.serving()
}

// expects says whether routing expects p's packets by an interface. For unicast
// that is not known.
func (n *Node) expects(p *psb, in IfIndex) bool {
	if !p.s.id.Dst.IsMulticast() {
		return true
	}
	outs, _ := n.env.Routes(p.s.id.Dst, p.sender.Src, in)
	return len(outs) > 0
}

// last is p's PATH as it came.
func (p *psb) last() Received {
	s, f, tspec, hop := p.s.id, p.sender, p.tspec, p.phop
	s.Flags = p.flags
	return Received{Iface: p.in, Src: f.Src, Dst: s.Dst, TTL: p.ttl, Msg: &wire.Message{
		Type: wire.Path, Session: s, Hop: &hop, SenderTemplate: &f, SenderTSpec: &tspec, RawTSpec: p.rawTSpec,
		AdSpec: p.adspec, Policy: p.policy, Unknown: p.unknown,
	}}
}

// standBack has p's own hop stand beside the one that takes its place. Its
// neighbour stays counted.
func (n *Node) standBack(p *psb) {
	if len(p.others) >= maxOthers {
		n.dropOther(slices.MinFunc(p.others, func(a, b *otherHop) int { return a.life.At().Compare(b.life.At()) }))
	}
	n.addOther(p, p.last(), arrival{until: p.life.At(), nonRSVP: p.nonRSVP, heard: p.heard})
}

func (n *Node) addOther(p *psb, rx Received, a arrival) {
	h := &otherHop{p: p, rx: rx, nonRSVP: a.nonRSVP, heard: a.heard}
	h.life = timer{Owner: owner{kind: timerHopLife, p: p}}
	n.timers.Set(&h.life, a.until)
	p.others = append(p.others, h)
}

// takeOther removes h from those that stand beside p's own, and keeps its
// neighbour counted.
func (n *Node) takeOther(h *otherHop) {
	n.timers.Stop(&h.life)
	var rest []*otherHop // not in place: the list may be walked through
	for _, o := range h.p.others {
		if o != h {
			rest = append(rest, o)
		}
	}
	h.p.others = rest
}

// dropOther forgets h. Nobody is told: its PathTear, or its silence, has ended
// what it had from us.
func (n *Node) dropOther(h *otherHop) {
	n.takeOther(h)
	n.unholdSender(h.key())
}

// hopExpired is the same for the timer of one.
func (n *Node) hopExpired(now time.Time, p *psb, t *timer) {
	for _, h := range p.others {
		if &h.life == t {
			n.count.pathTimeouts++
			n.hopEnded(now, h)
		}
	}
}

// hopEnded is the end of the state of a hop beside p's own: it is not forwarded
// (RFC 2205 sections 3.1.5 and 3.9).
func (n *Node) hopEnded(now time.Time, h *otherHop) {
	n.dropOther(h)
	n.syncShared(now, h.p.s, nil, false, false)
	n.syncShared(now, h.p.s, nil, true, false) // SCOPE may not be needed any more
}

// beside takes a PATH of a hop other than p's own, and says whether all is done
// with that. It is not if that hop takes over: as the new one, as the one with
// something new to tell, as the one that is heard, or as the one that routing
// expects.
func (n *Node) beside(p *psb, rx *Received, a arrival) bool {
	in, hop := rx.Iface, *rx.Msg.Hop
	stray := in != p.in && !n.expects(p, in)
	h := p.otherAt(in, hop)
	switch {
	case h == nil && !stray:
		return false
	case h == nil:
		// Never at the expense of what is there.
		if len(p.others) >= maxOthers || !n.holdSender(neighborKey{in, hop.Addr}, false) {
			n.drop(DropInterface)
			return true
		}
		n.addOther(p, *rx, a)
		return true
	}
	news := h.nonRSVP != a.nonRSVP || !samePathMessage(h.rx.Msg, rx.Msg)
	h.rx, h.nonRSVP, h.heard = *rx, a.nonRSVP, a.heard
	n.timers.Set(&h.life, a.until)
	silent := a.heard.Sub(p.heard) >= a.until.Sub(a.heard)
	return stray || !news && !silent && (in == p.in || n.expects(p, p.in))
}

// replace has the hop that a PATH came from take the place of p's own, which
// stands back. Where there is no room for another neighbour it is forgotten: what
// is there goes on all the same. New: that hop was not known.
func (n *Node) replace(p *psb, rx *Received) (fresh bool) {
	if h := p.otherAt(rx.Iface, *rx.Msg.Hop); h != nil {
		n.takeOther(h)
		n.standBack(p)
		return false
	}
	is := neighborKey{rx.Iface, rx.Msg.Hop.Addr}
	if !p.s.id.Dst.IsMulticast() {
		n.supersede(p, is)
		if p.prev() == is {
			return true // the count stays
		}
	}
	if n.holdSender(is, false) {
		n.standBack(p)
		return true
	}
	n.unholdSender(p.prev())
	n.holdSender(is, true)
	return true
}

// supersede forgets what stands beside p's own hop of a neighbour that has another
// handle now. Transparent neighbours have one name: that of who is behind them. The
// one of the other handle is not on the way any more, and what is sent to it would
// reach the host that it is named after.
func (n *Node) supersede(p *psb, is neighborKey) {
	for _, h := range slices.Clone(p.others) {
		if h.key() == is {
			n.dropOther(h)
		}
	}
}

// samePathMessage says whether two PATHs tell the same.
func samePathMessage(a, b *wire.Message) bool {
	return *a.SenderTSpec == *b.SenderTSpec && a.Session.Flags == b.Session.Flags && samePath(a.AdSpec, b.AdSpec) &&
		sameObject(a.RawTSpec, b.RawTSpec) && sameObjects(a.Policy, b.Policy) && sameObjects(a.Unknown, b.Unknown)
}

// successor is the hop whose state goes on when p's own has ended: the one that
// was heard last. For a group it is one on the same interface, or on the one that
// routing expects; Local_Only state does not keep a PathTear from being
// forwarded (RFC 2205 section 3.9, 3).
func (n *Node) successor(p *psb) *otherHop {
	var best *otherHop
	for _, h := range p.others {
		fits := h.serving() || len(p.outs) == 0 || n.expects(p, h.rx.Iface)
		if fits && (best == nil || h.life.At().After(best.life.At())) {
			best = h
		}
	}
	return best
}

// succeed puts h, which was taken, in the place of p's own hop.
func (n *Node) succeed(now time.Time, p *psb, h *otherHop) {
	a := n.arrivalOf(h)
	a.moved = true
	n.adopt(now, p, &h.rx, a)
}

// arrivalOf is h's last PATH as it was when it came.
func (n *Node) arrivalOf(h *otherHop) arrival {
	a := arrival{heard: h.heard, until: h.life.At(), nonRSVP: h.nonRSVP}
	a.said, _ = n.readPolicy(h.rx.Msg.Policy) // it could be read then
	return a
}

// follow has the state of another hop take over where routing does not expect the
// packets of a group by p's interface any more, but by that of the other one
// (RFC 2209 section 2, PATH MESSAGE ARRIVES).
func (n *Node) follow(now time.Time, p *psb) bool {
	if p.local || len(p.others) == 0 || n.expects(p, p.in) {
		return false
	}
	for _, h := range p.others {
		if n.expects(p, h.rx.Iface) {
			n.takeOther(h)
			n.standBack(p)
			n.succeed(now, p, h)
			return true
		}
	}
	return false
}

// leaveOthers forgets all hops beside p's own, and returns them.
func (n *Node) leaveOthers(p *psb) []*otherHop {
	list := p.others
	for len(p.others) > 0 {
		n.dropOther(p.others[0])
	}
	return list
}
