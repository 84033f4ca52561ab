package daemon

import (
	"errors"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// imagingSender is the i-th sender of the session of imagingKey.
func imagingSender(i int) packet.FlowKey {
	k := imagingKey
	k.SrcPort += uint16(i)
	return k
}

func sharedRequest(id uint64, style wire.Style, rate float64, senders ...int) softstate.Reserve {
	r := request(id, rate)
	r.Style, r.Filters, r.Police.Entry = style, nil, true
	for _, i := range senders {
		_, f := sessionOf(imagingSender(i))
		r.Filters = append(r.Filters, f)
	}
	r.Police.Merge = len(senders) > 1
	return r
}

func (r rig) syn(t *testing.T, i int) {
	t.Helper()
	from := netip.AddrPortFrom(imagingKey.SrcAddr(), imagingSender(i).SrcPort).String()
	r.flows.first(time.Now(), tcpPacket(t, from, "10.2.0.2:104", packet.FlagSYN), lan, wan)
}

// RFC 2205 section 1.3: the senders of a shared reservation are one group for the
// kernel and one entry in the ledger, and come and go one by one.
func TestSharedReservationIsOneGroup(t *testing.T) {
	for _, style := range []wire.Style{wire.WF, wire.SE} {
		r := testControl(t)
		reserve := func(ask softstate.Reserve) {
			t.Helper()
			if refusal := r.Reserve(ask); refusal != nil {
				t.Fatal(refusal)
			}
		}
		reserve(sharedRequest(1, style, 1e6, 0))
		group := r.fake.have[imagingSender(0)].Group
		if group == (packet.FlowKey{}) {
			t.Fatal("a shared style with one sender has no group that a second can join")
		}
		reserve(sharedRequest(1, style, 1e6, 0, 1, 2))
		for i := range 3 {
			if got := r.fake.have[imagingSender(i)]; !got.Reserve || got.Group != group || got.Rate != 1e6 {
				t.Errorf("%s: sender %d: %+v", style, i, got)
			}
		}
		if u, _, _ := r.admit.Usage("wan0"); u.Reservations != 1 || u.Bandwidth != 1e6 {
			t.Errorf("%s: ledger = %+v, want it once", style, u)
		}
		installs := r.fake.installs
		reserve(sharedRequest(1, style, 1e6, 0, 2)) // one has gone
		if got := r.fake.have[imagingSender(1)]; got.Reserve {
			t.Errorf("%s: one that left is still treated: %+v", style, got)
		}
		if r.fake.installs-installs > 1 {
			t.Errorf("%s: %d changes in the kernel for one that left", style, r.fake.installs-installs)
		}
		r.Release(1)
		for i := range 3 {
			if got := r.fake.have[imagingSender(i)]; got.Reserve {
				t.Errorf("%s: after the release: %+v", style, got)
			}
		}
	}
}

// Fixed filter: senders of one session have nothing in common.
func TestFixedFilterHasNoGroup(t *testing.T) {
	r := testControl(t)
	for i := range 2 {
		if refusal := r.Reserve(sharedRequest(uint64(i)+1, wire.FF, 5e5, i)); refusal != nil {
			t.Fatal(refusal)
		}
		if got := r.fake.have[imagingSender(i)]; got.Grouped() || !got.Reserve {
			t.Errorf("sender %d: %+v", i, got)
		}
	}
	if u, _, _ := r.admit.Usage("wan0"); u.Reservations != 2 || u.Bandwidth != 1e6 {
		t.Errorf("ledger = %+v, want two", u)
	}
}

// A change that fails at any of its senders leaves all of them, and the ledger,
// as they were.
func TestSharedChangeFailsWhole(t *testing.T) {
	for n := range 3 {
		for _, change := range []softstate.Reserve{
			sharedRequest(1, wire.SE, 1.5e6, 0, 1, 2), sharedRequest(1, wire.SE, 1.5e6, 2, 1, 0),
		} {
			r := testControl(t)
			if refusal := r.Reserve(sharedRequest(1, wire.SE, 1e6, 0, 1)); refusal != nil {
				t.Fatal(refusal)
			}
			before := []plan.Treatment{r.fake.have[imagingSender(0)], r.fake.have[imagingSender(1)]}
			r.fake.fail, r.fake.failAfter = errors.New("no room in the map"), n
			r.fake.failOnce = true
			change.Change = true
			if refusal := r.Reserve(change); refusal == nil || refusal.Code != wire.ErrTCSystem {
				t.Fatalf("refusal = %v", refusal)
			}
			for i, want := range before {
				if got := r.fake.have[imagingSender(i)]; got != want {
					t.Errorf("failure %d: sender %d: %+v, want %+v", n, i, got, want)
				}
			}
			if got := r.fake.have[imagingSender(2)]; got.Reserve {
				t.Errorf("failure %d: the new sender is treated: %+v", n, got)
			}
			if u, _, _ := r.admit.Usage("wan0"); u.Reservations != 1 || u.Bandwidth != 1e6 {
				t.Errorf("failure %d: ledger = %+v", n, u)
			}
		}
	}
}

// One sender that has its reservation for itself is cheated; when another comes,
// it is given back without a byte of it being policed, and cheated again when it
// is alone again.
func TestSharedReservationIsNotCheated(t *testing.T) {
	r := testControl(t)
	one, two := imagingSender(0), imagingSender(1)
	r.syn(t, 0)
	r.syn(t, 1)
	reserve := func(senders ...int) {
		t.Helper()
		if refusal := r.Reserve(sharedRequest(1, wire.WF, 1e6, senders...)); refusal != nil {
			t.Fatal(refusal)
		}
	}
	reserve(0)
	if _, on := r.cheat.running[one]; !on || !r.fake.have[one].Cheated {
		t.Fatal("a sender that is alone is not cheated")
	}
	r.flows.update(one, func(_ *conn, f *flow) { f.state = stateCheated })
	reserve(0, 1)
	if _, on := r.cheat.running[one]; !on || len(r.cheat.running) != 1 {
		t.Errorf("before the receivers could ask for another style: %v", r.cheat.running)
	}
	r.stopShared("wan0", one)
	if len(r.cheat.running) != 0 {
		t.Errorf("still cheated: %v", r.cheat.running)
	}
	if got := r.fake.have[one]; !got.Cheated {
		t.Errorf("what its engine has in hand is policed: %+v", got)
	}
	if got := r.fake.have[two]; got.Cheated || !got.Police {
		t.Errorf("the second one: %+v", got)
	}
	if f, _, _ := r.flows.get(two); f.state != stateManaged || f.reason != "reserved; not cheated: 2 senders share the reservation" {
		t.Errorf("the second one: %s, %q", f.state, f.reason)
	}
	// The engine has given it back.
	r.flows.update(one, func(_ *conn, f *flow) { f.state = stateManaged })
	r.restart(one)
	if got := r.fake.have[one]; got.Cheated || !got.Police || len(r.cheat.running) != 0 {
		t.Errorf("given back: %+v, running %v", got, r.cheat.running)
	}
	reserve(0)
	if _, on := r.cheat.running[one]; !on || !r.fake.have[one].Cheated {
		t.Error("alone again, and not cheated")
	}
	// Shared for a moment only, as while a style changes.
	reserve(0, 1)
	reserve(0)
	r.stopShared("wan0", one)
	if _, on := r.cheat.running[one]; !on {
		t.Error("alone again within a moment, and not cheated any more")
	}
}

// A change of style is a ResvTear and a RESV: the flow's treatment and its
// cheating go on, and the ledger never counts both.
func TestStyleChangesWithoutAGap(t *testing.T) {
	r := testControl(t)
	one := imagingSender(0)
	r.syn(t, 0)
	if refusal := r.Reserve(sharedRequest(1, wire.WF, 1.6e6, 0)); refusal != nil { // of 1.9e6
		t.Fatal(refusal)
	}
	r.fake.watch = func(k packet.FlowKey, tr plan.Treatment, removed bool) {
		if k == one && (removed || !tr.Reserve || !tr.Cheated) {
			t.Errorf("in between the flow has %+v, removed %t", tr, removed)
		}
	}
	r.cheat.stopped = func(k packet.FlowKey) { t.Errorf("%s: the cheating ended", k) }
	r.Torn(1)
	if u, _, _ := r.admit.Usage("wan0"); u.Bandwidth != 1.6e6 {
		t.Errorf("in between the ledger has %+v", u)
	}
	if refusal := r.Reserve(sharedRequest(2, wire.FF, 1.6e6, 0)); refusal != nil {
		t.Fatal(refusal)
	}
	if u, _, _ := r.admit.Usage("wan0"); u.Bandwidth != 1.6e6 || u.Reservations != 1 || len(r.torn) != 0 {
		t.Errorf("ledger = %+v, torn %v", u, r.torn)
	}
	if got := r.fake.have[one]; got.Grouped() {
		t.Errorf("kernel = %+v", got)
	}
	r.fake.watch, r.cheat.stopped = nil, nil
	r.Torn(2)
	r.expireTorn(2)
	if got := r.fake.have[one]; got.Reserve || len(r.cheat.running) != 0 {
		t.Errorf("nobody has taken it over: %+v", got)
	}
	if u, _, _ := r.admit.Usage("wan0"); u.Reservations != 0 {
		t.Errorf("ledger = %+v", u)
	}
}

// A reload after which flows are told apart by their DSCP alone ends the cheating:
// the class that they share is policed.
func TestReloadToClassifyByDSCPEndsCheating(t *testing.T) {
	r := testControl(t)
	r.syn(t, 0)
	if refusal := r.Reserve(sharedRequest(1, wire.FF, 1e6, 0)); refusal != nil {
		t.Fatal(refusal)
	}
	if len(r.cheat.running) != 1 {
		t.Fatalf("running: %v", r.cheat.running)
	}
	l := r.links()
	l.named("wan0").cfg.Classify = config.ClassifyDSCP
	r.reprogramAll(t.Context())
	if len(r.cheat.running) != 0 {
		t.Errorf("it is still cheated: %v", r.cheat.running)
	}
}

// What was taken back is in nobody's way, and a style that is refused leaves what
// was there until its time is over.
func TestTornMakesRoom(t *testing.T) {
	r := testControl(t)
	if refusal := r.Reserve(sharedRequest(1, wire.WF, 1.2e6, 0)); refusal != nil {
		t.Fatal(refusal)
	}
	r.Torn(1)
	if refusal := r.Reserve(sharedRequest(2, wire.FF, 5e6, 0)); refusal == nil {
		t.Fatal("more than the link has was granted")
	}
	if u, _, _ := r.admit.Usage("wan0"); u.Bandwidth != 1.2e6 || !r.fake.have[imagingSender(0)].Reserve {
		t.Errorf("after the refusal: ledger %+v, kernel %+v", u, r.fake.have[imagingSender(0)])
	}
	r.fake.fail, r.fake.failOnce = errors.New("no room in the map"), true
	if refusal := r.Reserve(sharedRequest(3, wire.FF, 1e6, 0)); refusal == nil {
		t.Fatal("granted")
	}
	if u, _, _ := r.admit.Usage("wan0"); u.Bandwidth != 1.2e6 || u.Reservations != 1 {
		t.Errorf("after the failure: ledger %+v", u)
	}
	other := sharedRequest(4, wire.FF, 1.2e6, 5)
	if refusal := r.Reserve(other); refusal != nil {
		t.Fatalf("what was taken back is in the way: %v", refusal)
	}
	if r.fake.have[imagingSender(0)].Reserve || len(r.torn) != 0 {
		t.Error("what was taken back is still treated")
	}
	r.Release(4)
	r.Torn(4) // twice is no harm
	r.close(false)
}

// What was taken back and has lost its place in the ledger to the reservation of
// one of its senders does not get another by the refusal of that of the other.
func TestTornIsNotCountedAgain(t *testing.T) {
	r := testControl(t)
	if refusal := r.Reserve(sharedRequest(1, wire.WF, 5e5, 0, 1)); refusal != nil {
		t.Fatal(refusal)
	}
	r.Torn(1)
	if refusal := r.Reserve(sharedRequest(2, wire.FF, 5e5, 0)); refusal != nil {
		t.Fatal(refusal)
	}
	r.fake.fail, r.fake.failOnce = errors.New("no room in the map"), true
	if refusal := r.Reserve(sharedRequest(3, wire.FF, 4e5, 1)); refusal == nil {
		t.Fatal("granted")
	}
	if u, _, _ := r.admit.Usage("wan0"); u.Bandwidth != 5e5 || u.Reservations != 1 || len(r.torn) != 1 {
		t.Errorf("ledger %+v, torn %v", u, r.torn)
	}
	if refusal := r.Reserve(sharedRequest(4, wire.FF, 4e5, 1)); refusal != nil {
		t.Fatal(refusal)
	}
	if u, _, _ := r.admit.Usage("wan0"); u.Bandwidth != 9e5 || u.Reservations != 2 || len(r.torn) != 0 {
		t.Errorf("ledger %+v, torn %v", u, r.torn)
	}
}

// RFC 2205 section 3.8, RFC 2211 section 7: the policy's excess rule is for the
// edge, for merge and for branch points; elsewhere what exceeds is best effort,
// and bursts may be somewhat larger.
func TestPolicingFlagsRFC2205Section3_8(t *testing.T) {
	for name, c := range map[string]struct {
		flags softstate.Police
		in    int
		edge  bool
	}{
		"entry":                      {softstate.Police{Entry: true}, wan, true},
		"merge":                      {softstate.Police{Merge: true}, wan, true},
		"branch":                     {softstate.Police{Branch: true}, wan, true},
		"inside":                     {softstate.Police{}, wan, false},
		"hosts that say they police": {softstate.Police{}, lan, true},
	} {
		r := testControl(t)
		p := r.flows.policyOf(imagingKey)
		p.Excess = config.ExcessDrop
		ask := request(1, 1e6)
		ask.Police, ask.In = c.flags, softstate.IfIndex(c.in)
		if refusal := r.Reserve(ask); refusal != nil {
			t.Fatal(refusal)
		}
		got := r.fake.have[imagingKey]
		if !got.Police || got.Drop != c.edge || (got.Bucket > 64000) == c.edge || math.IsInf(got.Peak, 1) == c.edge {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// `style:` reaches the receiver proxy.
func TestReceiverProxyStyles(t *testing.T) {
	s, f := sessionOf(imagingKey)
	info := softstate.PathInfo{Session: s, Sender: f, TSpec: spec(5e5).TSpec, In: wan, Out: lan}
	for style, want := range map[config.Style]softstate.ReserveSpec{
		config.StyleAuto: {Auto: true, Style: wire.FF}, config.StyleFF: {Style: wire.FF},
		config.StyleWF: {Style: wire.WF}, config.StyleSE: {Style: wire.SE},
	} {
		r := testControl(t)
		r.flows.policyOf(imagingKey).Reserve.Style = style
		if got, ok := r.receiverProxy(info); !ok || got.Style != want.Style || got.Auto != want.Auto {
			t.Errorf("%s: asked for %+v, %t", style, got, ok)
		}
	}
}

// A shared reservation that an earlier process left is counted once, until the
// last of its senders is claimed or gone.
func TestSharedLeftoversAreCountedOnce(t *testing.T) {
	r := testControl(t)
	ask := sharedRequest(1, wire.WF, 1e6, 0, 1, 2)
	var left []plan.Treatment
	for i := range 3 {
		left = append(left, plan.Treatment{
			Key: imagingSender(i), Interface: "wan0", Rate: 1e6, Bucket: 64000, MaxPacket: 1500, Reserve: true, Group: groupOf(ask),
		})
	}
	r.hold(left)
	usage := func(want int) {
		t.Helper()
		if u, _, _ := r.admit.Usage("wan0"); u.Reservations != want {
			t.Errorf("ledger = %+v, want %d", u, want)
		}
	}
	usage(1)
	r.disown("wan0", imagingSender(2))
	usage(1)
	if refusal := r.Reserve(sharedRequest(1, wire.WF, 1e6, 0)); refusal != nil {
		t.Fatal(refusal)
	}
	usage(1) // the other one is in the same group, and counted with it
	r.disown("wan0", imagingSender(1))
	usage(1)
	r.Release(1)
	usage(0)

	r.hold(left)
	if refusal := r.Reserve(sharedRequest(2, wire.FF, 1e5, 0)); refusal != nil {
		t.Fatal(refusal)
	}
	usage(2) // it left the group; the two others are still in it
	r.disown("wan0", imagingSender(1))
	r.disown("wan0", imagingSender(2))
	usage(1)
}
