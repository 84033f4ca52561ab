package softstate

import (
	"slices"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/fair"
)

// rooms are the limits, with the part of each that an interface has for itself:
// names are easily made up, interfaces are not. Interface 0 stands for what
// the node's owner declares without saying where it comes in.
type rooms struct {
	neighbors, sessions, senders, requests *fair.Quota
	early                                  *fair.Quota // RESV messages that wait for their PATH

	ifaces []int
}

func newRooms(l Limits) rooms {
	return rooms{
		neighbors: fair.NewQuota(l.Neighbors), sessions: fair.NewQuota(l.Sessions), senders: fair.NewQuota(l.Senders),
		requests: fair.NewQuota(l.Requests), early: fair.NewQuota(l.Senders),
	}
}

// share shares them out among interfaces.
func (r *rooms) share(list []IfIndex) {
	r.ifaces = []int{0}
	for _, i := range list {
		if !slices.Contains(r.ifaces, int(i)) {
			r.ifaces = append(r.ifaces, int(i))
		}
	}
	for _, q := range []*fair.Quota{r.neighbors, r.sessions, r.senders, r.requests, r.early} {
		q.SetInterfaces(r.ifaces...)
	}
}

// quota makes one more.
func (r *rooms) quota(limit int) *fair.Quota {
	q := fair.NewQuota(limit)
	q.SetInterfaces(r.ifaces...)
	return q
}

// recount has a sender, and its session, count for the interface where it comes
// in now. That never fails: what is there stays.
func (n *Node) recount(p *psb) {
	if p.room != p.in {
		n.room.senders.Move(int(p.room), int(p.in))
		p.room = p.in
	}
	// The first sender stands for all of a session: who adds one of his own to
	// others' sessions does not make them count for longer.
	if s := p.s; s.room != s.order[0].in {
		n.room.sessions.Move(int(s.room), int(s.order[0].in))
		s.room = s.order[0].in
	}
}
