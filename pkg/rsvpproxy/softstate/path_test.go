package softstate

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// RFC 2205 section 3.1.3, RFC 2209 PATH MESSAGE ARRIVES, PATH REFRESH.
func TestPathForwarded(t *testing.T) {
	r := newRig(t, Config{})
	es := r.path(func(m *wire.Message) { m.Session.Flags = wire.SessionEPolice })
	s := onlySend(t, es, wire.Path)
	if s.Out != right || s.Src != srcHost || s.Dst != dstHost || !s.RouterAlert || s.TTL != 59 || s.Msg.SendTTL != 59 {
		t.Errorf("wrong envelope: %s", dump(es))
	}
	if *s.Msg.Hop != (wire.Hop{Addr: rightAdr, LIH: uint32(right)}) {
		t.Errorf("hop %+v", *s.Msg.Hop)
	}
	if s.Msg.TimeValues.Period() != DefaultRefresh {
		t.Errorf("R %v", s.Msg.TimeValues.Period())
	}
	if s.Msg.Session.Flags != 0 { // section 3.8: cleared by the first node that polices
		t.Errorf("session flags %#x", s.Msg.Session.Flags)
	}
	// RFC 2210 section 3.3, RFC 2215: hops added, bandwidth and MTU minimum, latency sum.
	g := s.Msg.AdSpec.General
	if g.Hops != 2 || g.Bandwidth != 1e6 || g.MTU != 1400 || g.Latency != 15 || s.Msg.AdSpec.Break {
		t.Errorf("adspec %+v", s.Msg.AdSpec)
	}
	r.wantState(PathOnly)
	if e := only[Event](t, es); e.State != PathOnly || e.Role != Transit {
		t.Errorf("event %+v", e)
	}
}

// RFC 2205 section 3.3: a change is forwarded at once, a refresh is not.
func TestPathChangeForwardedAtOnce(t *testing.T) {
	changes := map[string]func(*wire.Message){
		"tspec":        rate(12000),
		"adspec":       func(m *wire.Message) { m.AdSpec.General.MTU = 900 },
		"phop":         func(m *wire.Message) { m.Hop.Addr = prevHop.Next().Next() },
		"lih":          func(m *wire.Message) { m.Hop.LIH++ },
		"non-RSVP hop": func(m *wire.Message) { m.SendTTL = 61 },
		"unknown object": func(m *wire.Message) {
			m.Unknown = []wire.Object{{Class: 200, CType: 1, Body: []byte{1, 2, 3, 4}}}
		},
		"policy": func(m *wire.Message) {
			m.Policy = []wire.Object{{Class: wire.ClassPolicyData, CType: 1, Body: []byte{0, 8, 0, 0}}}
		},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Config{})
			onlySend(t, r.path(), wire.Path)
			noSend(t, r.path())
			onlySend(t, r.path(change), wire.Path)
			noSend(t, r.path(change))
		})
	}
}

// RFC 2205 section 3.3: nothing goes out of the interface that it came in by.
func TestPathNotOutOfArrivalInterface(t *testing.T) {
	r := newRig(t, Config{})
	r.env.routes[dstHost] = left
	noSend(t, r.path())
	r.wantState(Inactive)
	noSend(t, r.run(2*DefaultRefresh), wire.Path)
}

// RFC 2205 section 3.8: the TTL shows a hop without RSVP, the ADSPEC tells of it.
// RFC 2205 section 2.9: the cloud is told.
func TestPathNonRSVPHopSetsBreakBit(t *testing.T) {
	r := newRig(t, Config{})
	s := onlySend(t, r.path(func(m *wire.Message) { m.SendTTL = 62 }), wire.Path)
	if !s.Msg.AdSpec.Break || !r.view().Break {
		t.Error("no break bit")
	}
}

type crossing struct {
	*testEnv
	routers int // that are known behind left
}

func (c crossing) Crossed(in IfIndex, routers int) bool { return in == left && routers <= c.routers }

// RFC 2998 section 4.2: the routers of a region that ADSPEC tells of are no break
// in it. More of them than that are, and so is a TTL that has grown.
func TestRegionIsNoBreakRFC2998Section4_2(t *testing.T) {
	for sendTTL, broken := range map[uint8]bool{60: false, 61: false, 63: false, 64: true, 59: true} {
		r := newRig(t, Config{})
		r.n = New(Config{Quick: -1}, crossing{r.env, 3}, rand.New(rand.NewPCG(1, 2)))
		s := onlySend(t, r.path(func(m *wire.Message) { m.SendTTL = sendTTL }), wire.Path)
		if s.Msg.AdSpec.Break != broken || r.view().Break != broken {
			t.Errorf("Send_TTL %d: break bit %t", sendTTL, s.Msg.AdSpec.Break)
		}
	}
}

// RFC 2209 PATH REFRESH: a TTL of zero is not sent.
func TestPathTTL(t *testing.T) {
	r := newRig(t, Config{})
	m := pathMsg()
	m.SendTTL = 1
	es := r.n.Handle(r.now, Received{Iface: left, Src: srcHost, Dst: dstHost, TTL: 1, Msg: m})
	noSend(t, es)
	if r.n.Counters().Dropped[DropTTL] != 1 {
		t.Error("not counted")
	}
}

// RFC 2205 section 3.2 and Appendix B codes 7 and 8.
func TestPathPortRules(t *testing.T) {
	zeroDst := func(m *wire.Message) {
		m.Session.DstPort = 0
		m.SenderTemplate = &wire.Filter{Src: srcHost}
	}
	zeroSrc := func(m *wire.Message) { m.SenderTemplate = &wire.Filter{Src: srcHost} }
	nothing := func(*wire.Message) {}
	tests := []struct {
		name          string
		first, second func(*wire.Message)
		code          wire.ErrorCode
	}{
		{"rule 1: dst port set, then zero", nothing, zeroDst, wire.ErrDstPorts},
		{"rule 1: dst port zero, then set", zeroDst, nothing, wire.ErrDstPorts},
		{"rule 3: src port set, then zero", nothing, zeroSrc, wire.ErrSrcPorts},
		{"rule 3: src port zero, then set", zeroSrc, nothing, wire.ErrSrcPorts},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			onlySend(t, r.path(tt.first), wire.Path)
			es := r.path(tt.second)
			noSend(t, es, wire.Path)
			e := onlySend(t, es, wire.PathErr)
			if e.Msg.ErrorSpec.Code != tt.code || e.Dst != prevHop || e.Src != leftAddr || e.Out != left || e.RouterAlert {
				t.Errorf("%s", dump(es))
			}
			if c := r.n.Counters(); c.Sessions != 1 || c.Senders != 1 || c.PathErrs[tt.code] != 1 {
				t.Errorf("counters %+v", c)
			}
		})
	}
	// Other protocol, other destination: no conflict.
	r := newRig(t, Config{})
	r.path()
	noSend(t, r.path(zeroDst, func(m *wire.Message) { m.Session.Protocol = 50 }), wire.PathErr)
}

// RFC 2205 section 3.2 rule 2 is a local matter (RFC 2209: silently discard).
func TestPathBadSrcPortSilent(t *testing.T) {
	r := newRig(t, Config{})
	m := pathMsg()
	m.Session.DstPort = 0
	if es := r.n.Handle(r.now, Received{Iface: left, Src: srcHost, Dst: dstHost, TTL: 60, Msg: m}); len(es) != 0 {
		t.Errorf("%s", dump(es))
	}
	if r.n.Counters().Dropped[DropMalformed] != 1 {
		t.Error("not counted")
	}
}

// RFC 2205 section 3.7 (1): refreshes are spread over [0.5R, 1.5R], evenly.
func TestPathRefreshJitter(t *testing.T) {
	r := newRig(t, Config{Refresh: 10 * time.Second})
	if _, err := r.n.AddSender(r.now, Sender{Session: sess, Filter: filter, TSpec: tspec, In: left}); err != nil {
		t.Fatal(err)
	}
	var low, high, count int
	last := r.now
	for range 2000 {
		at, _ := r.n.NextDeadline()
		d := at.Sub(last)
		if d < 5*time.Second || d > 15*time.Second {
			t.Fatalf("interval %v", d)
		}
		if d < 6*time.Second {
			low++
		}
		if d > 14*time.Second {
			high++
		}
		last = at
		count += len(sends(r.n.Advance(at), wire.Path))
	}
	if count != 2000 || low < 130 || high < 130 {
		t.Errorf("%d refreshes, %d below 0.6R, %d above 1.4R", count, low, high)
	}
}

// RFC 2205 section 3.7 (2), (3): L = (K+0.5)*1.5*R of the R received; its end
// works as a PathTear (section 3.1.5).
func TestPathLifetime(t *testing.T) {
	for _, ms := range []uint32{10_000, 30_000, 60_000} {
		r := newRig(t, Config{})
		r.path(func(m *wire.Message) { m.TimeValues.Refresh = ms })
		life := time.Duration(float64(ms)*3.5*1.5) * time.Millisecond
		noSend(t, r.run(life-time.Millisecond), wire.PathTear)
		es := r.run(time.Millisecond)
		s := onlySend(t, es, wire.PathTear)
		if s.Src != srcHost || s.Dst != dstHost || s.Out != right || !s.RouterAlert || *s.Msg.Hop != (wire.Hop{Addr: rightAdr, LIH: 2}) {
			t.Errorf("%s", dump(es))
		}
		if c := r.n.Counters(); c.Senders != 0 || c.Sessions != 0 || c.PathTimeouts != 1 || c.Neighbors != 0 {
			t.Errorf("left over: %+v", c)
		}
		if e := only[Event](t, es); !e.Gone {
			t.Errorf("event %+v", e)
		}
		if _, ok := r.n.NextDeadline(); ok {
			t.Error("timers left")
		}
	}
}

// RFC 2205 section 3.7 (2): K-1 losses in a row do no harm.
func TestPathLifetimeRestarts(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	for range 5 {
		r.run(150 * time.Second)
		r.path()
	}
	r.wantState(PathOnly)
}

// An R of zero or of weeks is brought to reason.
func TestPathLifetimeBounded(t *testing.T) {
	n := newRig(t, Config{}).n
	if l := n.lifetime(&wire.TimeValues{}); l < minRefresh {
		t.Errorf("R 0: %v", l)
	}
	if l := n.lifetime(&wire.TimeValues{Refresh: 1<<32 - 1}); l > 6*maxRefresh {
		t.Errorf("R 2^32-1 ms: %v", l)
	}
}

// RFC 2205 section 3.7 (5): R grows by 30 % at most, and shrinks at once.
func TestRefreshSlew(t *testing.T) {
	r := newRig(t, Config{Refresh: 10 * time.Second})
	r.add(host)
	r.n.SetRefresh(40 * time.Second)
	last := 10 * time.Second
	for range 8 {
		at, _ := r.n.NextDeadline()
		got := onlySend(t, r.n.Advance(at), wire.Path).Msg.TimeValues.Period()
		if got > time.Duration(float64(last)*1.3)+time.Millisecond || got < last {
			t.Fatalf("R %v after %v", got, last)
		}
		last = got
	}
	if last != 40*time.Second {
		t.Errorf("R %v", last)
	}
	r.n.SetRefresh(5 * time.Second)
	at, _ := r.n.NextDeadline()
	if got := onlySend(t, r.n.Advance(at), wire.Path).Msg.TimeValues.Period(); got != 5*time.Second {
		t.Errorf("R %v", got)
	}
}

// RFC 2205 section 3.7 (6): a few quick refreshes after a change, until the
// reservation is there.
func TestQuickRefreshes(t *testing.T) {
	r := newRig(t, Config{Quick: 3})
	r.path()
	if got := len(sends(r.run(6*time.Second), wire.Path)); got != 3 {
		t.Errorf("%d quick refreshes", got)
	}
	r = newRig(t, Config{Quick: 3})
	r.reserved()
	if got := len(sends(r.run(6*time.Second), wire.Path)); got > 1 {
		t.Errorf("%d quick refreshes though the reservation is there", got)
	}
}

// assuredEnv is an environment whose messages are repeated until they are
// acknowledged by the neighbours on some interfaces.
type assuredEnv struct {
	*testEnv
	by  map[IfIndex]bool
	dst []netip.Addr // asked about
}

func (e *assuredEnv) Assured(dst netip.Addr, out IfIndex) bool {
	e.dst = append(e.dst, dst)
	return e.by[out]
}

// RFC 2961 section 4: what is repeated until it is acknowledged needs no quick
// refreshes (RFC 2205 section 3.7 (6)), a PATH as little as a RESV.
func TestAssuredMessagesAreNotRefreshedQuickly(t *testing.T) {
	for _, assured := range []bool{false, true} {
		env := &assuredEnv{testEnv: newEnv(), by: map[IfIndex]bool{left: assured, right: assured}}
		n := New(Config{Quick: 3}, env, rand.New(rand.NewPCG(1, 1)))
		run := func(until time.Time) (paths, resvs int) {
			for {
				at, ok := n.NextDeadline()
				if !ok || at.After(until) {
					return paths, resvs
				}
				for _, e := range n.Advance(at) {
					if s, ok := e.(Send); ok && s.Msg.Type == wire.Path {
						paths++
					} else if ok && s.Msg.Type == wire.Resv {
						resvs++
					}
				}
			}
		}
		n.Handle(epoch, Received{Iface: left, Src: srcHost, Dst: dstHost, TTL: 60, Msg: pathMsg()})
		paths, _ := run(epoch.Add(6 * time.Second))
		want := 3
		if assured {
			want = 0
		}
		if paths != want {
			t.Errorf("assured %t: %d quick refreshes of PATH", assured, paths)
		}
		es := n.Handle(epoch.Add(6*time.Second), Received{Iface: right, Src: nextHop, Dst: rightAdr, TTL: 60, Msg: resvMsg()})
		for _, e := range es {
			if r, ok := e.(Reserve); ok {
				n.ReserveResult(epoch.Add(6*time.Second), r.ID, nil)
			}
		}
		_, resvs := run(epoch.Add(12 * time.Second))
		if resvs != want {
			t.Errorf("assured %t: %d quick refreshes of RESV", assured, resvs)
		}
		if !slices.Contains(env.dst, dstHost) || !slices.Contains(env.dst, prevHop) {
			t.Errorf("asked about %v", env.dst)
		}
	}
}

// RFC 2205 section 3.10 (1) rule 2: unknown objects of class 11bbbbbb are saved
// and go with every refresh.
func TestPathUnknownObjectsInRefreshes(t *testing.T) {
	r := newRig(t, Config{})
	u := []wire.Object{{Class: 200, CType: 1, Body: []byte{1, 2, 3, 4}}, {Class: 225, CType: 1, Body: []byte{5, 6, 7, 8}}}
	r.path(func(m *wire.Message) { m.Unknown = u })
	for _, s := range sends(r.run(100*time.Second), wire.Path) {
		if d := cmp.Diff(u, s.Msg.Unknown); d != "" {
			t.Fatal(d)
		}
	}
}

// RFC 2205 section 3.10 (1), (2), codes 13 and 14: what the codec refuses with an
// answer is answered with a PathErr; the rest is only counted (Appendix B).
func TestBrokenPath(t *testing.T) {
	r := newRig(t, Config{})
	m := pathMsg()
	err := &wire.Error{Kind: wire.KindUnknownClass, Code: wire.ErrUnknownClass, Value: 0x6401, Respond: true}
	es := r.checked(r.n.Handle(r.now, Received{Iface: left, Src: srcHost, Dst: dstHost, TTL: 60, Msg: m, Err: err}))
	s := onlySend(t, es, wire.PathErr)
	if s.Msg.ErrorSpec.Code != wire.ErrUnknownClass || s.Msg.ErrorSpec.Value != 0x6401 || s.Dst != prevHop {
		t.Errorf("%s", dump(es))
	}
	es = r.n.Handle(r.now, Received{Iface: left, Err: &wire.Error{Kind: wire.KindChecksum}})
	if len(es) != 0 {
		t.Errorf("%s", dump(es))
	}
	c := r.n.Counters()
	if c.Malformed[wire.KindChecksum] != 1 || c.Malformed[wire.KindUnknownClass] != 1 || c.Senders != 0 {
		t.Errorf("counters %+v", c)
	}
}

// RFC 2205 Appendix B: an illegal hop address is logged only. Our own would be a loop.
func TestPathIllegalHop(t *testing.T) {
	for _, a := range []string{"0.0.0.0", "224.0.0.1", "127.0.0.1", "255.255.255.255", leftAddr.String(), rightAdr.String()} {
		r := newRig(t, Config{})
		m := pathMsg()
		m.Hop.Addr = addr(a)
		if es := r.n.Handle(r.now, Received{Iface: left, Src: srcHost, Dst: dstHost, TTL: 60, Msg: m}); len(es) != 0 {
			t.Errorf("%s: %s", a, dump(es))
		}
		if r.n.Counters().Dropped[DropHop] != 1 {
			t.Errorf("%s: not counted", a)
		}
	}
}

// What is not in this version is refused, not ignored.
func TestPathMulticastRefused(t *testing.T) {
	r := newRig(t, Config{})
	es := r.path(func(m *wire.Message) { m.Session.Dst = addr("239.1.1.1") })
	if s := onlySend(t, es, wire.PathErr); s.Msg.ErrorSpec.Code != wire.ErrRSVPSystem {
		t.Errorf("%s", dump(es))
	}
	if r.n.Counters().Sessions != 0 {
		t.Error("state made")
	}
}

// RFC 2209 section 2: what is not addressed to this node is not for it.
func TestNotForUs(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	if es := r.in(right, nextHop, prevHop, resvMsg()); len(es) != 0 {
		t.Errorf("%s", dump(es))
	}
	if r.n.Counters().Dropped[DropNotForUs] != 1 || r.n.Mine(wire.Resv, prevHop) || !r.n.Mine(wire.Path, dstHost) || !r.n.Mine(wire.Resv, rightAdr) ||
		r.n.Mine(wire.Path, addr("2001:db8::1")) {
		t.Error("wrong judgement")
	}
}

// Nothing grows without a limit.
func TestLimits(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{Sessions: 2, Senders: 3, PerSession: 2, Neighbors: 2}})
	send := func(dport, sport uint16, hop string) []Effect {
		return r.path(func(m *wire.Message) {
			m.Session.DstPort = dport
			m.SenderTemplate = &wire.Filter{Src: srcHost, SrcPort: sport}
			m.Hop.Addr = addr(hop)
		})
	}
	refused := func(es []Effect) {
		t.Helper()
		s := onlySend(t, es, wire.PathErr)
		if s.Msg.ErrorSpec.Code != wire.ErrRSVPSystem || s.Msg.ErrorSpec.Value != systemLimit {
			t.Errorf("%s", dump(es))
		}
		noSend(t, es, wire.Path)
	}
	onlySend(t, send(1, 1, "192.0.2.1"), wire.Path)
	onlySend(t, send(1, 2, "192.0.2.1"), wire.Path)
	refused(send(1, 3, "192.0.2.1")) // third sender of one session
	onlySend(t, send(2, 1, "192.0.2.9"), wire.Path)
	refused(send(3, 1, "192.0.2.1"))                 // third session
	refused(send(2, 2, "192.0.2.1"))                 // fourth sender
	noSend(t, send(2, 1, "192.0.2.8"), wire.PathErr) // the third neighbour is there instead of the second
	r.resv(func(m *wire.Message) {
		m.Session.DstPort = 1
		m.Flows[0].Filters = []wire.Filter{{Src: srcHost, SrcPort: 1}}
	})
	if c := r.n.Counters(); c.Dropped[DropLimitPath] != 3 || c.Dropped[DropLimitResv] != 1 || c.Neighbors != 2 {
		t.Errorf("counters %+v", c)
	}
	r = newRig(t, Config{Limits: Limits{Neighbors: 2}})
	onlySend(t, send(1, 1, "192.0.2.1"), wire.Path)
	onlySend(t, send(2, 1, "192.0.2.9"), wire.Path)
	refused(send(3, 1, "192.0.2.8")) // third neighbour
}
