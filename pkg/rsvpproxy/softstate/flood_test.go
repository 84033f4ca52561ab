package softstate

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// flooded is a node with a flooder on interface left, who makes up hops, and
// others on interface other.
type flooded struct {
	*rig
	made int
}

func newFlooded(t *testing.T, l Limits) *flooded {
	r := newRig(t, Config{Limits: l, ErrorRate: -1})
	r.n.SetInterfaces(left, right, other)
	return &flooded{rig: r}
}

// flood sends PATHs, each of a session and a hop that nobody has heard of, with
// the longest refresh period that there is.
func (f *flooded) flood(count int) {
	f.t.Helper()
	for range count {
		f.made++
		m := pathMsg()
		m.Session.DstPort = uint16(1 + f.made%60_000)
		m.SenderTemplate = &wire.Filter{Src: netip.AddrFrom4([4]byte{10, 66, byte(f.made >> 8), byte(f.made)}), SrcPort: 1}
		m.Hop = &wire.Hop{Addr: netip.AddrFrom4([4]byte{192, 0, byte(f.made >> 8), byte(f.made)}), LIH: 1}
		m.TimeValues = &wire.TimeValues{Refresh: 1<<32 - 1}
		m.SendTTL = 60
		f.n.Handle(f.now, Received{Iface: left, Src: m.SenderTemplate.Src, Dst: dstHost, TTL: 60, RouterAlert: true, Msg: m})
	}
	if err := f.n.check(); err != nil {
		f.t.Fatal(err)
	}
}

// pass lets time go by; the tables are looked at once, at the end.
func (f *flooded) pass(d time.Duration) {
	f.t.Helper()
	end := f.now.Add(d)
	for at, ok := f.n.NextDeadline(); ok && !at.After(end); at, ok = f.n.NextDeadline() {
		f.n.Advance(at)
	}
	f.now = end
	if err := f.n.check(); err != nil {
		f.t.Fatal(err)
	}
}

// other is a PATH of somebody on another interface.
func (f *flooded) other(port int, hop string) []Effect {
	m := pathMsg()
	m.Session.DstPort = uint16(port)
	m.Hop.Addr = addr(hop)
	return f.in(other, srcHost, dstHost, m)
}

// A flood of made-up hops on one interface: nobody on another one is refused, nor
// is the reservation of a session there lost when its previous hop changes.
func TestFloodOfHopsStaysOnItsInterface(t *testing.T) {
	for _, neighbors := range []int{20, 1000} {
		t.Run(fmt.Sprint(neighbors), func(t *testing.T) {
			f := newFlooded(t, Limits{Neighbors: neighbors})
			f.other(sessPort, "203.0.113.8")
			f.grant(f.resv())
			f.flood(2 * neighbors)
			if c := f.n.Counters(); c.Dropped[DropLimitPath] == 0 || c.Neighbors > neighbors {
				t.Fatalf("%d neighbours held, %d refused: that was no flood", c.Neighbors, c.Dropped[DropLimitPath])
			}
			es := f.other(sessPort, "203.0.113.9")
			noSend(t, es, wire.PathErr)
			if s := onlySend(t, es, wire.Resv); s.Dst != addr("203.0.113.9") {
				t.Errorf("%s", dump(es))
			}
			for i := range neighbors/16 - 2 { // neighbours that were not there before
				onlySend(t, f.other(40_000+i, fmt.Sprintf("203.0.113.%d", 100+i)), wire.Path)
			}
			for range 10 {
				f.pass(DefaultRefresh)
				f.other(sessPort, "203.0.113.9")
				f.grant(f.resv())
				f.flood(neighbors / 4)
			}
			f.wantState(Reserved)
		})
	}
}

const sessPort = 5004

// Nor does a change of the previous hop on the flooded interface itself: what is
// there stays, whether there is room for another neighbour or not.
func TestChangeOfHopNeedsNoRoom(t *testing.T) {
	f := newFlooded(t, Limits{Neighbors: 20})
	f.reserved()
	f.flood(100)
	for _, hop := range []string{"192.0.2.201", "192.0.2.202", "192.0.2.203"} {
		es := f.path(func(m *wire.Message) { m.Hop.Addr = addr(hop) })
		noSend(t, es, wire.PathErr)
		if s := onlySend(t, es, wire.Resv); s.Dst != addr(hop) {
			t.Errorf("%s", dump(es))
		}
	}
	f.wantState(Reserved)
	// No more is kept than there are senders, and all of it goes.
	if c := f.n.Counters(); c.Neighbors > c.Senders+20 {
		t.Errorf("%d neighbours for %d senders", c.Neighbors, c.Senders)
	}
	f.pass(24 * time.Hour)
	if c := f.n.Counters(); c.Neighbors+c.Senders != 0 {
		t.Errorf("left over: %+v", c)
	}
}

// A flood of sessions from ever new hops leaves the other interfaces their part.
func TestFloodOfSessionsStaysOnItsInterface(t *testing.T) {
	for _, turned := range []bool{false, true} { // who is first
		f := newFlooded(t, Limits{Sessions: 400, Senders: 400, Neighbors: 100_000})
		if turned {
			f.other(sessPort, "203.0.113.8")
		}
		f.flood(2000)
		for i := range 20 {
			onlySend(t, f.other(40_000+i, "203.0.113.8"), wire.Path)
		}
		if _, err := f.n.AddSender(f.now, Sender{Session: wire.Session{Dst: dstHost, Protocol: 17, DstPort: 9}, Filter: filter, TSpec: tspec}); err != nil {
			t.Errorf("what the box itself declares is refused: %v", err)
		}
		if c := f.n.Counters(); c.Sessions > 400 || c.Dropped[DropLimitPath]+c.Dropped[DropShare] < 1600 {
			t.Errorf("%+v", c)
		}
	}
}

// A flood of next hops on one interface takes nothing from the others, even if it
// names their interfaces' handles: what counts is where a RESV arrives.
func TestFloodOfRequestsStaysOnItsInterface(t *testing.T) {
	f := newFlooded(t, Limits{Neighbors: 40, Requests: 60})
	for i := range 4 {
		f.path(func(m *wire.Message) { m.Session.DstPort = sessPort + uint16(i) })
	}
	resv := func(in IfIndex, hop netip.Addr, i int) []Effect {
		m := resvMsg()
		m.Session.DstPort += uint16(i)
		m.Hop = &wire.Hop{Addr: hop, LIH: uint32(right)}
		return f.grant(f.in(in, hop, f.n.addr(in, hop), m))
	}
	for i := range 200 {
		resv(other, netip.AddrFrom4([4]byte{203, 0, 113, byte(2 + i)}), i%4)
	}
	if c := f.n.Counters(); c.Dropped[DropLimitResv] < 140 {
		t.Fatalf("%+v", c)
	}
	for i := range 3 {
		es := resv(right, nextHop, i)
		noSend(t, es, wire.ResvErr)
	}
	// The one more is told so.
	flood := sends(resv(other, addr("203.0.113.250"), 0), wire.ResvErr)
	if len(flood) != 1 || flood[0].Msg.ErrorSpec.Code != wire.ErrRSVPSystem {
		t.Errorf("%v", flood)
	}
	f.pass(time.Hour)
	if c := f.n.Counters(); c.Neighbors+c.Reservations != 0 {
		t.Errorf("left over: %+v", c)
	}
}

// RFC 2205 section 3.7: L follows from the R that is announced, up to a bound:
// one packet must not make state that stays for a day.
func TestLongestLifetimeRFC2205Section3_7(t *testing.T) {
	f := newFlooded(t, Limits{})
	f.flood(10)
	// RFC 2961 has periods of an hour make sense, and so does our configuration.
	f.path(func(m *wire.Message) { m.TimeValues.Refresh = uint32(time.Hour.Milliseconds()) })
	if v := f.view(); v.Expires < time.Duration(3.5*1.5*float64(time.Hour)) {
		t.Errorf("R of an hour: lives for %v", v.Expires)
	}
	f.pass(6 * time.Hour)
	if c := f.n.Counters(); c.Senders+c.Neighbors != 0 {
		t.Errorf("after 6 h there are %d senders and %d neighbours", c.Senders, c.Neighbors)
	}
}

// Whatever somebody on one interface sends, with whatever hops: whoever keeps to
// a few sessions on another one is never refused and loses nothing.
func TestFloodProperty(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 5))
		f := newFlooded(t, Limits{Sessions: 200, Senders: 200, Neighbors: 40, PerSession: 50, Requests: 100})
		const mine = 3
		hops := [mine]int{}
		refresh := func() {
			t.Helper()
			for i := range mine {
				m := pathMsg()
				m.Session.DstPort = sessPort + uint16(i)
				m.Hop.Addr = netip.AddrFrom4([4]byte{203, 0, 113, byte(10 + hops[i])})
				es := f.in(other, srcHost, dstHost, m)
				noSend(t, es, wire.PathErr, wire.PathTear)
				r := resvMsg()
				r.Session.DstPort = sessPort + uint16(i)
				es = f.grant(f.in(right, nextHop, rightAdr, r))
				noSend(t, es, wire.ResvErr)
			}
		}
		refresh()
		for range 60 {
			for range 40 {
				hop := netip.AddrFrom4([4]byte{192, 0, byte(rng.IntN(4)), byte(rng.IntN(200))})
				own := uint16(10 + rng.IntN(300)) // never a session of the others
				switch rng.IntN(6) {
				case 0, 1, 2:
					m := pathMsg()
					m.Session.DstPort, m.Hop.Addr = own, hop
					m.SenderTemplate = &wire.Filter{Src: netip.AddrFrom4([4]byte{10, 66, 0, byte(rng.IntN(60))}), SrcPort: 1}
					m.TimeValues = &wire.TimeValues{Refresh: rng.Uint32()}
					f.in(left, m.SenderTemplate.Src, dstHost, m)
				case 3:
					m := pathTear()
					m.Session.DstPort, m.Hop.Addr = own, hop
					m.SenderTemplate = &wire.Filter{Src: netip.AddrFrom4([4]byte{10, 66, 0, byte(rng.IntN(60))}), SrcPort: 1}
					f.in(left, m.SenderTemplate.Src, dstHost, m)
				case 4: // next hops for the others' sessions
					m := resvMsg()
					m.Session.DstPort = sessPort + uint16(rng.IntN(mine))
					m.Hop = &wire.Hop{Addr: hop, LIH: uint32(right)}
					f.grant(f.in(left, hop, leftAddr, m))
				case 5:
					m := resvTear()
					m.Session.DstPort = sessPort + uint16(rng.IntN(mine))
					m.Hop = &wire.Hop{Addr: hop, LIH: uint32(right)}
					f.in(left, hop, leftAddr, m)
				}
			}
			f.grant(f.run(time.Duration(rng.Int64N(int64(DefaultRefresh)))))
			if rng.IntN(3) == 0 {
				hops[rng.IntN(mine)] = rng.IntN(30)
			}
			refresh()
			for i := range mine {
				v, ok := f.n.Session(f.now, wire.Session{Dst: dstHost, Protocol: 17, DstPort: sessPort + uint16(i)}, filter)
				if !ok || v.State != Reserved {
					t.Fatalf("session %d: %v, %v %v", i, ok, v.State, v.Failure)
				}
			}
		}
	})
}
