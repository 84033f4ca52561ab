package softstate

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

var secondHop = addr("192.0.2.77")

func via(hop netip.Addr) func(*wire.Message) {
	return func(m *wire.Message) { m.Hop = &wire.Hop{Addr: hop, LIH: 7} }
}

// joined is a transit hop with a reservation and two previous hops.
func joined(t *testing.T, style wire.Style) *rig {
	t.Helper()
	r := newRig(t, Config{})
	r.path()
	r.grant(r.resv(inStyle(style)))
	es := r.path(via(secondHop))
	got := sends(es, wire.Resv) // section 3.6; a wildcard one to two hops needs SCOPE (section 3.4)
	if want := map[bool]int{true: 2, false: 1}[style == wire.WF]; len(got) != want || got[want-1].Dst != secondHop {
		t.Fatalf("%s", dump(es))
	}
	r.wantState(Reserved)
	return r
}

func inStyle(style wire.Style) func(*wire.Message) {
	return func(m *wire.Message) {
		if m.Style = style; style == wire.WF {
			m.Flows[0].Filters = nil
		}
	}
}

// RFC 2205 section 3.1.3: PATHs of one sender may come from more than one previous
// hop. As long as both refresh, neither changes anything: no message is sent for
// it, the previous hop stays who it is, and both get RESV.
func TestTwoStandingHopsRFC2205Section3_1_3(t *testing.T) {
	for _, style := range []wire.Style{wire.FF, wire.SE, wire.WF} {
		r := joined(t, style)
		got := map[netip.Addr]int{}
		for i := range 40 {
			hop := prevHop
			if i%2 == 1 {
				hop = secondHop
			}
			if es := r.path(via(hop)); len(es) != 0 {
				t.Fatalf("%v: a refresh causes %s", style, dump(es))
			}
			if v := r.view(); v.PrevHop != secondHop {
				t.Fatalf("%v: previous hop %v", style, v.PrevHop)
			}
			for _, s := range sends(r.run(DefaultRefresh/2), wire.Resv) {
				got[s.Dst]++
			}
			if es := r.resv(inStyle(style)); len(es) != 0 {
				t.Fatalf("%v: a refresh causes %s", style, dump(es))
			}
		}
		for _, hop := range []netip.Addr{prevHop, secondHop} {
			if got[hop] < 10 || got[hop] > 41 { // in 20 R
				t.Errorf("%v: %d RESV to %v", style, got[hop], hop)
			}
		}
		r.wantState(Reserved)
	}
}

// RFC 2205 section 3.1.5: the end of one previous hop's state, by PathTear or for
// want of refreshes, is not forwarded while there is another's, and takes nothing
// along. The last one's end is the sender's.
func TestOneHopEndsRFC2205Section3_1_5(t *testing.T) {
	for _, style := range []wire.Style{wire.FF, wire.SE, wire.WF} {
		for _, hop := range []netip.Addr{prevHop, secondHop} {
			for _, torn := range []bool{true, false} {
				r := joined(t, style)
				rest := prevHop
				if hop == prevHop {
					rest = secondHop
				}
				tear := pathTear()
				via(hop)(tear)
				var es []Effect
				if torn {
					es = r.in(left, srcHost, dstHost, tear)
				}
				for range 20 {
					r.path(via(rest))
					es = append(es, r.grant(r.resv(inStyle(style)))...)
					es = append(es, r.run(DefaultRefresh/2)...)
				}
				noSend(t, es, wire.PathTear, wire.ResvTear, wire.ResvErr)
				if len(all[Release](es)) != 0 {
					t.Errorf("%v: %s", style, dump(es))
				}
				r.wantState(Reserved)
				if v := r.view(); v.PrevHop != rest {
					t.Errorf("%v: previous hop %v, want %v", style, v.PrevHop, rest)
				}
				if c := r.n.Counters(); c.Neighbors != 2 { // one, and the next hop
					t.Errorf("%v: %d neighbours", style, c.Neighbors)
				}
				for _, s := range sends(r.run(2*DefaultRefresh), wire.Resv) {
					if s.Dst != rest {
						t.Errorf("%v: RESV to %v, whose state is gone", style, s.Dst)
					}
				}
				via(rest)(tear)
				es = r.in(left, srcHost, dstHost, tear)
				onlySend(t, es, wire.PathTear)
				if len(all[Release](es)) != 1 {
					t.Errorf("%v: %s", style, dump(es))
				}
			}
		}
	}
}

// Where the newer hop ends first, the older one's state counts again: what it
// announced, and for as long as it lives.
func TestOlderHopsStateCountsAgain(t *testing.T) {
	r := newRig(t, Config{})
	r.path(rate(5000))
	r.grant(r.resv())
	r.run(10 * time.Second)
	r.grant(r.path(via(secondHop), rate(7000)))
	tear := pathTear()
	via(secondHop)(tear)
	es := r.grant(r.in(left, srcHost, dstHost, tear))
	if s := onlySend(t, es, wire.Path); s.Msg.SenderTSpec.Rate != 5000 {
		t.Errorf("%s", dump(es))
	}
	for _, s := range sends(es, wire.Resv) {
		if s.Dst != prevHop {
			t.Errorf("%s", dump(es))
		}
	}
	life := r.n.lifetime(timeValues(DefaultRefresh))
	if v := r.view(); v.TSpec.Rate != 5000 || v.Expires != life-10*time.Second {
		t.Errorf("%+v", v)
	}
	if es = r.run(life); len(sends(es, wire.PathTear)) != 1 {
		t.Errorf("%s", dump(es))
	}
}

// A hop that stood back and has something new to tell is on the sender's way.
func TestHopWithNewsIsTheWay(t *testing.T) {
	r := joined(t, wire.FF)
	es := r.grant(r.path(rate(6000)))
	if s := onlySend(t, es, wire.Path); s.Msg.SenderTSpec.Rate != 6000 {
		t.Errorf("%s", dump(es))
	}
	if v := r.view(); v.PrevHop != prevHop {
		t.Errorf("previous hop %v", v.PrevHop)
	}
	if es = r.path(via(secondHop)); len(es) != 0 { // which only repeats itself
		t.Errorf("%s", dump(es))
	}
}

// One PATH that nobody repeats, whoever sent it, does not stand in front of the hop
// that goes on to refresh until its own long life is over.
func TestSilentHopStandsBack(t *testing.T) {
	r := newRig(t, Config{})
	r.reserved()
	r.grant(r.path(via(secondHop), rate(100), func(m *wire.Message) { m.TimeValues.Refresh = 1<<32 - 1 }))
	for i := range 20 {
		r.run(DefaultRefresh)
		r.grant(r.path())
		r.grant(r.resv())
		if v := r.view(); i >= 5 && (v.PrevHop != prevHop || v.TSpec.Rate != tspec.Rate) {
			t.Fatalf("after %d refreshes it is still the other one: %v", i, v.PrevHop)
		}
	}
	r.wantState(Reserved)
	// It is as good as any when it is the last one.
	noSend(t, r.grant(r.in(left, srcHost, dstHost, pathTear())), wire.PathTear)
	if v := r.view(); v.PrevHop != secondHop {
		t.Errorf("previous hop %v", v.PrevHop)
	}
}

// However many hops come: what is kept is bounded, and all of it goes.
func TestHopsAreBounded(t *testing.T) {
	r := newRig(t, Config{})
	r.reserved()
	for i := range 100 {
		r.path(via(netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i%100)})))
		r.run(time.Second)
	}
	if c := r.n.Counters(); c.Neighbors > 2+maxOthers {
		t.Errorf("%d neighbours", c.Neighbors)
	}
	r.wantState(Reserved)
	r.run(10 * DefaultRefresh)
	if c := r.n.Counters(); c.Senders+c.Neighbors+c.Reservations != 0 {
		t.Errorf("left over: %+v", c)
	}
}

func (l *lab) want(order, msgs string) {
	l.t.Helper()
	got, _ := l.tell(l.do(order))
	if s := strings.Join(got, "; "); s != msgs {
		l.t.Errorf("%s: %q, want %q", order, s, msgs)
	}
}

// RFC 2205 section 3.1.5 for groups: two routers on the link that packets come in
// by. The one's end leaves the other's state, and what is reserved.
func TestTwoHopsOnALinkOfAGroupRFC2205Section3_1_5(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, style := range []string{"FF S1{4}", "SE S1{4}", "WF *{4}"} {
			for _, first := range []string{"P1", "P4"} {
				l := newLab(t, v6)
				l.do("path S1")
				l.do("resv c R1 " + style)
				l.do("home S1 a P4")
				l.do("path S1")
				l.do("home S1 a " + first)
				_, tc := l.tell(l.do("pathtear S1"))
				if len(tc) != 0 {
					t.Errorf("traffic control %v", tc)
				}
				if c := l.n.Counters(); c.Reservations != 1 || c.Out[wire.PathTear] != 0 {
					t.Fatalf("%s, %s torn: %d reservations, %d PathTears", style, first, c.Reservations, c.Out[wire.PathTear])
				}
				other := map[string]string{"P1": "P4", "P4": "P1"}[first]
				l.do("home S1 a " + other)
				got, _ := l.tell(l.do("wait 1m"))
				if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, other+" resv") }) ||
					slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, first) }) {
					t.Errorf("%s, %s torn: %v", style, first, got)
				}
				if _, tc = l.tell(l.do("pathtear S1")); !slices.Equal(tc, []string{"release"}) {
					t.Errorf("traffic control %v", tc)
				}
			}
		}
	}
}

// RFC 2205 sections 3.1.3 and 3.9: PATH of a group that comes where routing does
// not expect it makes state that is kept for itself. It is not forwarded, gets no
// RESV, and its PathTear is not forwarded either.
func TestLocalOnlyPathStateRFC2205Section3_9(t *testing.T) {
	for _, style := range []string{"FF S1{4}", "SE S1{4}", "WF *{4}"} {
		l := newLab(t, false)
		l.do("path S1")
		l.do("resv c R1 " + style)
		for range 3 { // P2 on b; the expected interface is a
			l.homes["S1"] = home{1, "P2"}
			l.want("path S1 at b", "")
			l.homes["S1"] = home{1, "P1"}
			l.want("path S1", "")
			got, _ := l.tell(l.do("wait 20s"))
			for _, s := range got {
				if strings.HasPrefix(s, "P2") {
					t.Errorf("%s: %s", style, s)
				}
			}
			l.do("resv c R1 " + style)
		}
		if d, ok := l.n.Dropped(); ok {
			t.Errorf("dropped: %v", d)
		}
		l.homes["S1"] = home{1, "P2"}
		l.want("pathtear S1 b", "")
		if c := l.n.Counters(); c.Reservations != 1 || c.Neighbors != 2 {
			t.Errorf("%s: %+v", style, c)
		}
	}
}

// RFC 2209 section 2, PATH MESSAGE ARRIVES: when routing comes to expect the
// sender's packets by the other interface, the state that is there takes over,
// and the reservation goes on: at once when that is told, else with the next
// PATH, whichever it is.
func TestIncomingInterfaceChangesRFC2205Section3_9(t *testing.T) {
	for _, style := range []string{"FF S1{4}", "SE S1{4}", "WF *{4}"} {
		for _, told := range []string{"reroute", "path S1 at a", "path S1 at b"} {
			l := newLab(t, false)
			l.do("path S1")
			l.do("resv c R1 " + style)
			l.homes["S1"] = home{1, "P2"}
			l.do("path S1 at b")
			l.homes["S1"] = home{2, "P2"} // from now on
			if told == "path S1 at a" {
				l.homes["S1"] = home{2, "P1"}
			}
			got, tc := l.tell(l.do(told))
			if len(tc) != 0 || slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "tear") }) {
				t.Errorf("%s, %s: %v %v", style, told, got, tc)
			}
			if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "P2 resv") }) {
				t.Errorf("%s, %s: P2 gets no RESV: %v", style, told, got)
			}
			l.homes["S1"] = home{2, "P1"}
			l.want("pathtear S1 a", "") // of what has stood back
			if c := l.n.Counters(); c.Reservations != 1 {
				t.Errorf("%s, %s: the reservation is gone", style, told)
			}
		}
	}
}

// RFC 2205 section 3.9, 3: path state that is Local_Only is ignored when PathTear
// is forwarded; it stays, and serves when routing comes to expect it.
func TestPathTearBesideLocalOnlyRFC2205Section3_9(t *testing.T) {
	l := newLab(t, false)
	l.do("path S1")
	l.do("resv c R1 FF S1{4}")
	l.homes["S1"] = home{1, "P2"}
	l.do("path S1 at b")
	l.homes["S1"] = home{1, "P1"}
	got, tc := l.tell(l.do("pathtear S1"))
	if !slices.Equal(got, []string{"c pathtear S1", "d pathtear S1"}) || !slices.Equal(tc, []string{"release"}) {
		t.Errorf("%v %v", got, tc)
	}
	if c := l.n.Counters(); c.Senders != 1 {
		t.Fatalf("%d senders", c.Senders)
	}
	l.homes["S1"] = home{2, "P2"}
	l.want("reroute", "c path S1; d path S1")
	l.do("wait 4m")
	if c := l.n.Counters(); c.Senders+c.Neighbors != 0 {
		t.Errorf("left over: %+v", c)
	}
}

// RFC 2205 sections 3.1.3, 3.1.5 and 3.7 at random: there is path state exactly as
// long as any of the hops has some, and a PathTear goes out exactly when the last
// one's ends. The reservation lasts as long.
func TestHopsProperty(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 3))
		r := newRig(t, Config{})
		hops := []neighborKey{{left, prevHop}, {left, secondHop}, {other, addr("203.0.113.8")}, {other, addr("203.0.113.9")}}
		until, tears := map[neighborKey]time.Time{}, 0
		life := r.n.lifetime(timeValues(DefaultRefresh))
		for range 3000 {
			k := hops[rng.IntN(len(hops))]
			before := len(until)
			var es []Effect
			switch op := rng.IntN(10); {
			case op < 4:
				m := pathMsg()
				via(k.addr)(m)
				if rng.IntN(4) == 0 {
					m.SenderTSpec.Rate = float64(9000 + 1000*rng.IntN(3))
				}
				es = r.grant(r.in(k.iface, srcHost, dstHost, m))
				until[k] = r.now.Add(life)
				if before == 0 {
					es = append(es, r.grant(r.resv())...)
					before = len(until)
				}
			case op < 6:
				m := pathTear()
				via(k.addr)(m)
				es = r.grant(r.in(k.iface, srcHost, dstHost, m))
				delete(until, k)
			default:
				es = r.grant(r.run(time.Duration(rng.Int64N(int64(life / 3)))))
				for k, at := range until {
					if !at.After(r.now) {
						delete(until, k)
					}
				}
				if len(until) > 0 {
					es = append(es, r.grant(r.resv())...)
				}
			}
			if before > 0 && len(until) == 0 {
				tears++
			}
			tears -= len(sends(es, wire.PathTear))
			v, there := r.n.Session(r.now, sess, filter)
			if there != (len(until) > 0) || tears != 0 {
				t.Fatalf("hops %v, state %v, %d PathTears too few", until, there, tears)
			}
			noSend(t, es, wire.PathErr, wire.ResvErr, wire.ResvTear)
			if there {
				if _, ok := until[neighborKey{v.In, v.PrevHop}]; !ok || v.State != Reserved {
					t.Fatalf("hops %v, previous hop %v, %v", until, v.PrevHop, v.State)
				}
				if c := r.n.Counters(); c.Neighbors != len(until)+1 {
					t.Fatalf("hops %v, %d neighbours", until, c.Neighbors)
				}
			}
		}
	})
}

// Two previous hops that take turns with news are each told at once; a third one
// that goes on refreshing has its refreshes all the same (RFC 2205 section 3.7).
func TestThirdHopIsRefreshedRFC2205Section3_7(t *testing.T) {
	third := addr("192.0.2.78")
	r := joined(t, wire.FF)
	r.path(via(third))
	got := map[netip.Addr]int{}
	for i := range 60 { // ten minutes
		hop := prevHop
		if i%2 == 1 {
			hop = secondHop
		}
		es := r.path(via(hop), func(m *wire.Message) { m.AdSpec.General.Latency = uint32(i) })
		es = append(es, r.path(via(third))...)
		es = append(es, r.resv()...)
		es = append(es, r.run(10*time.Second)...)
		for _, s := range sends(es, wire.Resv) {
			got[s.Dst]++
		}
	}
	for _, hop := range []netip.Addr{prevHop, secondHop, third} {
		if got[hop] < 13 { // one in 1.5 R at least
			t.Errorf("%d RESV to %v in 20 R", got[hop], hop)
		}
	}
}
