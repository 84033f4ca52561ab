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
	out, local, ok := n.env.Route(p.s.id.Dst)
	var outs []IfIndex
	// Never out of the interface it came in by (RFC 2205 section 3.3).
	if ok && !local && out != p.in {
		outs = []IfIndex{out}
	}
	end := local || len(outs) > 0 && !n.env.Aware(p.s.id.Dst, out)
	if end == p.end && slices.Equal(outs, p.outs) {
		return false
	}
	p.reservations(func(t *tcsb) {
		if end != p.end || !slices.Contains(outs, t.key.out) {
			n.deleteTCSB(t)
		}
	})
	p.outs, p.end = outs, end
	if !end {
		p.proxied = false
	}
	return true
}

// forwardPath is PATH REFRESH of RFC 2209 section 2 for new or changed state:
// at once, then a few quick ones, then every R.
func (n *Node) forwardPath(now time.Time, p *psb) {
	p.pathQ = max(n.cfg.Quick, 0)
	n.pathSend(now, p)
}

// pathRefresh is the same for the timer.
func (n *Node) pathRefresh(now time.Time, p *psb) {
	moved := n.reroute(p)
	if moved {
		p.pathQ = max(n.cfg.Quick, 0)
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
	p.pathR = n.slew(p.pathR)
	n.timers.set(&p.refresh, now.Add(n.interval(p.pathR, &p.pathQ)))
	if p.end {
		return
	}
	ttl := n.pathTTL(p)
	if ttl == 0 {
		n.drop(DropTTL)
		return
	}
	for _, out := range p.outs {
		tspec := p.tspec
		m := &wire.Message{
			Type: wire.Path, Session: p.session(), Hop: n.hop(out), TimeValues: timeValues(p.pathR),
			SenderTemplate: &p.sender, SenderTSpec: &tspec, RawTSpec: p.rawTSpec,
			AdSpec: n.advertise(p, out), Policy: p.policy, Unknown: p.unknown,
		}
		n.sendFrom(out, p.sender.Src, p.s.id.Dst, ttl, m)
	}
}

// pathTTL is what a PATH or PathTear for p leaves with; zero: not at all.
func (n *Node) pathTTL(p *psb) uint8 {
	if p.local {
		return n.cfg.TTL
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

func (n *Node) hop(out IfIndex) *wire.Hop {
	return &wire.Hop{Addr: n.env.Addr(out), LIH: uint32(out)}
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
func (n *Node) pathExpired(p *psb) {
	n.count.pathTimeouts++
	n.teardown(p, nil)
}

// teardown sends PathTear downstream and removes the path state.
func (n *Node) teardown(p *psb, unknown []wire.Object) {
	if ttl := n.pathTTL(p); !p.end && ttl > 0 {
		for _, out := range p.outs {
			tspec := p.tspec
			m := &wire.Message{
				Type: wire.PathTear, Session: p.session(), Hop: n.hop(out),
				SenderTemplate: &p.sender, SenderTSpec: &tspec, RawTSpec: p.rawTSpec, Unknown: unknown,
			}
			n.sendFrom(out, p.sender.Src, p.s.id.Dst, ttl, m)
		}
	}
	n.deletePSB(p)
}

// handlePathTear is PTEAR MESSAGE ARRIVES of RFC 2209 section 2.
func (n *Node) handlePathTear(rx *Received) {
	m := rx.Msg
	if m.SenderTemplate == nil || m.Hop == nil {
		n.drop(DropMalformed)
		return
	}
	p := n.lookup(m.Session, *m.SenderTemplate)
	switch {
	case p == nil || p.local:
		n.drop(DropNoState)
	case p.phop != *m.Hop:
		n.drop(DropWrongHop) // RFC 2205 section 3.1.5: neither matched nor forwarded
	default:
		n.teardown(p, m.Unknown)
	}
}
