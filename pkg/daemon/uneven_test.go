package daemon

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// treeConfig is a branch point: packets come in by in0, marked, and go out by wan0
// and wan1.
const treeConfig = `
interfaces:
  - {name: lan0, zone: hosts}
  - {name: wan0, zone: network, capacity: 19mbit, sls: [{class: af31, rate: 8mbit, burst: 640kB}]}
  - {name: wan1, zone: network, capacity: 19mbit, sls: [{class: af31, rate: 8mbit, burst: 640kB}]}
  - {name: in0, zone: network, capacity: 19mbit}
multicast: {heterogeneous: HOW}
policies:
  - name: bulk
    match: {protocol: udp, to_port: 9000}
    reserve: {role: sender, service: controlled-load, tspec: {rate: 8kbit, burst: 400B, max_packet: 400B}}
    mark: af31
`

const in0 = 4

type treeRig struct {
	*faultRig
	outs []int
}

func newTreeRig(t *testing.T, how string) *treeRig {
	t.Helper()
	c, err := config.Parse("box.yaml", []byte(strings.Replace(treeConfig, "HOW", how, 1)))
	if err != nil {
		t.Fatal(err)
	}
	var list []link
	for i, iface := range c.Interfaces {
		list = append(list, link{Link: route.Link{Index: i + 1, Name: iface.Name, MTU: 1500}, cfg: iface})
	}
	l := newLinks(list)
	table := newFlowTable(100, 2)
	table.configure("box.yaml", newPolicies(c), l.zones())
	tr := &treeRig{outs: []int{wan, third}}
	tc := newTrafficControl()
	tc.flows, tc.admit = table, admission.New(admission.NewMemory(), 100, l.admission(time.Now())...)
	k := &faultyKernel{have: map[shaper.FlowID]plan.Treatment{}, adopted: map[shaper.FlowID]bool{}, steps: -1}
	tc.kernel, tc.cheat = k, &fakeCheat{}
	tc.config, tc.links, tc.log = func() *config.Config { return c }, func() *links { return l }, zap.NewNop()
	tc.branches = func(source, group netip.Addr) []int {
		if source != groupKey.SrcAddr() || group != groupKey.DstAddr() {
			t.Errorf("asked for %s, %s", source, group)
		}
		return tr.outs
	}
	tr.faultRig = &faultRig{rig: rig{trafficControl: tc, cheat: tc.cheat.(*fakeCheat)}, kernel: k}
	return tr
}

func branchRequest(id uint64, out int, rate float64) softstate.Reserve {
	r := reserveFor(id, wire.FF, rate, out, groupKey)
	r.In, r.Role = in0, softstate.Transit
	return r
}

func (r *treeRig) at(iface string) (plan.Treatment, bool) {
	t, ok := r.kernel.have[shaper.FlowID{Interface: iface, Key: groupKey}]
	return t, ok
}

// is checks what a branch has: the mark that its copies get, "" for none, and what
// the ledger has of its link and its service level.
func (r *treeRig) is(t *testing.T, what, iface, mark string, ledger int64) {
	t.Helper()
	tr, there := r.at(iface)
	got := ""
	switch {
	case there && tr.Reserve:
		got = "reserved"
	case there && tr.Mark:
		got = map[uint8]string{0: "default", 1: "le"}[tr.DSCP]
	}
	if got != mark {
		t.Errorf("%s: %s is %q, want %q: %+v", what, iface, got, mark, tr)
	}
	for _, a := range []admission.Account{admission.LinkAccount(iface), admission.LevelAccount(iface, 26)} {
		if n := counted(t, r.rig, a); n != ledger {
			t.Errorf("%s: the ledger has %d in %s, want %d", what, n, a, ledger)
		}
	}
}

// Draft section 7.2: a group's reservation takes something of each link and each
// level that its copies cross, once.
func TestGroupCountsOnEachBranch(t *testing.T) {
	r := newTreeRig(t, "demote")
	r.must(t, branchRequest(1, wan, 1e5))
	r.must(t, branchRequest(2, third, 2e5))
	r.is(t, "both", "wan0", "reserved", 1e5)
	r.is(t, "both", "wan1", "reserved", 2e5)
	if refusal := r.Reserve(branchRequest(3, third, 9e5)); refusal == nil || refusal.Code != wire.ErrAdmission || !strings.Contains(refusal.Text, "wan1") {
		t.Errorf("a branch whose level is full: %v", refusal)
	}
	r.Release(1)
	r.is(t, "one", "wan1", "reserved", 2e5)
	r.is(t, "one", "wan0", "default", 0)
}

// Draft section 7.1, mechanism 2: packets keep their mark on a branch that has not
// reserved them, which takes as much of what others have reserved there.
func TestKeepCountsUnreservedBranches(t *testing.T) {
	r := newTreeRig(t, "keep")
	r.must(t, branchRequest(1, wan, 1e5))
	r.is(t, "one", "wan0", "reserved", 1e5)
	r.is(t, "one", "wan1", "", 1e5)
	change := branchRequest(1, wan, 3e5)
	change.Change = true
	r.must(t, change)
	r.is(t, "one has more", "wan1", "", 3e5)
	// Its own reservation takes the place of that.
	r.must(t, branchRequest(2, third, 2e5))
	r.is(t, "both", "wan1", "reserved", 2e5)
	r.is(t, "both", "wan0", "reserved", 3e5)
	r.Release(1)
	r.is(t, "the other", "wan0", "", 2e5)
	r.Release(2)
	r.is(t, "none", "wan0", "", 0)
	r.is(t, "none", "wan1", "", 0)

	// Copies that nobody has marked take nothing.
	ask := branchRequest(3, wan, 1e5)
	ask.In = lan // trust: none
	r.must(t, ask)
	r.is(t, "from hosts", "wan1", "", 0)
	r.Release(3)

	// Nor do they where no network behind the link goes by the mark.
	sls := r.links().list[third-1].cfg.SLS
	r.links().list[third-1].cfg.SLS = nil
	r.must(t, branchRequest(3, wan, 1e5))
	r.is(t, "without a contract", "wan1", "", 0)
	r.Release(3)
	r.links().list[third-1].cfg.SLS = sls

	// The members of a shared reservation are counted once, as it is itself.
	other := groupKey
	other.SrcPort++
	shared := reserveFor(4, wire.SE, 1e5, wan, groupKey, other)
	shared.In = in0
	r.must(t, shared)
	r.is(t, "shared", "wan1", "", 1e5)
	r.Release(4)
	r.is(t, "shared, gone", "wan1", "", 0)
	if len(r.covered) > 0 {
		t.Errorf("%v", r.covered)
	}
}

// Draft section 7.1, mechanism 1: a branch point that holds the state of each flow
// takes the mark off the copies for branches that have not reserved them.
func TestDemoteTakesTheMark(t *testing.T) {
	for _, to := range []string{"default", "le"} {
		r := newTreeRig(t, "demote, demote_to: "+to)
		r.must(t, branchRequest(1, wan, 1e5))
		r.is(t, "one", "wan0", "reserved", 1e5)
		r.is(t, "one", "wan1", to, 0)
		id := shaper.FlowID{Interface: "wan1", Key: groupKey}
		if !r.reserves(id) {
			t.Error("it would be swept away as nobody's")
		}
		// Its packets come to be counted, and later not any more.
		if err := r.count(t.Context(), plan.Treatment{Key: groupKey, Interface: "wan1"}); err != nil {
			t.Fatal(err)
		}
		r.is(t, "counted", "wan1", to, 0)
		r.uncount(t.Context(), groupKey, "wan1")
		r.is(t, "uncounted", "wan1", to, 0)

		r.must(t, branchRequest(2, third, 2e5))
		r.is(t, "both", "wan1", "reserved", 2e5)
		r.Release(2)
		r.is(t, "one again", "wan1", to, 0)

		// Listeners leave that branch and come back.
		r.outs = []int{wan}
		r.regroup([]netip.Prefix{netip.MustParsePrefix("239.1.2.3/32")})
		if tr, ok := r.at("wan1"); ok {
			t.Errorf("left: %+v", tr)
		}
		r.outs = []int{wan, third}
		r.regroup([]netip.Prefix{netip.MustParsePrefix("239.1.2.4/32")})
		if _, ok := r.at("wan1"); ok {
			t.Error("another group's routes are no concern of this one")
		}
		r.regroup([]netip.Prefix{netip.MustParsePrefix("224.0.0.0/4")})
		r.is(t, "back", "wan1", to, 0)
		r.Release(1)
		r.is(t, "none", "wan1", "", 0)
		if len(r.demoted) > 0 {
			t.Errorf("%v", r.demoted)
		}
	}
}

// A reload may want it otherwise.
func TestUnevenTreeFollowsTheConfiguration(t *testing.T) {
	r := newTreeRig(t, "keep")
	r.must(t, branchRequest(1, wan, 1e5))
	r.flows.ensure(time.Now(), groupKey, in0, third, nil)
	r.is(t, "keep", "wan1", "", 1e5)
	c := r.config()
	for _, step := range []struct {
		how    config.Multicast
		mark   string
		ledger int64
	}{
		{config.Multicast{Heterogeneous: config.HeterogeneousDemote}, "default", 0},
		{config.Multicast{Heterogeneous: config.HeterogeneousDemote, DemoteTo: 1}, "le", 0},
		{config.Multicast{Heterogeneous: config.HeterogeneousKeep}, "", 1e5},
	} {
		c.Multicast = step.how
		r.reprogramAll(t.Context())
		r.is(t, step.how.Heterogeneous.String(), "wan1", step.mark, step.ledger)
		f, _, ok := r.flows.getOn(groupKey, third)
		if said := strings.Contains(f.text(), "demoted to "+step.mark); !ok || said != (step.mark != "") || f.dscp != step.how.DemoteTo {
			t.Errorf("%s: the row says %q, DSCP %d", step.how.Heterogeneous, f.text(), f.dscp)
		}
	}
}

// What another process left is a reservation until it is claimed or forfeited.
func TestDemoteSparesWhatMayBeClaimed(t *testing.T) {
	r := newTreeRig(t, "demote")
	f := spec(1e5).TSpec
	left := plan.Treatment{
		Key: groupKey, Interface: "wan1", Rate: f.Rate, Bucket: f.Bucket, Peak: f.Peak, MinUnit: f.MinUnit, MaxPacket: f.MaxPacket,
		DSCP: 26, Mark: true, Police: true, Reserve: true,
	}
	id := shaper.FlowID{Interface: "wan1", Key: groupKey}
	r.kernel.have[id], r.kernel.adopted[id] = left, true
	r.hold(leftovers([]plan.Treatment{left}))
	r.must(t, branchRequest(1, wan, 1e5))
	r.is(t, "left", "wan1", "reserved", 1e5)
	delete(r.kernel.have, id) // Reconcile
	delete(r.kernel.adopted, id)
	r.forfeit()
	r.is(t, "forfeited", "wan1", "default", 0)
}

// Draft section 7.1, mechanism 4: where heterogeneous trees are not wanted, different
// requests are refused by ResvErr. Those that agree are granted.
func TestRejectWantsEvenTrees(t *testing.T) {
	r := newTreeRig(t, "reject")
	refused := func(what string, ask softstate.Reserve, names string) {
		t.Helper()
		refusal := r.Reserve(ask)
		if refusal == nil || refusal.Code != wire.ErrTrafficControl || refusal.Value != wire.TCServiceConflict || !strings.Contains(refusal.Text, names) {
			t.Errorf("%s: %v", what, refusal)
		}
	}
	refused("one of two", branchRequest(1, wan, 1e5), "wan1")
	r.is(t, "one of two", "wan0", "", 0)
	refused("another amount", branchRequest(2, third, 2e5), "wan0")
	r.must(t, branchRequest(3, third, 1e5))
	r.must(t, branchRequest(4, wan, 1e5)) // asks again, as RSVP has it with each refresh
	r.is(t, "both", "wan0", "reserved", 1e5)
	r.is(t, "both", "wan1", "reserved", 1e5)
	if len(r.wishes) > 0 {
		t.Errorf("granted wishes are kept: %v", r.wishes)
	}
	// A change of all: the last one to ask is the first to get it.
	more := func(id uint64, out int) softstate.Reserve {
		ask := branchRequest(id, out, 2e5)
		ask.Change = true
		return ask
	}
	refused("more on one", more(4, wan), "wan1")
	r.is(t, "more on one", "wan0", "reserved", 1e5)
	r.must(t, more(3, third))
	r.must(t, more(4, wan))
	r.is(t, "more on both", "wan0", "reserved", 2e5)
	r.is(t, "more on both", "wan1", "reserved", 2e5)
	// What becomes uneven later is not taken away; the branch without is spared.
	r.Release(3)
	r.is(t, "one has left", "wan0", "reserved", 2e5)
	r.is(t, "one has left", "wan1", "default", 0)
	// A branch that nobody listens at any more is no branch.
	r.Release(4)
	r.outs = []int{wan}
	r.must(t, branchRequest(5, wan, 1e5))
}

// An aggregate data plane cannot demote: there too the copies are counted.
func TestUnevenTreeByDSCP(t *testing.T) {
	r := newTreeRig(t, "reject")
	r.links().list[third-1].cfg.Classify = config.ClassifyDSCP
	r.outs = []int{wan}
	r.must(t, branchRequest(1, wan, 1e5))
	r.outs = []int{wan, third}
	r.regroup([]netip.Prefix{netip.MustParsePrefix("239.1.2.3/32")})
	r.is(t, "joined later", "wan1", "", 1e5)
	r.Release(1)
	r.is(t, "gone", "wan1", "", 0)
}

// A wish is forgotten, and there are not too many of them.
func TestWishesAreBounded(t *testing.T) {
	r := newTreeRig(t, "reject")
	if refusal := r.Reserve(branchRequest(1, wan, 1e5)); refusal == nil {
		t.Fatal("granted")
	}
	id := shaper.FlowID{Interface: "wan0", Key: groupKey}
	w := r.wishes[id]
	w.until = time.Now()
	r.wishes[id] = w
	if refusal := r.Reserve(branchRequest(2, third, 1e5)); refusal == nil {
		t.Error("a wish of long ago counts")
	}
	for i := range maxWishes {
		r.wishes[shaper.FlowID{Interface: "wan0", Key: packet.FlowKey{SrcPort: uint16(i)}}] = wish{until: time.Now().Add(time.Hour)}
	}
	if refusal := r.Reserve(branchRequest(3, wan, 3e5)); refusal == nil {
		t.Error("granted")
	}
	if n := len(r.wishes); n > maxWishes+2 {
		t.Errorf("%d wishes", n)
	}
}

// Unicast and single branches are no concern of any of it.
func TestUnevenIsAboutBranches(t *testing.T) {
	for _, how := range []string{"keep", "demote", "reject"} {
		r := newTreeRig(t, how)
		r.must(t, reserveFor(1, wire.FF, 1e5, wan, plainKey))
		r.outs = []int{wan}
		r.must(t, branchRequest(2, wan, 1e5))
		if len(r.kernel.have) != 2 || len(r.demoted)+len(r.covered)+len(r.wishes) > 0 {
			t.Errorf("%s: %v", how, r.kernel.have)
		}
	}
}

// Kernel operations that fail leave uneven trees as they were, too.
func TestEveryFailureOnATree(t *testing.T) {
	for _, how := range []string{"keep", "demote"} {
		for name, ask := range map[string]softstate.Reserve{
			"the first": branchRequest(1, wan, 1e5), "the second": branchRequest(2, third, 2e5),
		} {
			build := func() *treeRig {
				r := newTreeRig(t, how)
				if name == "the second" {
					r.must(t, branchRequest(1, wan, 1e5))
				}
				return r
			}
			well := build()
			well.must(t, ask)
			for steps := 0; ; steps++ {
				r := build()
				before := r.account(t)
				r.kernel.steps = steps
				refusal := r.Reserve(ask)
				done := r.kernel.steps >= 0
				want := before
				if refusal == nil {
					want = well.account(t)
				}
				r.settleDebts(t.Context())
				if d := cmp.Diff(want, r.account(t)); d != "" || len(r.owed) > 0 {
					t.Errorf("%s, %s, operation %d failed:\n%s", how, name, steps, d)
				}
				if done {
					break
				}
			}
		}
	}
}
