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

var (
	peer  = linkAddr(2, 2) // the next hop of node 1
	prev  = linkAddr(1, 1) // its previous hop
	other = netip.MustParseAddr("172.16.9.9")
)

// rig is one Layer between two neighbours.
type rig struct {
	t   *testing.T
	n   *node
	l   *Layer
	now time.Time
}

func newRig(t *testing.T, cfg Config) *rig {
	n := &node{i: 1}
	return &rig{t: t, n: n, l: New(cfg, n, rand.New(rand.NewPCG(1, 2))), now: epoch}
}

func path(i int) *wire.Message {
	ts, x := tspec, sender(i)
	return &wire.Message{
		Type: wire.Path, SendTTL: 60, Session: x.Session, Hop: &wire.Hop{Addr: linkAddr(2, 1), LIH: 2},
		TimeValues: &wire.TimeValues{Refresh: 30000}, SenderTemplate: &x.Filter, SenderTSpec: &ts,
	}
}

func pathTear(i int) *wire.Message {
	m := path(i)
	m.Type, m.TimeValues, m.SenderTSpec = wire.PathTear, nil, nil
	return m
}

// send hands the layer a PATH or PathTear of the node.
func (r *rig) send(m *wire.Message) []softstate.Send {
	r.t.Helper()
	return r.checked(r.l.Send(r.now, softstate.Send{Out: right, Src: srcHost, Dst: m.Session.Dst, TTL: m.SendTTL, RouterAlert: true, Msg: m}))
}

func (r *rig) checked(list []softstate.Send) []softstate.Send {
	r.t.Helper()
	if err := r.l.check(); err != nil {
		r.t.Fatal(err)
	}
	for _, s := range list {
		if _, err := s.Msg.Append(nil); err != nil {
			r.t.Fatal(err)
		}
		if s.Msg.Flags&wire.RefreshReduction == 0 {
			r.t.Errorf("%v without the flag of section 2", s.Msg.Type)
		}
	}
	return list
}

// in hands the layer a message from the network.
func (r *rig) in(iface softstate.IfIndex, src, dst netip.Addr, m *wire.Message) ([]softstate.Received, []softstate.Send) {
	r.t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	in, out := r.l.Receive(r.now, Packet{Iface: iface, Src: src, Dst: dst, TTL: m.SendTTL, Payload: b})
	return in, r.checked(out)
}

// run lets time pass and returns what was sent, and when.
func (r *rig) run(d time.Duration) (list []softstate.Send, at []time.Duration) {
	r.t.Helper()
	start, end := r.now, r.now.Add(d)
	for {
		t, ok := r.l.NextDeadline()
		if !ok || t.After(end) {
			r.now = end
			return list, at
		}
		r.now = t
		for _, s := range r.checked(r.l.Advance(t)) {
			list, at = append(list, s), append(at, t.Sub(start))
		}
	}
}

// next lets time pass until something is sent, at most d.
func (r *rig) next(d time.Duration) []softstate.Send {
	r.t.Helper()
	for end := r.now.Add(d); ; {
		t, ok := r.l.NextDeadline()
		if !ok || t.After(end) {
			r.now = end
			return nil
		}
		r.now = t
		if list := r.checked(r.l.Advance(t)); len(list) > 0 {
			return list
		}
	}
}

func (r *rig) ack(from netip.Addr, flags uint8, acks ...wire.MessageIDAck) {
	r.t.Helper()
	r.in(right, from, r.n.Addr(right), &wire.Message{Type: wire.Ack, Flags: flags, SendTTL: 255, Acks: acks})
}

func types(list []softstate.Send) (out []wire.MsgType) {
	for _, s := range list {
		out = append(out, s.Msg.Type)
	}
	return out
}

func ackOf(s softstate.Send) wire.MessageIDAck {
	return wire.MessageIDAck{Epoch: s.Msg.MessageID.Epoch, ID: s.Msg.MessageID.ID}
}

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

// RFC 2961 section 6.3: an acknowledgment ends retransmission; section 5.3: from
// then on the identifier in a Srefresh stands for the message.
func TestSummaryRFC2961Section5_3(t *testing.T) {
	r := newRig(t, Config{})
	first := r.send(path(0))
	r.ack(peer, wire.RefreshReduction, ackOf(first[0]))
	if s := r.send(path(0)); len(s) != 0 {
		t.Errorf("refreshed by %v", types(s))
	}
	list := r.next(45 * time.Second)
	if len(list) != 1 || list[0].Msg.Type != wire.Srefresh {
		t.Fatalf("%v", types(list))
	}
	// Section 5.2: to the next hop without Router Alert, from the address of RSVP_HOP.
	if s := list[0]; s.RouterAlert || s.Dst != peer || s.Src != r.n.Addr(right) {
		t.Errorf("%+v", s)
	}
	if l := list[0].Msg.Lists; len(l) != 1 || l[0].Kind != wire.IDList || l[0].Epoch != r.l.epoch || l[0].IDs[0].ID != first[0].Msg.MessageID.ID {
		t.Errorf("%+v", l)
	}
	r.ack(peer, wire.RefreshReduction, ackOf(list[0]))
	r.run(time.Second)
	// A change is a trigger: a new and greater identifier (section 4.5).
	m := path(0)
	m.SenderTSpec.Rate++
	list = r.send(m) // the first after a pause waits for no company
	if len(list) != 1 || list[0].Msg.Type != wire.Path || list[0].Msg.MessageID.ID <= first[0].Msg.MessageID.ID {
		t.Fatalf("%v", types(list))
	}
}

// RFC 2961 section 5.2: a Srefresh may have a MESSAGE_ID of its own, and is then
// repeated as any message is (section 6.3). It stands for everything that is
// reserved with a neighbour.
func TestSummaryIsRepeatedRFC2961Section5_2(t *testing.T) {
	r := newRig(t, Config{MinRf: -1})
	first := r.send(path(0))
	r.ack(peer, wire.RefreshReduction, ackOf(first[0]))
	list := r.next(45 * time.Second)
	if len(list) != 1 || list[0].Msg.MessageID == nil || !list[0].Msg.MessageID.AckDesired {
		t.Fatalf("%+v", list)
	}
	if r.l.Waiting() {
		t.Error("a clean stop would wait for it")
	}
	again, at := r.run(2 * time.Second)
	if !slices.Equal(at, []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond}) {
		t.Fatalf("sent again at %v", at)
	}
	for _, s := range again {
		if *s.Msg.MessageID != *list[0].Msg.MessageID || !slices.Equal(s.Msg.Lists[0].IDs, list[0].Msg.Lists[0].IDs) || s.Dst != list[0].Dst {
			t.Errorf("%+v", s)
		}
	}
	// Nobody answers: the next period has another.
	r.send(path(0))
	list = r.next(45 * time.Second)
	if len(list) != 1 || list[0].Msg.Type != wire.Srefresh || list[0].Msg.MessageID.ID <= again[0].Msg.MessageID.ID {
		t.Fatalf("%+v", list)
	}
	r.ack(peer, wire.RefreshReduction, ackOf(list[0]))
	if again, _ := r.run(14 * time.Second); len(again) != 0 {
		t.Errorf("%v although it was acknowledged", types(again))
	}
	if c := r.l.Counters(); c.Sent != 1 {
		t.Errorf("%d kept", c.Sent)
	}
}

// RFC 2961 section 5.2: where the next hop cannot be told, a Srefresh goes to
// the session's address, with Router Alert.
func TestSummaryToSessionRFC2961Section5_2(t *testing.T) {
	for _, from := range []netip.Addr{peer, other} {
		r := newRig(t, Config{})
		r.n.unsure = from == peer
		first := r.send(path(0))
		r.ack(from, wire.RefreshReduction, ackOf(first[0]))
		list := r.next(45 * time.Second)
		if len(list) != 1 || list[0].Msg.Type != wire.Srefresh || !list[0].RouterAlert || list[0].Dst != dstHost {
			t.Fatalf("%+v", list)
		}
	}
}

// A Srefresh to a neighbour that is dead, and now a mere router, vanishes there:
// after two silent refresh periods the whole PATH goes out, which gets through it
// (RFC 2205 section 2.9), alone and to be acknowledged. The next hop behind it is
// refreshed at the session's address (RFC 2961 section 5.2), which the one that
// was dead sees when it is back.
func TestSilentNeighborGetsWholePath(t *testing.T) {
	r := newRig(t, Config{})
	first := r.send(path(0))
	r.ack(peer, wire.RefreshReduction, ackOf(first[0]))
	r.run(59 * time.Second)
	if s := r.send(path(0)); len(s) != 0 {
		t.Fatalf("%v after 59 s", types(s))
	}
	r.run(2 * time.Second)
	for range 3 { // in every refresh from now on
		list := r.send(path(0))
		if len(list) != 1 || list[0].Msg.Type != wire.Path || !list[0].RouterAlert || list[0].Msg.MessageID == nil || !list[0].Msg.MessageID.AckDesired {
			t.Fatalf("%+v", list)
		}
		r.run(30 * time.Second)
	}
	r.ack(other, wire.RefreshReduction, ackOf(first[0]))
	if s := r.send(path(0)); len(s) != 0 {
		t.Errorf("%v to the one that answered", types(s))
	}
	list := r.next(45 * time.Second)
	if len(list) != 1 || list[0].Msg.Type != wire.Srefresh || !list[0].RouterAlert || list[0].Dst != dstHost {
		t.Fatalf("%+v", list)
	}
	// One that is alive but has nothing to say costs a single message.
	r = newRig(t, Config{})
	var acks []wire.MessageIDAck
	for i := range 3 {
		list := r.send(path(i))
		acks = append(acks, ackOf(list[0]))
	}
	r.ack(peer, wire.RefreshReduction, acks...)
	r.run(61 * time.Second)
	if s := r.send(path(0)); len(s) != 1 {
		t.Fatalf("%v", types(s))
	}
	r.ack(peer, wire.RefreshReduction, acks[0])
	if s := append(r.send(path(1)), r.send(path(2))...); len(s) != 0 {
		t.Errorf("%v to a neighbour that has just spoken", types(s))
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

// RFC 2961 section 5.4: a NACK brings the whole message, with its identifier.
func TestNackRFC2961Section5_4(t *testing.T) {
	r := newRig(t, Config{BundleDelay: -1})
	first := r.send(path(0))
	a := ackOf(first[0])
	r.ack(peer, wire.RefreshReduction, a)
	a.Nack = true
	_, out := r.in(right, peer, r.n.Addr(right), &wire.Message{Type: wire.Ack, Flags: 1, SendTTL: 255, Acks: []wire.MessageIDAck{a}})
	if len(out) != 1 || out[0].Msg.Type != wire.Path || *out[0].Msg.MessageID != *first[0].Msg.MessageID {
		t.Fatalf("%+v", out)
	}
	// What is not known needs no action.
	a.ID += 1000
	if _, out := r.in(right, peer, r.n.Addr(right), &wire.Message{Type: wire.Ack, Flags: 1, SendTTL: 255, Acks: []wire.MessageIDAck{a}}); len(out) != 0 {
		t.Errorf("%v", types(out))
	}
}

// received hands in a PATH of the previous hop with an identifier.
func (r *rig) received(i int, id wire.MessageID, change ...func(*wire.Message)) int {
	r.t.Helper()
	m := path(i)
	m.Flags, m.Hop.Addr, m.MessageID = 1, prev, &id
	for _, f := range change {
		f(m)
	}
	in, _ := r.in(left, srcHost, dstHost, m)
	return len(in)
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

// RFC 2961 section 5.3: a Srefresh is as good as the messages it names, for
// their lifetime; sections 5.3 and 5.4: what is not known MUST be answered by a
// NACK, for multicast only where the node forwards.
func TestSrefreshRFC2961Section5_3(t *testing.T) {
	r := newRig(t, Config{})
	r.received(0, wire.MessageID{Epoch: 1, ID: 1})
	r.received(1, wire.MessageID{Epoch: 1, ID: 2})
	refresh := func(lists ...wire.MessageIDList) ([]softstate.Received, []wire.MessageIDAck) {
		in, _ := r.in(left, prev, linkAddr(1, 2), &wire.Message{Type: wire.Srefresh, Flags: 1, SendTTL: 255, Lists: lists})
		var acks []wire.MessageIDAck
		list, _ := r.run(10 * time.Millisecond)
		for _, s := range list {
			acks = append(acks, s.Msg.Acks...)
		}
		return in, acks
	}
	ids := func(n ...uint32) (l wire.MessageIDList) {
		l.Epoch = 1
		for _, x := range n {
			l.IDs = append(l.IDs, wire.ListedID{ID: x})
		}
		return l
	}
	in, acks := refresh(ids(1, 2, 3))
	if len(in) != 2 || in[0].Msg.Type != wire.Path || in[0].Src != srcHost || in[0].Dst != dstHost || in[0].TTL != 60 {
		t.Fatalf("%+v", in)
	}
	if !slices.Equal(acks, []wire.MessageIDAck{{Epoch: 1, ID: 3, Nack: true}}) {
		t.Errorf("%+v", acks)
	}
	other := ids(1)
	other.Epoch = 2
	if in, acks := refresh(other); len(in) != 0 || len(acks) != 1 || acks[0].Epoch != 2 {
		t.Errorf("another epoch: %d, %+v", len(in), acks)
	}
	// Refreshed, it lives; a tear ends it; and so does time.
	for range 5 {
		r.run(150 * time.Second)
		if in, _ := refresh(ids(1, 2)); len(in) != 2 {
			t.Fatalf("%d handed on", len(in))
		}
	}
	m := pathTear(0)
	m.Hop.Addr, m.MessageID, m.Flags = prev, &wire.MessageID{Epoch: 1, ID: 9}, 1
	r.in(left, srcHost, dstHost, m)
	if in, acks := refresh(ids(1, 2)); len(in) != 1 || len(acks) != 1 {
		t.Errorf("after a tear: %d, %+v", len(in), acks)
	}
	r.run(158 * time.Second)
	if in, acks := refresh(ids(2)); len(in) != 0 || len(acks) != 1 {
		t.Errorf("after its life: %d, %+v", len(in), acks)
	}
	group := wire.MessageIDList{Kind: wire.MulticastList, Epoch: 1, IDs: []wire.ListedID{{ID: 77, Src: srcHost, Dst: netip.MustParseAddr("232.1.1.1")}}}
	if _, acks := refresh(group); len(acks) != 0 {
		t.Errorf("not forwarded, but %+v", acks)
	}
	r.n.forwards = true
	if _, acks := refresh(group); len(acks) != 1 {
		t.Errorf("forwarded: %+v", acks)
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

// RFC 2961 section 3.3: what goes to one capable neighbour is bundled, up to the
// MTU, without Router Alert; section 3.4: messages of one TTL only.
func TestBundleRFC2961Section3_3(t *testing.T) {
	r := newRig(t, Config{})
	r.ack(peer, wire.RefreshReduction, wire.MessageIDAck{Epoch: 1, ID: 1})
	for i := range 30 {
		m := path(i)
		if i == 29 {
			m.SendTTL = 61
		}
		s := r.send(m)
		if i == 0 && (len(s) != 1 || s[0].Msg.Type != wire.Path) {
			t.Fatalf("the first after a pause waits: %v", types(s))
		}
		if i > 0 && len(s) != 0 {
			t.Fatalf("%v", types(s))
		}
	}
	list, _ := r.run(DefaultBundleDelay)
	total := 1
	for _, s := range list {
		if s.Msg.Length() > 1480 || s.TTL != s.Msg.SendTTL {
			t.Errorf("%d bytes, TTL %d", s.Msg.Length(), s.TTL)
		}
		if s.Msg.Type != wire.Bundle {
			total++
			if !s.RouterAlert || s.Dst != dstHost {
				t.Errorf("alone: %+v", s)
			}
			continue
		}
		total += len(s.Msg.Bundle)
		if s.RouterAlert || s.Dst != peer || s.Src != r.n.Addr(right) || s.TTL != 60 {
			t.Errorf("%+v", s)
		}
	}
	if total != 30 || len(list) > 5 {
		t.Errorf("%d messages in %d packets", total, len(list))
	}
	// Multicast PATH MUST NOT be bundled.
	m := path(0)
	m.Session.Dst = netip.MustParseAddr("232.1.1.1")
	if s := r.send(m); len(s) != 1 || s[0].Msg.Type != wire.Path {
		t.Errorf("%v", types(s))
	}
}

// RFC 2961 section 3.4: a sub-message is processed as if it had come alone, with
// the bundle's Send_TTL.
func TestBundleReceivedRFC2961Section3_4(t *testing.T) {
	r := newRig(t, Config{})
	a, b := path(0), path(1)
	for i, m := range []*wire.Message{a, b} {
		m.Flags, m.Hop.Addr, m.MessageID = 1, prev, &wire.MessageID{Epoch: 1, ID: uint32(1 + i), AckDesired: true}
	}
	in, _ := r.in(left, prev, linkAddr(1, 2), &wire.Message{Type: wire.Bundle, Flags: 1, SendTTL: 50, Bundle: []*wire.Message{a, b}})
	if len(in) != 2 || in[0].Msg.SendTTL != 50 || in[1].Msg.SenderTemplate.SrcPort != 2 {
		t.Fatalf("%+v", in)
	}
	list, _ := r.run(time.Second)
	if len(list) != 1 || len(list[0].Msg.Acks) != 2 {
		t.Errorf("%v", types(list))
	}
	if in, _ := r.in(left, prev, linkAddr(1, 2), &wire.Message{Type: wire.Srefresh, Flags: 1, SendTTL: 255, Lists: []wire.MessageIDList{{Epoch: 1, IDs: []wire.ListedID{{ID: 1}}}}}); len(in) != 1 || in[0].Msg.SendTTL != 50 {
		t.Errorf("%+v", in)
	}
}

// RFC 2961 section 3.3: a Bundle is not fragmented, also where each of its
// messages is signed after it has left here; so is an Ack, and a Srefresh.
func TestOverheadRFC2961Section3_3(t *testing.T) {
	const grows = 52 // INTEGRITY with HMAC-SHA-256
	r := newRig(t, Config{Overhead: func(softstate.IfIndex) int { return grows }})
	r.ack(peer, wire.RefreshReduction, wire.MessageIDAck{Epoch: 1, ID: 1})
	for i := range 31 { // the first does not wait for the others
		r.send(path(i))
	}
	list, _ := r.run(DefaultBundleDelay)
	bundles, total := 0, 0
	for _, s := range list {
		n := max(1, len(s.Msg.Bundle))
		total += n
		if n > 1 {
			bundles++
		}
		if size := s.Msg.Length() + n*grows; size > 1500-24 {
			t.Errorf("%d messages: %d bytes when they are signed", n, size)
		}
	}
	if total != 30 || bundles < 2 || bundles != len(list) {
		t.Errorf("%d messages in %d packets, %d bundles", total, len(list), bundles)
	}
	if room := r.l.room(right, peer); room != 1500-24-grows {
		t.Errorf("room for %d bytes", room)
	}
}

// Nothing grows without a limit, and beyond it RFC 2205 goes on.
func TestLimits(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{Neighbors: 3, Sent: 5, Received: 5}})
	for i := range 20 {
		if s := r.send(path(i)); len(s) != 1 || (s[0].Msg.MessageID == nil) != (i >= 5) {
			t.Fatalf("message %d: %+v", i, s)
		}
		if r.received(i, wire.MessageID{Epoch: 1, ID: uint32(i), AckDesired: true}) != 1 {
			t.Fatalf("message %d was not handed on", i)
		}
	}
	if c := r.l.Counters(); c.Sent > 5 || c.Received > 5 || c.LimitSent == 0 || c.LimitReceived == 0 {
		t.Errorf("%+v", c)
	}
	r = newRig(t, Config{Limits: Limits{Neighbors: 3}})
	for i := range 100 {
		r.received(i, wire.MessageID{Epoch: 1, ID: 1}, func(m *wire.Message) { m.Hop.Addr = linkAddr(100, i+1) })
	}
	if c := r.l.Counters(); c.Neighbors > 3 || c.Received > 3 || c.LimitNeighbors != 97 {
		t.Errorf("%+v", c)
	}
}

// A flood of neighbours on one interface, each with something to keep, takes no
// place from those on others: they are acknowledged, and their Srefresh counts.
// The next hops that sessions make us guess take none from those that speak.
func TestFloodOfNeighborsStaysOnItsInterface(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{Neighbors: 100, Received: 200}})
	r.n.unsure = true
	r.l.SetInterfaces(left, right)
	flood := func(n int) {
		t.Helper()
		for i := range n {
			r.received(i, wire.MessageID{Epoch: 1, ID: 1}, func(m *wire.Message) {
				m.Hop.Addr = netip.AddrFrom4([4]byte{172, 30, byte(i >> 8), byte(i)})
				m.Session.Dst = netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)})
				m.TimeValues.Refresh = 1<<32 - 1
			})
			m := path(i)
			m.Session.Dst = netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)})
			r.send(m)
		}
	}
	flood(1000)
	if c := r.l.Counters(); c.LimitNeighbors < 1500 || c.Neighbors > 200 {
		t.Fatalf("that was no flood: %+v", c)
	}
	for i := range 12 { // the part of an interface
		from := netip.AddrFrom4([4]byte{172, 16, 2, byte(100 + i)})
		m := path(i)
		m.Flags, m.Hop.Addr, m.MessageID = 1, from, &wire.MessageID{Epoch: 7, ID: 9, AckDesired: true}
		if in, _ := r.in(right, srcHost, dstHost, m); len(in) != 1 {
			t.Fatalf("neighbour %d is not heard", i)
		}
		out, _ := r.run(100 * time.Millisecond)
		if got := acksTo(out, from); len(got) != 1 || got[0].Nack {
			t.Fatalf("neighbour %d gets %+v", i, got)
		}
	}
	flood(500)
	for i := range 12 {
		from := netip.AddrFrom4([4]byte{172, 16, 2, byte(100 + i)})
		s := &wire.Message{Type: wire.Srefresh, Flags: 1, SendTTL: 255, Lists: []wire.MessageIDList{{Epoch: 7, IDs: []wire.ListedID{{ID: 9}}}}}
		if in, _ := r.in(right, from, linkAddr(2, 1), s); len(in) != 1 {
			t.Errorf("the Srefresh of neighbour %d stands for %d messages", i, len(in))
		}
	}
}

func acksTo(list []softstate.Send, to netip.Addr) (acks []wire.MessageIDAck) {
	for _, s := range list {
		if s.Dst == to {
			acks = append(acks, s.Msg.Acks...)
		}
	}
	return acks
}

// RFC 2961 section 5.4: a Srefresh of somebody for whom there is no place is
// answered by a NACK, or he would take his state for refreshed.
func TestNackOfStrangerRFC2961Section5_4(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{Neighbors: 1}})
	r.received(0, wire.MessageID{Epoch: 1, ID: 1})
	s := &wire.Message{Type: wire.Srefresh, Flags: 1, SendTTL: 255, Lists: []wire.MessageIDList{{Epoch: 7, IDs: []wire.ListedID{{ID: 9}, {ID: 10}}}}}
	in, out := r.in(left, other, linkAddr(1, 2), s)
	if got := acksTo(out, other); len(in) != 0 || len(got) != 2 || got[0] != (wire.MessageIDAck{Epoch: 7, ID: 9, Nack: true}) {
		t.Errorf("%d handed on, answer %+v", len(in), out)
	}
	if len(out) != 1 || out[0].Dst != other || out[0].Out != left {
		t.Errorf("%+v", out)
	}
	if c := r.l.Counters(); c.Neighbors != 1 || c.NacksOut != 2 {
		t.Errorf("%+v", c)
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
