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

// Overhead is by how many bytes signing makes a message longer, at most.
func (l *Link) Overhead() int {
	most := 0
	for _, k := range l.keys {
		most = max(most, objectSize+k.Algorithm.Size())
	}
	return most
}

// Particular says whether there is a key for a certain neighbour.
func (l *Link) Particular() bool {
	return slices.ContainsFunc(l.keys, func(k *key) bool { return k.Peer.IsValid() })
}

// Sole returns the neighbour that all keys are for, if that is one: then it
// needs no asking who a message reaches.
func (l *Link) Sole() (peer netip.Addr, ok bool) {
	for _, k := range l.keys {
		if !k.Peer.IsValid() || peer.IsValid() && k.Peer != peer {
			return netip.Addr{}, false
		}
		peer = k.Peer
	}
	return peer, peer.IsValid()
}

// Stale returns the keys that are used on after their end for want of a valid
// one, in ascending order: the operator has to be told (RFC 2747 section 5.3).
func (l *Link) Stale(now time.Time) (ids []uint64) {
	for _, k := range l.keys {
		if k.at(now) != expired {
			continue
		}
		if l.lastExpired(now, k.Peer, Sending) == k || l.lastExpired(now, k.Peer, Receiving) == k {
			ids = append(ids, k.ID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
