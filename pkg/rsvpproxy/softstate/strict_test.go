package softstate

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// heard is when a node's state has to be gone, by what it was told itself: the
// lifetime of the last PATH, or of the last RESV, that reached it.
type heard struct {
	paths map[pathKey]time.Time
	resvs map[resvKey]time.Time
}

type pathKey struct {
	session wire.Session
	sender  wire.Filter
}

type resvKey struct {
	session wire.Session
	sender  wire.Filter // zero in wildcard style
	hop     netip.Addr
}

// note takes a refresh that has arrived.
func (h *heard) note(n *simNode, rx *Received) {
	if h.paths == nil {
		h.paths, h.resvs = map[pathKey]time.Time{}, map[resvKey]time.Time{}
	}
	m := rx.Msg
	switch m.Type {
	case wire.Path:
		h.paths[pathKey{m.Session.Key(), *m.SenderTemplate}] = n.sim.now.Add(n.n.lifetime(m.TimeValues))
	case wire.Resv:
		until := n.sim.now.Add(n.n.lifetime(m.TimeValues))
		k := resvKey{session: m.Session.Key(), hop: m.Hop.Addr}
		h.resvs[k] = until
		for _, f := range m.Flows {
			for _, k.sender = range f.Filters {
				h.resvs[k] = until
			}
		}
	default:
	}
}

// checkLives fails if any state of any node has outlived what it was told last.
// It is called with every event, of whatever node.
func (s *sim) checkLives() {
	for _, n := range s.nodes {
		if err := n.overdue(); err != nil && !n.dead { // whose clock stands
			s.t.Fatalf("node %d, %v after the start: %v", n.i, s.now.Sub(epoch), err)
		}
	}
}

func (n *simNode) overdue() error {
	now := n.sim.now
	if held := n.held(); held > len(n.n.byID) {
		return fmt.Errorf("%d reservations held, %d known", held, len(n.n.byID))
	}
	for id, s := range n.n.sessions {
		for f, p := range s.psbs {
			if until := n.heard.paths[pathKey{id, f}]; !p.local && now.After(until) {
				return fmt.Errorf("path state of %v lives %v too long", f, now.Sub(until))
			}
		}
		for _, t := range s.tcsbs {
			for _, r := range t.rsbs {
				if r.local() { // goes with its path state
					continue
				}
				filters := []wire.Filter{t.key.filter} // zero in wildcard style
				if t.style == wire.SE {
					filters = r.wanted().filters
				}
				for _, f := range filters {
					if until := n.heard.resvs[resvKey{id, f, r.hop.Addr}]; now.After(until) {
						return fmt.Errorf("reservation state of %v for %v lives %v too long", r.hop.Addr, f, now.Sub(until))
					}
				}
			}
		}
	}
	return nil
}

// timeouts is how much state has timed out, in all nodes together.
func (s *sim) timeouts() (n uint64) {
	for _, x := range s.nodes {
		c := x.n.Counters()
		n += c.PathTimeouts + c.ResvTimeouts
	}
	return n
}

// RFC 2205 section 3.7 (2), (3): whatever is lost, at each node the state of a
// neighbour is gone within L of the last refresh that reached that node itself:
// while all refresh, when the senders end, and when a node falls silent. Half of
// all messages are lost, so that it is mostly time that ends state.
func TestSimEachNodeKeepsToLRFC2205Section3_7(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprintf("silent=%v", silent), func(t *testing.T) {
			seeds(t, func(t *testing.T, seed uint64) {
				s := newSim(t, seed, 5, Config{})
				s.strict, s.loss, s.dup = true, 0.5, 0.1
				const senders = 6
				for i := range senders {
					s.add(simSender(i))
				}
				s.run(10 * time.Minute)
				if silent {
					s.nodes[0].dead = true
				}
				for i := range senders {
					if x := simSender(i); !silent {
						s.nodes[0].do(s.nodes[0].n.RemoveSender(s.now, x.Session, x.Filter))
					}
				}
				// Node by node: nothing refreshes the first any more but what is under
				// way, and each of the others no longer than the one before it lives.
				for i := 1; i < len(s.nodes); i++ {
					s.run(cleanup + s.delay)
					if left := s.nodes[i].n.Counters(); left.Senders+left.Reservations+left.Neighbors != 0 || s.nodes[i].held() != 0 {
						t.Errorf("node %d: %d lifetimes after the end: %+v", i, i, left)
					}
				}
				if s.timeouts() < senders {
					t.Errorf("%d timeouts: that proves nothing", s.timeouts())
				}
			})
		})
	}
}

// The same on a tree, with groups, in all styles, while members come and go.
func TestSimTreeEachNodeKeepsToLRFC2205Section3_7(t *testing.T) {
	for _, style := range []wire.Style{wire.FF, wire.SE, wire.WF} {
		t.Run(style.String(), func(t *testing.T) {
			seeds(t, func(t *testing.T, seed uint64) {
				tr := newTree(t, seed, 9, style, seed%2 == 0)
				tr.strict, tr.loss, tr.dup = true, 0.5, 0.1
				for i := range 4 {
					tr.member[(2*i+tr.rng.IntN(2))%9] = true
				}
				for i := range 3 {
					tr.start(i, tr.rng.IntN(9))
				}
				for range 8 {
					tr.run(2 * time.Minute)
					if i := tr.rng.IntN(9); tr.member[i] {
						delete(tr.member, i)
					} else {
						tr.member[i] = true
					}
				}
				for i := range 3 {
					tr.end(i)
				}
				tr.run(9 * (cleanup + tr.delay)) // the longest way
				tr.wantGone()
				if tr.timeouts() == 0 {
					t.Error("nothing timed out: that proves nothing")
				}
			})
		})
	}
}
