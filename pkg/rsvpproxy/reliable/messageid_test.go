package reliable

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// RFC 2961 section 6.3: Rf, then (1+Delta)Rf, at most Rl transmissions; sections
// 4.5: with ACK_Desired and the same identifier.
func TestRetransmissionRFC2961Section6_3(t *testing.T) {
	r := newRig(t, Config{})
	r.ack(peer, wire.RefreshReduction, wire.MessageIDAck{Epoch: 1, ID: 1}) // it is capable
	r.l.cfg.BundleDelay = -1
	first := r.send(path(0))
	if len(first) != 1 || !first[0].Msg.MessageID.AckDesired {
		t.Fatalf("%v", types(first))
	}
	again, at := r.run(29 * time.Second)
	if !slices.Equal(at, []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond}) {
		t.Fatalf("sent again at %v", at)
	}
	for _, s := range again {
		if *s.Msg.MessageID != *first[0].Msg.MessageID || !s.RouterAlert || s.TTL != 60 || s.Src != srcHost {
			t.Errorf("%+v", s)
		}
	}
	if c := r.l.Counters(); c.GivenUp != 1 || c.Retransmitted != 2 {
		t.Errorf("%+v", c)
	}
	// A capable neighbour goes on to be asked, once a refresh.
	if s := r.send(path(0)); len(s) != 1 || s[0].Msg.MessageID == nil || !s[0].Msg.MessageID.AckDesired {
		t.Errorf("%v", types(s))
	}
}

// RFC 2961 section 2: when the flag is gone, neither Srefresh nor Bundle.
func TestFlagLostRFC2961Section2(t *testing.T) {
	r := newRig(t, Config{})
	first := r.send(path(0))
	r.ack(peer, wire.RefreshReduction, ackOf(first[0]))
	r.ack(peer, 0, wire.MessageIDAck{Epoch: 1, ID: 1})
	if s := r.send(path(0)); len(s) != 1 || s[0].Msg.Type != wire.Path || s[0].Msg.MessageID.ID != first[0].Msg.MessageID.ID {
		t.Fatalf("%v", types(s))
	}
	r.send(path(1))
	r.send(path(2))
	list, _ := r.run(44 * time.Second)
	for _, s := range list {
		if s.Msg.Type != wire.Path {
			t.Errorf("%v to a neighbour without the flag", s.Msg.Type)
		}
	}
}

// RFC 2961 section 4.5: what is older than the state's latest is dropped and not
// acknowledged, the same is a refresh, another epoch is never out of order.
func TestOrderRFC2961Section4_5(t *testing.T) {
	r := newRig(t, Config{})
	id := func(epoch, n uint32) wire.MessageID { return wire.MessageID{Epoch: epoch, ID: n, AckDesired: true} }
	for _, tt := range []struct {
		name string
		i    int
		id   wire.MessageID
		want int
	}{
		{"new", 0, id(1, 10), 1},
		{"the same", 0, id(1, 10), 1},
		{"newer", 0, id(1, 12), 1},
		{"older", 0, id(1, 11), 0},
		{"older, no state", 1, id(1, 5), 1},
		{"restarted", 0, id(2, 1), 1},
		{"wrapped", 2, id(2, 0xfffffff0), 1},
		{"behind the wrap", 2, id(2, 3), 1},
		{"before the wrap", 2, id(2, 0xffffffff), 0},
	} {
		if got := r.received(tt.i, tt.id); got != tt.want {
			t.Errorf("%s: %d handed on, want %d", tt.name, got, tt.want)
		}
		list, _ := r.run(10 * time.Millisecond)
		if len(list) != tt.want {
			t.Fatalf("%s: %v sent", tt.name, types(list))
		}
		if tt.want == 1 && (list[0].Msg.Acks[0] != wire.MessageIDAck{Epoch: tt.id.Epoch, ID: tt.id.ID}) {
			t.Errorf("%s: %+v", tt.name, list[0].Msg.Acks)
		}
	}
	if c := r.l.Counters(); c.OutOfOrder != 2 || c.Restarts != 1 {
		t.Errorf("%+v", c)
	}
}

// RFC 2961 section 4.4: an Ack goes to the address in RSVP_HOP; section 4.6: and
// not at all if it was not asked for.
func TestAckRFC2961Section4_4(t *testing.T) {
	r := newRig(t, Config{})
	r.received(0, wire.MessageID{Epoch: 1, ID: 1})
	if list, _ := r.run(time.Second); len(list) != 0 {
		t.Errorf("%v sent without ACK_Desired", types(list))
	}
	r.received(0, wire.MessageID{Epoch: 1, ID: 2, AckDesired: true})
	r.received(1, wire.MessageID{Epoch: 1, ID: 3, AckDesired: true})
	list, _ := r.run(time.Second)
	if len(list) != 1 || list[0].Msg.Type != wire.Ack || list[0].Dst != prev || list[0].Out != left || len(list[0].Msg.Acks) != 2 || list[0].RouterAlert {
		t.Fatalf("%+v", list)
	}
}

// RFC 2961 section 4.5: a message in error MUST NOT be acknowledged.
func TestNoAckForErrorsRFC2961Section4_5(t *testing.T) {
	r := newRig(t, Config{})
	r.received(0, wire.MessageID{Epoch: 1, ID: 2, AckDesired: true}, func(m *wire.Message) {
		m.RawTSpec = &wire.Object{Class: wire.ClassSenderTSpec, CType: 77, Body: make([]byte, 4)}
	})
	if list, _ := r.run(time.Second); len(list) != 0 {
		t.Errorf("%v", types(list))
	}
}

// RFC 2961 section 4.7: the acknowledgment of multicast MUST wait at random, and
// less than it takes to be sent again.
func TestMulticastAckRFC2961Section4_7(t *testing.T) {
	group := netip.MustParseAddr("232.1.1.1")
	var at []time.Duration
	for i := range 20 {
		r := newRig(t, Config{})
		r.l.rng = rand.New(rand.NewPCG(uint64(i), 1))
		m := path(0)
		m.Session.Dst, m.Flags, m.Hop.Addr = group, 1, prev
		m.MessageID = &wire.MessageID{Epoch: 1, ID: 1, AckDesired: true}
		r.in(left, srcHost, group, m)
		list, when := r.run(DefaultRf)
		if len(list) != 1 {
			t.Fatalf("%v", types(list))
		}
		at = append(at, when[0])
	}
	slices.Sort(at)
	if at[0] > 60*time.Millisecond || at[19] < 140*time.Millisecond || at[19] > DefaultMulticastAck {
		t.Errorf("from %v to %v", at[0], at[19])
	}
}

// RFC 2961 section 4.8: error 13 for MESSAGE_ID: the message MUST be sent again
// without it, the error is not handed on, and the neighbour is remembered.
func TestRefusedRFC2961Section4_8(t *testing.T) {
	r := newRig(t, Config{})
	r.send(path(0))
	m := path(0)
	e := &wire.Message{
		Type: wire.PathErr, SendTTL: 255, Session: m.Session, SenderTemplate: m.SenderTemplate, SenderTSpec: m.SenderTSpec,
		ErrorSpec: &wire.ErrorSpec{Node: peer, Code: wire.ErrUnknownClass, Value: 23<<8 | 1},
	}
	in, out := r.in(right, peer, r.n.Addr(right), e)
	if len(in) != 0 || len(out) != 1 || out[0].Msg.Type != wire.Path || out[0].Msg.MessageID != nil {
		t.Fatalf("%d handed on, %+v", len(in), out)
	}
	if in, _ := r.in(right, peer, r.n.Addr(right), e); len(in) != 0 {
		t.Error("its copy was handed on")
	}
	if s := r.send(path(1)); len(s) != 1 || s[0].Msg.MessageID != nil {
		t.Errorf("%+v", s)
	}
	e.ErrorSpec.Value = 99<<8 | 1 // something else that it does not know
	if in, _ := r.in(right, peer, r.n.Addr(right), e); len(in) != 1 {
		t.Error("another error was swallowed")
	}
}

// RFC 2205 section 3.1.3: a sender's PATHs came from two previous hops, and both
// get RESV. Each has its own identifier: the one's refresh is no news to the other.
func TestResvToTwoHops(t *testing.T) {
	r := newRig(t, Config{})
	hops := []netip.Addr{prev, linkAddr(1, 9)}
	send := func(to netip.Addr) []softstate.Send {
		x, f := sender(0), intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: tspec}
		return r.checked(r.l.Send(r.now, softstate.Send{Out: left, Src: linkAddr(1, 2), Dst: to, TTL: 255, Msg: &wire.Message{
			Type: wire.Resv, SendTTL: 255, Session: x.Session, Hop: &wire.Hop{Addr: linkAddr(1, 2), LIH: 1},
			TimeValues: &wire.TimeValues{Refresh: 30000}, Style: wire.FF,
			Flows: []wire.FlowDescriptor{{FlowSpec: &f, Filters: []wire.Filter{x.Filter}}},
		}}))
	}
	for _, to := range hops {
		s := send(to)
		if len(s) != 1 || s[0].Msg.MessageID == nil {
			t.Fatalf("%+v", s)
		}
		id := s[0].Msg.MessageID
		a := &wire.Message{Type: wire.Ack, Flags: 1, SendTTL: 255, Acks: []wire.MessageIDAck{{Epoch: id.Epoch, ID: id.ID}}}
		r.in(left, to, linkAddr(1, 2), a)
	}
	for range 4 {
		for _, to := range hops {
			if s := send(to); len(s) != 0 {
				t.Fatalf("a refresh to %v is sent as %+v", to, s[0].Msg)
			}
		}
		list, _ := r.run(10 * time.Second)
		for _, s := range list {
			if s.Msg.Type != wire.Srefresh {
				t.Fatalf("%+v", s.Msg)
			}
			id := s.Msg.MessageID
			r.in(left, s.Dst, linkAddr(1, 2), &wire.Message{Type: wire.Ack, Flags: 1, SendTTL: 255, Acks: []wire.MessageIDAck{{Epoch: id.Epoch, ID: id.ID}}})
		}
	}
	if c := r.l.Counters(); c.Triggers-c.SummariesOut != 2 || c.Suppressed != 8 || c.SummariesOut < 2 {
		t.Errorf("%+v", c)
	}
}
