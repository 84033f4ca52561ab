package daemon

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/byhand"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// callRig is traffic control with what it has told RSVP.
type callRig struct {
	rig
	told map[uint64]softstate.Refusal
}

// callsWith makes it with what an operator says of admission, in YAML.
func callsWith(t *testing.T, said string) callRig {
	t.Helper()
	c, err := config.Parse("box.yaml", []byte(testConfig+said))
	if err != nil {
		t.Fatal(err)
	}
	r := callRig{testControl(t), map[uint64]softstate.Refusal{}}
	r.admit.SetPolicy(admissionPolicy(c))
	r.flows.hand = newHandTable()
	r.withdraw = func(id uint64, why softstate.Refusal) { r.told[id] = why }
	return r
}

func callKey(i int) packet.FlowKey {
	return packet.MakeKey(packet.ProtoUDP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 9000), netip.MustParseAddrPort("10.2.0.2:5004"))
}

// call is a request for a flow of its own.
func call(id uint64, rate float64, setup, hold uint16) softstate.Reserve {
	r := request(id, rate)
	s, f := sessionOf(callKey(int(id)))
	r.Session, r.Filters = s, []wire.Filter{f}
	r.Priority = softstate.Priority{Preempting: setup, Defending: hold}
	return r
}

func (r *callRig) must(t *testing.T, ask softstate.Reserve) {
	t.Helper()
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatalf("reservation %d: %v", ask.ID, refusal)
	}
}

func (r *callRig) used(t *testing.T) (n int, bandwidth int64) {
	t.Helper()
	u, ok, err := r.admit.Usage("wan0")
	if !ok || err != nil {
		t.Fatalf("%v %v", ok, err)
	}
	return u.Reservations, u.Bandwidth
}

// RFC 3181: a reservation of higher priority takes the place of a lower one: its
// mark goes before the other's comes, in the ledger it is one for the other, and
// it is told by whom (section 6).
func TestPreemptionInOneTransaction(t *testing.T) {
	r := callsWith(t, "") // 1.9e6 bytes/s
	r.must(t, call(1, 1e6, 0, 0))
	r.must(t, call(2, 8e5, 4, 4))
	r.flows.first(time.Now(), udpPacket(t, "10.1.0.1:9000", "10.2.0.2:5004"), lan, wan)
	var order []string
	r.fake.watch = func(key packet.FlowKey, tr plan.Treatment, removed bool) {
		order = append(order, fmt.Sprintf("%s %v", key.SrcAddr(), tr.Reserve && !removed))
	}
	r.must(t, call(3, 9e5, 5, 6))
	if len(order) < 2 || order[0] != "10.1.0.1 false" || order[1] != "10.1.0.3 true" {
		t.Errorf("%v", order)
	}
	if got := r.fake.have[callKey(1)]; got.Reserve || got.Mark {
		t.Errorf("the preempted flow is still treated: %+v", got)
	}
	if got := r.fake.have[callKey(2)]; !got.Reserve {
		t.Errorf("the other flow: %+v", got)
	}
	if n, b := r.used(t); n != 2 || b != 17e5 {
		t.Errorf("%d reservations of %d bytes/s", n, b)
	}
	why := r.told[1]
	if len(r.told) != 1 || why.Code != wire.ErrPreempted || why.By == nil || *why.By != (softstate.Priority{Preempting: 5, Defending: 6}) {
		t.Errorf("%+v", r.told)
	}
	if want := "preempted by udp 10.1.0.3:9000 > 10.2.0.2:5004 (priority 5)"; why.Text != want {
		t.Errorf("%q, want %q", why.Text, want)
	}
	if f, _, ok := r.flows.get(callKey(1)); !ok || f.state != stateWatched || f.reason != why.Text || !f.reserved.IsZero() {
		t.Errorf("%+v", f)
	}
	if r.ousted.get() != 1 {
		t.Errorf("%d", r.ousted.get())
	}
	// RSVP gives it back what it has lost already.
	r.Release(1)
	if n, _ := r.used(t); n != 2 {
		t.Errorf("%d reservations", n)
	}
	// Of equal priority nobody goes, and a refusal disturbs nobody.
	r.fake.watch = func(key packet.FlowKey, tr plan.Treatment, _ bool) { t.Errorf("touched: %s %+v", key, tr) }
	if refusal := r.Reserve(call(4, 1e6, 4, 9)); refusal == nil || refusal.Code != wire.ErrAdmission || refusal.Value != wire.AdmissionBandwidth {
		t.Errorf("%v", refusal)
	}
	if refusal := r.Reserve(call(4, 1.2e6, 6, 6)); refusal == nil || len(r.told) != 1 {
		t.Errorf("not even all would have made room: %v", refusal)
	}
}

// A cheated connection that is preempted is given back to its ends.
func TestPreemptedConnectionIsDrained(t *testing.T) {
	r := callsWith(t, "")
	r.flows.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN), lan, wan)
	r.must(t, request(1, 1e6))
	if len(r.cheat.running) != 1 {
		t.Fatal("not cheated")
	}
	r.must(t, call(2, 1.5e6, 1, 1))
	if len(r.cheat.running) != 0 || r.told[1].Code != wire.ErrPreempted {
		t.Errorf("%v %+v", r.cheat.running, r.told)
	}
}

// refusingKernel fails what it is told to.
type refusingKernel struct {
	treater
	no func(plan.Treatment) bool
}

func (k *refusingKernel) Install(ctx context.Context, t plan.Treatment) (plan.ClassID, error) {
	if k.no(t) {
		return 0, shaper.ErrCapacity
	}
	return k.treater.Install(ctx, t)
}

// If the kernel refuses the newcomer, those that were to make room stand as they
// were, in kernel, ledger, flow table and engines, and nobody is told anything.
func TestPreemptionTakenBackWhenTheKernelRefuses(t *testing.T) {
	for name, no := range map[string]func(plan.Treatment) bool{
		"the newcomer":        func(tr plan.Treatment) bool { return tr.Key == callKey(3) },
		"to take the second":  func(tr plan.Treatment) bool { return tr.Key == callKey(2) && !tr.Reserve },
		"to take the first":   func(tr plan.Treatment) bool { return tr.Key == imagingKey && !tr.Reserve },
		"a change, halfway":   func(tr plan.Treatment) bool { return tr.Key == callKey(3) && tr.Rate == 18e5 },
		"a change, taking it": func(tr plan.Treatment) bool { return tr.Key == imagingKey && !tr.Reserve },
	} {
		r := callsWith(t, "")
		r.flows.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN), lan, wan)
		r.must(t, request(1, 8e5))
		r.must(t, call(2, 8e5, 0, 0))
		if strings.HasPrefix(name, "a change") {
			r.must(t, call(3, 1e5, 5, 5))
		}
		running, have := len(r.cheat.running), maps.Clone(r.fake.have)
		n, b := r.used(t)
		r.kernel = &refusingKernel{r.fake, no}
		ask := call(3, 18e5, 5, 5)
		ask.Change = strings.HasPrefix(name, "a change")
		refusal := r.Reserve(ask)
		if refusal == nil || refusal.Code != wire.ErrAdmission {
			t.Errorf("%s: %v", name, refusal)
		}
		for _, key := range []packet.FlowKey{imagingKey, callKey(2)} {
			if r.fake.have[key] != have[key] {
				t.Errorf("%s: %+v, was %+v", name, r.fake.have[key], have[key])
			}
			if f, _, _ := r.flows.get(key); f.state != stateManaged {
				t.Errorf("%s: row %v %q", name, f.state, f.reason)
			}
		}
		if got, ok := r.fake.have[callKey(3)]; ok && got.Reserve != have[callKey(3)].Reserve || got.Rate != have[callKey(3)].Rate {
			t.Errorf("%s: the newcomer has %+v, had %+v", name, got, have[callKey(3)])
		}
		if m, c := r.used(t); m != n || c != b {
			t.Errorf("%s: %d reservations of %d bytes/s, was %d of %d", name, m, c, n, b)
		}
		if len(r.told) != 0 || len(r.cheat.running) != running || r.ousted.get() != 0 {
			t.Errorf("%s: told %+v, %d engines", name, r.told, len(r.cheat.running))
		}
	}
}

// What the kernel does not take back at once is owed, and brought back as soon as
// it does; nobody is told that it has ended.
func TestPreemptionThatCannotBeTakenBackAtOnce(t *testing.T) {
	r := callsWith(t, "")
	r.must(t, call(1, 1.8e6, 0, 0))
	was := r.fake.have[callKey(1)]
	r.kernel = &refusingKernel{r.fake, func(tr plan.Treatment) bool { return tr.Reserve }}
	if refusal := r.Reserve(call(2, 1.8e6, 1, 1)); refusal == nil {
		t.Fatal("granted")
	}
	if n, _ := r.used(t); n != 1 || len(r.told) != 0 || r.fake.have[callKey(1)].Reserve {
		t.Errorf("%d in the ledger, told %+v, %+v", n, r.told, r.fake.have[callKey(1)])
	}
	r.kernel = r.fake
	r.settleDebts(t.Context())
	if got := r.fake.have[callKey(1)]; got != was {
		t.Errorf("%+v, was %+v", got, was)
	}
}

// What was taken back by a next hop a moment ago makes room before anybody who
// is in place does.
func TestTornGoesBeforeThePreempted(t *testing.T) {
	r := callsWith(t, "")
	r.must(t, call(1, 9e5, 0, 0))
	r.must(t, call(2, 9e5, 0, 0))
	r.Torn(2)
	r.must(t, call(3, 9e5, 5, 5))
	if len(r.told) != 0 || !r.fake.have[callKey(1)].Reserve {
		t.Errorf("%+v", r.told)
	}
}

// preemption: false has nobody go.
func TestNoPreemption(t *testing.T) {
	r := callsWith(t, "admission: {preemption: false}\n")
	r.must(t, call(1, 1.8e6, 0, 0))
	if refusal := r.Reserve(call(2, 1.8e6, 5, 5)); refusal == nil || len(r.told) != 0 {
		t.Errorf("%v", refusal)
	}
}

// Receivers on links whose marks are not trusted have no priority of their own;
// what this box asks for on their behalf has.
func TestPriorityOfUntrustedHosts(t *testing.T) {
	for role, want := range map[softstate.Role]uint16{softstate.Transit: 0, softstate.SenderProxy: 0, softstate.ReceiverProxy: 7, softstate.BothProxy: 7} {
		r := callsWith(t, "")
		ask := call(1, 1e5, 7, 7)
		ask.In, ask.Out, ask.Role = wan, lan, role
		r.must(t, ask)
		if got := r.held[1].priority.Setup; got != want {
			t.Errorf("%v: %d", role, got)
		}
		ask = call(2, 1e5, 7, 7)
		ask.Role = role
		r.must(t, ask)
		if got := r.held[2].priority.Setup; got != 7 {
			t.Errorf("%v, towards the network: %d", role, got)
		}
	}
}

// Reservations by hand pass the same rules: their owner is who asks.
func TestRulesForReservationsByHand(t *testing.T) {
	r := callsWith(t, `
admission:
  users: [{name: ann, identities: ann@example, rate: 4mbit}]
  rules: [{name: ann, match: {user: ann}}]
`)
	for i, owner := range []string{"ann", "ann@example", "bob", ""} {
		id := uint64(i + 1)
		r.flows.hand.put(byhand.Reservation{ID: id, Flow: callKey(int(id)), Owner: owner, TSpec: spec(1e5).TSpec})
		refusal := r.Reserve(call(id, 1e5, 0, 0))
		switch {
		case i < 2 && (refusal != nil || r.userOf(id) != "ann"):
			t.Errorf("%s: %v", owner, refusal)
		case i >= 2 && (refusal == nil || refusal.Code != wire.ErrPolicy):
			t.Errorf("%s: %v", owner, refusal)
		}
	}
	r.flows.hand.put(byhand.Reservation{ID: 9, Flow: callKey(9), Owner: "ann", TSpec: spec(5e5).TSpec})
	if refusal := r.Reserve(call(9, 4e5, 0, 0)); refusal == nil || refusal.Code != wire.ErrPolicy || refusal.Value != wire.PolicyExceeded {
		t.Errorf("%v", refusal)
	}
}

// Who shares a reservation with others does not borrow their rights.
func TestSharedByDifferentOwners(t *testing.T) {
	r := callsWith(t, "admission: {users: [{name: chief}, {name: ann}], rules: [{name: chief, match: {user: chief}}, {name: all, match: {user: ann}, priority: 0}]}\n")
	ask := call(1, 1e5, 9, 9)
	_, second := sessionOf(callKey(2))
	ask.Style, ask.Filters = wire.WF, append(ask.Filters, second)
	for i, owner := range []string{"chief", "ann"} {
		r.flows.hand.put(byhand.Reservation{ID: uint64(i + 1), Flow: callKey(i + 1), Owner: owner, TSpec: spec(1e5).TSpec})
	}
	if refusal := r.Reserve(ask); refusal == nil || refusal.Code != wire.ErrPolicy || !strings.Contains(refusal.Text, "owner chief and ann") {
		t.Errorf("%v", refusal)
	}
	ask.Filters = ask.Filters[:1]
	r.must(t, ask)
}

// What policy has against a request is told in the words of RFC 3182.
func TestDenials(t *testing.T) {
	r := callsWith(t, `
admission:
  users: [{name: ann, identities: ann}]
  rules: [{name: ann, match: {user: ann}, services: guaranteed}]
`)
	ask := call(1, 1e5, 0, 0)
	if refusal := r.Reserve(ask); refusal == nil || refusal.Value != wire.PolicyMissing || refusal.Denied == nil || refusal.Denied.Value != 0 {
		t.Errorf("%+v", refusal)
	}
	said := wire.Identity{Type: wire.AuthUser, Attributes: []wire.AuthAttribute{{Type: wire.AuthCredential, SubType: wire.CredentialX509, Value: []byte{1}}}}
	ask.Identities = []softstate.Identity{{Said: said, Resv: true, From: wan}}
	if refusal := r.Reserve(ask); refusal == nil || refusal.Value != wire.PolicyRejected || refusal.Denied.Value != wire.AuthUnsupportedCredential || refusal.Denied.Who.Type != wire.AuthUser {
		t.Errorf("%+v", refusal)
	}
	ask.Identities[0].Names = []string{"ann"}
	if refusal := r.Reserve(ask); refusal == nil || refusal.Value != wire.PolicyService || refusal.Denied.Value != wire.AuthInsufficientPrivileges {
		t.Errorf("%+v", refusal)
	}
	if n, _ := r.used(t); n != 0 || len(r.fake.have) != 0 {
		t.Errorf("%d reservations", n)
	}
}

// identities: signed looks at the interface that a name came by.
func TestSignedInterfaces(t *testing.T) {
	r := callsWith(t, "")
	r.admit.SetPolicy(admission.Policy{Signed: true, Users: []admission.User{{Name: "ann", Names: []string{"ann"}}}})
	r.links().byIndex[wan].cfg.Integrity = []config.IntegrityKey{{ID: 1}}
	for i, from := range []softstate.IfIndex{wan, lan, 0} {
		ask := call(uint64(i+1), 1e5, 0, 0)
		ask.Identities = []softstate.Identity{{Names: []string{"ann"}, From: from}}
		r.must(t, ask)
		if got := r.userOf(ask.ID); (got == "ann") != (from == wan) {
			t.Errorf("from interface %d: %q", from, got)
		}
	}
}

// `users` shows what each has, of how much, and those that have nothing.
func TestUserRows(t *testing.T) {
	said := "admission: {users: [{name: ann, identities: ann, rate: 8mbit}, {name: lab, from: 10.1.0.0/24}]}\n"
	r := callsWith(t, said)
	c, err := config.Parse("box.yaml", []byte(testConfig+said))
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{tc: r.trafficControl, admit: r.admit}
	d.cfg.Store(c)
	r.must(t, call(1, 1e5, 0, 0))
	r.must(t, call(2, 2e5, 0, 0))
	want := []console.UserRow{
		{Name: "ann", Line: c.Admission.Users[0].Line, Identities: []string{"ann"}, From: []string{}, LimitBPS: 8e6},
		{Name: "lab", Line: c.Admission.Users[1].Line, From: []string{"10.1.0.0/24"}, ReservedBPS: 24e5, Reservations: 2},
	}
	if diff := cmp.Diff(want, d.Users()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
