package reliable

import (
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func (r *rig) probe(m *wire.Message) []softstate.Send {
	r.t.Helper()
	return r.checked(r.l.Send(r.now, softstate.Send{Out: right, Src: srcHost, Dst: m.Session.Dst, TTL: m.SendTTL, RouterAlert: true, Msg: m, Probe: true}))
}

func (r *rig) wantPlain(list []softstate.Send) {
	r.t.Helper()
	if len(list) != 1 || list[0].Msg.MessageID != nil {
		r.t.Fatalf("%+v", list)
	}
	if more, _ := r.run(10 * time.Minute); len(more) != 0 {
		r.t.Errorf("repeated: %+v", more)
	}
}

// RFC 2961 section 4.8: hosts that may not speak RSVP get PATH as RFC 2205 has it,
// once each time, and take no room here, however many they are.
func TestProbesRFC2961Section4_8(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{Neighbors: 3, Sent: 3}})
	for i := range 100 {
		m := path(i)
		if m.Session.Dst = dstHost; i%2 == 1 {
			m.Session.Dst = netip.MustParseAddr("239.1.1.1")
		}
		r.wantPlain(r.probe(m))
		tear := pathTear(i)
		tear.Session = m.Session
		r.wantPlain(r.probe(tear))
	}
	c := r.l.Counters()
	if c.Probes != 200 || c.Plain != 200 || c.Neighbors+c.Sent != 0 || c.Triggers+c.Retransmitted+c.GivenUp+c.LimitSent+c.LimitNeighbors != 0 {
		t.Errorf("%+v", c)
	}
}

// A host that answers a PATH without MESSAGE_ID, with the flag of RFC 2961 section
// 2, is a neighbour from then on: what comes next is acknowledged, and refreshed by
// Srefresh. One without the flag is left with plain messages.
func TestProbeAnsweredRFC2961Section2(t *testing.T) {
	for _, capable := range []uint8{wire.RefreshReduction, 0} {
		r := newRig(t, Config{})
		r.wantPlain(r.probe(path(0)))
		m, flow := path(0), intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: tspec}
		resv := &wire.Message{
			Type: wire.Resv, Flags: capable, SendTTL: 60, Session: m.Session, Hop: &wire.Hop{Addr: peer, LIH: 2},
			TimeValues: &wire.TimeValues{Refresh: 30000}, Style: wire.WF, Flows: []wire.FlowDescriptor{{FlowSpec: &flow}},
		}
		r.in(right, peer, linkAddr(2, 1), resv)
		list := r.send(path(0))
		if got := len(list) == 1 && list[0].Msg.MessageID != nil; got != (capable != 0) {
			t.Errorf("flags %d: %+v", capable, list)
		}
		if capable == 0 {
			continue
		}
		r.ack(peer, wire.RefreshReduction, ackOf(list[0]))
		if c := r.l.Counters(); c.Sent != 1 {
			t.Errorf("%+v", c)
		}
		// It has fallen silent and is one of those that may not listen.
		r.wantPlain(r.probe(path(0)))
		if c := r.l.Counters(); c.Sent != 0 {
			t.Errorf("%+v", c)
		}
	}
}
