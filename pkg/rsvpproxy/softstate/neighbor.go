package softstate

import "net/netip"

// hold counts a neighbour that state depends on. It is false when there are too
// many of them.
func (n *Node) hold(a netip.Addr) bool {
	if !a.IsValid() {
		return true
	}
	if n.neighbors[a] == 0 && len(n.neighbors) >= n.cfg.Limits.Neighbors {
		return false
	}
	n.neighbors[a]++
	return true
}

func (n *Node) unhold(a netip.Addr) {
	if !a.IsValid() {
		return
	}
	if n.neighbors[a]--; n.neighbors[a] <= 0 {
		delete(n.neighbors, a)
	}
}
