package softstate

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// RFC 2205 section 3.7: reservation state dies without refresh, with a ResvTear
// upstream (section 3.1.6).
func TestResvLifetime(t *testing.T) {
	r := newRig(t, Config{})
	r.path(func(m *wire.Message) { m.TimeValues.Refresh = 300_000 })
	id := only[Reserve](t, r.grant(r.resv())).ID
	noSend(t, r.run(157*time.Second), wire.ResvTear)
	es := r.run(time.Second)
	s := onlySend(t, es, wire.ResvTear)
	if s.Dst != prevHop || s.RouterAlert || *s.Msg.Hop != (wire.Hop{Addr: leftAddr, LIH: 7}) || s.Msg.Flows[0].Filters[0] != filter {
		t.Errorf("%s", dump(es))
	}
	if only[Release](t, es).ID != id || r.n.Counters().ResvTimeouts != 1 {
		t.Errorf("%s", dump(es))
	}
	r.wantState(PathOnly)
}

// RFC 2205 section 3.1.6: ResvTear matches SESSION, STYLE, FILTER_SPEC and LIH.
func TestResvTearMatches(t *testing.T) {
	for name, change := range map[string]func(*wire.Message){
		"session": func(m *wire.Message) { m.Session.DstPort++ },
		"style":   func(m *wire.Message) { m.Style = wire.SE },
		"filter":  func(m *wire.Message) { m.Flows[0].Filters[0].SrcPort++ },
		"lih":     func(m *wire.Message) { m.Hop.LIH = uint32(other) },
		"hop":     func(m *wire.Message) { m.Hop.Addr = prevHop },
	} {
		r := newRig(t, Config{})
		r.reserved()
		m := resvTear()
		change(m)
		if es := r.in(right, nextHop, rightAdr, m); len(es) != 0 {
			t.Errorf("%s: %s", name, dump(es))
		}
		r.wantState(Reserved)
		if r.n.Counters().Dropped[DropNoState] != 1 {
			t.Errorf("%s: not counted", name)
		}
	}
}

// RFC 2205 sections 2.4, 3.1.6 and 3.10 (1) rule 1; FLOWSPEC and SCOPE are ignored.
func TestResvTear(t *testing.T) {
	r := newRig(t, Config{})
	id := only[Reserve](t, r.reserved()).ID
	m := resvTear()
	m.Unknown = []wire.Object{{Class: 201, CType: 9, Body: []byte{1, 2, 3, 4}}}
	es := r.in(right, nextHop, rightAdr, m)
	s := onlySend(t, es, wire.ResvTear)
	if s.Dst != prevHop || s.Msg.Hop.LIH != 7 || !cmp.Equal(s.Msg.Unknown, m.Unknown) {
		t.Errorf("%s", dump(es))
	}
	if only[Release](t, es).ID != id {
		t.Errorf("%s", dump(es))
	}
	r.wantState(PathOnly)
	noSend(t, r.run(100*time.Second), wire.Resv)
}

// RFC 2205 section 3.1.6: a ResvTear may name some of the senders only.
func TestResvTearSubset(t *testing.T) {
	r := newRig(t, Config{})
	second := wire.Filter{Src: srcHost, SrcPort: 4001}
	r.path()
	r.path(func(m *wire.Message) { m.SenderTemplate = &second })
	r.grant(r.resv(func(m *wire.Message) {
		m.Flows = append(m.Flows, wire.FlowDescriptor{FlowSpec: m.Flows[0].FlowSpec, Filters: []wire.Filter{second}})
	}))
	es := r.in(right, nextHop, rightAdr, resvTear())
	only[Release](t, es)
	r.wantState(PathOnly)
	if v, _ := r.n.Session(r.now, sess, second); v.State != Reserved {
		t.Errorf("second sender %v", v.State)
	}
}

// RFC 2205 section 3.1.6, second case, and RFC 2209: two next hops on one
// interface are merged; a tear of the larger leaves a smaller RESV.
func TestMergeOfNextHops(t *testing.T) {
	r := newRig(t, Config{})
	r.path(rate(90000))
	third := addr("198.51.100.3")
	from3 := func(m *wire.Message) { m.Hop.Addr = third }
	id := only[Reserve](t, r.grant(r.resv(rate(20000)))).ID
	es := r.grant(r.resv(from3, rate(40000)))
	if v := only[Reserve](t, es); v.ID != id || v.FlowSpec.TSpec.Rate != 40000 {
		t.Errorf("%+v", v)
	}
	if s := onlySend(t, es, wire.Resv); s.Msg.Flows[0].FlowSpec.TSpec.Rate != 40000 {
		t.Errorf("%s", dump(es))
	}
	// A smaller request changes nothing and is not forwarded.
	if es := r.resv(rate(15000)); len(sends(es)) != 0 || len(all[Reserve](es)) != 0 {
		t.Errorf("%s", dump(es))
	}
	m := resvTear()
	m.Hop.Addr = third
	es = r.grant(r.in(right, third, rightAdr, m))
	if s := onlySend(t, es, wire.Resv); s.Msg.Flows[0].FlowSpec.TSpec.Rate != 15000 {
		t.Errorf("%s", dump(es))
	}
	noSend(t, es, wire.ResvTear)
	// RFC 2210 section 2.2: one service per session.
	es = r.resv(from3, func(m *wire.Message) {
		m.Flows[0].FlowSpec = &intserv.FlowSpec{Service: intserv.Guaranteed, TSpec: tspec, RSpec: intserv.RSpec{Rate: 20000}}
	})
	if e := onlySend(t, es, wire.ResvErr).Msg.ErrorSpec; e.Code != wire.ErrTrafficControl || e.Value != wire.TCServiceConflict {
		t.Errorf("%s", dump(es))
	}
	r.wantState(Reserved)
}
