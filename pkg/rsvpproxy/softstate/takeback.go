package softstate

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// declared is what the owner of a [Node] said of a sender. While the sender
// speaks RSVP itself it is kept for the time after.
type declared struct {
	tspec intserv.TSpec
	in    IfIndex
	ttl   uint8 // of PATH, 0: that of the configuration
	// owned: by AddSender. triggered: since when by the PATH of the other
	// direction, or since when by that alone; zero: not.
	owned     bool
	triggered time.Time
	priority  *Priority
}

// speakAgain goes on for a sender that has stopped to speak RSVP itself and is
// still declared. The session stays as it is downstream: PATH comes from the
// same address and hop, and only what it announces is ours again. Its previous
// hops are forgotten.
func (n *Node) speakAgain(now time.Time, p *psb) {
	n.timers.Stop(&p.life)
	n.timers.Stop(&p.up.timer)
	n.timers.Stop(&p.failureTime)
	n.unholdSender(p.prev())
	p.phop, p.ttl, p.local, p.in = wire.Hop{}, p.own.ttl, true, p.own.in
	n.recount(p)
	p.nonRSVP, p.ePolice, p.flags = false, false, 0
	p.tspec, p.adspec, p.rawTSpec, p.policy, p.unknown = p.own.tspec, nil, nil, p.own.priority.PolicyData(), nil
	p.said = policy{}
	p.failure, p.blockade, p.retryAt = nil, nil, time.Time{}
	p.up = upstream{s: p.s, p: p, timer: p.up.timer}
	p.up.timer.Owner.u = &p.up
	n.unserved(p)
	n.syncShared(now, p.s, nil, false, false)
	n.reroute(p)
	n.forwardPath(now, p)
	n.answer(now, p)
	p.reservations(func(t *tcsb) { n.updateTC(now, t, false) })
	n.touch(p)
}
