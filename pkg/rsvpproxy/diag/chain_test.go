package diag

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

var epoch = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// family are the addresses of a chain.
type family struct {
	a, b netip.Addr
	link func(i, end int) netip.Addr // between node i-1 and node i; end 1 is the sender's side
}

var four = family{
	a: netip.MustParseAddr("10.1.0.2"), b: netip.MustParseAddr("10.2.0.2"),
	link: func(i, end int) netip.Addr { return netip.AddrFrom4([4]byte{10, 9, byte(i), byte(end)}) },
}

var six = family{
	a: netip.MustParseAddr("fd00:1::2"), b: netip.MustParseAddr("fd00:2::2"),
	link: func(i, end int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd00:9:%x::%d", i, end)) },
}

// Interfaces of a chain's nodes.
const (
	left  softstate.IfIndex = 1 // towards the sender
	right softstate.IfIndex = 2
)

// box is a node of a chain: A - box 0 - box 1 - ... - box n-1 - B. Both hosts
// know nothing of RSVP.
type box struct {
	c    *chain
	i    int
	rsvp *softstate.Node
	diag *Node
	dead bool // deaf to diagnostic messages, as an older RSVP is
	mtu  map[softstate.IfIndex]int
}

func (b *box) Route(dst netip.Addr) (softstate.IfIndex, bool, bool) {
	switch {
	case b.Local(dst):
		return 0, true, true
	case b.c.side(dst) <= b.i:
		return left, false, true
	default:
		return right, false, true
	}
}

func (b *box) Routes(_, _ netip.Addr, _ softstate.IfIndex) ([]softstate.IfIndex, bool) {
	return nil, false
}

func (b *box) at(i softstate.IfIndex) netip.Addr {
	switch i {
	case left:
		return b.c.f.link(b.i, 2)
	case right:
		return b.c.f.link(b.i+1, 1)
	default:
		return netip.Addr{}
	}
}

func (b *box) Addr(i softstate.IfIndex) netip.Addr {
	if a := b.at(i); a.Is4() {
		return a
	}
	return netip.Addr{}
}

func (b *box) AddrTowards(i softstate.IfIndex, to netip.Addr) netip.Addr {
	if to.Is4() {
		return b.Addr(i)
	}
	return b.Addr6(i)
}

func (b *box) Addr6(i softstate.IfIndex) netip.Addr {
	if a := b.at(i); a.Is6() {
		return a
	}
	return netip.Addr{}
}

func (b *box) Local(a netip.Addr) bool { return a == b.at(left) || a == b.at(right) }

func (b *box) MTU(i softstate.IfIndex) int {
	if m, ok := b.mtu[i]; ok {
		return m
	}
	return 1500
}

func (b *box) Hop(i softstate.IfIndex) intserv.Hop {
	return intserv.Hop{Bandwidth: 1e6, MTU: uint32(b.MTU(i)), ControlledLoad: &intserv.ServiceHop{}}
}

func (b *box) Aware(_ netip.Addr, out softstate.IfIndex) bool {
	return (out != right || b.i < len(b.c.boxes)-1) && (out != left || b.i > 0)
}

// ReceiverProxy speaks for receivers that are hosts, as the box's policies do.
func (b *box) ReceiverProxy(i softstate.PathInfo) (softstate.ReserveSpec, bool) {
	return softstate.ReserveSpec{
		Style: wire.FF, FlowSpec: intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: i.TSpec},
	}, !b.Aware(i.Session.Dst, i.Out)
}

type chain struct {
	t        *testing.T
	f        family
	boxes    []*box
	now      time.Time
	rng      *rand.Rand
	loss     float64
	hidden   map[int]uint8 // routers without RSVP on the link in front of a node
	wire     []packet
	udp      []*wire.Diag // what came to the requester's port
	sent     [][]byte     // every diagnostic message
	onPacket func(*packet)
}

// packet is on its way to a box.
type packet struct {
	at   time.Time
	to   *box
	in   softstate.IfIndex
	src  netip.Addr
	dst  netip.Addr
	ttl  uint8
	msg  *wire.Message
	diag []byte
	udp  bool
}

func newChain(t *testing.T, f family, n int) *chain {
	t.Helper()
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	c := &chain{t: t, f: f, now: epoch, rng: rand.New(rand.NewPCG(seed, 1)), hidden: map[int]uint8{}}
	for i := range n {
		b := &box{c: c, i: i, mtu: map[softstate.IfIndex]int{}}
		b.rsvp = softstate.New(softstate.Config{IPv6: true, Refresh: 20 * time.Second}, b, rand.New(rand.NewPCG(seed, uint64(i)+2)))
		b.diag = New(Config{Rate: -1}, b.rsvp, b)
		c.boxes = append(c.boxes, b)
	}
	return c
}

// side is the number of the first box that has dst on its left.
func (c *chain) side(dst netip.Addr) int {
	if dst == c.f.a {
		return -1
	}
	for i := range len(c.boxes) + 1 {
		if dst == c.f.link(i, 1) || dst == c.f.link(i, 2) {
			// The far end of the link in front of box i belongs to box i-1.
			if dst == c.f.link(i, 1) {
				return i - 1
			}
			return i
		}
	}
	return len(c.boxes)
}

func (c *chain) session() wire.Session {
	return wire.Session{Dst: c.f.b, Protocol: 17, DstPort: 5004}
}
func (c *chain) sender() wire.Filter { return wire.Filter{Src: c.f.a, SrcPort: 4000} }

var tspec = intserv.TSpec{Rate: 12500, Bucket: 1600, Peak: 25000, MinUnit: 64, MaxPacket: 800}

// reserve has the first box speak for the sender, and runs the chain until
// everything is in place.
func (c *chain) reserve() {
	c.t.Helper()
	b := c.boxes[0]
	es, err := b.rsvp.AddSender(c.now, softstate.Sender{Session: c.session(), Filter: c.sender(), TSpec: tspec, In: left})
	if err != nil {
		c.t.Fatal(err)
	}
	c.perform(b, es)
	c.run(c.now.Add(time.Second), nil)
	for _, b := range c.boxes {
		if v, _ := b.rsvp.Session(c.now, c.session(), c.sender()); v.State != softstate.Reserved {
			c.t.Fatalf("box %d: %+v", b.i, v)
		}
	}
}

func (c *chain) perform(b *box, es []softstate.Effect) {
	for _, e := range es {
		switch e := e.(type) {
		case softstate.Send:
			c.put(b, e.Out, packet{src: e.Src, dst: e.Dst, ttl: e.TTL, msg: e.Msg})
		case softstate.Reserve:
			c.perform(b, b.rsvp.ReserveResult(c.now, e.ID, nil))
		}
	}
}

// put sends a packet out of an interface of b.
func (c *chain) put(b *box, out softstate.IfIndex, p packet) {
	i := b.i + 1
	p.in = left
	if out == left {
		i, p.in = b.i-1, right
	}
	if i < 0 || i >= len(c.boxes) {
		return // a host
	}
	p.to, p.at = c.boxes[i], c.now.Add(time.Millisecond)
	p.ttl -= c.hidden[max(b.i, i)]
	c.wire = append(c.wire, p)
}

// send carries out what a diagnostic node wants sent.
func (c *chain) send(b *box, list []Send) {
	for _, s := range list {
		raw := s.Raw
		if raw == nil {
			var err error
			if raw, err = s.Msg.Append(nil); err != nil {
				c.t.Fatalf("%+v: %v", s.Msg, err)
			}
		}
		c.sent = append(c.sent, raw)
		if c.rng.Float64() < c.loss {
			continue
		}
		if s.Port != 0 {
			c.wire = append(c.wire, packet{at: c.now.Add(5 * time.Millisecond), udp: true, diag: raw})
			continue
		}
		c.put(b, s.Out, packet{src: s.Src, dst: s.Dst, ttl: s.TTL, diag: raw})
	}
}

// run lets time pass until the end, or until client is done.
func (c *chain) run(end time.Time, client *Client) {
	for {
		next := end
		if len(c.wire) > 0 && c.wire[0].at.Before(next) {
			next = c.wire[0].at
		}
		if client != nil && client.Deadline().Before(next) {
			next = client.Deadline()
		}
		if next.After(c.now) { // a deadline that has passed is now
			c.now = next
		}
		if client != nil {
			if d := client.Next(c.now); d != nil {
				c.ask(d)
			}
			if client.Done() {
				return
			}
		}
		if len(c.wire) > 0 && !c.wire[0].at.After(c.now) {
			p := c.wire[0]
			c.wire = c.wire[1:]
			c.arrive(p, client)
			slices.SortStableFunc(c.wire, func(a, b packet) int { return a.at.Compare(b.at) })
			continue
		}
		if !c.now.Before(end) {
			return
		}
	}
}

// ask sends a request from the box that has the requester's address.
func (c *chain) ask(d *wire.Diag) {
	for _, b := range c.boxes {
		if !b.Local(d.Diagnostic.Requester.Src) {
			continue
		}
		c.send(b, b.diag.Ask(c.now, d))
		return
	}
	c.t.Fatalf("nobody is %v", d.Diagnostic.Requester.Src)
}

func (c *chain) arrive(p packet, client *Client) {
	if c.onPacket != nil {
		c.onPacket(&p)
	}
	b := p.to
	if p.udp {
		d, err := wire.ParseDiag(p.diag)
		if err != nil {
			c.t.Fatalf("%x: %v", p.diag, err)
		}
		c.udp = append(c.udp, d)
		if client != nil {
			client.Handle(c.now, d)
		}
		return
	}
	if p.diag == nil {
		mine := b.rsvp.Mine(p.msg.Type, p.dst)
		if !mine {
			p.ttl--
			out, _, _ := b.Route(p.dst)
			c.put(b, out, p)
			return
		}
		c.perform(b, b.rsvp.Handle(c.now, softstate.Received{Iface: p.in, Src: p.src, Dst: p.dst, TTL: p.ttl, Msg: p.msg}))
		return
	}
	if b.dead && b.Local(p.dst) {
		return
	}
	if b.dead || !b.Local(p.dst) && !wire.FreshRequest(p.diag) {
		p.ttl--
		out, _, _ := b.Route(p.dst)
		c.put(b, out, p)
		return
	}
	d, err := wire.ParseDiag(p.diag)
	c.send(b, b.diag.Handle(c.now, Received{Iface: p.in, Src: p.src, Dst: p.dst, TTL: p.ttl, Msg: d, Raw: p.diag, Err: err}))
}

// query from box number i.
func (c *chain) query(i int) Query {
	b := c.boxes[i]
	return Query{
		Session: c.session(), Sender: c.sender(), LastHop: c.f.b, Requester: wire.Filter{Src: b.at(left), SrcPort: 40000},
		Hop: wire.Hop{Addr: b.at(right)}, ID: c.rng.Uint32(),
	}
}

// trace asks and waits.
func (c *chain) trace(q Query) Result {
	client := NewClient(q)
	c.run(c.now.Add(time.Minute), client)
	if !client.Done() {
		c.t.Fatal("the client does not come to an end")
	}
	return client.Result()
}

func (c *chain) wantHops(r Result, want ...int) {
	c.t.Helper()
	if len(r.Hops) != len(want) {
		c.t.Fatalf("%d hops, want those of boxes %v: %+v", len(r.Hops), want, r)
	}
	for k, h := range r.Hops {
		b := c.boxes[want[k]]
		prev := netip.IPv4Unspecified()
		switch {
		case b.i > 0:
			prev = c.boxes[b.i-1].at(right)
		case c.f.a.Is6():
			prev = netip.IPv6Unspecified()
		}
		if h.In != b.at(left) || h.Out != b.at(right) || h.Previous != prev {
			c.t.Errorf("hop %d: in %v out %v previous %v, want those of box %d", k+1, h.In, h.Out, h.Previous, b.i)
		}
		if h.Error&^wire.DiagTooBig != 0 || h.Merged || h.K != 3 || h.Timer != 20 {
			c.t.Errorf("hop %d: %+v", k+1, h)
		}
		s := h.Report()
		flow := intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: tspec}
		if s.SenderTSpec == nil || *s.SenderTSpec != tspec || s.Style != wire.FF || s.FlowSpec == nil || *s.FlowSpec != flow ||
			!slices.Equal(s.Filters, []wire.Filter{c.sender()}) || len(s.Other) != 0 {
			c.t.Errorf("hop %d reports %+v", k+1, s)
		}
		want := epoch
		if at := wire.NTP32Time(h.Arrival, c.now); at.Before(want) || at.After(c.now) {
			c.t.Errorf("hop %d: arrival at %v, it is %v", k+1, at, c.now)
		}
	}
}
