package softstate

import (
	"testing"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// What Cisco routers send is no error: a SENDER_TSPEC with m=0 and M=2^31-1,
// and a RESV with M=0. RFC 2210 section 3.1 forbids the one, and the other two
// would never fit an MTU (section 2.3.2); what is set aside is bounded by it.
func TestCiscoValuesAreGranted(t *testing.T) {
	r := newRig(t, Config{})
	r.env.mtu = 1500
	sender := intserv.TSpec{Rate: 6000, Bucket: 6000, Peak: 6000, MaxPacket: 1<<31 - 1}
	asked := intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: intserv.TSpec{Rate: 6000, Bucket: 6000, Peak: 6000}}
	onlySend(t, r.path(func(m *wire.Message) { m.SenderTSpec = &sender }), wire.Path)
	es := r.resv(func(m *wire.Message) { m.Flows[0].FlowSpec = &asked })
	ask := only[Reserve](t, es)
	if got := ask.FlowSpec.TSpec; got.MaxPacket != 1500 || got.MinUnit != 0 || got.Rate != 6000 {
		t.Errorf("asked for %+v, the MTU is 1500", got)
	}
	s := onlySend(t, r.grant(es), wire.Resv)
	if got := s.Msg.Flows[0].FlowSpec; *got != asked {
		t.Errorf("upstream goes %+v, want what the receiver asked for", got)
	}
	r.wantState(Reserved)
}
