package softstate

import (
	"slices"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// needTCSB finds or makes the block for a key.
func (n *Node) needTCSB(s *session, k tcKey) *tcsb {
	t := s.tcsbs[k]
	if t == nil {
		n.lastID++
		t = &tcsb{s: s, key: k, id: n.lastID}
		s.tcsbs[k] = t
		n.byID[t.id] = t
	}
	return t
}

// find returns the RSB of a next hop.
func (t *tcsb) find(h wire.Hop) *rsb {
	for _, r := range t.rsbs {
		if r.hop == h {
			return r
		}
	}
	return nil
}

// addRSB makes reservation state for a next hop, which the caller has counted.
func (n *Node) addRSB(t *tcsb, h wire.Hop) *rsb {
	r := &rsb{t: t, hop: h}
	r.life = timer{kind: timerResvLife, r: r}
	t.rsbs = append(t.rsbs, r)
	t.senders(n.touch)
	return r
}

// removeRSB removes one next hop's request. The last one takes the reservation
// along; else the caller brings traffic control up to date.
func (n *Node) removeRSB(r *rsb) {
	t := r.t
	n.timers.stop(&r.life)
	n.unhold(r.hop.Addr)
	t.rsbs = slices.DeleteFunc(t.rsbs, func(o *rsb) bool { return o == r })
	t.senders(n.touch)
	n.dropEmpty(t)
}

func (n *Node) dropEmpty(t *tcsb) {
	if len(t.rsbs) == 0 {
		n.deleteTCSB(t)
	}
}

// deleteTCSB releases a reservation with all requests for it. Nobody is told.
func (n *Node) deleteTCSB(t *tcsb) {
	if n.byID[t.id] != t {
		return
	}
	delete(n.byID, t.id)
	delete(t.s.tcsbs, t.key)
	for _, r := range t.rsbs {
		n.timers.stop(&r.life)
		n.unhold(r.hop.Addr)
	}
	t.rsbs = nil
	if t.installed != nil || t.asked != nil {
		n.count.releases++
		n.emit(Release{ID: t.id})
	}
	t.senders(n.touch)
}
