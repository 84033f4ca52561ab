package softstate

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// leftHop is the previous hop that a sender's PATH came from before it came from
// another. After a change of route both refresh for a while where the old way
// and the new one join: the hop on the old way until its own state times out.
type leftHop struct {
	in    IfIndex
	phop  wire.Hop
	until time.Time // end of its state, unless it refreshes
}

// fallBack follows a PathTear of the previous hop while another one's state still
// stands: then it was the old way's that ended, in most cases because it was
// not refreshed any more, and the reservation must not go with it. If it was the
// sender's own, what the other one left here ends with its lifetime.
func (n *Node) fallBack(now time.Time, p *psb) bool {
	l := p.left
	p.left = nil
	if l == nil || !l.until.After(now) || p.own != nil || p.s.id.Dst.IsMulticast() {
		return false
	}
	was, is := p.prev(), neighborKey{l.in, l.phop.Addr}
	if was != is {
		n.unholdSender(was)
		n.holdSender(is, true)
	}
	p.in, p.phop = l.in, l.phop
	n.recount(p)
	n.timers.Set(&p.life, l.until)
	n.reroute(p)
	n.joinHop(now, p, true)
	n.touch(p)
	return true
}
