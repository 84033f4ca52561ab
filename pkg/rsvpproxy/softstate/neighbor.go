package softstate

import (
	"net/netip"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// neighborKey is a previous or next hop: its address, as seen by an interface.
// Who claims another's address elsewhere is somebody else.
type neighborKey struct {
	iface IfIndex
	addr  netip.Addr
}

// neighbor is what is held for a previous or next hop.
type neighbor struct {
	refs    int // path states and reservation requests
	senders int // path states
	// extra: it came with the change of hop of a sender that was there, when there
	// was no room for another neighbour. Such are no more than senders, and count
	// for no limit of their own.
	extra bool
}

// hold counts a neighbour that state depends on. It is false when its interface
// has as many as it may, unless it is must.
func (n *Node) hold(k neighborKey, must bool) bool {
	if !k.addr.IsValid() {
		return true
	}
	nb := n.neighbors[k]
	if nb == nil {
		room := n.room.neighbors.Take(int(k.iface))
		if !room && !must {
			return false
		}
		nb = &neighbor{extra: !room}
		n.neighbors[k] = nb
	}
	nb.refs++
	return true
}

func (n *Node) unhold(k neighborKey) {
	nb := n.neighbors[k]
	if nb == nil {
		return
	}
	if nb.refs--; nb.refs > 0 {
		return
	}
	delete(n.neighbors, k)
	if !nb.extra {
		n.room.neighbors.Give(int(k.iface), 1)
	}
}

// holdSender and unholdSender are the same for path state.
func (n *Node) holdSender(k neighborKey, must bool) bool {
	if !n.hold(k, must) {
		return false
	}
	if nb := n.neighbors[k]; nb != nil {
		nb.senders++
	}
	return true
}

func (n *Node) unholdSender(k neighborKey) {
	if nb := n.neighbors[k]; nb != nil {
		nb.senders--
	}
	n.unhold(k)
}

// holdRequest and unholdRequest are the same for a next hop's request.
func (n *Node) holdRequest(k neighborKey) bool {
	if !n.room.requests.Take(int(k.iface)) {
		return false
	}
	if !n.hold(k, false) {
		n.room.requests.Give(int(k.iface), 1)
		return false
	}
	return true
}

func (n *Node) unholdRequest(r *rsb) {
	if !r.local() {
		n.unhold(r.neighbor())
		n.room.requests.Give(int(r.from), 1)
	}
}

// release gives back what a request takes, before it is removed.
func (n *Node) release(r *rsb) {
	n.timers.Stop(&r.life)
	n.unholdRequest(r)
}

// prev is p's previous hop; its address is invalid if there is none.
func (p *psb) prev() neighborKey { return neighborKey{p.in, p.phop.Addr} }

// neighbor is r's next hop, as the interface sees it where its RESV arrives. That
// is not always the one that it is about, which anybody can name.
func (r *rsb) neighbor() neighborKey { return neighborKey{r.from, r.hop.Addr} }

// overShare says whether a neighbour has to leave what is free for its interface
// of the limits on senders and sessions to others there: it may hold
// [Limits.Share] times as much. So one neighbour alone can never fill the tables,
// nor can some of them together; the ones that hold little find room when the
// others no longer do.
func (n *Node) overShare(k neighborKey, id wire.Session) bool {
	nb := n.neighbors[k]
	if nb == nil || n.cfg.Limits.Share < 0 {
		return false
	}
	free := n.room.senders.Free(int(k.iface))
	if n.sessions[id.Key()] == nil {
		free = min(free, n.room.sessions.Free(int(k.iface)))
	}
	return free > 0 && nb.senders >= n.cfg.Limits.Share*free
}

// Neighbor says whether state here depends on a neighbour.
func (n *Node) Neighbor(i IfIndex, a netip.Addr) bool {
	return n.neighbors[neighborKey{i, a}] != nil
}

// Dropped tells why the latest [Node.Handle] dropped its message, if it did.
func (n *Node) Dropped() (Drop, bool) { return n.lastDrop, n.hasDropped }
