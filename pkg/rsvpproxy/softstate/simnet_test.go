package softstate

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

var simSeed = flag.Uint64("sim.seed", 0, "seed of the network simulation, 0: several")

// sim is a line of nodes under virtual time: sender host - node 0 - ... - node
// n-1 - receiver host. Links lose, duplicate and reorder RSVP messages;
// admission control takes its time.
type sim struct {
	t     testing.TB
	rng   *rand.Rand
	now   time.Time
	queue simQueue
	seq   int
	nodes []*simNode

	loss, dup float64
	delay     time.Duration // a message takes up to this: so they overtake
	messages  int
	encode    bool // each message goes through the codec
	strict    bool // nothing may outlive its last refresh by more than L: strict_test.go
	// deliver finds whom a message reaches and where; nil: the nodes are a line.
	deliver func(from *simNode, e Send) (to int, in IfIndex)
}

type simNode struct {
	sim    *sim
	i      int
	n      *Node
	env    *testEnv
	ledger map[uint64]ledgerState
	refuse func(Reserve) *Refusal
	seen   func(Effect) // is told of every effect first
	dead   bool         // takes and sends nothing
	heard  heard
	claims *Claims // of a transparent node: row_test.go
	// passes is told of what a transparent node lets go by.
	passes func(Received)
}

type ledgerState uint8

const (
	ledgerAsked ledgerState = iota + 1
	ledgerHeld
	ledgerChanging
	ledgerRefused
	ledgerReleased
)

type simEvent struct {
	at  time.Time
	seq int
	f   func()
}

type simQueue []simEvent

func (q simQueue) Len() int      { return len(q) }
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q simQueue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].seq < q[j].seq
}
func (q *simQueue) Push(x any) { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

func newSim(t testing.TB, seed uint64, nodes int, cfg Config) *sim {
	s := &sim{t: t, rng: rand.New(rand.NewPCG(seed, 99)), now: epoch, delay: 50 * time.Millisecond, encode: true}
	for i := range nodes {
		env := &testEnv{
			addrs: map[IfIndex]netip.Addr{left: linkAddr(i, 2), right: linkAddr(i+1, 1)},
			// The sender's side: its host and the links before.
			routes: map[netip.Addr]IfIndex{srcHost: left}, def: right, unaware: map[netip.Addr]bool{}, mtu: 1500,
		}
		for j := range i {
			env.routes[linkAddr(j, 2)], env.routes[linkAddr(j, 1)] = left, left
		}
		env.routes[linkAddr(i, 1)] = left
		n := &simNode{sim: s, i: i, env: env, ledger: map[uint64]ledgerState{}}
		n.n = New(cfg, env, rand.New(rand.NewPCG(seed, uint64(i))))
		s.nodes = append(s.nodes, n)
	}
	last := s.nodes[nodes-1]
	last.env.unaware[dstHost] = true
	last.env.proxy = sayYes
	return s
}

// linkAddr is an address on link i, which lies before node i: side 1 is that of
// the node before.
func linkAddr(i, side int) netip.Addr { return netip.AddrFrom4([4]byte{172, 16, byte(i), byte(side)}) }

func (s *sim) after(d time.Duration, f func()) {
	s.seq++
	heap.Push(&s.queue, simEvent{s.now.Add(d), s.seq, f})
}

// run lets d of virtual time pass.
func (s *sim) run(d time.Duration) {
	end := s.now.Add(d)
	for {
		at, who := end, (*simNode)(nil)
		for _, n := range s.nodes {
			if t, ok := n.n.NextDeadline(); ok && !n.dead && !t.After(at) {
				at, who = t, n
			}
		}
		if len(s.queue) > 0 && !s.queue[0].at.After(at) {
			e := heap.Pop(&s.queue).(simEvent)
			s.now = e.at
			e.f()
			continue
		}
		if who == nil {
			s.now = end
			return
		}
		s.now = at
		who.do(who.n.Advance(at))
	}
}

// do carries out effects as the shell will: in their order.
func (n *simNode) do(es []Effect) {
	s := n.sim
	for _, e := range es {
		if n.seen != nil {
			n.seen(e)
		}
		switch e := e.(type) {
		case Send:
			n.send(e)
		case Reserve:
			n.reserve(e)
		case Release:
			switch n.ledger[e.ID] {
			case ledgerAsked, ledgerHeld, ledgerChanging:
				n.ledger[e.ID] = ledgerReleased
			default:
				s.t.Fatalf("node %d: release of %d in state %d", n.i, e.ID, n.ledger[e.ID])
			}
		}
	}
	if s.strict {
		s.checkLives()
	}
	if n.n.room.senders.All() < 50 {
		if err := n.n.check(); err != nil {
			s.t.Fatalf("node %d: %v", n.i, err)
		}
	}
}

func (n *simNode) reserve(e Reserve) {
	s := n.sim
	was := n.ledger[e.ID]
	if e.Change && was != ledgerHeld || !e.Change && was != 0 && was != ledgerRefused {
		s.t.Fatalf("node %d: reserve of %d, change %v, in state %d", n.i, e.ID, e.Change, was)
	}
	if err := e.FlowSpec.Validate(); err != nil {
		s.t.Fatalf("node %d: %v", n.i, err)
	}
	n.ledger[e.ID] = ledgerAsked
	if e.Change {
		n.ledger[e.ID] = ledgerChanging
	}
	s.after(time.Duration(s.rng.Int64N(int64(20*time.Millisecond))), func() {
		var refusal *Refusal
		if n.refuse != nil {
			refusal = n.refuse(e)
		}
		switch was := n.ledger[e.ID]; {
		case was == ledgerReleased: // taken back meanwhile: the answer comes all the same
		case refusal == nil, was == ledgerChanging:
			n.ledger[e.ID] = ledgerHeld
		default:
			n.ledger[e.ID] = ledgerRefused
		}
		n.do(n.n.ReserveResult(s.now, e.ID, refusal))
	})
}

func (n *simNode) held() (count int) {
	for _, st := range n.ledger {
		if st == ledgerHeld || st == ledgerAsked || st == ledgerChanging {
			count++
		}
	}
	return count
}

func (n *simNode) send(e Send) {
	s := n.sim
	s.messages++
	if n.claims != nil && e.Msg.Hop != nil {
		n.claims.Sent(s.now, &e)
	}
	s.carry(n, e, s.encode)
}

// lost is where a message goes that deliver wants lost.
const lost = -1 << 16

// carry brings a message to whom it reaches.
func (s *sim) carry(n *simNode, e Send, encode bool) {
	to, iface := n.i+1, left
	if e.Out == left {
		to, iface = n.i-1, right
	}
	switch {
	case s.deliver != nil:
		to, iface = s.deliver(n, e)
	case e.Src != n.env.addrs[e.Out] && e.Src != srcHost && e.Msg.Type != wire.Notify:
		s.t.Fatalf("node %d sends %v from %v", n.i, e.Msg.Type, e.Src)
	}
	if to == lost {
		return
	}
	if to < 0 || to >= len(s.nodes) {
		s.t.Fatalf("node %d sends %v to a host that does not speak RSVP", n.i, e.Msg.Type)
	}
	copies := 1
	if s.rng.Float64() < s.dup {
		copies++
	}
	for range copies {
		if s.rng.Float64() < s.loss {
			continue
		}
		m := e.Msg
		if encode {
			m = s.recode(e)
		}
		s.after(time.Duration(s.rng.Int64N(int64(s.delay))), func() {
			if !s.nodes[to].dead {
				s.nodes[to].receive(Received{Iface: iface, Src: e.Src, Dst: e.Dst, TTL: e.TTL, RouterAlert: e.RouterAlert, Msg: m})
			}
		})
	}
}

func (s *sim) recode(e Send) *wire.Message {
	if t, ok := s.t.(*testing.T); ok {
		return mustEncode(t, e)
	}
	b, err := e.Msg.Append(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := wire.Parse(b)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

func (n *simNode) receive(rx Received) {
	if n.goesBy(rx) {
		return
	}
	if rx.Msg.Type == wire.Notify && !n.n.Mine(rx.Msg.Type, rx.Dst) { // forwarded like any packet
		if out, _, ok := n.env.Route(rx.Dst); ok && rx.TTL > 1 {
			n.send(Send{Out: out, Src: rx.Src, Dst: rx.Dst, TTL: rx.TTL, Msg: rx.Msg})
		}
		return
	}
	if !n.n.Mine(rx.Msg.Type, rx.Dst) {
		n.sim.t.Fatalf("node %d got %v for %v", n.i, rx.Msg.Type, rx.Dst)
	}
	n.heard.note(n, &rx)
	n.do(n.n.Handle(n.sim.now, rx))
}

func simSender(i int) Sender {
	return Sender{
		Session: wire.Session{Dst: dstHost, Protocol: 17, DstPort: uint16(5000 + i)},
		Filter:  wire.Filter{Src: srcHost, SrcPort: uint16(20000 + i)}, TSpec: tspec, In: left,
	}
}

func (s *sim) add(x Sender) {
	es, err := s.nodes[0].n.AddSender(s.now, x)
	if err != nil {
		s.t.Fatal(err)
	}
	s.nodes[0].do(es)
}

// states says how many of the senders are in what state, on all nodes together.
func (s *sim) states() map[State]int {
	m := map[State]int{}
	for _, n := range s.nodes {
		for _, v := range n.n.Sessions(s.now) {
			m[v.State]++
		}
	}
	return m
}

func (s *sim) wantAll(st State, count int) {
	s.t.Helper()
	if got := s.states(); got[st] != count || len(got) != min(count, 1) {
		for _, n := range s.nodes {
			for _, v := range n.n.Sessions(s.now) {
				s.t.Logf("node %d: %v %v %v %v", n.i, v.Sender, v.Role, v.State, v.Failure)
			}
		}
		s.t.Fatalf("states %v, want %d %v", got, count, st)
	}
	held := 0
	for _, n := range s.nodes {
		held += n.held()
	}
	if want := count; st == Reserved && held != want || count == 0 && held != 0 {
		s.t.Fatalf("%d reservations held, want %d", held, want)
	}
}

// wantGone checks that nothing is left anywhere, not even a timer.
func (s *sim) wantGone() {
	s.t.Helper()
	s.wantAll(Reserved, 0)
	for _, n := range s.nodes {
		c := n.n.Counters()
		if _, ok := n.n.NextDeadline(); ok || c.Sessions+c.Senders+c.Reservations+c.Neighbors != 0 {
			s.t.Fatalf("node %d: left over: %+v", n.i, c)
		}
	}
}

// seeds runs a simulation with some seeds that are always the same and one that
// never is; with fewer in the short form, which is for the race detector.
func seeds(t *testing.T, f func(t *testing.T, seed uint64)) {
	list := []uint64{1, 2, 3}
	if testing.Short() {
		list = list[:1]
	}
	list = append(list, uint64(time.Now().UnixNano()))
	if *simSeed != 0 {
		list = []uint64{*simSeed}
	}
	for i, seed := range list {
		name := fmt.Sprint(seed)
		if i > 0 && i == len(list)-1 {
			name = "random"
		}
		t.Run(name, func(t *testing.T) {
			t.Logf("seed: -sim.seed %d", seed)
			f(t, seed)
		})
	}
}
