package daemon

import (
	"testing"

	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
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
