package softstate

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// unseenRig is a transparent bridge with prevHop on its left and nextHop on its right.
func unseenRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	cfg.Transparent, cfg.Bridge, cfg.Handle = true, true, 0xabcd0000
	if cfg.Quick == 0 {
		cfg.Quick = -1
	}
	env := newEnv()
	env.addrs = map[IfIndex]netip.Addr{}
	return &rig{t: t, env: env, n: New(cfg, env, rand.New(rand.NewPCG(1, 2))), now: epoch}
}

// unseenResv is a RESV of a next hop, to whom our PATH has told a name of ours.
func (r *rig) unseenResv(name netip.Addr, change ...func(*wire.Message)) []Effect {
	r.t.Helper()
	m := resvMsg()
	m.Hop.LIH = r.n.lihOf(right)
	for _, f := range change {
		f(m)
	}
	return r.in(right, m.Hop.Addr, name, m)
}

// RFC 2205 section 3.3: the handle is opaque, echoed to who made it. A transparent
// node's brings back what is for it, and another's does not.
func TestUnseenHandleRFC2205Section3_3(t *testing.T) {
	r := unseenRig(t, Config{})
	s := onlySend(t, r.path(), wire.Path)
	if *s.Msg.Hop != (wire.Hop{Addr: prevHop, LIH: uint32(right) ^ 0xabcd0000}) || s.TTL != 60 {
		t.Errorf("%s", dump([]Effect{s}))
	}
	for _, lih := range []uint32{uint32(right), uint32(right) ^ 0xabcd0001, 9 ^ 0xabcd0000, 0xffffffff} {
		es := r.unseenResv(prevHop, func(m *wire.Message) { m.Hop.LIH = lih })
		if len(es) != 0 || r.n.Ours(lih) {
			t.Errorf("handle %#x: %s", lih, dump(es))
		}
	}
	if got := r.n.Counters().Dropped[DropLIH]; got != 4 {
		t.Errorf("%d dropped", got)
	}
	es := r.grant(r.unseenResv(prevHop))
	up := onlySend(t, es, wire.Resv)
	if up.Src != nextHop || up.Dst != prevHop || *up.Msg.Hop != (wire.Hop{Addr: nextHop, LIH: 7}) {
		t.Errorf("%s", dump(es))
	}
	r.wantState(Reserved)
	// One that leaves the handle out is understood by where it arrives.
	noSend(t, r.unseenResv(prevHop, func(m *wire.Message) { m.Hop.LIH = 0 }), wire.ResvErr)
}

// What we have sent ourselves is no neighbour's, wherever it comes back.
func TestUnseenEcho(t *testing.T) {
	r := unseenRig(t, Config{})
	own := onlySend(t, r.path(), wire.Path)
	resv := onlySend(t, r.grant(r.unseenResv(prevHop)), wire.Resv)
	before := r.view()
	tear := pathTear()
	tear.Hop = own.Msg.Hop
	fail := &wire.Message{
		Type: wire.ResvErr, Session: sess, Hop: own.Msg.Hop, Style: wire.FF, Flows: resvMsg().Flows,
		ErrorSpec: &wire.ErrorSpec{Node: prevHop, Code: wire.ErrAdmission, Value: 2},
	}
	for _, in := range []IfIndex{left, right} {
		for _, m := range []*wire.Message{own.Msg, tear, fail} {
			if es := r.in(in, srcHost, dstHost, m); len(es) != 0 {
				t.Errorf("%v at %d: %s", m.Type, in, dump(es))
			}
		}
	}
	if got := r.n.Counters().Dropped[DropLoop]; got != 6 {
		t.Errorf("%d loops", got)
	}
	// Our RESV has the neighbour's handle: it is not for us.
	if es := r.in(right, resv.Src, resv.Dst, resv.Msg); len(es) != 0 {
		t.Errorf("%s", dump(es))
	}
	after := r.view()
	if after.State != Reserved || after.PrevHop != before.PrevHop || after.In != left {
		t.Errorf("%+v", after)
	}
}

// A sender that we speak for: the node is called as its host, and as the receiver's
// where it speaks for that.
func TestUnseenProxiesHaveTheHostsNames(t *testing.T) {
	r := unseenRig(t, Config{})
	s := onlySend(t, r.add(host), wire.Path)
	if s.Msg.Hop.Addr != srcHost || s.Src != srcHost || len(s.Msg.Unknown) != 0 {
		t.Errorf("%s", dump([]Effect{s}))
	}
	r = unseenRig(t, Config{})
	r.env.unaware[dstHost] = true
	r.env.proxy = func(i PathInfo) (ReserveSpec, bool) {
		spec, _ := sayYes(i)
		spec.Confirm = true
		return spec, true
	}
	es := r.grant(r.path())
	s = onlySend(t, es, wire.Resv)
	if s.Src != dstHost || s.Msg.Hop.Addr != dstHost || s.Msg.ResvConfirm != dstHost {
		t.Errorf("%s", dump(es))
	}
	conf := &wire.Message{
		Type: wire.ResvConf, Session: sess, Style: wire.FF, ResvConfirm: dstHost, ErrorSpec: &wire.ErrorSpec{Node: prevHop}, Flows: resvMsg().Flows,
	}
	if es := r.in(left, prevHop, dstHost, conf); len(sends(es)) != 0 || !r.view().Confirmed {
		t.Errorf("%s", dump(es))
	}
	es = r.checked(r.n.Withdraw(r.now, r.view().Reservation, Refusal{}))
	if s = onlySend(t, es, wire.PathErr); s.Src != dstHost || s.Msg.ErrorSpec.Node != dstHost || s.Dst != prevHop {
		t.Errorf("%s", dump(es))
	}
}

// A next hop takes another's place. Upstream that is a new next hop: RESV comes from
// that one, and what the old name had asked for is taken back a moment later, so that
// nothing ends in between.
func TestUnseenNextHopChanges(t *testing.T) {
	for _, style := range []wire.Style{wire.FF, wire.SE, wire.WF} {
		r := unseenRig(t, Config{})
		r.path()
		r.grant(r.unseenResv(prevHop, inStyle(style)))
		third := addr("198.51.100.3")
		as := func(m *wire.Message) { m.Hop.Addr = third }
		es := r.grant(r.unseenResv(prevHop, inStyle(style), as, rate(11000)))
		if s := onlySend(t, es, wire.Resv); s.Src != nextHop { // as long as there is one of that name
			t.Errorf("%v: %s", style, dump(es))
		}
		tear := resvTear()
		tear.Hop.LIH = r.n.lihOf(right)
		inStyle(style)(tear)
		for i := range tear.Flows {
			tear.Flows[i].FlowSpec = nil
		}
		es = r.grant(r.in(right, nextHop, prevHop, tear))
		noSend(t, es, wire.ResvTear)
		// Nothing but the name has changed: it is told with the next refresh.
		for len(sends(es, wire.Resv)) == 0 {
			es = append(es, r.run(100*time.Millisecond)...)
		}
		noSend(t, es, wire.ResvTear)
		if s := onlySend(t, es, wire.Resv); s.Src != third || *s.Msg.Hop != (wire.Hop{Addr: third, LIH: 7}) {
			t.Errorf("%v: %s", style, dump(es))
		}
		es = r.run(time.Second)
		if s := onlySend(t, es, wire.ResvTear); s.Src != nextHop || *s.Msg.Hop != (wire.Hop{Addr: nextHop, LIH: 7}) || s.Msg.Style != style || s.Dst != prevHop {
			t.Errorf("%v: %s", style, dump(es))
		}
		r.wantState(Reserved)
	}
}

// The box behind a name is replaced by another one with a handle of its own: the old
// one is not spoken to any more. It is not on the way, so that the message would reach
// the host of that name.
func TestNewHandleOfAHopSupersedesTheOld(t *testing.T) {
	for _, transparent := range []bool{false, true} {
		for _, style := range []wire.Style{wire.FF, wire.SE, wire.WF} {
			r, resv := newRig(t, Config{}), (*rig).resv
			if transparent {
				r = unseenRig(t, Config{})
				resv = func(r *rig, change ...func(*wire.Message)) []Effect { return r.unseenResv(prevHop, change...) }
			}
			r.path()
			r.grant(resv(r, inStyle(style)))
			other := func(m *wire.Message) { m.Hop = &wire.Hop{Addr: prevHop, LIH: 99} }
			es := r.grant(r.path(other))
			for range 6 {
				es = append(es, r.grant(r.run(DefaultRefresh/2))...)
				es = append(es, r.grant(r.path(other))...)
				es = append(es, r.grant(resv(r, inStyle(style)))...)
			}
			got := sends(es, wire.Resv)
			for _, s := range got {
				if s.Msg.Hop.LIH != 99 {
					t.Errorf("%v, transparent %v: RESV to the old handle", style, transparent)
				}
			}
			if len(got) < 2 || r.n.Counters().Neighbors != 2 {
				t.Errorf("%v, transparent %v: %d RESV, %d neighbours", style, transparent, len(got), r.n.Counters().Neighbors)
			}
		}
	}
}

// RFC 2205 section 3.4: a next hop that knows us by two names tells each its part of
// SCOPE. What it takes back from the one stays with the other.
func TestUnseenScopeByNameRFC2205Section3_4(t *testing.T) {
	r := unseenRig(t, Config{})
	one, two := host, host
	two.Filter.Src = addr("10.1.0.2")
	r.add(one)
	r.add(two)
	scoped := func(a netip.Addr) func(*wire.Message) {
		return func(m *wire.Message) { inStyle(wire.WF)(m); m.Scope = []netip.Addr{a} }
	}
	r.grant(r.unseenResv(srcHost, scoped(srcHost)))
	r.grant(r.unseenResv(two.Filter.Src, scoped(two.Filter.Src)))
	scope := func() int { return len(r.n.sessions[sess].tcsbs[tcKey{out: right}].rsbs[0].scope) }
	if scope() != 2 {
		t.Fatalf("scope of %d", scope())
	}
	tear := resvTear()
	tear.Hop.LIH, tear.Style, tear.Flows, tear.Scope = r.n.lihOf(right), wire.WF, nil, nil
	es := r.grant(r.in(right, nextHop, srcHost, tear))
	if len(all[Release](es)) != 0 || scope() != 1 {
		t.Errorf("scope of %d: %s", scope(), dump(es))
	}
	es = r.grant(r.in(right, nextHop, two.Filter.Src, tear))
	if len(all[Release](es)) != 1 {
		t.Errorf("%s", dump(es))
	}
	// One that is not told again goes out of SCOPE by itself.
	r.grant(r.unseenResv(srcHost, scoped(srcHost)))
	r.grant(r.unseenResv(two.Filter.Src, scoped(two.Filter.Src)))
	for range 20 {
		r.run(10 * time.Second)
		r.grant(r.unseenResv(srcHost, scoped(srcHost)))
	}
	if scope() != 1 {
		t.Errorf("scope of %d", scope())
	}
}

// A tear is repeated a few times, and no more once the state is there again: it would
// end that.
func TestUnseenTearsAreRepeated(t *testing.T) {
	r := unseenRig(t, Config{Quick: 3})
	r.path()
	r.grant(r.unseenResv(prevHop))
	r.in(left, srcHost, dstHost, pathTear())
	if got := sends(r.run(20*time.Second), wire.PathTear); len(got) != 3 {
		t.Errorf("%d repetitions", len(got))
	}
	if _, more := r.n.NextDeadline(); more || r.n.Counters().TearsRepeated != 3 {
		t.Errorf("timers left, or %d", r.n.Counters().TearsRepeated)
	}
	r.path()
	r.grant(r.unseenResv(prevHop))
	r.in(left, srcHost, dstHost, pathTear())
	r.path()
	es := r.grant(r.unseenResv(prevHop))
	es = append(es, r.run(20*time.Second)...)
	noSend(t, es, wire.PathTear)
	// The same upstream.
	tear := resvTear()
	tear.Hop.LIH = r.n.lihOf(right)
	onlySend(t, r.in(right, nextHop, prevHop, tear), wire.ResvTear)
	if got := sends(r.run(20*time.Second), wire.ResvTear); len(got) != 3 {
		t.Errorf("%d repetitions", len(got))
	}
	r.path()
	r.grant(r.unseenResv(prevHop))
	onlySend(t, r.in(right, nextHop, prevHop, tear), wire.ResvTear)
	r.grant(r.unseenResv(prevHop))
	noSend(t, r.run(20*time.Second), wire.ResvTear)
}

// However many are torn down at once: what is repeated is bounded, and counted.
func TestUnseenTearsAreBounded(t *testing.T) {
	r := unseenRig(t, Config{Quick: 1, Limits: Limits{Sessions: 20}})
	for i := range 100 {
		x := host
		x.Session.DstPort = uint16(1000 + i)
		r.add(x)
		r.checked(r.n.RemoveSender(r.now, x.Session, x.Filter))
	}
	r.run(time.Minute)
	if c := r.n.Counters(); c.TearsRepeated != 20 || c.TearsUnrepeated != 80 {
		t.Errorf("%d repeated, %d not", c.TearsRepeated, c.TearsUnrepeated)
	}
}

// An error of our own reaches a next hop by each name that it knows us by, about what
// it has asked of that.
func TestUnseenErrorsByName(t *testing.T) {
	for _, style := range []wire.Style{wire.SE, wire.WF} {
		r := unseenRig(t, Config{})
		two := host
		two.Filter.Src = addr("10.1.0.2")
		r.add(host)
		r.add(two)
		r.unseenResv(srcHost, inStyle(style))
		es := r.unseenResv(two.Filter.Src, inStyle(style), func(m *wire.Message) {
			if style == wire.SE {
				m.Flows[0].Filters = []wire.Filter{two.Filter}
			}
		})
		id := r.view().Reservation
		es = append(es, r.checked(r.n.ReserveResult(r.now, id, &Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth}))...)
		for _, v := range all[Reserve](es) {
			if v.ID == id {
				es = append(es, r.checked(r.n.ReserveResult(r.now, id, &Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth}))...)
			}
		}
		names := map[netip.Addr]bool{}
		for _, s := range sends(es, wire.ResvErr) {
			if s.Src != s.Msg.Hop.Addr || s.Dst != nextHop || s.Msg.ErrorSpec.Node != s.Src {
				t.Errorf("%v: %s", style, dump([]Effect{s}))
			}
			names[s.Src] = true
			for _, f := range s.Msg.Flows[0].Filters {
				if f.Src != s.Src {
					t.Errorf("%v: an error about %v from %v", style, f, s.Src)
				}
			}
		}
		if !names[srcHost] || !names[two.Filter.Src] || len(names) != 2 {
			t.Errorf("%v: errors of %v: %s", style, names, dump(es))
		}
	}
}

// A group's receivers have no address to reserve with. Who reserves for himself is
// passed on as any other.
func TestUnseenGroups(t *testing.T) {
	r := unseenRig(t, Config{})
	group := wire.Session{Dst: addr("239.1.1.1"), Protocol: 17, DstPort: 5004}
	r.env.groups = func(_, _ netip.Addr, in IfIndex) []IfIndex { return []IfIndex{left + right - in} }
	r.env.proxy = sayYes
	r.env.unaware[group.Dst] = true
	to := func(m *wire.Message) { m.Session = group }
	es := r.path(to)
	if len(all[Reserve](es)) != 0 || len(sends(es, wire.Resv)) != 0 {
		t.Errorf("%s", dump(es))
	}
	r = unseenRig(t, Config{})
	r.env.groups = func(_, _ netip.Addr, in IfIndex) []IfIndex { return []IfIndex{left + right - in} }
	onlySend(t, r.path(to), wire.Path)
	es = r.grant(r.unseenResv(prevHop, to))
	if s := onlySend(t, es, wire.Resv); s.Src != nextHop {
		t.Errorf("%s", dump(es))
	}
}

// Of several next hops who ask for the same, the one that was named first stays the
// name: a change would be another next hop upstream.
func TestUnseenNameStays(t *testing.T) {
	r := unseenRig(t, Config{})
	r.env.addrs[other] = otherAdr
	group := wire.Session{Dst: addr("239.1.1.1"), Protocol: 17, DstPort: 5004}
	r.env.groups = func(_, _ netip.Addr, _ IfIndex) []IfIndex { return []IfIndex{right, other} }
	to := func(m *wire.Message) { m.Session = group }
	r.path(to)
	third := addr("203.0.113.2")
	m := resvMsg()
	to(m)
	m.Hop = &wire.Hop{Addr: third, LIH: r.n.lihOf(other)}
	if s := onlySend(t, r.grant(r.in(other, third, prevHop, m)), wire.Resv); s.Src != third {
		t.Errorf("RESV from %s", s.Src)
	}
	es := r.grant(r.unseenResv(prevHop, to, rate(12000)))
	es = append(es, r.run(2*DefaultRefresh)...)
	noSend(t, es, wire.ResvTear)
	for _, s := range sends(es, wire.Resv) {
		if s.Src != third {
			t.Errorf("RESV from %s", s.Src)
		}
	}
}

// Names are claimed in one session, towards one interface, until the state that was
// made with them is over; and no more than there is room for.
func TestClaims(t *testing.T) {
	c := NewClaims(Config{Limits: Limits{Senders: 1}})
	now := epoch
	m := pathMsg()
	m.Hop.Addr = prevHop
	c.Sent(now, &Send{Out: right, Dst: dstHost, Msg: m})
	life := Lifetime(DefaultRefresh, DefaultK)
	for _, tt := range []struct {
		t     wire.MsgType
		dst   netip.Addr
		iface IfIndex
		at    time.Duration
		want  bool
	}{
		{wire.Resv, prevHop, right, 0, true},
		{wire.ResvTear, prevHop, right, 0, true},
		{wire.PathErr, prevHop, right, life - 1, true},
		{wire.PathErr, prevHop, right, life, false},
		{wire.PathErr, prevHop, left, 0, false},
		{wire.PathErr, nextHop, right, 0, false},
		{wire.ResvErr, prevHop, right, 0, false},
		{wire.Notify, prevHop, right, 0, false},
	} {
		if got := c.Mine(now.Add(tt.at), tt.t, sess, tt.dst, tt.iface); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
	other := sess
	other.DstPort++
	if c.Mine(now, wire.Resv, other, prevHop, right) {
		t.Error("another session's")
	}
	for i := range 9 {
		m := resvMsg()
		m.Hop.Addr = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		c.Sent(now, &Send{Out: left, Dst: prevHop, Msg: m})
	}
	if c.Len() != 4 || c.Refused() != 6 {
		t.Errorf("%d claims, %d refused", c.Len(), c.Refused())
	}
	if m := resvMsg(); !c.Mine(now, wire.ResvErr, m.Session, netip.AddrFrom4([4]byte{10, 0, 0, 1}), left) {
		t.Error("a name in RESV is not claimed")
	}
	m.Hop.Addr = nextHop
	for _, later := range []time.Duration{0, life} { // when the others are over there is room
		c.Sent(now.Add(later), &Send{Out: right, Dst: dstHost, Msg: m})
		if got := c.Mine(now.Add(later), wire.Resv, sess, nextHop, right); got != (later > 0) {
			t.Errorf("after %v: claimed %v of %d", later, got, c.Len())
		}
	}
}

// A receiver that the node has reserved for begins to speak: it has the name that the
// node has used, so that upstream nothing changes. It falls silent, and the node goes
// on in its name.
func TestUnseenReceiverSpeaksRFC5946Section4_1(t *testing.T) {
	r := unseenRig(t, Config{})
	r.env.unaware[dstHost], r.env.discovers, r.env.proxy = true, true, sayYes
	if s := onlySend(t, r.grant(r.path()), wire.Resv); s.Src != dstHost {
		t.Fatalf("RESV from %s", s.Src)
	}
	es := r.grant(r.unseenResv(prevHop, func(m *wire.Message) { m.Hop.Addr = dstHost }))
	noSend(t, es, wire.ResvTear)
	r.wantRole(Transit, r.view().Reservation)
	es = append(es, r.live(5*time.Minute)...)
	noSend(t, es, wire.ResvTear)
	for _, s := range sends(es, wire.Resv) {
		if s.Src != dstHost {
			t.Errorf("RESV from %s", s.Src)
		}
	}
	r.wantRole(ReceiverProxy, r.view().Reservation)
	r.wantState(Reserved)
}

// A group's sender that we speak for, and for its receivers too, begins to speak
// itself: there is no name to tell it of the reservation with.
func TestUnseenGroupSenderSpeaks(t *testing.T) {
	r := unseenRig(t, Config{})
	group := wire.Session{Dst: addr("239.1.1.1"), Protocol: 17, DstPort: 5004}
	r.env.groups = func(_, _ netip.Addr, in IfIndex) []IfIndex { return []IfIndex{left + right - in} }
	r.env.unaware[group.Dst], r.env.proxy = true, sayYes
	x := host
	x.Session = group
	r.grant(r.add(x))
	es := r.grant(r.path(func(m *wire.Message) { m.Session = group }))
	es = append(es, r.grant(r.run(2*DefaultRefresh))...)
	noSend(t, es, wire.Resv)
	// A receiver that reserves for itself has a name.
	r.env.unaware[group.Dst], r.env.proxy = false, nil
	r.checked(r.n.Rediscover(r.now, group.Dst))
	es = r.grant(r.path(func(m *wire.Message) { m.Session = group }))
	es = append(es, r.grant(r.unseenResv(prevHop, func(m *wire.Message) { m.Session = group }))...)
	if s := sends(es, wire.Resv); len(s) == 0 || s[0].Src != nextHop {
		t.Errorf("%s", dump(es))
	}
}
