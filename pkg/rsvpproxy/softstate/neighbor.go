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
}

// hold counts a neighbour that state depends on. It is false when there are too
// many of them.
func (n *Node) hold(k neighborKey) bool {
	if !k.addr.IsValid() {
		return true
	}
	nb := n.neighbors[k]
	if nb == nil {
		if len(n.neighbors) >= n.cfg.Limits.Neighbors {
			return false
		}
		nb = &neighbor{}
		n.neighbors[k] = nb
	}
	nb.refs++
	return true
}

func (n *Node) unhold(k neighborKey) {
	if nb := n.neighbors[k]; nb != nil {
		if nb.refs--; nb.refs <= 0 {
			delete(n.neighbors, k)
		}
	}
}

// holdSender and unholdSender are the same for path state.
func (n *Node) holdSender(k neighborKey) bool {
	if !n.hold(k) {
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

// prev is p's previous hop; its address is invalid if there is none.
func (p *psb) prev() neighborKey { return neighborKey{p.in, p.phop.Addr} }

func (r *rsb) neighbor() neighborKey { return neighborKey{r.t.key.out, r.hop.Addr} }

// overShare says whether a neighbour has to leave what is free of the limits on
// senders and sessions to others: it may hold [Limits.Share] times as much as is
// free. So one neighbour alone can never fill the tables, nor can some of them
// together; the ones that hold little find room when the others no longer do.
func (n *Node) overShare(k neighborKey, id wire.Session) bool {
	nb := n.neighbors[k]
	if nb == nil || n.cfg.Limits.Share < 0 {
		return false
	}
	free := n.cfg.Limits.Senders - n.senders
	if n.sessions[id.Key()] == nil {
		free = min(free, n.cfg.Limits.Sessions-len(n.sessions))
	}
	return free > 0 && nb.senders >= n.cfg.Limits.Share*free
}

// Neighbor says whether state here depends on a neighbour.
func (n *Node) Neighbor(i IfIndex, a netip.Addr) bool {
	return n.neighbors[neighborKey{i, a}] != nil
}

// Dropped tells why the latest [Node.Handle] dropped its message, if it did.
func (n *Node) Dropped() (Drop, bool) { return n.lastDrop, n.hasDropped }
