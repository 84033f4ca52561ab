package softstate

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func proxyRig(t *testing.T) *rig {
	r := newRig(t, Config{})
	r.env.unaware[dstHost] = true
	r.env.proxy = sayYes
	return r
}

// RFC 5945 section 4.1, RFC 5946 section 3: the PATH is sunk, admission control is done on the
// downstream interface, then the RESV goes upstream, and is refreshed.
func TestReceiverProxy(t *testing.T) {
	r := proxyRig(t)
	r.env.proxy = func(i PathInfo) (ReserveSpec, bool) {
		if i.In != left || i.Out != right || i.Session != sess || i.Sender != filter || i.TSpec != tspec || i.AdSpec.General.Hops != 2 {
			t.Errorf("asked with %+v", i)
		}
		s, _ := sayYes(i)
		s.Confirm = true
		return s, true
	}
	es := r.path()
	noSend(t, es)
	v := only[Reserve](t, es)
	if v.Role != ReceiverProxy || v.Out != right {
		t.Errorf("%+v", v)
	}
	es = r.checked(r.n.ReserveResult(r.now, v.ID, nil))
	s := onlySend(t, es, wire.Resv)
	if s.Dst != prevHop || s.Src != leftAddr || s.RouterAlert || *s.Msg.Hop != (wire.Hop{Addr: leftAddr, LIH: 7}) || s.Msg.Style != wire.FF {
		t.Errorf("%s", dump(es))
	}
	// RFC 2210 section 2.3.2: M is bounded by the path's MTU.
	if got := s.Msg.Flows[0].FlowSpec.TSpec; got.MaxPacket != 1400 || got.Rate != tspec.Rate {
		t.Errorf("flowspec %v", got)
	}
	if s.Msg.ResvConfirm != leftAddr {
		t.Errorf("confirm %v", s.Msg.ResvConfirm)
	}
	r.wantState(Reserved)
	es = r.run(50 * time.Second)
	noSend(t, es, wire.Path)
	if len(sends(es, wire.Resv)) == 0 {
		t.Error("no refresh")
	}
	if es := r.path(); len(es) != 0 {
		t.Errorf("a refresh changes nothing: %s", dump(es))
	}
	// RFC 2205 section 3.1.9.
	es = r.in(left, prevHop, leftAddr, &wire.Message{
		Type: wire.ResvConf, Session: sess, ErrorSpec: &wire.ErrorSpec{Node: prevHop}, ResvConfirm: leftAddr,
		Style: wire.FF, Flows: s.Msg.Flows,
	})
	if e := only[Event](t, es); !e.Confirmed {
		t.Errorf("%+v", e)
	}
	for _, s := range sends(r.run(50*time.Second), wire.Resv) {
		if s.Msg.ResvConfirm.IsValid() {
			t.Error("asks on though confirmed")
		}
	}
	es = r.in(left, srcHost, dstHost, pathTear())
	noSend(t, es)
	if only[Release](t, es).ID != v.ID {
		t.Errorf("%s", dump(es))
	}
}

// RFC 5946 section 3.1.2: codes 1 and 2 unchanged, all others within code 36.
func TestReceiverProxyLocalFailure(t *testing.T) {
	for _, tt := range []struct {
		refusal Refusal
		code    wire.ErrorCode
		value   uint16
	}{
		{Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth}, wire.ErrAdmission, wire.AdmissionBandwidth},
		{Refusal{Code: wire.ErrPolicy, Value: 7}, wire.ErrPolicy, 7},
		{Refusal{Code: wire.ErrTCSystem, Value: 3}, wire.ErrReceiverProxy, 0x0100 | 22},
		{Refusal{Code: wire.ErrPreempted}, wire.ErrReceiverProxy, 0x0100 | 12},
	} {
		r := proxyRig(t)
		es := r.refuse(r.path(), tt.refusal)
		s := onlySend(t, es, wire.PathErr)
		e := s.Msg.ErrorSpec
		if e.Code != tt.code || e.Value != tt.value || e.Node != leftAddr || e.Flags != 0 || s.Dst != prevHop || s.Msg.SenderTemplate == nil {
			t.Errorf("%s", dump(es))
		}
		noSend(t, es, wire.Resv, wire.ResvErr)
		r.wantState(Rejected)
		if es := r.path(); len(all[Reserve](es)) != 0 {
			t.Errorf("asked again at once: %s", dump(es))
		}
		r.run(DefaultRefresh)
		r.grant(r.path()) // a later refresh tries again
		r.wantState(Reserved)
	}
}

// RFC 5946 sections 3.1, 3.1.1 and 3.1.2: a ResvErr becomes a PathErr for its
// sender; InPlace is copied, and so is POLICY_DATA (RFC 3182 section 7).
func TestReceiverProxyResvErr(t *testing.T) {
	for _, tt := range []struct {
		code  wire.ErrorCode
		value uint16
		flags uint8
		want  wire.ErrorSpec
		state State
	}{
		{1, 2, 0, wire.ErrorSpec{Node: leftAddr, Code: 1, Value: 2}, Rejected},
		{1, 2, wire.InPlace, wire.ErrorSpec{Node: leftAddr, Code: 1, Value: 2, Flags: wire.InPlace}, Reserved},
		{2, 5, 0, wire.ErrorSpec{Node: leftAddr, Code: 2, Value: 5}, Rejected},
		{13, 0x6401, 0, wire.ErrorSpec{Node: leftAddr, Code: 36, Value: 0x010d}, Rejected},
	} {
		r := proxyRig(t)
		r.grant(r.path())
		m := resvErr(tt.code, tt.value, tt.flags, tspec.Rate)
		m.Policy = []wire.Object{{Class: wire.ClassPolicyData, CType: 1, Body: []byte{0, 4, 0, 0}}}
		es := r.in(left, prevHop, leftAddr, m)
		s := onlySend(t, es, wire.PathErr)
		if !sameObjects(s.Msg.Policy, m.Policy) {
			t.Errorf("policy %v", s.Msg.Policy)
		}
		if *s.Msg.ErrorSpec != tt.want || s.Dst != prevHop || *s.Msg.SenderTemplate != filter {
			t.Errorf("%s", dump(es))
		}
		noSend(t, es, wire.ResvErr)
		r.wantState(tt.state)
		if len(all[Release](es)) != 0 {
			t.Errorf("%s", dump(es))
		}
		// Soft state tries on.
		r.path()
		if len(sends(r.run(46*time.Second), wire.Resv)) == 0 {
			t.Error("no further RESV")
		}
	}
}

// The receiver does not speak RSVP and policy does not let us answer: PATH must
// not reach it (RFC 5945 section 4.1), the sender learns of it, nothing is reserved.
func TestReceiverProxyPolicyNo(t *testing.T) {
	r := newRig(t, Config{})
	r.env.unaware[dstHost] = true
	es := r.path()
	noSend(t, es, wire.Path)
	if e := onlySend(t, es, wire.PathErr).Msg.ErrorSpec; e.Code != wire.ErrPolicy {
		t.Errorf("%+v", e)
	}
	r.wantState(Rejected)
	noSend(t, r.run(time.Minute), wire.Path)
	// The policy is changed: within one refresh it works.
	r.env.proxy = sayYes
	r.grant(r.path(rate(11000)))
	r.wantState(Reserved)
	// And back: the reservation is given up, the sender told.
	r.env.proxy = nil
	es = r.path()
	onlySend(t, es, wire.ResvTear)
	onlySend(t, es, wire.PathErr)
	only[Release](t, es)
	r.wantState(Rejected)
}

// The receiver is found to speak RSVP: we become a hop (RFC 5946 section 4).
func TestReceiverProxyHostSpeaksRSVP(t *testing.T) {
	r := proxyRig(t)
	r.grant(r.path())
	r.env.unaware[dstHost] = false
	es := uninterrupted(t, r.path())
	onlySend(t, es, wire.Path)
	uninterrupted(t, r.grant(r.resv()))
	r.wantState(Reserved)
	if r.view().Role != Transit {
		t.Error(r.view().Role)
	}
}

// RFC 2210 sections 2.3.1 and 3.3: a service without a fragment in ADSPEC must not be used.
func TestReceiverProxyServiceNotOffered(t *testing.T) {
	r := proxyRig(t)
	es := r.path(func(m *wire.Message) { m.AdSpec.ControlledLoad = nil })
	if e := onlySend(t, es, wire.PathErr).Msg.ErrorSpec; e.Code != wire.ErrReceiverProxy || e.Value != 0x0115 {
		t.Errorf("%s", dump(es))
	}
	if len(all[Reserve](es)) != 0 {
		t.Errorf("%s", dump(es))
	}
	// Without an ADSPEC nothing is known, nothing forbidden.
	r = proxyRig(t)
	only[Reserve](t, r.path(func(m *wire.Message) { m.AdSpec = nil }))
	// A style that does not exist.
	r.env.proxy = func(PathInfo) (ReserveSpec, bool) {
		return ReserveSpec{Style: 0x1f, FlowSpec: flow}, true
	}
	if e := onlySend(t, r.path(rate(12000)), wire.PathErr).Msg.ErrorSpec; e.Value != 0x0106 {
		t.Errorf("%+v", e)
	}
}

// A sender's new TSpec changes the proxy's request; refused, the old one stays.
func TestReceiverProxyFollowsTSpec(t *testing.T) {
	r := proxyRig(t)
	r.grant(r.path())
	es := r.path(rate(20000))
	v := only[Reserve](t, es)
	if !v.Change || v.FlowSpec.TSpec.Rate != 20000 {
		t.Errorf("%+v", v)
	}
	es = r.checked(r.n.ReserveResult(r.now, v.ID, &Refusal{Value: wire.AdmissionBandwidth}))
	if e := onlySend(t, es, wire.PathErr).Msg.ErrorSpec; e.Flags != wire.InPlace || e.Code != 1 {
		t.Errorf("%s", dump(es))
	}
	r.wantState(Reserved)
	if got := r.view().FlowSpec.TSpec.Rate; got != 10000 || r.view().Failure == nil {
		t.Errorf("rate %v, failure %v", got, r.view().Failure)
	}
	// The sender gives in: the error is history.
	if es := r.path(); len(all[Reserve](es)) != 0 || r.view().Failure != nil {
		t.Errorf("%s", dump(es))
	}
}

// Both hosts are behind this node: one reservation, no message at all.
func TestBothProxies(t *testing.T) {
	r := proxyRig(t)
	es := r.grant(r.add(host))
	noSend(t, es)
	if v := only[Reserve](t, es); v.Role != BothProxy || v.Out != right {
		t.Errorf("%+v", v)
	}
	r.wantState(Reserved)
	noSend(t, r.run(10*time.Minute))
	r.wantState(Reserved)
	es = r.checked(r.n.RemoveSender(r.now, sess, filter))
	noSend(t, es)
	only[Release](t, es)
}

// A clean stop tears everything down, in both directions.
func TestShutdown(t *testing.T) {
	r := newRig(t, Config{})
	r.reserved()
	es := r.checked(r.n.Shutdown(r.now))
	onlySend(t, es, wire.PathTear)
	onlySend(t, es, wire.ResvTear)
	only[Release](t, es)
	if c := r.n.Counters(); c.Sessions+c.Senders+c.Reservations+c.Neighbors != 0 {
		t.Errorf("%+v", c)
	}
	if _, ok := r.n.NextDeadline(); ok {
		t.Error("timers left")
	}
}

// No route yet: the sender waits for one.
func TestSenderProxyWithoutRoute(t *testing.T) {
	r := newRig(t, Config{})
	delete(r.env.routes, dstHost)
	noSend(t, r.add(host))
	r.wantState(Inactive)
	r.env.routes[dstHost] = right
	if len(sends(r.run(46*time.Second), wire.Path)) == 0 {
		t.Error("no PATH")
	}
	r.wantState(PathOnly)
}

// What comes from a policy is compared as the wire carries it.
func TestReceiverProxyWirePrecision(t *testing.T) {
	r := proxyRig(t)
	r.env.proxy = func(PathInfo) (ReserveSpec, bool) {
		f := intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: tspec}
		f.TSpec.Rate = 10000.0001
		return ReserveSpec{FlowSpec: f}, true
	}
	r.grant(r.path())
	if es := r.path(); len(es) != 0 {
		t.Errorf("%s", dump(es))
	}
}

// A receiver that is spoken for from now on gets its reservation at once, not
// with the next PATH; and one that is no more loses it at once (RFC 5946 section 3).
func TestReceiverChanged(t *testing.T) {
	r := proxyRig(t)
	r.env.proxy = func(PathInfo) (ReserveSpec, bool) { return ReserveSpec{}, false }
	if e := onlySend(t, r.path(), wire.PathErr).Msg.ErrorSpec; e.Code != wire.ErrPolicy {
		t.Errorf("%+v", e)
	}
	r.wantState(Rejected)
	r.env.proxy = sayYes
	v := only[Reserve](t, r.checked(r.n.ReceiverChanged(r.now, sess, filter)))
	onlySend(t, r.checked(r.n.ReserveResult(r.now, v.ID, nil)), wire.Resv)
	r.wantState(Reserved)
	if s, _ := r.n.Session(r.now, sess, filter); s.Failure != nil {
		t.Errorf("the old error is still there: %v", s.Failure)
	}
	r.env.proxy = func(PathInfo) (ReserveSpec, bool) { return ReserveSpec{}, false }
	es := r.checked(r.n.ReceiverChanged(r.now, sess, filter))
	if only[Release](t, es).ID != v.ID || len(sends(es, wire.ResvTear)) != 1 {
		t.Errorf("%s", dump(es))
	}
	unknown := filter
	unknown.SrcPort++
	if es := r.n.ReceiverChanged(r.now, sess, unknown); len(es) != 0 {
		t.Errorf("an unknown sender: %s", dump(es))
	}
}
