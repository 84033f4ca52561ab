package softstate

import (
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// reroute asks routing again and says whether PATH takes another way now.
// Reservations on an interface that is no longer used go: their data does not
// pass there any more, and RFC 2209 would not find them again.
func (n *Node) reroute(p *psb) bool {
	outs, end := n.ways(p)
	if end == p.end && slices.EqualFunc(outs, p.outs, branch.sameWay) {
		return false
	}
	old := p.outs
	for i := range outs {
		if b, ok := p.find(outs[i].out); ok {
			end, probe := outs[i].end, outs[i].probe
			outs[i] = b
			outs[i].end, outs[i].probe, outs[i].yield = end, probe, b.yield && !end
		}
	}
	p.outs, p.end = outs, end
	if len(p.s.tcsbs) == 0 {
		return true
	}
	n.touch(p)
	for _, b := range old {
		if !p.routes(b.out) {
			n.detach(p, b.out)
		}
	}
	n.syncShared(n.now, p.s, nil, false, false)
	return true
}

// ways asks routing where p's data go.
func (n *Node) ways(p *psb) (outs []branch, end bool) {
	dst := p.s.id.Dst
	add := func(out IfIndex) {
		// Never out of the interface it came in by (RFC 2205 section 3.3).
		if out != p.in && n.uses(out, dst) {
			outs = append(outs, n.branch(p, out))
		}
	}
	if dst.IsMulticast() {
		list, _ := n.env.Routes(dst, p.sender.Src, p.in)
		for _, out := range list {
			add(out)
		}
	} else {
		out, local, ok := n.onward(dst, p.sender.Src, p.in)
		switch {
		case local:
			return nil, true
		case ok:
			add(out)
		}
	}
	return outs, len(outs) > 0 && !slices.ContainsFunc(outs, func(b branch) bool { return !b.end })
}

// branch tells who listens on p's way out by an interface.
func (n *Node) branch(p *psb, out IfIndex) branch {
	b := branch{out: out}
	switch {
	case n.env.Aware(p.s.id.Dst, out), p.control == wire.ProxyNotNeeded:
	case n.find != nil && n.find.Discovers(out):
		b.probe = true
	default:
		b.end = true
	}
	return b
}

// forwardPath is PATH REFRESH of RFC 2209 section 2 for new or changed state:
// at once, then a few quick ones, then every R.
func (n *Node) forwardPath(now time.Time, p *psb) {
	p.pathQ = n.quickPath(p)
	for i := range p.outs {
		p.outs[i].probeR, p.outs[i].probeAt = 0, time.Time{}
	}
	n.pathSend(now, p)
}

// quickPath is how many quick refreshes a PATH gets: none towards those who may
// not listen at all.
func (n *Node) quickPath(p *psb) int {
	most := 0
	for _, b := range p.outs {
		if !b.end && !p.probes(b) {
			most = max(most, n.quick(p.s.id.Dst, b.out))
		}
	}
	return most
}

// pathRefresh is the same for the timer.
func (n *Node) pathRefresh(now time.Time, p *psb) {
	if n.follow(now, p) && p.refresh.Armed() {
		return // PATH has gone on
	}
	moved := n.reroute(p)
	if moved {
		p.pathQ = n.quickPath(p)
		n.touch(p)
	}
	if moved || p.local { // else the next PATH asks
		n.answer(now, p)
	}
	if p.pathQ > 0 && p.installed() != nil {
		p.pathQ = 0 // the answer is here, nothing was lost
	}
	n.pathSend(now, p)
}

func (n *Node) pathSend(now time.Time, p *psb) {
	p.pathR = slew(p.pathR, n.refreshOf(p))
	n.timers.Set(&p.refresh, now.Add(n.interval(p.pathR, &p.pathQ)))
	if p.end {
		return
	}
	ttl := n.pathTTL(p)
	if ttl == 0 {
		n.drop(DropTTL)
		return
	}
	for i := range p.outs {
		b := &p.outs[i]
		probes := p.probes(*b)
		if b.end || probes && now.Before(b.probeAt) {
			continue
		}
		r := p.pathR
		if probes {
			r = b.slower(now, r)
		} else {
			b.probeR, b.probeAt = 0, time.Time{}
		}
		out, tspec, hop := b.out, p.tspec, n.toNext(p, b.out)
		m := &wire.Message{
			Type: wire.Path, Session: p.session(), Hop: &hop, TimeValues: timeValues(r),
			SenderTemplate: &p.sender, SenderTSpec: &tspec, RawTSpec: p.rawTSpec,
			AdSpec: n.advertise(p, out), Policy: p.policy, Unknown: n.requested(p, out),
		}
		n.sendDown(p, out, ttl, probes, m)
	}
}

// slowest is how many times R the period of an unanswered PATH grows to.
const slowest = 4

// slower is the period of the next PATH to those who are not known to listen.
// While nobody answers they get it less and less often (RFC 5946 section 4.1);
// the period grows no faster than any (RFC 2205 section 3.7 (5)).
func (b *branch) slower(now time.Time, r time.Duration) time.Duration {
	if b.probeR < r {
		b.probeR = r
	} else {
		b.probeR = slew(b.probeR, slowest*r)
	}
	// The timer that this waits for comes every 0.5 to 1.5 R.
	b.probeAt = now.Add(b.probeR - r/2)
	return b.probeR
}

// sendDown emits a PATH or PathTear for p.
func (n *Node) sendDown(p *psb, out IfIndex, ttl uint8, probe bool, m *wire.Message) {
	m.SendTTL = ttl
	n.transmit(Send{Out: out, From: p.in, Src: p.sender.Src, Data: p.sender.Src, Dst: p.s.id.Dst, TTL: ttl, RouterAlert: m.Type.NeedsRouterAlert(), Msg: m, Probe: probe})
}

// pathTTL is what a PATH or PathTear for p leaves with; zero: not at all.
func (n *Node) pathTTL(p *psb) uint8 {
	switch {
	case p.local && p.ttl != 0:
		return p.ttl
	case p.local:
		return n.cfg.TTL
	case n.cfg.Bridge:
		return p.ttl
	}
	return max(p.ttl, 1) - 1
}

// session is the SESSION object for messages downstream. E_Police is cleared:
// every node of ours polices (RFC 2205 section 3.8).
func (p *psb) session() wire.Session {
	s := p.s.id
	s.Flags = p.flags &^ wire.SessionEPolice
	return s
}

// advertise returns the ADSPEC as it leaves by out (RFC 2210 section 3.3). A
// PATH that came without one goes on without: nothing is known of its way.
func (n *Node) advertise(p *psb, out IfIndex) *intserv.AdSpec {
	h := n.env.Hop(out)
	h.NonIS = h.NonIS || p.nonRSVP
	switch {
	case p.local:
		a := intserv.NewAdSpec(h)
		return &a
	case p.adspec != nil:
		a := p.adspec.Compose(h)
		return &a
	default:
		return nil
	}
}

// pathExpired is the end of path state that nobody refreshed: as a PathTear
// (RFC 2205 section 3.1.5).
func (n *Node) pathExpired(now time.Time, p *psb) {
	n.count.pathTimeouts++
	n.pathEnded(now, p, nil)
}

// pathEnded follows the end of a neighbour's PATH: by the state of another hop, or
// by the sender proxy where it is to speak for the sender, else by a PathTear.
func (n *Node) pathEnded(now time.Time, p *psb, unknown []wire.Object) {
	if h := n.successor(p); h != nil {
		n.unholdSender(p.prev())
		n.takeOther(h)
		n.succeed(now, p, h)
		return
	}
	rest := n.leaveOthers(p)
	if p.own != nil {
		n.speakAgain(now, p)
		return
	}
	n.teardown(now, p, unknown)
	for _, h := range rest { // it may serve some day (RFC 2205 section 3.9)
		n.pathCame(now, &h.rx, n.arrivalOf(h))
	}
}

// teardown sends PathTear downstream and removes the path state.
func (n *Node) teardown(now time.Time, p *psb, unknown []wire.Object) {
	if ttl := n.pathTTL(p); !p.end && ttl > 0 {
		for _, b := range p.outs {
			if b.end {
				continue
			}
			out, tspec, hop := b.out, p.tspec, n.toNext(p, b.out)
			m := &wire.Message{
				Type: wire.PathTear, Session: p.session(), Hop: &hop,
				SenderTemplate: &p.sender, SenderTSpec: &tspec, RawTSpec: p.rawTSpec, Unknown: unknown,
			}
			n.sendDown(p, out, ttl, p.probes(b), m)
		}
	}
	n.deletePSB(now, p)
}

// handlePathTear is PTEAR MESSAGE ARRIVES of RFC 2209 section 2.
func (n *Node) handlePathTear(now time.Time, rx *Received) {
	m := rx.Msg
	if m.SenderTemplate == nil || m.Hop == nil {
		n.drop(DropMalformed)
		return
	}
	p := n.lookup(m.Session, *m.SenderTemplate)
	if p == nil || p.local {
		n.drop(DropNoState)
		return
	}
	multicast, mine := m.Session.Dst.IsMulticast(), p.phop == *m.Hop
	h := p.otherAt(rx.Iface, *m.Hop)
	if h == nil && !mine && !multicast {
		if i := slices.IndexFunc(p.others, func(o *otherHop) bool { return *o.rx.Msg.Hop == *m.Hop }); i >= 0 {
			h = p.others[i]
		}
	}
	switch { // RFC 2205 section 3.1.5
	case mine && (p.in == rx.Iface || !multicast && h == nil):
		n.pathEnded(now, p, m.Unknown)
	case h != nil:
		n.hopEnded(now, h)
	case multicast && p.in != rx.Iface:
		n.drop(DropInterface)
	default:
		n.drop(DropWrongHop) // neither matched nor forwarded
	}
}
