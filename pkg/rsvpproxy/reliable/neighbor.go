package reliable

import (
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/fair"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// neighbor is what is known of a neighbour. It also stands for the unknown next
// hop behind a router that does not speak RSVP, and for a group's next hops.
type neighbor struct {
	key     neighborKey
	room    *fair.Quota // that it counts for
	heard   bool        // a message came
	capable bool        // ... whose last one had the flag of RFC 2961 section 2
	acks    bool        // it has acknowledged something
	refused bool        // it answered MESSAGE_ID with error 13
	seen    time.Time
	left    time.Time     // the last message to it that could have been bundled
	rtt     time.Duration // smoothed, 0: not measured

	epoch     uint32
	epochSeen bool
	restarted time.Time
	kept      map[stateKey]*kept
	byID      map[epochID]*kept
	recent    [64]epochID // of messages that are no state, to drop their copies
	recentN   int

	sent  int // messages of ours that depend on it
	queue []softstate.Send
	due   []dueAck
	flush timer
}

type epochID struct{ epoch, id uint32 }

// neighbor finds or makes one, which then counts for room.
func (l *Layer) neighbor(k neighborKey, room *fair.Quota) *neighbor {
	nb := l.neighbors[k]
	if nb != nil {
		return nb
	}
	if !l.take(k.iface, room) {
		l.count.LimitNeighbors++
		return nil
	}
	nb = &neighbor{key: k, room: room, kept: map[stateKey]*kept{}, byID: map[epochID]*kept{}}
	nb.flush.Owner = nb
	l.neighbors[k] = nb
	return nb
}

func (l *Layer) take(iface softstate.IfIndex, room *fair.Quota) bool {
	return room.Take(int(iface)) || l.evict(iface, room) && room.Take(int(iface))
}

// evict forgets a neighbour on an interface that nothing depends on, the longest
// unheard; if there is none, one on an interface that has more of them.
func (l *Layer) evict(iface softstate.IfIndex, room *fair.Quota) bool {
	var oldest *neighbor
	for _, nb := range l.neighbors {
		free := nb.room == room && nb.sent == 0 && len(nb.kept) == 0 && len(nb.queue) == 0 && len(nb.due) == 0
		mine := nb.key.iface == iface
		switch {
		case !free || !mine && room.Held(int(nb.key.iface)) <= room.Held(int(iface)):
		case oldest == nil, mine && oldest.key.iface != iface,
			mine == (oldest.key.iface == iface) && nb.seen.Before(oldest.seen):
			oldest = nb
		}
	}
	if oldest == nil {
		return false
	}
	l.timers.Stop(&oldest.flush)
	delete(l.neighbors, oldest.key)
	room.Give(int(oldest.key.iface), 1)
	return true
}

// hears notes that a neighbour spoke, and what its flag says.
func (l *Layer) hears(now time.Time, k neighborKey, flags uint8) *neighbor {
	if !l.neighborly(k) {
		return nil
	}
	nb := l.neighbor(k, l.heard)
	if nb == nil {
		return nil
	}
	if !nb.heard && nb.room != l.heard && l.take(k.iface, l.heard) {
		nb.room.Give(int(k.iface), 1)
		nb.room = l.heard
	}
	nb.heard, nb.seen = true, now
	nb.capable = flags&wire.RefreshReduction != 0
	if nb.capable {
		nb.refused = false
	}
	return nb
}

// neighborly says whether k can be a neighbour.
func (l *Layer) neighborly(k neighborKey) bool {
	a := k.addr
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a != l.addr(k.iface, a)
}

// stranger answers a Srefresh of a neighbour for which there was no place:
// nothing of its is kept, so that it has to send all of it whole, and does not
// take for refreshed what is not.
func (l *Layer) stranger(now time.Time, p Packet, m *wire.Message) {
	nb := &neighbor{key: neighborKey{p.Iface, generator(m, p)}}
	nb.flush.Owner = nb
	if l.neighborly(nb.key) {
		l.summarized(now, nb, p, m)
		l.flush(now, nb, true)
	}
}

// takesIDs says whether MESSAGE_ID may be sent. A neighbour never heard of is
// tried: it answers with an error if it cannot (RFC 2961 section 4.8). One may
// take MESSAGE_ID without the flag (section 2), which its acknowledgments show.
func (nb *neighbor) takesIDs() bool {
	return !nb.refused && (nb.capable || nb.acks || !nb.heard)
}

// towards returns the neighbour that a message goes to, and whether that is
// known to be the next hop.
func (l *Layer) towards(s *softstate.Send) (nb *neighbor, direct bool) {
	addr, direct := s.Dst, true
	if s.Hidden { // whoever is at the far edge; the next hop of routing is not
		return l.neighbor(neighborKey{iface: s.Out}, l.guessed), false
	}
	if s.Msg.Type.NeedsRouterAlert() {
		var hop netip.Addr
		direct = false
		if !s.Dst.IsMulticast() {
			hop, direct = l.env.NextHop(s.Dst, s.Out)
		}
		if direct {
			addr = hop
		}
	}
	return l.neighbor(neighborKey{s.Out, addr}, l.guessed), direct
}

// Assured says whether a PATH or RESV to dst that leaves by out goes to a
// neighbour that acknowledges: it is repeated until it has arrived.
func (l *Layer) Assured(dst netip.Addr, out softstate.IfIndex) bool {
	if dst.IsMulticast() {
		return false
	}
	nb := l.neighbors[neighborKey{out, dst}]
	if nb == nil {
		hop, direct := l.env.NextHop(dst, out)
		if !direct {
			return false
		}
		nb = l.neighbors[neighborKey{out, hop}]
	}
	return nb != nil && nb.capable && nb.acks && nb.takesIDs()
}

// first is the first retransmission interval towards nb (RFC 2961 section 6.2).
func (l *Layer) first(nb *neighbor) time.Duration {
	if nb.rtt == 0 || l.cfg.MinRf < 0 {
		return l.cfg.Rf
	}
	return min(max(3*nb.rtt, l.cfg.MinRf), l.cfg.Rf)
}

func (nb *neighbor) measured(d time.Duration) {
	if nb.rtt == 0 {
		nb.rtt = max(d, 1)
		return
	}
	nb.rtt += (d - nb.rtt) / 8
}

// copyOf says whether a message that is no state was here before, and
// remembers it.
func (nb *neighbor) copyOf(id epochID) bool {
	for i := range min(nb.recentN, len(nb.recent)) {
		if nb.recent[i] == id {
			return true
		}
	}
	nb.recent[nb.recentN%len(nb.recent)] = id
	nb.recentN++
	return false
}
