package daemon

import (
	"slices"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/byhand"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// RFC 2996 section 2: a set of code points has no order that means something.
func TestNetworkDrivenRFC2996Section2(t *testing.T) {
	c, err := config.Parse("t.yaml", []byte("interfaces: [{name: a, zone: hosts}, {name: b, zone: network, capacity: 19mbit}]\npolicies: [{name: p, match: {protocol: udp}, mark: af11}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ours  uint8
		heard []uint8
		want  uint8
	}{
		{26, nil, 26},
		{26, []uint8{18}, 18},
		{26, []uint8{18, 10, 12}, 12},
		{26, []uint8{18, 26}, 26}, // ours is as good as any
		{26, []uint8{0}, 26},      // best effort is no reservation's
		{26, []uint8{1, 8}, 26},   // nor is low priority
		{26, []uint8{12, 10}, 12}, // a policy has AF11 for what is not reserved
		{26, []uint8{48, 56}, 26}, // network control is not for users
		{26, []uint8{48, 34}, 34},
	} {
		if got := networkDriven(tt.ours, tt.heard, nil, c.CheckMark); got != tt.want {
			t.Errorf("%d, DCLASS %v: %d, want %d", tt.ours, tt.heard, got, tt.want)
		}
	}
}

// Of several code points those come first that the contract has; one that it has not
// is refused by admission, and not replaced here.
func TestNetworkDrivenWithinTheContract(t *testing.T) {
	contract := []config.ServiceLevel{{Class: 34}, {Class: 26}}
	for _, tt := range []struct {
		ours  uint8
		heard []uint8
		want  uint8
	}{{46, []uint8{10, 34, 26}, 26}, {46, []uint8{10, 34}, 34}, {46, []uint8{18}, 18}, {26, []uint8{10, 34, 26}, 26}, {46, []uint8{46, 34}, 34}} {
		if got := networkDriven(tt.ours, tt.heard, contract, func(uint8) error { return nil }); got != tt.want {
			t.Errorf("%d, DCLASS %v: %d, want %d", tt.ours, tt.heard, got, tt.want)
		}
	}
}

// unclaimed is a request of a flow that no policy claims.
func unclaimed(id uint64, codes ...uint8) (softstate.Reserve, packet.FlowKey) {
	ask := request(id, 1e4)
	ask.Session.Protocol, ask.Session.DstPort, ask.DSCPs = packet.ProtoUDP, 7777, codes
	return ask, flowKey(ask.Session, ask.Filters[0])
}

// RFC 2998 sections 3.2.1, 3.2.2: what the network says wins over the
// mapping; over the mark of a policy only if the configuration says so. The
// service level that the flow is counted in is that of its mark.
func TestDClassMarksRFC2996Section1_1(t *testing.T) {
	r := accountRig(t)
	base := r.config()
	for _, tt := range []struct {
		name        string
		over        config.DClassOver
		named       bool
		told        config.DClass
		want, claim uint8 // of a flow without a policy, and with one
	}{
		{"mapping, policy without a mark", config.DClassMapping, false, config.DClassPass, 20, 20},
		{"mapping, policy with a mark", config.DClassMapping, true, config.DClassPass, 20, 26},
		{"mark", config.DClassMark, true, config.DClassPass, 20, 20},
		{"ignore", config.DClassIgnore, false, config.DClassPass, 26, 26},
		{"nobody behind the interface is believed", config.DClassMark, true, config.DClassDrop, 26, 26},
		{"this box tells it upstream", config.DClassMapping, false, config.DClassSend, 20, 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := *base
			c.Mapping.DClass = tt.over
			c.Policies = slices.Clone(base.Policies)
			for i := range c.Policies {
				c.Policies[i].Named = tt.named
			}
			r.config = func() *config.Config { return &c }
			r.flows.adopt("box.yaml", newPolicies(&c), nil)
			r.links().named("wan0").cfg.DClass = tt.told
			defer func() { r.links().named("wan0").cfg.DClass = config.DClassPass }()
			ask, key := unclaimed(1, 20)
			if refusal := r.Reserve(ask); refusal != nil {
				t.Fatal(refusal)
			}
			claimed := request(2, 1e6)
			claimed.DSCPs = []uint8{20}
			if refusal := r.Reserve(claimed); refusal != nil {
				t.Fatal(refusal)
			}
			if got := r.fake.have[key].DSCP; got != tt.want {
				t.Errorf("without a policy %d, want %d", got, tt.want)
			}
			if got := r.fake.have[imagingKey].DSCP; got != tt.claim {
				t.Errorf("with a policy %d, want %d", got, tt.claim)
			}
			r.mu.Lock()
			if l := r.held[1].levels; !slices.Equal(l, []uint8{tt.want}) {
				t.Errorf("counted in %v", l)
			}
			r.mu.Unlock()
			// It is taken back, and changed in place.
			ask.DSCPs, ask.Change = nil, true
			if refusal := r.Reserve(ask); refusal != nil {
				t.Fatal(refusal)
			}
			if got := r.fake.have[key].DSCP; got != 26 {
				t.Errorf("afterwards %d", got)
			}
			r.Release(1)
			r.Release(2)
		})
	}
}

// RFC 2996 section 1.1, draft 4.2.2: upstream goes the mark of this box where it
// decides, with what a policy and a reservation by hand say; nothing where those
// behind are not believed; and where neither is so, what came.
func TestDClassSentRFC2996Section1_1(t *testing.T) {
	r := accountRig(t)
	session, filter := sessionOf(imagingKey)
	ask := softstate.Marking{Session: session, Filters: []wire.Filter{filter}, Out: wan, Service: intserv.ControlledLoad}
	check := func(name string, told config.DClass, want []uint8, ours bool) {
		t.Helper()
		r.links().named("wan0").cfg.DClass = told
		if codes, got := r.upstreamMark(ask); got != ours || !slices.Equal(codes, want) {
			t.Errorf("%s: %v, %v", name, codes, got)
		}
	}
	check("pass", config.DClassPass, nil, false)
	check("drop", config.DClassDrop, nil, true)
	check("send", config.DClassSend, []uint8{26}, true)
	ask.Service = intserv.Guaranteed
	ask.Session.DstPort = 9999
	check("guaranteed", config.DClassSend, []uint8{46}, true)
	ask.Heard = []uint8{44}
	check("what came counts", config.DClassSend, []uint8{44}, true)
	key := flowKey(ask.Session, filter)
	r.flows.hand.put(byhand.Reservation{ID: 1, Flow: key, Marked: true, DSCP: 34})
	check("by hand", config.DClassSend, []uint8{34}, true)
	ask.Service = intserv.Null
	check("null service", config.DClassSend, nil, false)
	ask.Session = byEF
	ask.Service = intserv.ControlledLoad
	check("an aggregate", config.DClassSend, nil, false)
	ask.Out = 77
	check("an interface that has gone", config.DClassSend, nil, false)
}

// What no reservation may be marked with is passed over, and counted: best effort, and
// AF21, which a policy of the rig has for what is not reserved (RFC 2998 section 5.2).
func TestForeignDClassIsCounted(t *testing.T) {
	r := accountRig(t)
	ask, key := unclaimed(1, dscp.Default, dscp.AF21, dscp.AF31)
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatal(refusal)
	}
	if got, n := r.fake.have[key].DSCP, r.foreign.get(); got != dscp.AF31 || n != 2 {
		t.Errorf("marked %s, %d counted", dscp.Name(got), n)
	}
	ask.DSCPs, ask.Change = []uint8{dscp.Default}, true
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatal(refusal)
	}
	if got, n := r.fake.have[key].DSCP, r.foreign.get(); got != dscp.AF31 || n != 3 {
		t.Errorf("marked %s, %d counted", dscp.Name(got), n)
	}
}
