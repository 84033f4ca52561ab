package softstate

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// RFC 3181 section 5, instability: what was preempted is not asked for again
// with the next refresh; less is, and the same with a higher priority, and after R.
func TestPreemptedIsHeldDownRFC3181Section5(t *testing.T) {
	preempted := func(t *testing.T) *rig {
		t.Helper()
		r := newRig(t, Config{})
		id := only[Reserve](t, r.reserved()).ID
		es := r.checked(r.n.Withdraw(r.now, id, Refusal{Text: "preempted by x", By: &Priority{8, 9}}))
		onlySend(t, es, wire.ResvErr)
		onlySend(t, es, wire.ResvTear)
		return r
	}
	r := preempted(t)
	for range 3 { // quick refreshes of the next hop
		es := r.resv()
		if s := onlySend(t, es, wire.ResvErr); s.Msg.ErrorSpec.Code != wire.ErrPreempted || len(all[Reserve](es)) != 0 {
			t.Fatalf("%s", dump(es))
		}
	}
	if v := r.view(); v.State != Rejected || v.Failure.Text != "preempted by x" || v.Reservation != 0 {
		t.Errorf("%+v", v)
	}
	if c := r.n.Counters(); c.Preempted != 1 || c.Reservations != 0 {
		t.Errorf("%+v", c)
	}
	r.run(DefaultRefresh)
	if only[Reserve](t, r.resv()); r.view().State != Requested && r.view().State != Rejected {
		t.Errorf("%v", r.view().State)
	}

	r = preempted(t)
	r.grant(r.resv(rate(r.view().TSpec.Rate / 2)))
	r.wantState(Reserved)

	r = preempted(t)
	r.grant(r.resv(withPolicy(policyData(t, wire.PolicyOptions{}, element(wire.MergeHighestQoS, 9, 9)))))
	r.wantState(Reserved)

	// What another error has ended is asked for at once.
	r = newRig(t, Config{})
	id := only[Reserve](t, r.reserved()).ID
	r.checked(r.n.Withdraw(r.now, id, Refusal{Code: wire.ErrTCSystem}))
	only[Reserve](t, r.resv())
}

// The end of a sender ends what is remembered of it.
func TestPreemptedIsForgottenWithItsSender(t *testing.T) {
	r := newRig(t, Config{})
	id := only[Reserve](t, r.reserved()).ID
	r.checked(r.n.Withdraw(r.now, id, Refusal{}))
	s := r.n.sessions[sess]
	if len(s.outbid) != 1 {
		t.Fatalf("%v", s.outbid)
	}
	second := wire.Filter{Src: srcHost, SrcPort: 4001}
	r.path(func(m *wire.Message) { m.SenderTemplate = &second }) // the session stays
	r.in(left, prevHop, dstHost, pathTear())
	if len(s.outbid) != 0 {
		t.Errorf("%v", s.outbid)
	}
}

// The receiver proxy does not ask again at once either, and the sender is told
// by PathErr (RFC 5946 section 3.1.1) with the priority of who took its place.
func TestPreemptedProxyRFC5946Section3_1(t *testing.T) {
	r := proxyRig(t)
	r.env.proxy = sayYes
	id := only[Reserve](t, r.grant(r.path())).ID
	es := r.checked(r.n.Withdraw(r.now, id, Refusal{By: &Priority{8, 9}}))
	if e := onlySend(t, es, wire.PathErr).Msg.ErrorSpec; e.Code != wire.ErrReceiverProxy || e.Value != 1<<8|uint16(wire.ErrPreempted) {
		t.Errorf("%+v", e)
	}
	if es = r.path(); len(all[Reserve](es)) != 0 {
		t.Errorf("%s", dump(es))
	}
	if es = r.checked(r.n.ReceiverChanged(r.now, sess, filter)); len(all[Reserve](es)) != 0 {
		t.Errorf("held down: %s", dump(es))
	}
	r.run(DefaultRefresh)
	only[Reserve](t, r.path())
}

// RFC 3181 section 6, over a line of nodes: at each node in turn a reservation is
// preempted. All of them learn by whom, nothing of it is left before that node,
// and with its next refreshes it is in place again, since there is room.
func TestSimPreemption(t *testing.T) {
	for where := range 4 {
		s := newSim(t, uint64(where)+1, 4, Config{})
		s.add(simSender(0))
		s.add(simSender(1))
		s.run(5 * time.Second)
		s.wantAll(Reserved, 8)
		n := s.nodes[where]
		asked := 0
		n.seen = func(e Effect) {
			if v, ok := e.(Reserve); ok && v.Session.DstPort == 5000 {
				asked++
			}
		}
		v, _ := n.n.Session(s.now, simSender(0).Session, simSender(0).Filter)
		id := v.Reservation
		n.do(n.n.Withdraw(s.now, id, Refusal{Text: "preempted by 10.0.0.9", By: &Priority{8, 9}}))
		if n.ledger[id] != ledgerReleased {
			t.Fatalf("node %d: reservation %d is in state %d", where, id, n.ledger[id])
		}
		s.run(DefaultRefresh - 5*time.Second)
		if asked != 0 {
			t.Errorf("node %d: asked for again within R: %d times", where, asked)
		}
		for i, o := range s.nodes {
			v, _ := o.n.Session(s.now, simSender(0).Session, simSender(0).Filter)
			want := "preempted by a reservation of priority 8"
			if i == where {
				want = "preempted by 10.0.0.9"
			}
			if told := i == where || i == 0 || i == 3; told && (v.Failure == nil || !strings.HasPrefix(v.Failure.String(), want)) {
				t.Errorf("preempted at %d, node %d: %v %v", where, i, v.State, v.Failure)
			}
			if kept := v.Reservation != 0; kept != (i > where) {
				t.Errorf("preempted at %d, node %d: reservation %d", where, i, v.Reservation)
			}
			if o, _ := o.n.Session(s.now, simSender(1).Session, simSender(1).Filter); o.State != Reserved {
				t.Errorf("the other session is disturbed at node %d: %v", i, o.State)
			}
		}
		s.run(4 * DefaultRefresh)
		s.wantAll(Reserved, 8)
		for i := range 2 {
			x := simSender(i)
			s.nodes[0].do(s.nodes[0].n.RemoveSender(s.now, x.Session, x.Filter))
		}
		s.run(time.Minute)
		s.wantGone()
	}
}

// RFC 3182 section 3: traffic control is told who asks, of RESV first, and by
// which interface that came; a new identity is a new request.
func TestIdentitiesForTrafficControlRFC3182Section3(t *testing.T) {
	r := newRig(t, Config{})
	r.path(withPolicy(userData(t, wire.AuthUser, "ann")))
	es := r.grant(r.resv(withPolicy(userData(t, wire.AuthUser, "bob"), userData(t, wire.AuthApp, "vic.exe"))))
	got := only[Reserve](t, es).Identities
	for i := range got {
		got[i].Said = wire.Identity{Type: got[i].Said.Type}
	}
	want := []Identity{
		{Said: wire.Identity{Type: wire.AuthUser}, Names: []string{"bob"}, Text: "user bob", Resv: true, From: right},
		{Said: wire.Identity{Type: wire.AuthApp}, Names: []string{"vic.exe"}, Text: "application vic.exe", Resv: true, From: right},
		{Said: wire.Identity{Type: wire.AuthUser}, Names: []string{"ann"}, Text: "user ann", From: left},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if es = r.grant(r.resv(withPolicy(userData(t, wire.AuthUser, "eve")))); !only[Reserve](t, es).Change {
		t.Errorf("%s", dump(es))
	}
	if es = r.grant(r.resv(withPolicy(userData(t, wire.AuthUser, "eve")))); len(all[Reserve](es)) != 0 {
		t.Errorf("a refresh asks again: %s", dump(es))
	}
}

// What cannot be told from something else is no name.
func TestNamesOfIdentities(t *testing.T) {
	for said, want := range map[string][]string{
		"ann": {"ann"}, "ann\x00\x00": {"ann"}, "a\x1bb": nil, "": nil, strings.Repeat("a", maxIdentity+1): nil, "CN=Ann, O=Acme": {"CN=Ann, O=Acme"},
	} {
		id := newIdentity(wire.Identity{Type: wire.AuthUser, Attributes: []wire.AuthAttribute{{Type: wire.AuthCredential, SubType: wire.CredentialASCII, Value: []byte(said)}}})
		if diff := cmp.Diff(want, id.Names); diff != "" {
			t.Errorf("%q: %s", said, diff)
		}
	}
	for _, sub := range []uint8{wire.CredentialKerberos, wire.CredentialX509, wire.CredentialPGP} {
		id := newIdentity(wire.Identity{Type: wire.AuthUser, Attributes: []wire.AuthAttribute{{Type: wire.AuthCredential, SubType: sub, Value: []byte("ann")}}})
		if len(id.Names) != 0 {
			t.Errorf("%d: %v", sub, id.Names)
		}
	}
}

// RFC 3182 section 3.3.4, RFC 2750 section 4.3: who is refused by policy is told
// why, in the element that says who asked; what is missing is told by an empty one.
func TestDenialRFC3182Section3_3_4(t *testing.T) {
	said := userData(t, wire.AuthUser, "ann")
	answer := func(t *testing.T, d *Denial, value uint16) (*wire.Message, wire.Identity) {
		t.Helper()
		r := newRig(t, Config{})
		r.path()
		es := r.resv(withPolicy(said))
		es = r.refuse(es, Refusal{Code: wire.ErrPolicy, Value: value, Text: "ann may not do this", Denied: d})
		m := onlySend(t, es, wire.ResvErr).Msg
		if m.ErrorSpec.Code != wire.ErrPolicy || m.ErrorSpec.Value != value || len(m.Policy) != 1 {
			t.Fatalf("%+v %v", m.ErrorSpec, m.Policy)
		}
		p, err := wire.ParsePolicy(m.Policy[0])
		if err != nil {
			t.Fatal(err)
		}
		id, err := wire.ParseIdentity(p.Elements[0])
		if err != nil {
			t.Fatal(err)
		}
		return m, id
	}
	who := wire.Identity{Type: wire.AuthApp, Attributes: []wire.AuthAttribute{
		{Type: wire.AuthCredential, SubType: wire.CredentialASCII, Value: []byte("ann")}, {Type: wire.AuthDigitalSignature, Value: []byte("signed")},
	}}
	m, id := answer(t, &Denial{Who: who, Value: wire.AuthInsufficientPrivileges}, wire.PolicyRejected)
	value, text, ok := id.PolicyError()
	if name, _ := id.Value(wire.AuthCredential, wire.CredentialASCII); id.Type != wire.AuthApp || !ok || value != wire.AuthInsufficientPrivileges || string(text) != "ann may not do this" || string(name) != "ann" {
		t.Errorf("%+v", id)
	}
	if _, ok := id.Value(wire.AuthDigitalSignature, 0); ok {
		t.Error("a signature that does not hold any more")
	}
	// Those whom the error reaches see the reason.
	if got := told(m); got != "refused by policy: ann may not do this" {
		t.Errorf("%q", got)
	}
	if _, id = answer(t, &Denial{}, wire.PolicyMissing); id.Type != wire.AuthUser || len(id.Attributes) != 0 {
		t.Errorf("%+v", id)
	}
}

func userData(t testing.TB, typ wire.PolicyType, name string) wire.Object {
	t.Helper()
	e, err := wire.Identity{Type: typ, Attributes: []wire.AuthAttribute{{Type: wire.AuthCredential, SubType: wire.CredentialASCII, Value: []byte(name)}}}.Element()
	if err != nil {
		t.Fatal(err)
	}
	return policyData(t, wire.PolicyOptions{}, e)
}

// RFC 5865 section 2.2, the first of its MUSTs: each of the links that a session
// uses is asked for the bandwidth. Where one of them has none, the session is
// refused, and holds nothing on those nearer to the sender, whose links the
// request has not reached.
func TestRFC5865Section2_2_EveryLink(t *testing.T) {
	for narrow := range 4 {
		s := newSim(t, uint64(narrow)+7, 4, Config{})
		for i, n := range s.nodes {
			room := 10 * tspec.Rate
			if i == narrow {
				room = 2.5 * tspec.Rate
			}
			has := map[uint64]float64{}
			n.seen = func(e Effect) {
				if r, ok := e.(Release); ok {
					delete(has, r.ID)
				}
			}
			n.refuse = func(e Reserve) *Refusal {
				sum := e.FlowSpec.TSpec.Rate
				for id, rate := range has {
					if id != e.ID {
						sum += rate
					}
				}
				if sum > room {
					return &Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth}
				}
				has[e.ID] = e.FlowSpec.TSpec.Rate
				return nil
			}
		}
		for i := range 3 {
			s.add(simSender(i))
			s.run(10 * time.Second)
		}
		for i, n := range s.nodes {
			want := 3
			if i <= narrow {
				want = 2
			}
			if got := n.held(); got != want {
				t.Errorf("narrow at %d: node %d holds %d, want %d", narrow, i, got, want)
			}
		}
		first, _ := s.nodes[0].n.Session(s.now, simSender(0).Session, simSender(0).Filter)
		last, _ := s.nodes[0].n.Session(s.now, simSender(2).Session, simSender(2).Filter)
		if first.State != Reserved || last.State != Rejected {
			t.Errorf("narrow at %d: %v, %v", narrow, first.State, last.State)
		}
	}
}
