package softstate

import (
	"slices"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// needTCSB finds or makes the block for a key.
func (n *Node) needTCSB(s *session, k tcKey, style wire.Style) *tcsb {
	t := s.tcsbs[k]
	if t == nil {
		n.lastID++
		t = &tcsb{s: s, key: k, id: n.lastID, style: style}
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

// foreign says whether a next hop asks for t itself. What the receiver proxy
// asks for then counts no more: it stands by until that is granted.
func (t *tcsb) foreign() bool {
	return slices.ContainsFunc(t.rsbs, func(r *rsb) bool { return !r.local() })
}

// asking lists the requests that count.
func (t *tcsb) asking() []*rsb {
	i := slices.IndexFunc(t.rsbs, (*rsb).local)
	if i < 0 || len(t.rsbs) == 1 {
		return t.rsbs
	}
	return slices.Concat(t.rsbs[:i], t.rsbs[i+1:])
}

// addRSB makes reservation state for a next hop, which the caller has counted.
func (n *Node) addRSB(t *tcsb, h wire.Hop, q request) *rsb {
	r := &rsb{t: t, hop: h, next: &q}
	r.life = timer{Owner: owner{kind: timerResvLife, r: r}}
	t.rsbs = append(t.rsbs, r)
	t.senders(n.touch)
	return r
}

// removeRSB removes one next hop's request. The last one takes the reservation
// along; else the caller brings traffic control up to date.
func (n *Node) removeRSB(r *rsb) {
	t := r.t
	t.senders(n.touch)
	n.release(r)
	t.rsbs = slices.DeleteFunc(t.rsbs, func(o *rsb) bool { return o == r })
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
	t.senders(n.touch)
	delete(n.byID, t.id)
	delete(t.s.tcsbs, t.key)
	for _, r := range t.rsbs {
		n.release(r)
	}
	t.rsbs = nil
	if t.installed != nil || t.asked != nil {
		n.count.releases++
		n.emit(Release{ID: t.id, Torn: n.torn})
	}
	n.recheck(t)
}

// detach follows the end of p's way out by an interface (RFC 2205 section
// 3.1.5): a reservation of explicit style loses the sender, one of wildcard
// style ends with its last sender. p does not route there any more.
func (n *Node) detach(p *psb, out IfIndex) {
	delete(p.s.outbid, tcKey{out, p.sender})
	t := p.s.tcsbs[tcKey{out, p.sender}]
	if t != nil {
		n.deleteTCSB(t)
		return
	}
	if t = p.s.tcsbs[tcKey{out: out}]; t == nil {
		return
	}
	if t.style == wire.SE {
		for _, r := range slices.Clone(t.rsbs) {
			if r.keep(func(f wire.Filter) bool { return f != p.sender }) && len(r.wanted().filters) == 0 {
				n.removeRSB(r)
			}
		}
	}
	if n.byID[t.id] != t {
		return
	}
	if !slices.ContainsFunc(p.s.order, func(q *psb) bool { return q.routes(out) }) {
		n.deleteTCSB(t)
		return
	}
	if n.reproxy(t); n.byID[t.id] == t {
		n.updateQuietly(t)
	}
}

// updateQuietly brings traffic control up to date without telling neighbours.
func (n *Node) updateQuietly(t *tcsb) {
	if t.asked != nil {
		return // the answer will look again
	}
	t.quiet = true
	n.updateTC(n.now, t, false)
	if t.asked == nil {
		t.quiet = false
	}
}

// recheck has flush look whether the policing flags of t's branches still hold.
func (n *Node) recheck(t *tcsb) {
	for k := range t.s.tcsbs {
		if k.filter == t.key.filter && k.out != t.key.out {
			n.branches = append(n.branches, t.s)
			return
		}
	}
}

func (n *Node) recheckBranches() {
	for len(n.branches) > 0 {
		s := n.branches[0]
		n.branches = n.branches[1:]
		for _, t := range s.sorted() {
			if n.byID[t.id] == t && t.asked == nil && t.installed != nil {
				if d, err := n.want(t); err == nil && d.police != t.installed.police {
					n.updateTC(n.now, t, false)
				}
			}
		}
	}
}
