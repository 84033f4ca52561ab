package daemon

import (
	"net/netip"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// RFC 3175 sections 2.8 and 2.11: what an aggregate carries is counted there and not
// on the link, is policed and marked by itself, and with the aggregate's DSCP, whatever
// the policy says.
func TestCarriedReservationRFC3175Section2_11(t *testing.T) {
	r := testControl(t)
	ask := request(1, 40000)
	ask.Aggregate = &wire.Session{Format: wire.FormatAggregate, DSCP: dscp.EF}
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatal(refusal)
	}
	used := func() (bandwidth int64, n int) {
		u, _, err := r.admit.Usage(r.links().name(int(ask.Out)))
		if err != nil {
			t.Fatal(err)
		}
		return u.Bandwidth, u.Reservations
	}
	if b, n := used(); b != 0 || n != 1 {
		t.Errorf("the link's ledger has %d bytes/s of %d reservations", b, n)
	}
	if len(r.fake.have) != 1 {
		t.Fatalf("%+v", r.fake.have)
	}
	for _, tr := range r.fake.have {
		if tr.DSCP != dscp.EF || !tr.Police || !tr.Mark || tr.Rate != ask.FlowSpec.TSpec.Rate {
			t.Errorf("%+v", tr)
		}
	}
	// It leaves the aggregate, and comes back.
	in := ask.Aggregate
	ask.Aggregate, ask.Change = nil, true
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatal(refusal)
	}
	if b, n := used(); b == 0 || n != 1 {
		t.Errorf("on the link alone it is not counted: %d, %d", b, n)
	}
	ask.Aggregate = in
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatal(refusal)
	}
	if b, n := used(); b != 0 || n != 1 {
		t.Errorf("in the aggregate again it is counted on the link: %d, %d", b, n)
	}
	r.Release(1)
	for _, tr := range r.fake.have {
		if tr.Reserve {
			t.Errorf("%+v", tr)
		}
	}
}

// RFC 3175 section 1.4.3: the mapping policy is the mark of the policy that claims the
// flow, or goes by the service; before anybody has asked for one, by that which the
// policy will ask for.
func TestMappingRFC3175Section1_4_3(t *testing.T) {
	r := testControl(t)
	m := r.config().Mapping
	claimed := request(1, 40000)
	stranger := claimed
	stranger.Session.DstPort, stranger.Session.Protocol = 9, 17
	f := claimed.Filters[0]
	if got := r.mapping(stranger.Session, f, 0); got != m.ControlledLoad {
		t.Errorf("nothing is known: %d", got)
	}
	if got := r.mapping(stranger.Session, f, intserv.Guaranteed); got != m.Guaranteed {
		t.Errorf("guaranteed service: %d", got)
	}
	if got := r.mapping(claimed.Session, f, intserv.Guaranteed); got != dscp.AF31 {
		t.Errorf("the policy's mark: %d", got)
	}
}

// RFC 3175 sections 1.4.1 and 2.7: inside a region, where packets are classified by their
// DSCP, the class of the aggregates' is as large as all of them, and nothing is told
// apart by flow.
func TestAggregateHasTheClassOfItsDSCPRFC3175Section1_4_1(t *testing.T) {
	r := controlOf(t, "interfaces: [{name: lan0, zone: hosts}, {name: wan0, zone: network, capacity: 19mbit, classify: dscp}]\n")
	if !r.byDSCP("wan0") {
		t.Fatal("the configuration has no classify: dscp")
	}
	ask := named(1, wire.Session{Format: wire.FormatAggregate, Dst: netip.MustParseAddr("192.0.2.9"), DSCP: dscp.AF31}, wan)
	ask.Filters = []wire.Filter{{Format: wire.FormatAggregate, Src: netip.MustParseAddr("192.0.2.1")}}
	ask.Role = softstate.Transit
	other := ask
	other.ID, other.Filters = 2, []wire.Filter{{Format: wire.FormatAggregate, Src: netip.MustParseAddr("192.0.2.5")}}
	for _, a := range []softstate.Reserve{ask, other} {
		if refusal := r.Reserve(a); refusal != nil {
			t.Fatal(refusal)
		}
	}
	sum := func() (rate float64) {
		for _, tr := range r.fake.have {
			if tr.DSCP != dscp.AF31 || !tr.Reserve || !tr.Mark || tr.Interface != "wan0" {
				t.Errorf("%+v", tr)
			}
			rate += tr.Rate
		}
		return rate
	}
	if got := sum(); got != 2*ask.FlowSpec.TSpec.Rate {
		t.Errorf("%g bytes/s", got)
	}
	was := ask.FlowSpec.TSpec.Rate
	ask.Change = true
	ask.FlowSpec.TSpec.Rate *= 1.5
	ask.SenderTSpec.Rate *= 2
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatal(refusal)
	}
	if got := sum(); got != 2.5*was {
		t.Errorf("grown to %g bytes/s", got)
	}
	if n, _ := r.flows.size(); n != 0 {
		t.Errorf("%d rows of flows", n)
	}
	r.Release(1)
	if got := sum(); got != was {
		t.Errorf("one is left of two: %g bytes/s", got)
	}
}

// An aggregate has no priority that policy does not grant what rides in it: nothing
// for receivers that are not trusted, nor of what a rule refuses.
func TestPriorityInAnAggregateIsGranted(t *testing.T) {
	asked := softstate.Priority{Preempting: 6, Defending: 7}
	for _, tt := range []struct {
		said string
		out  softstate.IfIndex
		role softstate.Role
		want softstate.Priority
	}{
		{"", wan, softstate.Transit, asked},
		{"", lan, softstate.Transit, softstate.Priority{}},
		{"", lan, softstate.ReceiverProxy, asked},
		{"", 99, softstate.Transit, softstate.Priority{}},
		{"admission: {rules: [{name: low, match: {}, priority: 3}]}\n", wan, softstate.Transit, softstate.Priority{}},
		{"admission: {rules: [{name: high, match: {}, priority: 7}]}\n", wan, softstate.Transit, asked},
	} {
		r := callsWith(t, tt.said)
		ask := call(1, 1e5, 6, 7)
		ask.Out, ask.Role = tt.out, tt.role
		if got := r.grantedPriority(ask); got != tt.want {
			t.Errorf("%q by interface %d as %v: %+v, want %+v", tt.said, tt.out, tt.role, got, tt.want)
		}
	}
}
