package softstate

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Any sequence of messages, from whomever, in whatever order, with any answers
// of traffic control: the tables stay consistent, what comes out can be sent,
// and in the end time takes everything away (RFC 2205 section 2.3).
func FuzzNode(f *testing.F) {
	for seed := range uint64(100) {
		f.Add(seed, 60)
	}
	f.Fuzz(func(t *testing.T, seed uint64, steps int) { exercise(t, seed, steps, false) })
}

// The same of a transparent node, to whom messages come that have its handle or
// another, by whatever name.
func FuzzUnseenNode(f *testing.F) {
	for seed := range uint64(100) {
		f.Add(seed, 60)
	}
	f.Fuzz(func(t *testing.T, seed uint64, steps int) { exercise(t, seed, steps, true) })
}

func exercise(t *testing.T, seed uint64, steps int, unseen bool) {
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 5))
	cfg := Config{Quick: 1 + rng.IntN(3), Limits: Limits{Sessions: 4, Senders: 8, PerSession: 4, Neighbors: 5}}
	r := newRig(t, cfg)
	if unseen {
		r = unseenRig(t, cfg)
		if rng.IntN(2) == 0 {
			r.env.addrs[other] = otherAdr // as a router has it
		}
	}
	switch rng.IntN(4) {
	case 0:
		r.env.proxy = sayYes
	case 1:
		r.env.proxy = func(i PathInfo) (ReserveSpec, bool) {
			s, _ := sayYes(i)
			s.Style, s.Auto, s.Confirm = []wire.Style{0, wire.FF, wire.SE, wire.WF}[rng.IntN(4)], rng.IntN(4) == 0, rng.IntN(2) == 0
			return s, rng.IntN(8) != 0
		}
	}
	if rng.IntN(3) == 0 {
		r.env.turn = func(i PathInfo) (intserv.TSpec, bool) { return i.TSpec, rng.IntN(8) != 0 }
	}
	var members []IfIndex
	r.env.groups = func(_, _ addrT, in IfIndex) []IfIndex {
		return slices.DeleteFunc(slices.Clone(members), func(i IfIndex) bool { return i == in })
	}
	open := map[uint64]bool{}
	held := map[uint64]bool{}
	follow := func(es []Effect) {
		for _, e := range es {
			switch e := e.(type) {
			case Reserve:
				if open[e.ID] || e.Change != held[e.ID] {
					t.Fatalf("reserve %+v: open %v held %v", e, open[e.ID], held[e.ID])
				}
				open[e.ID] = true
			case Release:
				if !open[e.ID] && !held[e.ID] {
					t.Fatalf("release of %d, which is not held", e.ID)
				}
				delete(open, e.ID)
				delete(held, e.ID)
			}
		}
	}
	answer := func(id uint64) {
		delete(open, id)
		if rng.IntN(3) == 0 {
			follow(r.checked(r.n.ReserveResult(r.now, id, &Refusal{Value: 2})))
			return
		}
		held[id] = true
		follow(r.checked(r.n.ReserveResult(r.now, id, nil)))
	}
	for range min(max(steps, 0), 300) {
		switch rng.IntN(10) {
		case 0:
			follow(r.run(time.Duration(rng.Int64N(int64(time.Minute)))))
		case 1:
			if ids := slices.Sorted(maps.Keys(open)); len(ids) > 0 {
				answer(ids[rng.IntN(len(ids))])
			}
		case 2:
			s := host
			s.Session, s.Filter = anySession(rng), anyFilter(rng)
			es, err := r.n.AddSender(r.now, s)
			if err == nil {
				follow(r.checked(es))
			}
		case 3:
			follow(r.checked(r.n.RemoveSender(r.now, anySession(rng), anyFilter(rng))))
		case 4:
			r.env.unaware[dstHost] = rng.IntN(2) == 0
			members = [][]IfIndex{nil, {right}, {right, other}, {left, right, other}}[rng.IntN(4)]
			r.env.unaware[anyGroup] = rng.IntN(3) == 0
			r.env.discovers = rng.IntN(2) == 0
			r.env.routes[dstHost] = []IfIndex{left, right, other, 0}[rng.IntN(4)]
			if rng.IntN(2) == 0 {
				follow(r.checked(r.n.Rediscover(r.now, []addrT{dstHost, anyGroup}[rng.IntN(2)])))
			}
		default:
			iface := []IfIndex{left, right, other}[rng.IntN(3)]
			us := r.env.addrs[iface]
			if unseen {
				us = []addrT{prevHop, srcHost, addr("10.1.0.2"), nextHop, dstHost}[rng.IntN(5)]
			}
			m, to := anyMessage(rng, us)
			if unseen && m.Hop != nil && rng.IntN(4) != 0 && (m.Type == wire.Resv || m.Type == wire.ResvTear) {
				m.Hop.LIH = r.n.lihOf(IfIndex(m.Hop.LIH))
			}
			follow(r.in(iface, srcHost, to, m))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(open)) {
		answer(id)
	}
	follow(r.checked(r.n.Shutdown(r.now)))
	if c := r.n.Counters(); c.Sessions+c.Senders+c.Reservations+c.Neighbors != 0 || len(open)+len(held) != 0 {
		t.Fatalf("left over: %+v, open %v, held %v", c, open, held)
	}
	if unseen { // tears are repeated for a while
		r.run(time.Minute)
	}
	if _, ok := r.n.NextDeadline(); ok {
		t.Fatal("timers left")
	}
}

var anyGroup = addr("239.1.2.3")

func anySession(rng *rand.Rand) wire.Session {
	s := sess
	if rng.IntN(2) == 0 {
		s.Dst = anyGroup
	}
	s.DstPort = uint16(rng.IntN(6))
	return s
}

func anyFilter(rng *rand.Rand) wire.Filter {
	return wire.Filter{Src: []addrT{srcHost, addr("10.1.0.2")}[rng.IntN(2)], SrcPort: uint16(rng.IntN(4))}
}

// styleOf spreads the styles over the sessions.
func styleOf(s wire.Session) wire.Style {
	return []wire.Style{wire.FF, wire.SE, wire.WF}[(int(s.DstPort)+int(s.Dst.As4()[0]))%3]
}

// anyMessage returns a message of any type that the codec would let pass, and
// where it is sent to.
func anyMessage(rng *rand.Rand, us addrT) (*wire.Message, addrT) {
	m := &wire.Message{
		Type: wire.MsgType(1 + rng.IntN(7)), Session: anySession(rng), SendTTL: uint8(58 + rng.IntN(4)),
		Hop:        &wire.Hop{Addr: addr([]string{"192.0.2.1", "192.0.2.9", "198.51.100.2", "198.51.100.3", "203.0.113.9", "203.0.113.10"}[rng.IntN(6)]), LIH: uint32(rng.IntN(4))},
		TimeValues: &wire.TimeValues{Refresh: uint32(rng.IntN(40_000))},
	}
	fs, fl, ts := anyFilter(rng), flow, tspec
	if m.Session.DstPort == 0 {
		fs.SrcPort = 0
	}
	ts.Rate = float64(5000 * (1 + rng.IntN(4)))
	fl.TSpec.Rate = float64(5000 * (1 + rng.IntN(4)))
	if rng.IntN(5) == 0 {
		fl = intserv.FlowSpec{Service: intserv.Guaranteed, TSpec: tspec, RSpec: intserv.RSpec{Rate: 20000}}
	}
	spec := &wire.ErrorSpec{
		Node: addr("192.0.2.1"), Code: wire.ErrorCode(1 + rng.IntN(3)), Value: 2, Flags: uint8(rng.IntN(2)),
	}
	style := []wire.Style{wire.FF, wire.SE, wire.WF}[rng.IntN(3)]
	if rng.IntN(2) == 0 {
		style = styleOf(m.Session) // so that sessions come to something
	}
	flows := []wire.FlowDescriptor{{FlowSpec: &fl, Filters: []wire.Filter{fs}}}
	var scope []addrT
	switch style {
	case wire.SE:
		for range rng.IntN(3) {
			if f := anyFilter(rng); m.Session.DstPort != 0 {
				flows[0].Filters = withFilters(flows[0].Filters, []wire.Filter{f})
			}
		}
	case wire.WF:
		flows[0].Filters = nil
		if rng.IntN(3) == 0 {
			scope = []addrT{srcHost, addr("10.1.0.2"), addr("10.9.9.9")}[:1+rng.IntN(3)]
		}
	default:
	}
	if rng.IntN(4) == 0 {
		m.Unknown = []wire.Object{wire.NotifyRequest([]addrT{srcHost, dstHost, us}[rng.IntN(3)])}
	}
	if rng.IntN(12) == 0 {
		m.Type, m.ErrorSpec, m.Hop, m.TimeValues, m.SenderTemplate, m.SenderTSpec = wire.Notify, spec, nil, nil, &fs, &ts
		return m, us
	}
	switch m.Type {
	case wire.Path:
		m.SenderTemplate, m.SenderTSpec = &fs, &ts
		return m, m.Session.Dst
	case wire.PathTear:
		m.SenderTemplate, m.TimeValues = &fs, nil
		return m, m.Session.Dst
	case wire.PathErr:
		m.SenderTemplate, m.SenderTSpec, m.ErrorSpec, m.Hop, m.TimeValues = &fs, &ts, spec, nil, nil
	case wire.ResvConf:
		m.ResvConfirm, m.ErrorSpec, m.Hop, m.TimeValues = []addrT{us, dstHost}[rng.IntN(2)], &wire.ErrorSpec{Node: prevHop}, nil, nil
		m.Style, m.Flows = style, flows
		return m, m.ResvConfirm
	case wire.ResvErr:
		m.Style, m.Flows, m.ErrorSpec, m.TimeValues, m.Scope = style, flows, spec, nil, scope
	case wire.ResvTear:
		m.Style, m.Flows, m.TimeValues, m.Scope = style, flows, nil, scope
		if style == wire.WF {
			m.Flows = nil
		}
	default:
		m.Style, m.Flows, m.Scope = style, flows, scope
		if rng.IntN(3) == 0 {
			m.ResvConfirm = dstHost
		}
	}
	return m, us
}
