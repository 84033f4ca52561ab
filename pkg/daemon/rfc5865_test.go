package daemon

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// The four MUSTs that RFC 5865 section 2.2 has for whatever admits calls.

// The actual links that a session uses have enough bandwidth to support it:
// whatever comes, in whatever order and priority, what the kernel has to carry on
// a link is no more than the link may grant, and each flow that is said to be
// admitted has its rate there. (That each link of the way is asked:
// softstate TestRFC5865Section2_2_EveryLink.)
func TestRFC5865Section2_2_Bandwidth(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	r := callsWith(t, "admission: {thresholds: [{below: 2, share: 70%}]}\n")
	const limit = 19e6 / 8 * 0.8
	rates := map[uint64]float64{}
	for range 2000 {
		id := uint64(1 + rng.IntN(40))
		if rng.IntN(3) == 0 {
			r.Release(id)
			delete(rates, id)
		} else {
			setup := uint16(rng.IntN(5))
			ask := call(id, float64(1000+rng.IntN(400000)), setup, setup+uint16(rng.IntN(2)))
			ask.Change = rates[id] != 0
			if r.Reserve(ask) == nil {
				rates[id] = ask.FlowSpec.TSpec.Rate
			}
		}
		for id := range r.told {
			delete(rates, id)
			delete(r.told, id)
		}
		sum := 0.0
		for key, tr := range r.fake.have {
			if tr.Reserve {
				sum += max(tr.Rate, tr.Share)
				if !tr.Mark {
					t.Fatalf("%s is reserved and not marked", key)
				}
			}
		}
		if sum > limit*(1+1e-6) {
			t.Fatalf("the kernel has %.0f bytes/s reserved, of %.0f", sum, limit)
		}
		for id, rate := range rates {
			if tr := r.fake.have[callKey(int(id))]; !tr.Reserve || tr.Rate != rate {
				t.Fatalf("reservation %d of %.0f bytes/s has %+v", id, rate, tr)
			}
		}
		if n, b := r.used(t); n != len(rates) || float64(b) > limit*(1+1e-6) {
			t.Fatalf("%d reservations of %d bytes/s, want %d", n, b, len(rates))
		}
	}
}

// New sessions are refused admission if there is inadequate bandwidth under the
// relevant policy: of the link, of a precedence's part of it, of the user.
func TestRFC5865Section2_2_Refused(t *testing.T) {
	r := callsWith(t, `
admission:
  preemption: false
  thresholds: [{below: 5, share: 50%}]
  users: [{name: ann, from: 10.1.0.1, rate: 800kbit}]
`)
	refused := func(ask softstate.Reserve, code wire.ErrorCode, value uint16) {
		t.Helper()
		refusal := r.Reserve(ask)
		if refusal == nil || refusal.Code != code || refusal.Value != value || refusal.Text == "" {
			t.Errorf("reservation %d: %v", ask.ID, refusal)
		}
		if got, ok := r.fake.have[callKey(int(ask.ID))]; ok {
			t.Errorf("a refused reservation is treated: %+v", got)
		}
	}
	refused(call(1, 2e5, 0, 0), wire.ErrPolicy, wire.PolicyExceeded)
	r.must(t, call(2, 9.5e5, 0, 0))
	refused(call(3, 1e4, 4, 4), wire.ErrAdmission, wire.AdmissionBandwidth)
	r.must(t, call(4, 9.5e5, 5, 5))
	refused(call(5, 1e4, 65535, 65535), wire.ErrAdmission, wire.AdmissionBandwidth)
	r.Release(2)
	r.Release(4)
	r.must(t, call(3, 1e4, 4, 4))
}

// A user is identified and the correct policy is applied if multiple policies are
// in use: by the name that a request carries, where it is signed, and by what
// that user may have.
func TestRFC5865Section2_2_User(t *testing.T) {
	r := callsWith(t, `
admission:
  users:
    - {name: chief, identities: "CN=Chief,O=Fire Brigade"}
    - {name: staff, from: 10.1.0.0/16, rate: 1600kbit}
  rules:
    - {name: precedence, match: {to: 10.2.0.0/16, user: chief}, priority: 9}
    - {name: routine, match: {user: staff}, rate: 800kbit, priority: 0}
`)
	named := func(ask softstate.Reserve, name string) softstate.Reserve {
		said := wire.Identity{Type: wire.AuthUser, Attributes: []wire.AuthAttribute{{Type: wire.AuthPolicyLocator, SubType: wire.LocatorASCII, Value: []byte(name)}}}
		ask.Identities = []softstate.Identity{{Said: said, Names: []string{name}, Text: name, Resv: true, From: wan}}
		return ask
	}
	// The same request is two users', by who asks.
	r.must(t, named(call(1, 1.5e6, 9, 9), "CN=Chief, O=Fire Brigade"))
	if refusal := r.Reserve(call(2, 1.5e6, 0, 0)); refusal == nil || refusal.Value != wire.PolicyFlowSpec {
		t.Errorf("routine, too large: %v", refusal)
	}
	if refusal := r.Reserve(call(2, 1e5, 9, 9)); refusal == nil || refusal.Value != wire.PolicyRejected {
		t.Errorf("routine that claims precedence: %v", refusal)
	}
	if refusal := r.Reserve(named(call(2, 1e5, 9, 9), "CN=Chief,O=Elsewhere")); refusal == nil || refusal.Value != wire.PolicyRejected {
		t.Errorf("somebody else: %v", refusal)
	}
	r.must(t, call(2, 1e5, 0, 0))
	if a, b := r.userOf(1), r.userOf(2); a != "chief" || b != "staff" {
		t.Errorf("%s, %s", a, b)
	}
	// Each is counted in the account of its own.
	r.must(t, call(3, 1e5, 0, 0))
	if refusal := r.Reserve(call(4, 1e5, 0, 0)); refusal == nil || refusal.Value != wire.PolicyExceeded {
		t.Errorf("routine, more than staff may have: %v", refusal)
	}
	// And precedence has its way where there is no room.
	r.must(t, named(call(5, 3e5, 9, 9), "CN=Chief,O=Fire Brigade"))
	if len(r.told) != 1 || r.held[1] == nil {
		t.Errorf("%+v", r.told)
	}
}

// Under periods of network stress, the admission of new sessions does not disrupt
// existing ones: thousands of requests, most of which are refused, change nothing
// of their treatment, and do not even install it again.
func TestRFC5865Section2_2_Stress(t *testing.T) {
	r := callsWith(t, `
admission:
  users: [{name: staff, from: 10.1.0.0/16, rate: 14400kbit}]
  rules: [{name: all, match: {user: staff}, priority: 3}]
`)
	const existing = 20
	was := map[packet.FlowKey]plan.Treatment{}
	for i := uint64(1); i <= existing; i++ {
		r.must(t, call(i, 8e4, 1, 3))
		was[callKey(int(i))] = r.fake.have[callKey(int(i))]
	}
	r.fake.watch = func(key packet.FlowKey, tr plan.Treatment, removed bool) {
		if _, ok := was[key]; ok {
			t.Fatalf("%s: touched (%v, %+v)", key, removed, tr)
		}
	}
	admitted, refused := 0, 0
	for i := uint64(1000); i < 6000; i++ {
		// Setup priorities as high as the others' hold, and higher than may be asked for.
		ask := call(i, float64(1000+10*(i%7000)), uint16(i%5), uint16(i%5))
		if i%2 == 0 {
			s, f := sessionOf(callKey(int(i)))
			ask.Session, ask.Filters = s, []wire.Filter{f}
			ask.Identities = []softstate.Identity{{Names: []string{"eve"}, From: lan}}
		}
		if r.Reserve(ask) == nil {
			admitted++
			if i%3 == 0 {
				r.Torn(i)
			} else {
				r.Release(i)
			}
		} else {
			refused++
		}
	}
	if admitted == 0 || refused < 2500 {
		t.Errorf("%d admitted, %d refused: no stress", admitted, refused)
	}
	for key, tr := range was {
		if r.fake.have[key] != tr {
			t.Errorf("%s: %+v, was %+v", key, r.fake.have[key], tr)
		}
	}
	if len(r.told) != 0 {
		t.Errorf("%+v", r.told)
	}
	r.endTorn("wan0", nil)
	if n, b := r.used(t); n != existing || b != existing*8e4 {
		t.Errorf("%d reservations of %d bytes/s", n, b)
	}
}
