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

// spoken is a receiver proxy that has reserved for a host which then speaks.
func spoken(t *testing.T) (r *rig, id uint64) {
	t.Helper()
	r = proxyRig(t)
	r.grant(r.path())
	id = r.view().Reservation
	r.env.unaware[dstHost] = false
	es := uninterrupted(t, r.checked(r.n.Rediscover(r.now, dstHost)))
	if s := onlySend(t, es, wire.Path); s.Out != right || s.Dst != dstHost || s.TTL != 59 {
		t.Errorf("%s", dump(es))
	}
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

// Nobody expects the host to speak any more: PATH ends here again, and what it
// had reserved is ours.
func TestReceiverForgottenRFC5946Section4_1(t *testing.T) {
	r, id := spoken(t)
	r.grant(r.hostResv(rate(9000)))
	r.wantRole(Transit, id)
	r.env.unaware[dstHost] = true
	es := uninterrupted(t, r.grant(r.path()))
	noSend(t, es, wire.Path)
	r.wantRole(ReceiverProxy, id)
	r.wantState(Reserved)
	uninterrupted(t, r.live(5*time.Minute))
	r.wantState(Reserved)
}

// A receiver's own ResvTear is obeyed: it has taken over, and wants nothing.
func TestReceiverTearsRFC5946Section4_1(t *testing.T) {
	r, id := spoken(t)
	r.grant(r.hostResv())
	m := resvTear()
	m.Hop.Addr = dstHost
	es := r.in(right, dstHost, rightAdr, m)
	onlySend(t, es, wire.ResvTear)
	if only[Release](t, es).ID != id {
		t.Errorf("%s", dump(es))
	}
	r.live(5 * time.Minute)
	r.wantState(PathOnly)
	if r.view().Role != Transit {
		t.Error(r.view().Role)
	}
	r.env.unaware[dstHost] = true // it is not heard any more
	r.grant(r.path())
	r.wantState(Reserved)
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

// An unsolicited RESV finds its session as soon as its sender is known to speak.
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
