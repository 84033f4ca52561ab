package softstate

import (
	"testing"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// asks has a PATH or a RESV carry a NOTIFY_REQUEST.
func asks(to addrT) func(*wire.Message) {
	return func(m *wire.Message) { m.Unknown = append(m.Unknown, wire.NotifyRequest(to)) }
}

// notifyOf is the only Notify among effects.
func notifyOf(t *testing.T, es []Effect, to addrT) *wire.Message {
	t.Helper()
	s := onlySend(t, es, wire.Notify)
	if s.Dst != to || s.RouterAlert || s.TTL != DefaultTTL {
		t.Fatalf("%s", dump(es))
	}
	return s.Msg
}

// RFC 5946 section 3.2: a receiver proxy that fails tells the sender by Notify,
// beside the PathErr, if the sender has asked for it; and its RESV asks the nodes
// on the way to do the same.
func TestReceiverProxyNotifyRFC5946Section3_2(t *testing.T) {
	r := proxyRig(t)
	es := r.refuse(r.path(asks(srcHost)), Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth})
	m := notifyOf(t, es, srcHost)
	e := onlySend(t, es, wire.PathErr).Msg
	if *m.ErrorSpec != *e.ErrorSpec || m.Session != sess || *m.SenderTemplate != filter || m.ErrorSpec.Node != leftAddr {
		t.Errorf("%s", dump(es))
	}
	r.run(DefaultRefresh)
	es = r.grant(r.path(asks(srcHost)))
	if got := wire.NotifyNode(onlySend(t, es, wire.Resv).Msg.Unknown); got != srcHost {
		t.Errorf("the RESV asks for %v", got)
	}
	// A ResvErr is told in the same way (code 36 within).
	es = r.in(left, prevHop, leftAddr, resvErr(wire.ErrUnknownClass, 0x6401, wire.InPlace, tspec.Rate))
	if m := notifyOf(t, es, srcHost); m.ErrorSpec.Code != wire.ErrReceiverProxy || m.ErrorSpec.Value != 0x010d || m.ErrorSpec.Flags != wire.InPlace {
		t.Errorf("%s", dump(es))
	}
	onlySend(t, es, wire.PathErr)
	// RFC 3473 section 4.3.2: never without a request.
	r = proxyRig(t)
	noSend(t, r.refuse(r.path(), Refusal{Code: wire.ErrPolicy}), wire.Notify)
}

// RFC 3473 section 4.3.2: the node that refuses a RESV tells whom that names.
func TestTransitNotifiesRFC3473Section4_3(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	es := r.refuse(r.resv(asks(srcHost)), Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth})
	m := notifyOf(t, es, srcHost)
	if m.ErrorSpec.Code != wire.ErrAdmission || m.Style != wire.FF || len(m.Flows) != 1 || m.Flows[0].Filters[0] != filter {
		t.Errorf("%s", dump(es))
	}
	onlySend(t, es, wire.ResvErr)
	r.grant(r.resv(asks(srcHost)))
	if got := wire.NotifyNode(sends(r.run(DefaultRefresh*2), wire.Resv)[0].Msg.Unknown); got != srcHost {
		t.Errorf("the request went on as %v", got)
	}
}

// RFC 5946 section 3.2: a sender proxy asks for it, and takes a Notify of either
// kind as the error that it is.
func TestSenderProxyNotifiedRFC5946Section3_2(t *testing.T) {
	about := map[string]func(*wire.Message){
		"from the receiver's proxy": func(m *wire.Message) { m.SenderTemplate, m.SenderTSpec = &filter, &tspec },
		"from a node on the way": func(m *wire.Message) {
			m.Style, m.Flows = wire.FF, []wire.FlowDescriptor{{FlowSpec: &flow, Filters: []wire.Filter{filter}}}
		},
		"to all": func(m *wire.Message) {
			m.Style, m.Flows = wire.WF, []wire.FlowDescriptor{{FlowSpec: &flow}}
		},
	}
	for name, f := range about {
		r := newRig(t, Config{})
		if got := wire.NotifyNode(onlySend(t, r.add(host), wire.Path).Msg.Unknown); got != rightAdr {
			t.Fatalf("PATH asks for %v", got)
		}
		m := &wire.Message{Type: wire.Notify, Session: sess, ErrorSpec: &wire.ErrorSpec{Node: nextHop, Code: wire.ErrAdmission, Value: 2}}
		f(m)
		es := r.in(right, nextHop, rightAdr, m)
		noSend(t, es)
		r.wantState(Rejected)
		if v := r.view(); v.Failure == nil || v.Failure.Node != nextHop {
			t.Errorf("%s: %v", name, v.Failure)
		}
		r.grant(r.resv())
		r.wantState(Reserved)
		stranger := *m
		stranger.Session.DstPort++
		r.in(right, nextHop, rightAdr, &stranger)
		r.in(right, nextHop, addr("10.9.9.9"), m)
		if c := r.n.Counters(); c.Dropped[DropNoState] != 1 || c.Dropped[DropNotForUs] != 1 || c.In[wire.Notify] != 3 {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// RFC 5946 section 3.2, indirect notification: senders that share a reservation
// are told by their receiver's proxy.
func TestIndirectNotifyRFC5946Section3_2(t *testing.T) {
	r := proxyRig(t)
	r.env.proxy = func(i PathInfo) (ReserveSpec, bool) {
		s, _ := sayYes(i)
		s.Style = wire.WF
		return s, true
	}
	es := r.grant(r.path(asks(srcHost)))
	if got := wire.NotifyNode(onlySend(t, es, wire.Resv).Msg.Unknown); got != leftAddr {
		t.Fatalf("the RESV asks for %v", got)
	}
	es = r.in(left, prevHop, leftAddr, &wire.Message{
		Type: wire.Notify, Session: sess, ErrorSpec: &wire.ErrorSpec{Node: prevHop, Code: wire.ErrAdmission, Value: 2},
		Style: wire.WF, Flows: []wire.FlowDescriptor{{FlowSpec: &flow}},
	})
	if m := notifyOf(t, es, srcHost); m.ErrorSpec.Node != leftAddr || m.ErrorSpec.Code != wire.ErrAdmission || *m.SenderTemplate != filter {
		t.Errorf("%s", dump(es))
	}
	r.wantState(Reserved)
}

// Of several requests one goes on (RFC 3473 section 4.2.1).
func TestOneNotifyRequestGoesOn(t *testing.T) {
	a, b := []wire.Object{wire.NotifyRequest(srcHost)}, []wire.Object{wire.NotifyRequest(prevHop), {Class: wire.ClassDClass, CType: 1}}
	if got := union(a, b); len(got) != 2 || wire.NotifyNode(got) != srcHost {
		t.Errorf("%v", got)
	}
}
