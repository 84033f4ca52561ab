package softstate

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Recover tells that the neighbours may still have the state of an earlier
// process, and tell it again until then (the recovery period of RFC 5063
// section 4.5.2). A RESV may so come before the PATH that it answers: it waits,
// where it would be refused else, and its next hop would give up.
func (n *Node) Recover(now, until time.Time) {
	if until.After(now) {
		n.recovery, n.room.early = until, n.room.quota(n.cfg.Limits.Senders)
		n.early = map[wire.Session][]Received{}
	}
}

// recovering says whether state is still expected.
func (n *Node) recovering(now time.Time) bool {
	if n.early == nil {
		return false
	}
	if now.Before(n.recovery) {
		return true
	}
	n.early, n.room.early = nil, n.room.quota(n.cfg.Limits.Senders)
	return false
}

// postpone keeps a RESV whose PATH is not here yet; false: there is no room, or
// no reason to.
func (n *Node) postpone(now time.Time, rx *Received) bool {
	if !n.recovering(now) {
		return false
	}
	id := rx.Msg.Session.Key()
	list := n.early[id]
	for i := range list { // the same once more, or what has come of it
		if o := &list[i]; *o.Msg.Hop == *rx.Msg.Hop && sameFlows(o.Msg, rx.Msg) {
			n.room.early.Move(int(o.Iface), int(rx.Iface))
			list[i] = *rx
			return true
		}
	}
	if !n.room.early.Take(int(rx.Iface)) {
		return false
	}
	n.early[id] = append(list, *rx)
	n.count.postponed++
	return true
}

// sameFlows says whether two RESV of one hop are about the same senders.
func sameFlows(a, b *wire.Message) bool {
	if a.Style != b.Style || len(a.Flows) != len(b.Flows) {
		return false
	}
	for i := range a.Flows {
		f, g := a.Flows[i].Filters, b.Flows[i].Filters
		if len(f) != len(g) {
			return false
		}
		for j := range f {
			if f[j] != g[j] {
				return false
			}
		}
	}
	return true
}

// catchUp looks at what was postponed for a session whose PATH has come.
func (n *Node) catchUp(now time.Time, id wire.Session) {
	list := n.early[id]
	if len(list) == 0 || !n.recovering(now) {
		return
	}
	delete(n.early, id)
	for i := range list {
		n.room.early.Give(int(list[i].Iface), 1)
		n.handleResv(now, &list[i])
	}
}
