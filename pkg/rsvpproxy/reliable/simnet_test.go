package reliable

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/fair"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

var simSeed = flag.Uint64("sim.seed", 0, "seed of the network simulation, 0: several")

const (
	left  softstate.IfIndex = 1
	right softstate.IfIndex = 2
)

var (
	epoch   = time.Now()
	srcHost = netip.MustParseAddr("10.1.0.1")
	dstHost = netip.MustParseAddr("10.2.0.1")
	tspec   = intserv.TSpec{Rate: 10000, Bucket: 1500, Peak: 20000, MinUnit: 64, MaxPacket: 1500}
)

// network is a line of nodes under virtual time, host - 0 - ... - n-1 - host. Every
// datagram goes through the codec; links lose, copy and reorder.
type network struct {
	t         testing.TB
	rng       *rand.Rand
	now       time.Time
	queue     eventQueue
	seq       int
	nodes     []*node
	loss, dup float64
	delay     time.Duration
	datagrams int
	bytes     int
	types     map[wire.MsgType]int
}

type node struct {
	w      *network
	i      int
	seed   uint64
	cfg    softstate.Config
	n      *softstate.Node
	l      *Layer // nil: RFC 2205 alone
	lcfg   Config
	dead   bool
	last   bool
	unsure bool // NextHop does not know
	style  wire.Style

	forwards bool
}

type event struct {
	at  time.Time
	seq int
	f   func()
}

type eventQueue []event

func (q eventQueue) Len() int      { return len(q) }
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q eventQueue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].seq < q[j].seq
}
func (q *eventQueue) Push(x any) { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

func linkAddr(i, side int) netip.Addr { return netip.AddrFrom4([4]byte{172, 16, byte(i), byte(side)}) }

func (n *node) Addr6(softstate.IfIndex) netip.Addr { return netip.Addr{} }

func (n *node) AddrTowards(i softstate.IfIndex, to netip.Addr) netip.Addr {
	if to.Is4() {
		return n.Addr(i)
	}
	return n.Addr6(i)
}

func (n *node) Routes(_, _ netip.Addr, _ softstate.IfIndex) ([]softstate.IfIndex, bool) {
	return nil, false
}

func (n *node) Addr(i softstate.IfIndex) netip.Addr {
	switch i {
	case left:
		return linkAddr(n.i, 2)
	case right:
		return linkAddr(n.i+1, 1)
	default:
		return netip.Addr{}
	}
}

func (n *node) Local(a netip.Addr) bool { return a == n.Addr(left) || a == n.Addr(right) }

func (n *node) MTU(softstate.IfIndex) int { return 1500 }

func (n *node) Forwards(_, _ netip.Addr, _ softstate.IfIndex) bool { return n.forwards }

func (n *node) NextHop(dst netip.Addr, out softstate.IfIndex) (netip.Addr, bool) {
	if n.unsure {
		return netip.Addr{}, false
	}
	if out == left {
		return linkAddr(n.i, 1), true
	}
	return linkAddr(n.i+1, 2), true
}

func (n *node) Assured(dst netip.Addr, out softstate.IfIndex) bool {
	return n.l != nil && n.l.Assured(dst, out)
}

func (n *node) Route(dst netip.Addr) (softstate.IfIndex, bool, bool) {
	if n.Local(dst) {
		return 0, true, true
	}
	if dst == dstHost || dst.As4()[0] == 10 && dst.As4()[1] == 2 {
		return right, false, true
	}
	return left, false, true
}

func (n *node) Hop(softstate.IfIndex) intserv.Hop {
	return intserv.Hop{Bandwidth: 1e6, MTU: 1500, Latency: 10, ControlledLoad: &intserv.ServiceHop{}}
}

func (n *node) Aware(netip.Addr, softstate.IfIndex) bool { return !n.last }

func (n *node) ReceiverProxy(i softstate.PathInfo) (softstate.ReserveSpec, bool) {
	return softstate.ReserveSpec{Style: n.style, FlowSpec: intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: i.TSpec}}, n.last
}

func newNetwork(t testing.TB, seed uint64, nodes int, cfg softstate.Config, reliable bool) *network {
	w := &network{
		t: t, rng: rand.New(rand.NewPCG(seed, 7)), now: epoch, delay: 10 * time.Millisecond,
		types: map[wire.MsgType]int{},
	}
	for i := range nodes {
		n := &node{w: w, i: i, seed: seed, cfg: cfg, last: i == nodes-1}
		w.nodes = append(w.nodes, n)
		n.start(reliable)
	}
	return w
}

// start makes a node as after a boot: without any state.
func (n *node) start(reliable bool) {
	n.seed++
	n.n = softstate.New(n.cfg, n, rand.New(rand.NewPCG(n.seed, uint64(n.i))))
	n.l = nil
	if reliable {
		n.l = New(n.lcfg, n, rand.New(rand.NewPCG(n.seed, uint64(100+n.i))))
	}
}

func (w *network) after(d time.Duration, f func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now.Add(d), w.seq, f})
}

func (n *node) deadline() (time.Time, bool) {
	at, ok := n.n.NextDeadline()
	if n.l != nil {
		if t, on := n.l.NextDeadline(); on && (!ok || t.Before(at)) {
			return t, true
		}
	}
	return at, ok
}

func (w *network) run(d time.Duration) { w.until(d, func() bool { return false }) }

// until runs until done, at most d; it returns how long that took.
func (w *network) until(d time.Duration, done func() bool) time.Duration {
	start, end := w.now, w.now.Add(d)
	for !done() {
		at, who := end, (*node)(nil)
		for _, n := range w.nodes {
			if t, ok := n.deadline(); ok && !n.dead && !t.After(at) {
				at, who = t, n
			}
		}
		if len(w.queue) > 0 && !w.queue[0].at.After(at) {
			e := heap.Pop(&w.queue).(event)
			w.now = e.at
			e.f()
			continue
		}
		if who == nil {
			w.now = end
			break
		}
		if at.After(w.now) {
			w.now = at
		}
		who.advance()
	}
	return w.now.Sub(start)
}

func (n *node) advance() {
	n.do(n.n.Advance(n.w.now))
	if n.l != nil {
		n.wire(n.l.Advance(n.w.now))
	}
}

func (n *node) do(es []softstate.Effect) {
	for _, e := range es {
		switch e := e.(type) {
		case softstate.Send:
			if n.l == nil {
				n.wire([]softstate.Send{e})
				continue
			}
			n.wire(n.l.Send(n.w.now, e))
		case softstate.Reserve:
			n.do(n.n.ReserveResult(n.w.now, e.ID, nil))
		}
	}
}

func (n *node) wire(list []softstate.Send) {
	w := n.w
	for _, s := range list {
		b, err := s.Msg.Append(nil)
		if err != nil {
			w.t.Fatalf("node %d: %v: %v", n.i, s.Msg.Type, err)
		}
		if s.Msg.SendTTL != s.TTL {
			w.t.Fatalf("node %d: %v: Send_TTL %d, TTL %d", n.i, s.Msg.Type, s.Msg.SendTTL, s.TTL)
		}
		w.datagrams++
		w.bytes += len(b) + 20
		w.types[s.Msg.Type]++
		to, iface := n.i+1, left
		if s.Out == left {
			to, iface = n.i-1, right
		}
		if to < 0 || to >= len(w.nodes) {
			w.t.Fatalf("node %d sends %v to a host", n.i, s.Msg.Type)
		}
		copies := 1
		if w.rng.Float64() < w.dup {
			copies++
		}
		p := Packet{Iface: iface, Src: s.Src, Dst: s.Dst, TTL: s.TTL, RouterAlert: s.RouterAlert, Payload: b}
		for range copies {
			if w.rng.Float64() < w.loss {
				continue
			}
			w.after(time.Duration(w.rng.Int64N(int64(w.delay))), func() { w.nodes[to].receive(p) })
		}
	}
}

func (n *node) receive(p Packet) {
	if n.dead {
		return
	}
	if n.l == nil {
		m, err := wire.Parse(p.Payload)
		n.do(n.n.Handle(n.w.now, softstate.Received{Iface: p.Iface, Src: p.Src, Dst: p.Dst, TTL: p.TTL, RouterAlert: p.RouterAlert, Msg: m, Err: err}))
		return
	}
	in, out := n.l.Receive(n.w.now, p)
	n.wire(out)
	for _, rx := range in {
		n.do(n.n.Handle(n.w.now, rx))
	}
}

func sender(i int) softstate.Sender {
	return softstate.Sender{
		Session: wire.Session{Dst: dstHost, Protocol: 17, DstPort: uint16(5000 + i)},
		Filter:  wire.Filter{Src: srcHost, SrcPort: uint16(1 + i)}, TSpec: tspec, In: left,
	}
}

func (w *network) add(i int) { w.addSender(sender(i)) }

func (w *network) addSender(x softstate.Sender) {
	es, err := w.nodes[0].n.AddSender(w.now, x)
	if err != nil {
		w.t.Fatal(err)
	}
	w.nodes[0].do(es)
}

func (w *network) remove(i int) {
	x := sender(i)
	w.nodes[0].do(w.nodes[0].n.RemoveSender(w.now, x.Session, x.Filter))
}

// reserved counts what is in place on all nodes together.
func (w *network) reserved() (count int) {
	for _, n := range w.nodes {
		for _, v := range n.n.Sessions(w.now) {
			if v.State == softstate.Reserved {
				count++
			}
		}
	}
	return count
}

func (w *network) wantReserved(count int) {
	w.t.Helper()
	if got := w.reserved(); got != count {
		w.t.Fatalf("%d reserved, want %d", got, count)
	}
}

// wantGone: nothing is left anywhere, in the layers neither.
func (w *network) wantGone() {
	w.t.Helper()
	for _, n := range w.nodes {
		c := n.n.Counters()
		if c.Sessions+c.Reservations != 0 {
			w.t.Fatalf("node %d: %+v", n.i, c)
		}
		if n.l == nil {
			continue
		}
		if c := n.l.Counters(); c.Sent+c.Received != 0 || len(n.l.states)+len(n.l.targets) != 0 {
			w.t.Fatalf("node %d: %+v, %d states, %d targets", n.i, c, len(n.l.states), len(n.l.targets))
		}
		if err := n.l.check(); err != nil {
			w.t.Fatalf("node %d: %v", n.i, err)
		}
	}
}

// check verifies what must hold between the tables of a Layer.
func (l *Layer) check() error {
	refs, received, rooms := map[*neighbor]int{}, 0, map[*fair.Quota]int{}
	for id, e := range l.byID {
		if e.id != id || e.keyed && l.states[e.key] != e || !e.timer.Armed() {
			return fmt.Errorf("sent %d: misplaced, or without a timer", id)
		}
		if l.neighbors[e.nb.key] != e.nb {
			return fmt.Errorf("sent %d: neighbour %v is gone", id, e.nb.key)
		}
		refs[e.nb]++
		if e.peer != nil {
			refs[e.peer]++
		}
		if e.target != nil && (e.target.list[e.position] != e || l.targets[e.target.key] != e.target || !e.acked) {
			return fmt.Errorf("sent %d: misplaced in its target", id)
		}
	}
	for k, e := range l.states {
		if e.key != k || l.byID[e.id] != e {
			return fmt.Errorf("state %v: misplaced", k)
		}
	}
	for _, t := range l.targets {
		if len(t.list) == 0 || !t.timer.Armed() {
			return fmt.Errorf("target %v: empty or without a timer", t.key)
		}
	}
	for k, nb := range l.neighbors {
		if nb.sent != refs[nb] {
			return fmt.Errorf("neighbour %v: %d messages, counted %d", k, nb.sent, refs[nb])
		}
		received += len(nb.byID)
		rooms[nb.room]++
		for k, r := range nb.kept {
			if nb.byID[r.id] != r {
				return fmt.Errorf("kept %v: misplaced", k)
			}
		}
	}
	if received != l.received.All() || rooms[l.heard] != l.heard.All() || rooms[l.guessed] != l.guessed.All() {
		return fmt.Errorf("%d kept, counted %d; neighbours %v", received, l.received.All(), rooms)
	}
	return nil
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
