package integrity

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Association is what is kept of a sender and one of its keys, for people.
type Association struct {
	Peer   netip.Addr
	KeyID  uint64
	Latest uint64    // largest sequence number received, 0 while Waiting
	Heard  time.Time // of the latest message with a right digest
	// Waiting: the handshake is not over, nothing is accepted.
	Waiting bool
}

// View returns the associations in the order of addresses and keys.
func (l *Link) View() []Association {
	all := make([]Association, 0, len(l.peers))
	for pk, a := range l.peers {
		v := Association{Peer: pk.peer, KeyID: pk.id, Heard: a.heard, Waiting: a.waiting}
		if a.window.begun() {
			v.Latest = a.window.latest()
		}
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b Association) int {
		return cmp.Or(a.Peer.Compare(b.Peer), cmp.Compare(a.KeyID, b.KeyID))
	})
	return all
}
