package softstate

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// A row is a sim of nodes of several kinds in a line: T is a transparent bridge, R a
// router with addresses of its own, and H at an end a host that speaks RSVP. Nodes T
// have no address at all: what is said with one that is not a neighbour's cannot be
// sent, and what reaches a host that does not speak RSVP fails the test.
type row struct {
	*sim
	kinds    string
	src, dst netip.Addr // the hosts
	v6       bool
}

var (
	srcHost6 = netip.MustParseAddr("2001:db8:1::1")
	dstHost6 = netip.MustParseAddr("2001:db8:2::1")
)

func newRow(t *testing.T, seed uint64, kinds string, v6 bool) *row {
	r := &row{sim: newSim(t, seed, len(kinds), Config{}), kinds: kinds, src: srcHost, dst: dstHost, v6: v6}
	if v6 {
		r.src, r.dst = srcHost6, dstHost6
	}
	r.sim.deliver = r.deliver
	for i := range kinds {
		r.place(i, rand.New(rand.NewPCG(seed, uint64(i))))
	}
	last := r.nodes[len(kinds)-1]
	last.env.unaware, last.env.proxy = map[netip.Addr]bool{r.dst: true}, sayYes
	r.nodes[0].env.unaware = map[netip.Addr]bool{r.src: true}
	return r
}

// farewells is more than it takes until no tear is repeated any more: 0.5, 1 and 2 s,
// each half as much again at most.
const farewells = 10 * time.Second

// linkAddr6 is linkAddr for IPv6.
func linkAddr6(i, side int) netip.Addr { return addr(fmt.Sprintf("2001:db8:f%d::%d", i, side)) }

// place makes node i anew, as its kind has it, without state.
func (r *row) place(i int, rng *rand.Rand) *simNode {
	n := r.nodes[i]
	e := n.env
	e.addrs, e.addrs6 = map[IfIndex]netip.Addr{}, map[IfIndex]netip.Addr{}
	e.routes = map[netip.Addr]IfIndex{r.src: left}
	cfg := Config{IPv6: true}
	own, at := e.addrs, linkAddr
	if r.v6 {
		own, at = e.addrs6, linkAddr6
	}
	for j := range i + 1 {
		e.routes[at(j, 1)], e.routes[at(j, 2)] = left, left
	}
	switch r.kinds[i] {
	case 'T':
		cfg.Transparent, cfg.Bridge, cfg.Handle = true, true, uint32(i+1)*0x9e3779b1
		e.routes[r.dst] = right
	case 'R':
		own[left], own[right] = at(i, 2), at(i+1, 1)
	case 'H':
		own[left], own[right] = r.dst, at(i+1, 1)
		e.host, e.routes[r.dst] = r.dst, right
		if i == 0 {
			own[left], own[right] = at(i, 2), r.src
			e.host = netip.Addr{}
			delete(e.routes, r.dst)
		}
	}
	n.n = New(cfg, e, rng)
	n.ledger = map[uint64]ledgerState{}
	n.claims = nil
	if cfg.Transparent {
		n.claims = NewClaims(cfg)
	}
	return n
}

// restart is what a crash and a new start are to node i; its handle stays.
func (r *row) restart(i int) {
	n := r.place(i, rand.New(rand.NewPCG(uint64(i), uint64(r.now.UnixNano()))))
	n.n.Recover(r.now, r.now.Add(time.Minute))
}

func (r *row) deliver(from *simNode, e Send) (to int, in IfIndex) {
	to, in = from.i+1, left
	if e.Out == left {
		to, in = from.i-1, right
	}
	if e.Src == e.Dst || !e.Src.IsValid() || r.kinds[from.i] == 'T' && e.Src.IsUnspecified() {
		r.t.Fatalf("node %d sends %v from %v to %v", from.i, e.Msg.Type, e.Src, e.Dst)
	}
	return to, in
}

// goesBy forwards what is not for n, as a wire or a router does.
func (n *simNode) goesBy(rx Received) bool {
	if n.claims == nil {
		if rx.Msg.Type.NeedsRouterAlert() || n.n.Mine(rx.Msg.Type, rx.Dst) || n.sim.deliver == nil {
			return false
		}
	} else {
		t := rx.Msg.Type
		switch {
		case t.NeedsRouterAlert(), n.claims.Mine(n.sim.now, t, rx.Msg.Session, rx.Dst, rx.Iface):
			return false
		case (t == wire.Resv || t == wire.ResvTear) && n.n.Ours(rx.Msg.Hop.LIH):
			return false
		}
		if n.passes != nil {
			n.passes(rx)
		}
	}
	ttl := rx.TTL
	if n.claims == nil {
		ttl--
	}
	n.sim.carry(n, Send{Out: left + right - rx.Iface, Src: rx.Src, Dst: rx.Dst, TTL: ttl, RouterAlert: rx.RouterAlert, Msg: rx.Msg}, false)
	return true
}

// sender is the i-th, of the first host or of one beside it.
func (r *row) sender(i int) Sender {
	x := simSender(i)
	x.Session.Dst, x.Filter.Src = r.dst, r.src
	return x
}

// hop is what node i shows as its neighbours.
func (r *row) hops(i int) string {
	name := func(a netip.Addr) string {
		switch {
		case a == r.src:
			return "src"
		case a == r.dst:
			return "dst"
		case !a.IsValid():
			return "-"
		}
		for j := range r.kinds {
			for _, own := range []map[IfIndex]netip.Addr{r.nodes[j].env.addrs, r.nodes[j].env.addrs6} {
				for _, x := range own {
					if x == a {
						return fmt.Sprint(j)
					}
				}
			}
		}
		return a.String()
	}
	v := r.nodes[i].n.Sessions(r.now)[0]
	return name(v.PrevHop) + ">" + name(v.NextHop)
}

// Every node of every row sees its neighbours by the names that they have: those of
// the next router, or of the host behind all that is transparent. With loss, in both
// families, and all of it goes in the end.
func TestTransparentRows(t *testing.T) {
	rows := map[string]string{
		"TT":    "->dst src>-",
		"TTT":   "->dst src>dst src>-",
		"TTTTT": "->dst src>dst src>dst src>dst src>-",
		"TR":    "->1 src>-",
		"RT":    "->dst 0>-",
		"RTR":   "->2 0>2 0>-",
		"TRT":   "->1 src>dst 1>-",
		"RTTR":  "->3 0>3 0>3 0>-",
		"TRRT":  "->1 src>2 1>dst 2>-",
		"HT":    "->dst src>-",
		"HTT":   "->dst src>dst src>-",
		"TTH":   "->dst src>dst src>-",
		"HTTH":  "->dst src>dst src>dst src>-",
		"HTRTH": "->2 src>2 src>dst 2>dst 2>-",
	}
	for kinds, want := range rows {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/v6=%v", kinds, v6), func(t *testing.T) {
				seeds(t, func(t *testing.T, seed uint64) {
					const senders = 3
					r := newRow(t, seed, kinds, v6)
					for i := range senders {
						r.add(r.sender(i))
					}
					r.run(5 * time.Second)
					r.wantAll(Reserved, senders*len(kinds))
					for _, n := range r.nodes {
						for _, v := range n.n.Sessions(r.now) {
							if v.Break {
								t.Errorf("node %d: no router without RSVP was crossed", n.i)
							}
						}
					}
					r.loss, r.dup = 0.2, 0.2
					r.run(5 * time.Minute)
					r.loss = 0
					r.run(4 * time.Minute)
					r.wantAll(Reserved, senders*len(kinds))
					var got []string
					for i := range kinds {
						got = append(got, r.hops(i))
					}
					if s := strings.Join(got, " "); s != want {
						t.Errorf("hops %s, want %s", s, want)
					}
					r.loss = 0.3
					for i := range senders {
						x := r.sender(i)
						r.nodes[0].do(r.nodes[0].n.RemoveSender(r.now, x.Session, x.Filter))
					}
					r.run(cleanup*time.Duration(len(r.nodes)) + time.Minute)
					r.wantGone()
				})
			})
		}
	}
}

// The first message of each kind is lost on a link: it costs a quick refresh, and not
// a whole period; so it is with the last ones.
func TestTransparentRowRepeatsEarly(t *testing.T) {
	for _, kind := range []wire.MsgType{wire.Path, wire.Resv, wire.PathTear} {
		r := newRow(t, 1, "TT", false)
		gone := 0
		r.sim.deliver = func(from *simNode, e Send) (int, IfIndex) {
			to, in := r.deliver(from, e)
			if e.Msg.Type == kind && gone == 0 {
				gone++
				to = lost
			}
			return to, in
		}
		r.add(r.sender(0))
		r.run(2 * time.Second)
		r.wantAll(Reserved, 2)
		x := r.sender(0)
		r.nodes[0].do(r.nodes[0].n.RemoveSender(r.now, x.Session, x.Filter))
		r.run(time.Second)
		r.wantAll(Reserved, 0)
		if gone != 1 {
			t.Errorf("%v: none was lost", kind)
		}
	}
}

// two is a second sender of the first session, on a host beside the first one.
func (r *row) two() Sender {
	x := r.sender(0)
	x.Filter.Src = addr("10.1.0.2")
	if r.v6 {
		x.Filter.Src = addr("2001:db8:1::2")
	}
	for _, n := range r.nodes {
		n.env.routes[x.Filter.Src] = left
	}
	return x
}

// Two senders on two hosts share a session, so that a transparent node is two
// previous hops to the next. In each style all is reserved, stays so with losses, and
// the end of one leaves the other's alone (RFC 2205 sections 3.1.6 and 3.4).
func TestTransparentRowStyles(t *testing.T) {
	for _, style := range []wire.Style{wire.FF, wire.SE, wire.WF} {
		for _, kinds := range []string{"TT", "TTT", "TR", "RTT", "TTR", "HTTH"} {
			for _, v6 := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v/%s/v6=%v", style, kinds, v6), func(t *testing.T) {
					seeds(t, func(t *testing.T, seed uint64) {
						r := newRow(t, seed, kinds, v6)
						last := r.nodes[len(kinds)-1]
						last.env.proxy = func(i PathInfo) (ReserveSpec, bool) {
							s, yes := sayYes(i)
							s.Style = style
							return s, yes
						}
						one, two := r.sender(0), r.two()
						r.add(one)
						r.add(two)
						r.loss, r.dup = 0.1, 0.1
						r.run(4 * time.Minute)
						r.loss = 0
						r.run(4 * time.Minute)
						r.wantReserved(style, 2)
						// Without losses nothing has to change any more.
						quiet := r.counters()
						r.run(5 * time.Minute)
						if now := r.counters(); now.Reserves != quiet.Reserves || now.Releases != quiet.Releases || now.PathTimeouts+now.ResvTimeouts != quiet.PathTimeouts+quiet.ResvTimeouts {
							t.Errorf("it is not at rest: %+v, then %+v", quiet, now)
						}
						if sent := r.counters().Out[wire.Resv] - quiet.Out[wire.Resv]; sent > uint64(30*len(kinds)) {
							t.Errorf("%d RESV in ten periods", sent)
						}
						r.nodes[0].do(r.nodes[0].n.RemoveSender(r.now, two.Session, two.Filter))
						r.run(5 * time.Second)
						r.wantReserved(style, 1)
						r.run(5 * time.Minute)
						r.wantReserved(style, 1)
						r.nodes[0].do(r.nodes[0].n.RemoveSender(r.now, one.Session, one.Filter))
						r.run(farewells)
						r.wantGone()
					})
				})
			}
		}
	}
}

// wantReserved checks that so many senders of a session are reserved for on each
// node, and in a shared style with one reservation.
func (r *row) wantReserved(style wire.Style, senders int) {
	r.t.Helper()
	reservations := senders
	if style != wire.FF {
		reservations = 1
	}
	for _, n := range r.nodes {
		for _, v := range n.n.Sessions(r.now) {
			if v.State != Reserved || v.Style != style {
				r.t.Errorf("node %d: %v %v %v %v", n.i, v.Sender, v.State, v.Style, v.Failure)
			}
		}
		if c := n.n.Counters(); c.Senders != senders || c.Reservations != reservations || n.held() != reservations {
			r.t.Fatalf("node %d: %d senders, %d reservations, %d held; want %d and %d", n.i, c.Senders, c.Reservations, n.held(), senders, reservations)
		}
	}
}

// counters adds up what counts here of all nodes.
func (r *row) counters() (sum Counters) {
	sum.Out, sum.Dropped = map[wire.MsgType]uint64{}, map[Drop]uint64{}
	for _, n := range r.nodes {
		c := n.n.Counters()
		sum.Reserves += c.Reserves
		sum.Releases += c.Releases
		sum.PathTimeouts += c.PathTimeouts
		sum.ResvTimeouts += c.ResvTimeouts
		for t, v := range c.Out {
			sum.Out[t] += v
		}
		for d, v := range c.Dropped {
			sum.Dropped[d] += v
		}
	}
	return sum
}

// A node somewhere refuses: ResvErr finds the way to the receiver's side and PathErr
// to the sender's, whoever is in between; nobody else gets them. When there is room
// again all repairs itself (RFC 2205 section 3.1.8).
func TestTransparentRowRefusal(t *testing.T) {
	for _, kinds := range []string{"TT", "TTT", "TTTT", "TRT", "RTR", "RTTR", "HTTH", "TR", "RT"} {
		for refuses := range kinds {
			t.Run(fmt.Sprintf("%s/%d", kinds, refuses), func(t *testing.T) {
				seeds(t, func(t *testing.T, seed uint64) {
					r := newRow(t, seed, kinds, seed%2 == 0)
					full := true
					r.nodes[refuses].refuse = func(Reserve) *Refusal {
						if full {
							return &Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth}
						}
						return nil
					}
					r.add(r.sender(0))
					r.run(5 * time.Second)
					for _, i := range []int{0, len(kinds) - 1} {
						if v := r.nodes[i].n.Sessions(r.now)[0]; v.Failure == nil || v.Failure.Code != wire.ErrAdmission {
							t.Errorf("node %d does not know of the error: %v %v", i, v.State, v.Failure)
						}
					}
					full = false
					r.run(10 * time.Minute)
					r.wantAll(Reserved, len(kinds))
				})
			})
		}
	}
}

// A receiver that wants to know gets its confirmation (RFC 2205 section 3.1.9).
func TestTransparentRowConfirm(t *testing.T) {
	for _, kinds := range []string{"TT", "TTT", "TRT", "RTT", "HTTH", "TTH"} {
		r := newRow(t, 1, kinds, false)
		last := r.nodes[len(kinds)-1]
		last.env.proxy = func(i PathInfo) (ReserveSpec, bool) {
			s, _ := sayYes(i)
			s.Confirm = true
			return s, true
		}
		r.add(r.sender(0))
		r.run(5 * time.Second)
		if v := last.n.Sessions(r.now)[0]; !v.Confirmed {
			t.Errorf("%s: not confirmed", kinds)
		}
	}
}

// A box in the middle is restarted: it has nothing, and what the neighbours go on
// saying to the hosts finds it all the same, none of it the hosts (RFC 5063 section
// 4.5.2). No other node notices more than a missing refresh.
func TestTransparentRowRestart(t *testing.T) {
	for _, kinds := range []string{"TT", "TTT", "RTR", "TRT", "HTH", "HTTH"} {
		for which := range kinds {
			if kinds[which] != 'T' {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", kinds, which), func(t *testing.T) {
				seeds(t, func(t *testing.T, seed uint64) {
					r := newRow(t, seed, kinds, seed%2 == 0)
					r.add(r.sender(0))
					r.run(time.Minute)
					r.wantAll(Reserved, len(kinds))
					released := map[int]uint64{}
					for i, n := range r.nodes {
						released[i] = n.n.Counters().Releases
					}
					r.restart(which)
					if which == 0 {
						r.add(r.sender(0))
					}
					r.run(90 * time.Second)
					r.wantAll(Reserved, len(kinds))
					for i, n := range r.nodes {
						if c := n.n.Counters(); i != which && c.Releases != released[i] {
							t.Errorf("node %d has released", i)
						}
					}
				})
			})
		}
	}
}

// Another box takes the place of one, with a handle of its own: what is still said to
// the one before reaches no host, and all is reserved again with the next refresh.
func TestTransparentRowAnotherBox(t *testing.T) {
	for kinds, which := range map[string]int{"TTT": 1, "RTR": 1, "TTR": 1, "HTTH": 2, "TT": 1, "TTTT": 2} {
		seeds(t, func(t *testing.T, seed uint64) {
			r := newRow(t, seed, kinds, seed%2 == 0)
			r.add(r.sender(0))
			r.run(time.Minute)
			n := r.place(which, rand.New(rand.NewPCG(seed, 4)))
			n.n.cfg.Handle ^= 0x55555
			r.run(2 * time.Minute)
			r.wantAll(Reserved, len(kinds))
			r.run(10 * time.Minute)
			r.wantAll(Reserved, len(kinds))
			x := r.sender(0)
			r.nodes[0].do(r.nodes[0].n.RemoveSender(r.now, x.Session, x.Filter))
			r.run(farewells)
			r.wantGone()
		})
	}
}

// The ends take PATH as the trigger to speak for the other direction too (RFC 5945
// section 4.2): in each direction a transparent node is called as the one before it.
func TestTransparentRowReverseRFC5945Section4_2(t *testing.T) {
	for _, kinds := range []string{"TT", "TTT", "TRT", "RTR", "TR"} {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/v6=%v", kinds, v6), func(t *testing.T) {
				seeds(t, func(t *testing.T, seed uint64) {
					r := newRow(t, seed, kinds, v6)
					first, last := r.nodes[0], r.nodes[len(kinds)-1]
					first.env.turn = func(i PathInfo) (intserv.TSpec, bool) { return tspec, i.Out == left }
					last.env.turn = func(i PathInfo) (intserv.TSpec, bool) { return tspec, i.Out == right }
					first.env.proxy, last.env.proxy = sayAt(left), sayAt(right)
					r.loss, r.dup = 0.1, 0.1
					r.add(r.sender(0))
					r.run(4 * time.Minute)
					r.loss = 0
					r.run(4 * time.Minute)
					r.wantAll(Reserved, 2*len(kinds))
					x := r.sender(0)
					r.nodes[0].do(r.nodes[0].n.RemoveSender(r.now, x.Session, x.Filter))
					r.run(unusedReverse + 4*cleanup)
					r.wantGone()
				})
			})
		}
	}
}

// The sending host begins to speak RSVP, and stops again, while boxes speak for it:
// its neighbours see the same hop all along, and nothing ends.
func TestTransparentRowSenderSpeaksRFC5945Section2_2(t *testing.T) {
	for _, kinds := range []string{"TT", "TTT", "TR"} {
		r := newRow(t, 1, kinds, false)
		r.add(r.sender(0))
		r.run(time.Minute)
		r.wantAll(Reserved, len(kinds))
		var released uint64
		for _, n := range r.nodes {
			released += n.n.Counters().Releases
		}
		x := r.sender(0)
		ts := x.TSpec
		m := &wire.Message{
			Type: wire.Path, SendTTL: 64, Session: x.Session, Hop: &wire.Hop{Addr: r.src, LIH: 3}, TimeValues: &wire.TimeValues{Refresh: 10000},
			SenderTemplate: &x.Filter, SenderTSpec: &ts,
		}
		first := r.nodes[0]
		resvs := 0 // to the host, who is beyond the row
		r.sim.deliver = func(from *simNode, e Send) (int, IfIndex) {
			if from == first && e.Out == left {
				if e.Msg.Type == wire.Resv && e.Dst == r.src && e.Msg.Hop.LIH == 3 {
					resvs++
				}
				return lost, 0
			}
			return r.deliver(from, e)
		}
		first.receive(Received{Iface: left, Src: r.src, Dst: r.dst, TTL: 64, RouterAlert: true, Msg: m})
		r.run(5 * time.Second)
		r.wantAll(Reserved, len(kinds))
		if v := first.n.Sessions(r.now)[0]; v.Role != Transit || v.PrevHop != r.src {
			t.Errorf("%s: %+v", kinds, v)
		}
		if resvs == 0 {
			t.Errorf("%s: no RESV came to the host", kinds)
		}
		r.run(2 * time.Minute) // it is not heard any more
		r.wantAll(Reserved, len(kinds))
		if v := first.n.Sessions(r.now)[0]; v.Role != SenderProxy {
			t.Errorf("%s: %+v", kinds, v)
		}
		for _, n := range r.nodes {
			released -= n.n.Counters().Releases
		}
		if released != 0 {
			t.Errorf("%s: something has ended", kinds)
		}
	}
}
