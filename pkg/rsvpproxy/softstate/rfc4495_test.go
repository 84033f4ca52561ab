package softstate

import (
	"errors"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Reduction in place, RFC 4495.
var reductionCases = []conformance{
	{"RFC4495/4/req1-req2-the-reservation-that-is-meant", "path S1; path S2; resv c R1 FF S1{4},S2{4}", "reduce 2", "R1 resverr 2ri FF S1{2}", "c S1{2}"},
	{"RFC4495/4/req4-a-repeated-indication-reduces-once", "path S1; resv c R1 FF S1{4}; reduce 2", "resv c R1 FF S1{4}", "R1 resverr 2ri FF S1{2}", "-"},
	{"RFC4495/4/req4-further-reduction-is-a-new-message", "path S1; resv c R1 FF S1{4}; reduce 3", "reduce 2", "R1 resverr 2ri FF S1{2}", "c S1{2}"},
	{"RFC4495/5/no-resvtear-wf", senders + "; resv c R1 WF *{4}", "reduce 2", "R1 resverr 2ri WF *{2}", "c S1,S2,S3{2} M"},
	{"RFC4495/5/no-resvtear-se", senders + "; resv c R1 SE S1,S2{4}", "reduce 2", "R1 resverr 2ri SE S1,S2{2}", "c S1,S2{2} M"},
	{"RFC4495/5.2/who-asks-for-less-is-not-told", "path S1; resv c R1 FF S1{4}; resv c R4 FF S1{2}", "reduce 3", "R1 resverr 2ri FF S1{3}", "c S1{3}"},
	{"RFC4495/5.3/the-smaller-resv-follows", "path S1; resv c R1 FF S1{4}; reduce 2", "resv c R1 FF S1{2}", "P1 resv FF S1{2}", "c S1{2}"},
	{"RFC4495/5.3/and-may-be-smaller-still", "path S1; resv c R1 FF S1{4}; reduce 3", "resv c R1 FF S1{1}", "P1 resv FF S1{1}", "c S1{1}"},
	{"RFC4495/5.3/then-it-is-over", "path S1; resv c R1 FF S1{4}; reduce 2; resv c R1 FF S1{2}", "resv c R1 FF S1{3}", "P1 resv FF S1{3}", "c S1{3}"},
	{"RFC4495/5.3/another-request-is-decided-anew", "path S1; resv c R1 FF S1{4}; reduce 2; limit 2", "resv c R1 FF S1{3}", "R1 resverr 1i FF S1{3}", "c S1{3}"},
	{"RFC4495/5.3/both-next-hops-reduce", "path S1; resv c R1 FF S1{4}; resv c R4 FF S1{3}; reduce 2; resv c R1 FF S1{2}", "resv c R4 FF S1{2}", "P1 resv FF S1{2}", "c S1{2}"},
	{"RFC4495/5.3/transit-passes-it-on", "path S1; resv c R1 FF S1{4}", "resverr P1 FF S1{2} 2r", "R1 resverr 2r FF S1{2}", ""},
	{"RFC4495/5.3/to-those-that-ask-for-more", "path S1; resv c R1 WF *{4}; resv d R2 WF *{2}", "resverr P1 WF *{3} 2r", "R1 resverr 2r WF *{3}", ""},
	{"RFC4495/5.3/it-makes-no-blockade", "path S1; resv c R1 FF S1{4}; resv d R2 FF S1{2}; resverr P1 FF S1{3} 2r", "resv d R2 FF S1{5}", "P1 resv FF S1{5}", "-"},
	{"RFC4495/5.3/receiver-proxy-asks-for-what-is-left", "unaware; proxy FF; path S1{4}", "resverr P1 FF S1{2} 2r", "P1 patherr 2r S1; P1 resv FF S1{2}", "-"},
	{"RFC4495/5.3/receiver-proxy-told-twice", "unaware; proxy FF; path S1{4}; resverr P1 FF S1{2} 2r", "path S1{4}", "", ""},
	{"RFC4495/5.3/receiver-proxy-reduced-here", "unaware; members c; proxy FF; path S1{4}", "reduce 2", "P1 patherr 2r S1; P1 resv FF S1{2}", "c S1{2}"},
	{"RFC4495/6/a-next-hop-that-does-not-know-it-is-told-again", "path S1; resv c R1 FF S1{4}; reduce 2; wait 30s", "resv c R1 FF S1{4}", "R1 resverr 2ri FF S1{2}", "-"},
	{"RFC4495/6/and-has-another-try-in-the-end", "path S1; resv c R1 FF S1{4}; reduce 2; wait 2m", "resv c R1 FF S1{4}", "", "c S1{4}"},
	{"RFC4495/6/which-may-fail", "path S1; resv c R1 FF S1{4}; reduce 2; limit 2; wait 2m", "resv c R1 FF S1{4}", "R1 resverr 1i FF S1{4}", "c S1{4}"},
}

func TestConformanceReduction(t *testing.T) {
	for i := range reductionCases {
		reductionCases[i].check(t)
	}
}

// RFC 4495 sections 5.1 and 5.2: the code, the flowspec with the rates that are
// left, and PREEMPTION_PRI with the error of RFC 3181.
func TestReductionMessageRFC4495Section5(t *testing.T) {
	r := newRig(t, Config{})
	r.env.guaranteed = true
	pri := wire.Preemption{Strategy: wire.MergeHighestQoS, Priority: 3, Defending: 5}
	policy, err := (&wire.PolicyData{Elements: []wire.PolicyElement{pri.Element()}}).Object()
	if err != nil {
		t.Fatal(err)
	}
	other := wire.Object{Class: wire.ClassPolicyData, CType: 1, Body: []byte{0, 8, 0, 0, 0, 8, 0, 99, 1, 2, 3, 4}}
	r.path(guaranteedPath(1500, 1000))
	ask := intserv.FlowSpec{Service: intserv.Guaranteed, TSpec: tspec, RSpec: intserv.RSpec{Rate: 5e4, Slack: 9}}
	es := r.grant(r.resv(func(m *wire.Message) {
		m.Flows[0].FlowSpec, m.Policy = &ask, []wire.Object{other, policy}
	}))
	id := only[Reserve](t, es).ID
	left := ask
	left.RSpec.Rate, left.TSpec.Rate, left.TSpec.Peak = 2e4, 8000, 15_000
	es, err = r.n.Reduce(r.now, id, left)
	if err != nil {
		t.Fatal(err)
	}
	r.checked(es)
	m := onlySend(t, es, wire.ResvErr).Msg
	if e := m.ErrorSpec; e.Code != 2 || e.Value != 102 || e.Flags != wire.InPlace || e.Node != rightAdr {
		t.Errorf("%+v", e)
	}
	if f := m.Flows[0].FlowSpec; *f != left {
		t.Errorf("left are %v, want %v", f, left)
	}
	if len(m.Policy) != 1 {
		t.Fatalf("policy %v", m.Policy)
	}
	d, err := wire.ParsePolicy(m.Policy[0])
	if err != nil {
		t.Fatal(err)
	}
	e, _ := d.Element(wire.PreemptionPriority)
	if p, err := wire.ParsePreemption(e); err != nil || p.Error != wire.PreemptionPreempted || p.Defending != 5 {
		t.Errorf("%+v, %v", p, err)
	}
	v := only[Reserve](t, es)
	if v.ID != id || !v.Change || v.FlowSpec.RSpec.Rate != 2e4 || v.FlowSpec.TSpec.Rate != 8000 {
		t.Errorf("%+v", v)
	}
	noSend(t, r.checked(r.n.ReserveResult(r.now, id, nil)))
	r.wantState(Reserved)

	for name, tc := range map[string]struct {
		id   uint64
		f    intserv.FlowSpec
		want error
	}{
		"unknown":         {99, left, ErrNoReservation},
		"no less":         {id, ask, ErrNoReduction},
		"the same":        {id, left, ErrNoReduction},
		"another service": {id, flow, ErrNoReduction},
		"nothing":         {id, intserv.FlowSpec{Service: intserv.Guaranteed}, intserv.ErrRange},
	} {
		if es, err := r.n.Reduce(r.now, tc.id, tc.f); !errors.Is(err, tc.want) || len(es) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// By hand it is a bandwidth that is left, which is R where there is one, and r is
// then no more than that (RFC 2212); what else was asked for stays (RFC 4495
// section 5.2).
func TestReduceToRFC4495Section5_2(t *testing.T) {
	r := newRig(t, Config{})
	r.env.guaranteed = true
	r.path(guaranteedPath(1500, 1000))
	ask := intserv.FlowSpec{Service: intserv.Guaranteed, TSpec: tspec, RSpec: intserv.RSpec{Rate: 5e4, Slack: 9}}
	id := only[Reserve](t, r.grant(r.resv(func(m *wire.Message) { m.Flows[0].FlowSpec = &ask }))).ID
	for _, tt := range []struct {
		left          Left
		r, p, service float64
	}{
		{Left{Bandwidth: 3e4}, tspec.Rate, tspec.Peak, 3e4},
		{Left{Bandwidth: 8000, Peak: 9000}, 8000, 9000, 8000},
	} {
		done, es, err := r.n.ReduceTo(r.now, id, tt.left)
		if err != nil {
			t.Fatal(err)
		}
		f := onlySend(t, r.checked(es), wire.ResvErr).Msg.Flows[0].FlowSpec
		if f.TSpec.Rate != tt.r || f.TSpec.Peak != tt.p || f.RSpec.Rate != tt.service || f.TSpec.Bucket != tspec.Bucket || f.RSpec.Slack != 9 {
			t.Errorf("%+v: the receiver is told %v", tt.left, f)
		}
		if v := only[Reserve](t, es).FlowSpec; v != done.Left || done.Left.RSpec.Rate != tt.service || done.Was.RSpec.Rate <= tt.service || done.Lasts != DefaultKb*DefaultRefresh {
			t.Errorf("%+v, traffic control has %v", done, v)
		}
		r.grant(es)
	}
	if _, es, err := r.n.ReduceTo(r.now, id, Left{Bandwidth: 8000}); !errors.Is(err, ErrNoReduction) || len(es) != 0 {
		t.Errorf("no less: %v", err)
	}
	if _, _, err := r.n.ReduceTo(r.now, 99, Left{Bandwidth: 8000}); !errors.Is(err, ErrNoReservation) {
		t.Errorf("%v", err)
	}
}

// What the receiver's box shows, and that it asks for all again later (the
// reduction may have ended, RFC 2205 section 3.5 in spirit).
// RFC 4495 section 5.3.
func TestReducedReceiverProxy(t *testing.T) {
	r := proxyRig(t)
	r.grant(r.path())
	half := flow
	half.TSpec.Rate /= 2
	es := r.in(left, prevHop, leftAddr, &wire.Message{
		Type: wire.ResvErr, Session: sess, Hop: &wire.Hop{Addr: prevHop, LIH: uint32(left)}, Style: wire.FF,
		ErrorSpec: &wire.ErrorSpec{Node: prevHop, Code: wire.ErrPolicy, Value: wire.PolicyPartialPreempted},
		Flows:     []wire.FlowDescriptor{{FlowSpec: &half, Filters: []wire.Filter{filter}}},
	})
	es = append(es, r.grant(es)...)
	if s := onlySend(t, es, wire.Resv); s.Msg.Flows[0].FlowSpec.TSpec.Rate != half.TSpec.Rate {
		t.Errorf("%s", dump(es))
	}
	noSend(t, es, wire.ResvTear)
	r.wantState(Reserved)
	v := r.view()
	if got := v.Error(); got != "reduced in favour of another reservation (code 2 value 102) at 192.0.2.1" {
		t.Errorf("%q", got)
	}
	r.path()
	es = r.grant(r.run(DefaultKb*DefaultRefresh + time.Second))
	var last *wire.Message
	for _, s := range sends(es, wire.Resv) {
		last = s.Msg
	}
	if last == nil || last.Flows[0].FlowSpec.TSpec.Rate != tspec.Rate || r.view().Failure != nil {
		t.Errorf("%s", dump(es))
	}
}

// Reductions at any hop, with loss, duplication and reordering: in the end all
// hops hold what is left, and again all of it when the reduction is over; nothing
// is torn down meanwhile (RFC 4495 section 5).
func TestSimReduction(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64) {
		s := newSim(t, seed, 4, Config{Refresh: 10 * time.Second, Kb: 12})
		s.add(simSender(0))
		s.run(5 * time.Second)
		s.wantAll(Reserved, 4)
		s.loss, s.dup, s.delay = 0.15, 0.15, 300*time.Millisecond
		released := func() (n uint64) {
			for _, node := range s.nodes {
				n += node.n.Counters().Releases
			}
			return n
		}
		where := s.nodes[s.rng.IntN(4)]
		v := where.n.Sessions(s.now)[0]
		left := intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: v.TSpec}
		left.TSpec.Rate /= 2
		es, err := where.n.Reduce(s.now, v.Reservation, left)
		if err != nil {
			t.Fatal(err)
		}
		where.do(es)
		s.run(25 * time.Second) // Kb*R is 120 s, and no state can time out
		s.loss, s.dup = 0, 0
		s.run(32 * time.Second) // two refreshes, if all that went before was lost
		for i, n := range s.nodes {
			if got := n.n.Sessions(s.now)[0]; got.State != Reserved || got.FlowSpec.TSpec.Rate != left.TSpec.Rate {
				t.Errorf("reduced at %d: node %d has %v in state %v (%v)", where.i, i, got.FlowSpec, got.State, got.Failure)
			}
		}
		if got := s.nodes[3].n.Sessions(s.now)[0].Failure; got == nil || !reduction(got.Code, got.Value) {
			t.Errorf("the receiver's box says %v", got)
		}
		s.run(3 * time.Minute)
		for i, n := range s.nodes {
			if got := n.n.Sessions(s.now)[0]; got.State != Reserved || got.FlowSpec.TSpec.Rate != v.TSpec.Rate || got.Failure != nil {
				t.Errorf("reduced at %d: afterwards node %d has %v in state %v (%v)", where.i, i, got.FlowSpec, got.State, got.Failure)
			}
		}
		if n := released(); n != 0 {
			t.Errorf("%d reservations were released", n)
		}
	})
}
