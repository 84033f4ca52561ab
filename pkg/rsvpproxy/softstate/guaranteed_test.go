package softstate

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// guaranteedPath is a PATH that crossed hops with these error terms.
func guaranteedPath(c, d uint32) func(*wire.Message) {
	return func(m *wire.Message) {
		ad := intserv.NewAdSpec(intserv.Hop{
			Bandwidth: 2e6, MTU: 1500, Latency: 5, ControlledLoad: &intserv.ServiceHop{}, Guaranteed: &intserv.GuaranteedHop{C: c, D: d},
		})
		m.AdSpec = &ad
	}
}

// byDelay is a policy that wants a delay, as traffic control's is.
func byDelay(w time.Duration) func(PathInfo) (ReserveSpec, bool) {
	return func(i PathInfo) (ReserveSpec, bool) {
		s := ReserveSpec{FlowSpec: intserv.FlowSpec{Service: intserv.Guaranteed, TSpec: i.TSpec}}
		var err error
		if s.FlowSpec.RSpec, err = intserv.RSpecFor(i.TSpec, i.AdSpec.Guaranteed.Terms(), w); err != nil {
			s.Refusal = &Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionDelay, Text: err.Error()}
		}
		return s, true
	}
}

func guaranteedProxy(t *testing.T, w time.Duration) *rig {
	r := proxyRig(t)
	r.env.guaranteed, r.env.proxy = true, byDelay(w)
	return r
}

// RFC 2210 section 2 (one pass with advertising): R is computed from the ADSPEC
// with this node's own terms, traffic control is told them, and another path has
// another R, changed in place.
func TestGuaranteedReceiverProxyRFC2210Section2(t *testing.T) {
	r := guaranteedProxy(t, 200*time.Millisecond)
	es := r.path(guaranteedPath(1500, 20_000))
	v := only[Reserve](t, es)
	// The node of the tests adds C 1500 and D 1 ms. (b-M) is 0: R = (M + C)/(w - D).
	if want := 4500 / 0.179; v.FlowSpec.RSpec.Rate < want || v.FlowSpec.RSpec.Rate > want+0.01 {
		t.Errorf("asked for %v, want R %g", v.FlowSpec, want)
	}
	if want := (intserv.ErrorTerms{Ctot: 3000, Dtot: 21_000, Csum: 3000, Dsum: 21_000}); v.Terms != want {
		t.Errorf("terms %+v, want %+v", v.Terms, want)
	}
	r.grant(es)
	if es := r.path(guaranteedPath(1500, 20_000)); len(es) != 0 {
		t.Errorf("a refresh changes nothing: %s", dump(es))
	}
	es = r.path(guaranteedPath(1500, 60_000)) // a longer way
	next := only[Reserve](t, es)
	if next.ID != v.ID || !next.Change || next.FlowSpec.RSpec.Rate <= v.FlowSpec.RSpec.Rate {
		t.Errorf("changed to %+v", next)
	}
	noSend(t, es)
	es = r.checked(r.n.ReserveResult(r.now, next.ID, nil))
	if s := onlySend(t, es, wire.Resv); s.Msg.Flows[0].FlowSpec.RSpec != next.FlowSpec.RSpec {
		t.Errorf("%s", dump(es))
	}
	es = r.grant(r.path(guaranteedPath(1500, 20_000))) // and back
	if s := onlySend(t, es, wire.Resv); s.Msg.Flows[0].FlowSpec.RSpec != v.FlowSpec.RSpec {
		t.Errorf("%s", dump(es))
	}
}

// RFC 5946 section 3.1.2: a bound that cannot be met is told to the sender by
// code 1 value 1. What is in place stays (RFC 2205 section 2.5).
func TestGuaranteedBoundMissedRFC5946Section3_1_2(t *testing.T) {
	r := guaranteedProxy(t, 50*time.Millisecond)
	es := r.path(guaranteedPath(1500, 49_500))
	if e := onlySend(t, es, wire.PathErr).Msg.ErrorSpec; e.Code != wire.ErrAdmission || e.Value != wire.AdmissionDelay || e.Flags != 0 {
		t.Errorf("%s", dump(es))
	}
	r.wantState(Rejected)
	r.grant(r.path(guaranteedPath(1500, 1000)))
	r.wantState(Reserved)
	if f := r.view().Failure; f != nil {
		t.Errorf("failure %v", f)
	}
	es = r.path(guaranteedPath(1500, 49_500))
	if e := onlySend(t, es, wire.PathErr).Msg.ErrorSpec; e.Value != wire.AdmissionDelay || e.Flags != wire.InPlace {
		t.Errorf("%s", dump(es))
	}
	if all[Release](es) != nil {
		t.Errorf("%s", dump(es))
	}
	if v := r.view(); v.State != Reserved || v.Error() != "delay bound cannot be met by any rate (code 1 value 1)" {
		t.Errorf("%v: %q", v.State, v.Error())
	}
}

// RFC 2212, Exported Information: terms that change on the way are told to
// traffic control, which sizes queues by them; neighbours learn nothing.
func TestGuaranteedTermsChange(t *testing.T) {
	r := newRig(t, Config{})
	r.env.guaranteed = true
	guaranteed := func(m *wire.Message) {
		f := *m.Flows[0].FlowSpec
		f.Service, f.RSpec = intserv.Guaranteed, intserv.RSpec{Rate: 5e4}
		m.Flows[0].FlowSpec = &f
	}
	r.path(guaranteedPath(1500, 1000))
	r.grant(r.resv(guaranteed))
	es := r.path(guaranteedPath(3000, 7000))
	v := only[Reserve](t, es)
	if want := (intserv.ErrorTerms{Ctot: 4500, Dtot: 8000, Csum: 4500, Dsum: 8000}); v.Terms != want || !v.Change {
		t.Errorf("%+v", v)
	}
	onlySend(t, es, wire.Path)
	noSend(t, r.checked(r.n.ReserveResult(r.now, v.ID, nil)), wire.Resv, wire.ResvErr)
	// Controlled load has none.
	r = newRig(t, Config{})
	r.env.guaranteed = true
	r.path(guaranteedPath(1500, 1000))
	if v := only[Reserve](t, r.resv()); v.Terms != (intserv.ErrorTerms{}) {
		t.Errorf("%+v", v)
	}
}

// RFC 2212, Ordering and Merging: R is the largest and S the smallest of what
// the next hops ask for.
func TestGuaranteedMergeRFC2212(t *testing.T) {
	r := newRig(t, Config{})
	r.env.guaranteed = true
	from := func(a string, rate float64, slack uint32) func(*wire.Message) {
		return func(m *wire.Message) {
			m.Hop.Addr = addr(a)
			f := *m.Flows[0].FlowSpec
			f.Service, f.RSpec = intserv.Guaranteed, intserv.RSpec{Rate: rate, Slack: slack}
			m.Flows[0].FlowSpec = &f
		}
	}
	r.path(guaranteedPath(1500, 1000))
	r.grant(r.resv(from("198.51.100.2", 5e4, 700)))
	es := r.grant(r.resv(from("198.51.100.3", 3e4, 200)))
	if got, want := onlySend(t, es, wire.Resv).Msg.Flows[0].FlowSpec.RSpec, (intserv.RSpec{Rate: 5e4, Slack: 200}); got != want {
		t.Errorf("merged %+v, want %+v", got, want)
	}
}

// Another estimate of the path's bandwidth (RFC 2215 section 3.3) is no new path:
// it is told with the next refresh. Error terms are (RFC 2205 section 3.3).
func TestBandwidthWaitsForRefresh(t *testing.T) {
	r := newRig(t, Config{})
	r.env.guaranteed = true
	loaded := func(bandwidth float64, d uint32) func(*wire.Message) {
		return func(m *wire.Message) {
			guaranteedPath(1500, d)(m)
			m.AdSpec.General.Bandwidth = bandwidth
			m.AdSpec.Guaranteed.Override = intserv.Params{Set: intserv.ParamBandwidth, Bandwidth: bandwidth / 2}
		}
	}
	onlySend(t, r.path(loaded(1e6, 1000)), wire.Path)
	if es := r.path(loaded(4e5, 1000)); len(es) != 0 {
		t.Errorf("less bandwidth: %s", dump(es))
	}
	es := r.run(50 * time.Second)
	if m := sends(es, wire.Path); len(m) == 0 || m[0].Msg.AdSpec.General.Bandwidth != 4e5 || m[0].Msg.AdSpec.Guaranteed.Override.Bandwidth != 2e5 {
		t.Errorf("%s", dump(es))
	}
	if s := onlySend(t, r.path(loaded(4e5, 2000)), wire.Path); s.Msg.AdSpec.Guaranteed.Dtot != 3000 {
		t.Errorf("%+v", s.Msg.AdSpec.Guaranteed)
	}
}
