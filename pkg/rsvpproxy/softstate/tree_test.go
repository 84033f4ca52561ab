package softstate

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// tree is a simulated multicast tree under virtual time: every node is linked to
// its parent and its children, hosts hang on interface hostSide. Members of the
// group are leaves with a receiver proxy; senders are proxied anywhere.
type tree struct {
	*sim
	v6     bool
	parent []int
	group  wire.Session
	member map[int]bool // node: has a listener behind hostSide
	home   map[wire.Filter]int
	style  wire.Style
}

const hostSide IfIndex = 1

// towards is the interface of node i to its neighbour j.
func towards(j int) IfIndex { return IfIndex(10 + j) }

func (tr *tree) addr(i int, out IfIndex) netip.Addr {
	if tr.v6 {
		return addr(fmt.Sprintf("2001:db8:0:%d::%d", i+1, out))
	}
	return netip.AddrFrom4([4]byte{172, 20, byte(i), byte(out)})
}

func (tr *tree) source(i int) wire.Filter {
	a := netip.AddrFrom4([4]byte{10, 1, 0, byte(i + 1)})
	if tr.v6 {
		a = addr(fmt.Sprintf("2001:db8:ffff::%d", i+1))
	}
	return wire.Filter{Src: a, SrcPort: 4000}
}

// treeEnv answers for one node of a tree.
type treeEnv struct {
	tr *tree
	i  int
}

func (tr *tree) linked(i, j int) bool { return tr.parent[i] == j || tr.parent[j] == i }

// next is the neighbour of i on the way to j.
func (tr *tree) next(i, j int) int {
	for at := j; at >= 0; at = tr.parent[at] { // is j below i?
		if tr.parent[at] == i {
			return at
		}
	}
	return tr.parent[i]
}

// wanted says whether a member is reached from i by way of its neighbour j.
func (tr *tree) wanted(i, j int) bool {
	for m := range tr.member {
		if m != i && tr.next(i, m) == j {
			return true
		}
	}
	return false
}

func (e *treeEnv) Routes(_, src netip.Addr, in IfIndex) (outs []IfIndex, ok bool) {
	tr := e.tr
	for f, at := range tr.home {
		if f.Src != src {
			continue
		}
		expected := hostSide
		if at != e.i {
			expected = towards(tr.next(e.i, at))
		}
		if in != 0 && in != expected {
			return nil, true
		}
	}
	for j := range tr.parent {
		if tr.linked(e.i, j) && towards(j) != in && tr.wanted(e.i, j) {
			outs = append(outs, towards(j))
		}
	}
	if tr.member[e.i] && in != hostSide {
		outs = append(outs, hostSide)
	}
	return outs, true
}

func (e *treeEnv) Route(dst netip.Addr) (IfIndex, bool, bool) {
	if e.Local(dst) {
		return 0, true, true
	}
	for i := range e.tr.parent {
		for _, out := range e.tr.interfaces(i) {
			if e.tr.addr(i, out) == dst {
				return towards(e.tr.next(e.i, i)), false, true
			}
		}
	}
	return 0, false, false
}

func (tr *tree) interfaces(i int) []IfIndex {
	list := []IfIndex{hostSide}
	for j := range tr.parent {
		if tr.linked(i, j) {
			list = append(list, towards(j))
		}
	}
	return list
}

func (e *treeEnv) own(i IfIndex, v6 bool) netip.Addr {
	if v6 != e.tr.v6 || !slices.Contains(e.tr.interfaces(e.i), i) {
		return netip.Addr{}
	}
	return e.tr.addr(e.i, i)
}

func (e *treeEnv) Addr(i IfIndex) netip.Addr  { return e.own(i, false) }
func (e *treeEnv) Addr6(i IfIndex) netip.Addr { return e.own(i, true) }

func (e *treeEnv) Local(a netip.Addr) bool {
	return slices.ContainsFunc(e.tr.interfaces(e.i), func(i IfIndex) bool { return e.tr.addr(e.i, i) == a })
}

func (e *treeEnv) Hop(IfIndex) intserv.Hop {
	return intserv.Hop{Bandwidth: 1e6, MTU: 1500, Latency: 1, ControlledLoad: &intserv.ServiceHop{}}
}

func (e *treeEnv) Aware(_ netip.Addr, out IfIndex) bool { return out != hostSide }

func (e *treeEnv) ReceiverProxy(i PathInfo) (ReserveSpec, bool) {
	s, _ := sayYes(i)
	s.Style = e.tr.style
	s.FlowSpec.TSpec.Rate = memberRate(e.i) // receivers differ: there is something to merge
	return s, true
}

// memberRate is the token rate that the receivers at node i ask for.
func memberRate(i int) float64 { return float64(1000 + 100*i) }

// newTree makes a random tree.
func newTree(t *testing.T, seed uint64, nodes int, style wire.Style, v6 bool) *tree {
	s := &sim{t: t, rng: rand.New(rand.NewPCG(seed, 7)), now: epoch, delay: 50 * time.Millisecond, encode: true}
	tr := &tree{sim: s, v6: v6, style: style, member: map[int]bool{}, home: map[wire.Filter]int{}}
	tr.group = wire.Session{Dst: addr("239.5.5.5"), Protocol: 17, DstPort: 5004}
	if v6 {
		tr.group.Dst = addr("ff3e::5")
	}
	for i := range nodes {
		tr.parent = append(tr.parent, max(-1, i-1-s.rng.IntN(3)))
		if i > 0 && tr.parent[i] < 0 {
			tr.parent[i] = 0
		}
		n := &simNode{sim: s, i: i, env: newEnv(), ledger: map[uint64]ledgerState{}}
		n.n = New(Config{IPv6: v6}, &treeEnv{tr, i}, rand.New(rand.NewPCG(seed, uint64(i))))
		s.nodes = append(s.nodes, n)
	}
	s.deliver = tr.deliver
	return tr
}

// deliver finds whom a message reaches.
func (tr *tree) deliver(from *simNode, e Send) (to int, in IfIndex) {
	to = int(e.Out) - 10
	if e.Out == hostSide || to < 0 || !tr.linked(from.i, to) {
		tr.t.Fatalf("node %d sends %v by interface %d", from.i, e.Msg.Type, e.Out)
	}
	if own := tr.addr(from.i, e.Out); e.Src != own && !e.Msg.Type.NeedsRouterAlert() {
		tr.t.Fatalf("node %d sends %v from %v", from.i, e.Msg.Type, e.Src)
	}
	return to, towards(from.i)
}

func (tr *tree) start(i, at int) {
	f := tr.source(i)
	tr.home[f] = at
	es, err := tr.nodes[at].n.AddSender(tr.now, Sender{Session: tr.group, Filter: f, TSpec: tspec, In: hostSide})
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.nodes[at].do(es)
}

func (tr *tree) end(i int) {
	f := tr.source(i)
	n := tr.nodes[tr.home[f]]
	n.do(n.n.RemoveSender(tr.now, tr.group, f))
}

// wantMerged checks every node against what the members ask for: on each
// interface the largest request of the members beyond it.
func (tr *tree) wantMerged() {
	tr.t.Helper()
	for _, n := range tr.nodes {
		s := n.n.sessions[tr.group]
		for _, out := range tr.interfaces(n.i) {
			want, filters := 0.0, map[wire.Filter]bool{}
			for m := range tr.member {
				if m == n.i && out == hostSide || m != n.i && out != hostSide && towards(tr.next(n.i, m)) == out {
					want = max(want, memberRate(m))
				}
			}
			for f, at := range tr.home {
				if want > 0 && (at == n.i && out != hostSide || at != n.i && towards(tr.next(n.i, at)) != out) {
					filters[f] = true
				}
			}
			tr.wantBranch(n, s, out, want, filters)
		}
	}
}

func (tr *tree) wantBranch(n *simNode, s *session, out IfIndex, want float64, filters map[wire.Filter]bool) {
	tr.t.Helper()
	got := map[wire.Filter]bool{}
	if s != nil {
		for _, t := range s.tcsbs {
			if t.key.out != out {
				continue
			}
			if t.installed == nil || t.fwd.TSpec.Rate != want || n.ledger[t.id] != ledgerHeld {
				tr.t.Fatalf("node %d interface %d: %+v, want %g", n.i, out, t.installed, want)
			}
			t.senders(func(p *psb) { got[p.sender] = true })
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(filters) {
		tr.t.Fatalf("node %d interface %d: senders %v, want %v", n.i, out, got, filters)
	}
}

// RFC 2205 sections 2.2, 2.4, 3.1 to 3.7, 3.9: on a random tree with several
// senders and receivers and under loss, duplication and reordering, every
// branch comes to hold the merge of what lies beyond it, whatever the style;
// when members and senders go, so does what they asked for.
func TestSimTree(t *testing.T) {
	for _, style := range []wire.Style{wire.FF, wire.SE, wire.WF} {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/ipv6=%v", style, v6), func(t *testing.T) {
				seeds(t, func(t *testing.T, seed uint64) {
					tr := newTree(t, seed, 9, style, v6)
					tr.loss, tr.dup = 0.2, 0.2
					for i := range 3 + tr.rng.IntN(3) {
						tr.member[(3*i+tr.rng.IntN(3))%9] = true
					}
					for i := range 3 {
						tr.start(i, tr.rng.IntN(9))
						tr.run(time.Duration(tr.rng.Int64N(int64(time.Second))))
					}
					tr.run(8 * time.Minute)
					tr.loss, tr.dup = 0, 0
					tr.run(3 * time.Minute)
					tr.wantMerged()

					// A member leaves, another joins.
					tr.loss = 0.2
					delete(tr.member, slices.Sorted(maps.Keys(tr.member))[0])
					tr.member[tr.rng.IntN(9)] = true
					tr.run(10 * cleanup)
					tr.loss = 0
					tr.run(3 * cleanup)
					tr.wantMerged()

					tr.loss = 0.3
					for i := range 3 {
						tr.end(i)
					}
					tr.run(cleanup*9 + time.Minute)
					tr.wantGone()
				})
			})
		}
	}
}

// Twenty receivers on a tree: the sender's node sees one request, the largest
// (RFC 2205 section 2.2).
func TestSimTreeTwentyReceivers(t *testing.T) {
	for _, style := range []wire.Style{wire.FF, wire.SE, wire.WF} {
		tr := newTree(t, 3, 21, style, false)
		for i := range 20 {
			tr.member[i+1] = true
		}
		tr.start(0, 0)
		tr.run(10 * time.Second)
		tr.wantMerged()
		in := tr.nodes[0].n.Counters().In[wire.Resv]
		if in == 0 || in > 100 {
			t.Errorf("%v: %d RESVs reached the sender's node", style, in)
		}
		tr.end(0)
		tr.run(10 * time.Second)
		tr.wantGone()
	}
}
