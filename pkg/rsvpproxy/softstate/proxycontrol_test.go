package softstate

import (
	"slices"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func control(t *testing.T, c wire.ProxyControl) func(*wire.Message) {
	o, err := (&wire.PolicyData{Elements: []wire.PolicyElement{c.Element()}}).Object()
	if err != nil {
		t.Fatal(err)
	}
	return func(m *wire.Message) { m.Policy = []wire.Object{o} }
}

// RFC 5946 section 4.2: a PATH whose sender says that its receiver speaks RSVP is
// not answered for it, and reaches it.
func TestProxyControlRFC5946Section4_2(t *testing.T) {
	r := discovery(t)
	es := r.path(control(t, wire.ProxyNotNeeded))
	if s := onlySend(t, es, wire.Path); len(s.Msg.Policy) != 1 || s.Probe {
		t.Errorf("%s", dump(es))
	}
	if len(all[Reserve](es)) != 0 || len(sends(es, wire.PathErr)) != 0 {
		t.Errorf("%s", dump(es))
	}
	r.grant(r.hostResv())
	r.wantState(Reserved)
	if v := r.view(); v.Role != Transit {
		t.Error(v.Role)
	}

	// Where discovery is disabled it reaches it, too.
	r = proxyRig(t)
	onlySend(t, r.path(control(t, wire.ProxyNotNeeded)), wire.Path)

	// The sender learns otherwise: what was reserved for the receiver ends.
	r = discovery(t)
	r.grant(r.path())
	r.wantState(Reserved)
	es = r.path(control(t, wire.ProxyNotNeeded))
	onlySend(t, es, wire.Path)
	onlySend(t, es, wire.ResvTear)
	only[Release](t, es)
	// And again.
	r.grant(r.path())
	r.wantState(Reserved)
}

// RFC 5946 section 4.2: a PATH whose sender says that its receiver needs a proxy is
// answered, and goes on all the same, so that the reservation may be extended. That
// is told to policy, which has the last word; for groups the element says nothing.
func TestProxyNeededRFC5946Section4_2(t *testing.T) {
	r := discovery(t)
	var asked []bool
	r.env.proxy = func(i PathInfo) (ReserveSpec, bool) {
		asked = append(asked, i.Needed)
		s, _ := sayYes(i)
		return s, i.Needed
	}
	noSend(t, r.grant(r.path()), wire.Resv)
	es := r.grant(r.path(control(t, wire.ProxyNeeded)))
	if s := onlySend(t, es, wire.Path); len(s.Msg.Policy) != 1 {
		t.Errorf("the element was not passed on: %s", dump(es))
	}
	onlySend(t, es, wire.Resv)
	r.wantRole(ReceiverProxy, r.view().Reservation)
	if !slices.Equal(asked, []bool{false, true}) {
		t.Errorf("asked %v", asked)
	}
	uninterrupted(t, r.grant(r.hostResv(rate(9000)))) // it speaks RSVP nevertheless
	r.wantRole(Transit, r.view().Reservation)

	l := newLab(t, false)
	l.env.discovers, l.env.unaware[l.group.Dst] = true, true
	l.env.proxy = func(i PathInfo) (ReserveSpec, bool) {
		if i.Needed {
			t.Error("needed for a group")
		}
		return ReserveSpec{}, false
	}
	f, ts := l.filter("S1"), tspec
	m := &wire.Message{
		Type: wire.Path, Session: l.group, Hop: &wire.Hop{Addr: l.addr("P1")}, TimeValues: &wire.TimeValues{Refresh: 30000},
		SenderTemplate: &f, SenderTSpec: &ts,
	}
	control(t, wire.ProxyNeeded)(m)
	l.in(1, f.Src, l.group.Dst, m)
}

// RFC 5946 section 3.1.3: whatever the receiver proxy has to tell, it removes no
// path state and does not say so, nor copy what says so.
func TestNoPathStateRemovedRFC5946Section3_1_3(t *testing.T) {
	const pathStateRemoved = 0x04 // RFC 3473 section 4.4
	told := func(r *rig, es []Effect) {
		t.Helper()
		list := sends(es, wire.PathErr)
		if len(list) == 0 {
			t.Errorf("no PathErr: %s", dump(es))
		}
		for _, s := range list {
			if s.Msg.ErrorSpec.Flags&^wire.InPlace != 0 {
				t.Errorf("flags %#x", s.Msg.ErrorSpec.Flags)
			}
		}
		if r.n.Counters().Sessions != 1 {
			t.Error("path state was removed")
		}
	}
	r := discovery(t)
	told(r, r.refuse(r.path(), Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth})) // here
	r = discovery(t)
	r.grant(r.path())
	told(r, r.in(left, prevHop, leftAddr, &wire.Message{ // upstream
		Type: wire.ResvErr, Session: sess, Hop: &wire.Hop{Addr: prevHop, LIH: 7}, Style: wire.FF,
		ErrorSpec: &wire.ErrorSpec{Node: prevHop, Flags: wire.InPlace | wire.NotGuilty | pathStateRemoved, Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth},
		Flows:     []wire.FlowDescriptor{{FlowSpec: &flow, Filters: []wire.Filter{filter}}},
	}))
	r = proxyRig(t)
	r.env.proxy = nil
	told(r, r.path()) // policy
}
