package softstate

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// hostResv is what the receiver itself sends.
func (r *rig) hostResv(change ...func(*wire.Message)) []Effect {
	r.t.Helper()
	m := resvMsg()
	m.Hop.Addr = dstHost
	for _, f := range change {
		f(m)
	}
	return r.in(right, dstHost, rightAdr, m)
}

// uninterrupted fails where a reservation ends, or upstream hears of an end.
func uninterrupted(t *testing.T, es []Effect) []Effect {
	t.Helper()
	noSend(t, es, wire.ResvTear, wire.PathTear)
	if len(all[Release](es)) != 0 {
		t.Fatalf("a reservation has ended: %s", dump(es))
	}
	return es
}

func (r *rig) wantRole(role Role, reservation uint64) {
	r.t.Helper()
	if v := r.view(); v.Role != role || v.Reservation != reservation {
		r.t.Fatalf("role %v reservation %d, want %v %d", v.Role, v.Reservation, role, reservation)
	}
}

// live has the sender refresh PATH for d.
func (r *rig) live(d time.Duration, also ...func() []Effect) (es []Effect) {
	r.t.Helper()
	for ; d > 0; d -= 25 * time.Second {
		es = append(es, r.grant(r.path())...)
		for _, f := range also {
			es = append(es, r.grant(f())...)
		}
		es = append(es, r.grant(r.run(min(d, 25*time.Second)))...)
	}
	return es
}

// discovery is a receiver proxy as a box has it towards hosts: PATH goes on to
// them, and policy answers at once.
func discovery(t *testing.T) *rig {
	r := proxyRig(t)
	r.env.discovers = true
	return r
}

// spoken is a receiver proxy that has reserved for a host, which has got PATH.
func spoken(t *testing.T) (r *rig, id uint64) {
	t.Helper()
	r = discovery(t)
	es := r.grant(r.path())
	if s := onlySend(t, es, wire.Path); s.Out != right || s.Dst != dstHost || s.Src != srcHost || s.TTL != 59 || !s.RouterAlert || !s.Probe {
		t.Errorf("%s", dump(es))
	}
	id = r.view().Reservation
	r.wantState(Reserved)
	r.wantRole(ReceiverProxy, id) // until the host asks for itself
	return r, id
}

// A receiver that begins to speak takes over: the reservation keeps its ID and
// is changed in place, nothing is torn down upstream (RFC 5946 section 4.1).
func TestReceiverTakesOverRFC5946Section4_1(t *testing.T) {
	for _, tt := range []struct {
		name string
		rate float64
		tell bool // upstream learns of the change
	}{{"less", 4000, true}, {"more", 9999, true}} {
		r, id := spoken(t)
		es := uninterrupted(t, r.hostResv(rate(tt.rate)))
		v := only[Reserve](t, es)
		if v.ID != id || !v.Change || v.Role != ReceiverProxy || v.FlowSpec.TSpec.Rate != tt.rate {
			t.Errorf("%s: %+v", tt.name, v)
		}
		r.wantState(Reserved)
		es = uninterrupted(t, r.grant(es))
		if s := onlySend(t, es, wire.Resv); s.Dst != prevHop || s.Msg.Flows[0].FlowSpec.TSpec.Rate != tt.rate {
			t.Errorf("%s: %s", tt.name, dump(es))
		}
		r.wantRole(Transit, id)
		if e := all[Event](es); len(e) != 1 || e[0].Role != Transit || e[0].State != Reserved {
			t.Errorf("%s: %s", tt.name, dump(es))
		}
		uninterrupted(t, r.live(10*time.Minute, func() []Effect { return r.hostResv(rate(tt.rate)) }))
		r.wantRole(Transit, id)
	}
}

// A receiver that asks for more than there is leaves the proxy's reservation
// where it was.
func TestReceiverTakeOverRefusedRFC5946Section4_1(t *testing.T) {
	r, id := spoken(t)
	r.env.proxy = func(PathInfo) (ReserveSpec, bool) { return ReserveSpec{FlowSpec: flow}, true }
	r.grant(r.path(rate(90000)))
	es := r.hostResv(rate(50000))
	es = uninterrupted(t, r.refuse(es, Refusal{Value: wire.AdmissionBandwidth}))
	if e := onlySend(t, es, wire.ResvErr); e.Dst != dstHost || e.Msg.ErrorSpec.Flags != wire.InPlace {
		t.Errorf("%s", dump(es))
	}
	r.wantRole(ReceiverProxy, id)
	r.wantState(Reserved)
	uninterrupted(t, r.grant(r.hostResv(rate(9000))))
	r.wantRole(Transit, id)
}

// A receiver that has taken over and falls silent is answered for again, under
// the same ID, before its reservation ends.
func TestReceiverFallsSilentRFC5946Section4_1(t *testing.T) {
	for _, style := range []wire.Style{wire.FF, wire.WF, wire.SE} {
		r, id := spoken(t)
		r.grant(r.hostResv(func(m *wire.Message) {
			if m.Style = style; style == wire.WF {
				m.Flows[0].Filters = nil
			}
		}))
		r.wantRole(Transit, id)
		es := uninterrupted(t, r.live(5*time.Minute))
		r.wantRole(ReceiverProxy, id)
		r.wantState(Reserved)
		if got := r.view().Style; got != style {
			t.Errorf("style %v, want %v: %s", got, style, dump(es))
		}
		if r.n.Counters().ResvTimeouts != 1 {
			t.Errorf("%+v", r.n.Counters())
		}
		uninterrupted(t, r.live(5*time.Minute))
		// And it speaks once more.
		uninterrupted(t, r.grant(r.hostResv(rate(9000), func(m *wire.Message) {
			if m.Style = style; style == wire.WF {
				m.Flows[0].Filters = nil
			}
		})))
		r.wantRole(Transit, id)
	}
}

// Discovery is switched off: PATH ends here again, and what the host had reserved
// is ours.
func TestReceiverForgottenRFC5946Section4_1(t *testing.T) {
	r, id := spoken(t)
	r.grant(r.hostResv(rate(9000)))
	r.wantRole(Transit, id)
	r.env.discovers = false
	es := uninterrupted(t, r.grant(r.path()))
	noSend(t, es, wire.Path)
	r.wantRole(ReceiverProxy, id)
	r.wantState(Reserved)
	uninterrupted(t, r.live(5*time.Minute))
	r.wantState(Reserved)
}

// A receiver that tears its reservation down has ended what it began: the proxy
// goes on in its place, under the same ID, and it may begin again.
func TestReceiverTearsRFC5946Section4_1(t *testing.T) {
	for _, style := range []wire.Style{wire.FF, wire.WF, wire.SE} {
		r, id := spoken(t)
		as := func(m *wire.Message) {
			if m.Style = style; style == wire.WF {
				m.Flows[0].Filters = nil
			}
		}
		for range 2 {
			r.grant(r.hostResv(rate(4000), as))
			r.wantRole(Transit, id)
			m := resvTear()
			m.Hop.Addr = dstHost
			as(m)
			es := uninterrupted(t, r.grant(r.in(right, dstHost, rightAdr, m)))
			list := sends(es, wire.Resv)
			if len(list) == 0 || list[len(list)-1].Msg.Flows[0].FlowSpec.TSpec.Rate != tspec.Rate {
				t.Errorf("%v: %s", style, dump(es))
			}
			r.wantRole(ReceiverProxy, id)
			uninterrupted(t, r.live(5*time.Minute))
			r.wantState(Reserved)
		}
	}
}

// Where no policy claims the flow, PATH goes to the host all the same, what it
// asks for is reserved, and its ResvTear is the end.
func TestReceiverSpeaksWithoutPolicyRFC5946Section4_1(t *testing.T) {
	r := discovery(t)
	r.env.proxy = nil
	es := r.path()
	onlySend(t, es, wire.Path)
	noSend(t, es, wire.PathErr)
	r.wantRole(Transit, 0)
	r.grant(r.hostResv())
	r.wantState(Reserved)
	m := resvTear()
	m.Hop.Addr = dstHost
	es = r.in(right, dstHost, rightAdr, m)
	onlySend(t, es, wire.ResvTear)
	only[Release](t, es)
	noSend(t, r.live(5*time.Minute), wire.PathErr) // somebody is there, and wants nothing
	r.wantState(PathOnly)
}

// A host that no policy answers for has a refresh period to answer itself; then
// the sender is told that nobody does.
func TestNobodyAnswersRFC5946Section4_1(t *testing.T) {
	r := discovery(t)
	r.env.proxy = nil
	noSend(t, r.path(), wire.PathErr)
	noSend(t, r.run(25*time.Second), wire.PathErr)
	noSend(t, r.path(), wire.PathErr)
	r.wantState(PathOnly)
	r.run(10 * time.Second)
	if e := onlySend(t, r.path(), wire.PathErr).Msg.ErrorSpec; e.Code != wire.ErrPolicy {
		t.Errorf("%+v", e)
	}
	r.wantState(Rejected)
	r.grant(r.hostResv())
	r.wantState(Reserved)
	r.wantRole(Transit, r.view().Reservation)
}

// While nobody answers, PATH goes to a host less and less often, down to a
// quarter, and tells its period (RFC 5946 section 4.1, RFC 2205 sections 3.7 (2)
// and (5)). An answer brings the usual pace back, its end the slow one again.
func TestUnansweredPathsRFC5946Section4_1(t *testing.T) {
	r, _ := spoken(t)
	watch := func(d time.Duration, also ...func() []Effect) []Send { return sends(r.live(d, also...), wire.Path) }
	last := DefaultRefresh
	for _, s := range watch(10 * time.Minute) {
		period := s.Msg.TimeValues.Period()
		if !s.Probe || period < last || float64(period) > 1.3*float64(last) {
			t.Errorf("R %v after %v, probe %v", period, last, s.Probe)
		}
		last = period
	}
	if last != 4*DefaultRefresh {
		t.Errorf("R has grown to %v", last)
	}
	const time20 = 20 * time.Minute
	if n := len(watch(time20)); n < 6 || n > 14 {
		t.Errorf("%d in %v", n, time20)
	}
	// A change is told at once.
	if es := r.grant(r.path(rate(11000))); onlySend(t, es, wire.Path).Msg.TimeValues.Period() != DefaultRefresh {
		t.Errorf("%s", dump(es))
	}
	list := watch(time20, func() []Effect { return r.hostResv(rate(9000)) })
	if len(list) < 25 || len(list) > 60 {
		t.Errorf("%d to one who answers in %v", len(list), time20)
	}
	for _, s := range list[1:] {
		if s.Probe || s.Msg.TimeValues.Period() != DefaultRefresh {
			t.Errorf("R %v, probe %v", s.Msg.TimeValues.Period(), s.Probe)
		}
	}
	watch(15 * time.Minute)
	if n := len(watch(time20)); n < 6 || n > 14 {
		t.Errorf("%d in %v, after it has fallen silent", n, time20)
	}
}

// A host that was heard to speak of something else is a neighbour like others:
// it gets PATH at once.
func TestRediscoverRFC5946Section4_1(t *testing.T) {
	r, id := spoken(t)
	r.live(10 * time.Minute)
	r.env.unaware[dstHost] = false
	es := uninterrupted(t, r.checked(r.n.Rediscover(r.now, dstHost)))
	if s := onlySend(t, es, wire.Path); s.Probe || s.Msg.TimeValues.Period() != DefaultRefresh {
		t.Errorf("%s", dump(es))
	}
	r.wantRole(ReceiverProxy, id)
	uninterrupted(t, r.grant(r.hostResv(rate(9000))))
	r.wantRole(Transit, id)
}

// A policy that ends while the host is silent is the end.
func TestReceiverFallsSilentWithoutPolicy(t *testing.T) {
	r, _ := spoken(t)
	r.grant(r.hostResv())
	r.env.proxy = nil
	es := r.live(5 * time.Minute)
	if len(all[Release](es)) != 1 || len(sends(es, wire.ResvTear)) != 1 {
		t.Errorf("%s", dump(es))
	}
	r.wantState(PathOnly)
}

// The way back is refused: what the host had stays (RFC 2205 section 2.5).
func TestReceiverFallsSilentRefused(t *testing.T) {
	r, id := spoken(t)
	r.grant(r.hostResv(rate(4000)))
	var es []Effect
	for r.view().Role == Transit {
		r.path()
		es = r.run(time.Second)
	}
	v := only[Reserve](t, uninterrupted(t, es))
	if v.ID != id || !v.Change || v.FlowSpec.TSpec.Rate != tspec.Rate {
		t.Fatalf("%+v", v)
	}
	es = uninterrupted(t, r.checked(r.n.ReserveResult(r.now, id, &Refusal{Value: wire.AdmissionBandwidth})))
	onlySend(t, es, wire.PathErr)
	r.wantState(Reserved)
	if got := r.view().FlowSpec.TSpec.Rate; got != 4000 {
		t.Error(got)
	}
}

// Where discovery is switched off, an unsolicited RESV finds its session as soon
// as its sender is known to speak.
func TestReceiverSpeaksFirst(t *testing.T) {
	r := proxyRig(t)
	r.grant(r.path())
	onlySend(t, r.hostResv(), wire.ResvErr) // PATH did not go there
	r.env.unaware[dstHost] = false
	r.n.Rediscover(r.now, dstHost)
	uninterrupted(t, r.grant(r.hostResv(rate(9000))))
	if r.view().Role != Transit {
		t.Error(r.view().Role)
	}
}

// The host asks while admission control still looks at what the receiver proxy asks
// for, and for the same: the answer is to the host, and upstream hears of it.
func TestHostAsksBeforeAdmissionHasAnswered(t *testing.T) {
	r := discovery(t)
	ask := only[Reserve](t, r.path())
	r.hostResv(func(m *wire.Message) {
		f := *m.Flows[0].FlowSpec
		f.TSpec.MaxPacket = ask.FlowSpec.TSpec.MaxPacket
		m.Flows[0].FlowSpec = &f
	})
	es := r.checked(r.n.ReserveResult(r.now, ask.ID, nil))
	if s := onlySend(t, es, wire.Resv); s.Dst != prevHop {
		t.Errorf("%s", dump(es))
	}
	r.wantState(Reserved)
	r.wantRole(Transit, ask.ID)
}
