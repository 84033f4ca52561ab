package softstate

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

var (
	src6  = addr("2001:db8:1::1")
	dst6  = addr("2001:db8:2::1")
	prev6 = addr("fe80::1") // hops of IPv6 may have link-local addresses
	next6 = addr("fe80::2")
)

func rig6(t *testing.T) *rig {
	r := newRig(t, Config{IPv6: true})
	r.env.addrs6 = map[IfIndex]addrT{left: addr("2001:db8:a::1"), right: addr("2001:db8:b::1"), other: addr("2001:db8:c::1")}
	r.env.routes[dst6], r.env.routes[src6] = right, left
	return r
}

func path6() *wire.Message {
	m := pathMsg()
	m.Session.Dst, m.Hop.Addr, m.SenderTemplate = dst6, prev6, &wire.Filter{Src: src6, SrcPort: 4000}
	return m
}

func resv6() *wire.Message {
	m := resvMsg()
	m.Session.Dst, m.Hop.Addr = dst6, next6
	m.Flows[0].Filters = []wire.Filter{{Src: src6, SrcPort: 4000}}
	return m
}

// RFC 2205 Appendix A: sessions, hops and errors of IPv6; our addresses are
// those of the session's family.
func TestIPv6Unicast(t *testing.T) {
	r := rig6(t)
	s := onlySend(t, r.in(left, src6, dst6, path6()), wire.Path)
	if s.Src != src6 || s.Dst != dst6 || *s.Msg.Hop != (wire.Hop{Addr: r.env.addrs6[right], LIH: uint32(right)}) {
		t.Errorf("%+v", s)
	}
	m := resv6()
	m.ResvConfirm = dst6
	s = onlySend(t, r.grant(r.in(right, next6, r.env.addrs6[right], m)), wire.Resv)
	if s.Src != r.env.addrs6[left] || s.Dst != prev6 || s.Out != left || *s.Msg.Hop != (wire.Hop{Addr: r.env.addrs6[left], LIH: 7}) || s.Msg.ResvConfirm != dst6 {
		t.Errorf("%+v", s)
	}
	m = resv6()
	m.Flows[0].Filters[0].SrcPort = 1
	s = onlySend(t, r.in(right, next6, r.env.addrs6[right], m), wire.ResvErr)
	if s.Msg.ErrorSpec.Node != r.env.addrs6[right] || s.Dst != next6 {
		t.Errorf("%+v", s)
	}
	m = path6()
	m.Session.DstPort, m.SenderTemplate = 0, &wire.Filter{Src: src6}
	s = onlySend(t, r.in(left, src6, dst6, m), wire.PathErr)
	if s.Msg.ErrorSpec.Node != r.env.addrs6[left] || s.Msg.ErrorSpec.Code != wire.ErrDstPorts || s.Dst != prev6 {
		t.Errorf("%+v", s)
	}
	conf := &wire.Message{
		Type: wire.ResvConf, Session: resv6().Session, ErrorSpec: &wire.ErrorSpec{Node: prev6}, ResvConfirm: dst6,
		Style: wire.FF, Flows: resv6().Flows,
	}
	if s = onlySend(t, r.in(left, prev6, dst6, conf), wire.ResvConf); s.Src != r.env.addrs6[right] || !s.RouterAlert {
		t.Errorf("%+v", s)
	}
	tear := path6()
	tear.Type, tear.TimeValues, tear.SenderTSpec, tear.AdSpec = wire.PathTear, nil, nil, nil
	es := r.in(left, src6, dst6, tear)
	if s = onlySend(t, es, wire.PathTear); s.Src != src6 || s.Dst != dst6 {
		t.Errorf("%+v", s)
	}
	only[Release](t, es)
}

// IPv4 and IPv6 sessions live side by side.
func TestIPv6AndIPv4(t *testing.T) {
	r := rig6(t)
	r.reserved()
	r.in(left, src6, dst6, path6())
	r.grant(r.in(right, next6, r.env.addrs6[right], resv6()))
	if c := r.n.Counters(); c.Sessions != 2 || c.Reservations != 2 {
		t.Errorf("%+v", c)
	}
	r.wantState(Reserved)
}

// The proxies of RFC 5945 for IPv6 hosts.
func TestIPv6Proxies(t *testing.T) {
	r := rig6(t)
	s := Sender{Session: path6().Session, Filter: *path6().SenderTemplate, TSpec: tspec, In: left}
	if e := onlySend(t, r.add(s), wire.Path); e.Src != src6 || e.TTL != DefaultTTL {
		t.Errorf("%+v", e)
	}
	r = rig6(t)
	r.env.unaware[dst6], r.env.proxy = true, sayYes
	if e := onlySend(t, r.grant(r.in(left, src6, dst6, path6())), wire.Resv); e.Dst != prev6 {
		t.Errorf("%+v", e)
	}
}

// Where IPv6 is not enabled, or the interface has no address of it, the node is
// a hop without RSVP.
func TestIPv6NotEnabled(t *testing.T) {
	r := newRig(t, Config{})
	if es := r.in(left, src6, dst6, path6()); len(es) != 0 || r.n.Counters().Dropped[DropNotForUs] != 1 {
		t.Errorf("%s", dump(es))
	}
	r = rig6(t)
	delete(r.env.addrs6, left)
	if es := r.in(left, src6, dst6, path6()); len(es) != 0 || r.n.Counters().Dropped[DropFamily] != 1 {
		t.Errorf("%s", dump(es))
	}
	r = rig6(t)
	delete(r.env.addrs6, right) // no way on
	noSend(t, r.in(left, src6, dst6, path6()))
	s := host
	s.Session.Dst = dst6
	if _, err := r.n.AddSender(r.now, s); !errors.Is(err, ErrInvalid) { // the sender has IPv4
		t.Error(err)
	}
	// RFC 2205 Appendix B: hops that cannot be neighbours.
	for _, bad := range []string{"::", "::1", "ff02::1", "2001:db8:a::1"} {
		m := path6()
		m.Hop.Addr = addr(bad)
		if es := r.n.Handle(r.now, Received{Iface: left, Src: src6, Dst: dst6, TTL: 60, Msg: m}); len(sends(es)) != 0 {
			t.Errorf("%s: %s", bad, dump(es))
		}
	}
}

// A neighbour that floods us with errors gets [Config.ErrorRate] answers a
// second; another gets its own.
func TestErrorsAreLimited(t *testing.T) {
	r := &rig{t: t, env: newEnv(), now: epoch}
	r.n = New(Config{ErrorRate: 10}, r.env, rand.New(rand.NewPCG(1, 1)))
	flood := func() (answers int) {
		for range 100 {
			answers += len(sends(r.resv(), wire.ResvErr))
		}
		return answers
	}
	if got := flood(); got != 10 {
		t.Errorf("%d answers", got)
	}
	r.now = r.now.Add(500 * time.Millisecond)
	if got := flood(); got != 5 {
		t.Errorf("%d answers after half a second", got)
	}
	onlySend(t, r.resv(func(m *wire.Message) { m.Hop.Addr = addr("198.51.100.3") }), wire.ResvErr)
	if c := r.n.Counters(); c.ErrorsLimited != 185 || c.ResvErrs[wire.ErrNoPath] != 201 {
		t.Errorf("%+v", c)
	}
	// PathErr likewise.
	answers := 0
	r.path()
	for range 100 {
		answers += len(sends(r.path(func(m *wire.Message) { m.Session.DstPort, m.SenderTemplate = 0, &wire.Filter{Src: srcHost} }), wire.PathErr))
	}
	if answers != 10 {
		t.Errorf("%d PathErr", answers)
	}
}

// RFC 2209, RESV MESSAGE ARRIVES: in style SE each filter spec is refreshed, and
// expires, by itself.
func TestSharedExplicitFiltersExpireAlone(t *testing.T) {
	l := newLab(t, false)
	l.do("path S1")
	l.do("path S2")
	l.do("resv c R1 SE S1,S2{2}")
	for range 3 {
		l.do("wait 60s")
		l.do("path S1")
		l.do("path S2")
		l.do("resv c R1 SE S1{2}")
	}
	es := l.do("wait 1s")
	if s := l.n.sessions[l.group].tcsbs[tcKey{out: 3}]; len(s.rsbs[0].now.filters) != 1 || s.rsbs[0].now.filters[0] != l.filter("S1") {
		t.Errorf("filters %v %s", s.rsbs[0].now.filters, dump(es))
	}
	if l.n.Counters().ResvTimeouts != 1 {
		t.Errorf("%+v", l.n.Counters())
	}
}

// RFC 2205 section 3.5: blockade state ends after Kb*R, and the larger request
// is tried again.
func TestBlockadeEndsWildcard(t *testing.T) {
	l := newLab(t, false)
	for _, o := range []string{"path S1", "resv c R1 WF *{4}", "resv d R2 WF *{2}", "resverr P1 WF *{4} 1"} {
		l.do(o)
	}
	larger := 0
	for i := range 6 {
		msgs, _ := l.tell(l.do("wait 45s"))
		for _, m := range msgs {
			if m == "P1 resv WF *{4}" {
				larger++
			}
		}
		if i < 2 && larger > 0 {
			t.Fatalf("tried again while blockaded: %v", msgs)
		}
		for _, o := range []string{"path S1", "resv c R1 WF *{4}", "resv d R2 WF *{2}"} {
			l.do(o)
		}
	}
	if larger == 0 {
		t.Error("never tried again")
	}
}
