package reliable

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

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

// A round of Srefresh messages that pauses between two bursts goes on with those that
// it has not told of yet, however many have gone meanwhile.
func TestRoundOutlivesTears(t *testing.T) {
	r := newRig(t, Config{BundleDelay: -1})
	r.every = 50 // thousands of calls with thousands of states
	var ids []uint32
	for i := range 2000 {
		s := r.send(path(i))
		ids = append(ids, s[0].Msg.MessageID.ID)
		r.ack(peer, wire.RefreshReduction, ackOf(s[0]))
	}
	told := map[uint32]int{}
	heard := func(list []softstate.Send) (n int) {
		for _, s := range list {
			if s.Msg.Type != wire.Srefresh {
				continue
			}
			n++
			r.ack(peer, wire.RefreshReduction, ackOf(s))
			for _, e := range s.Msg.Lists[0].IDs {
				told[e.ID]++
			}
		}
		return n
	}
	if n := heard(r.next(45 * time.Second)); n != burst || len(told) >= len(ids) {
		t.Fatalf("%d messages tell of %d states", n, len(told))
	}
	left := ids[1200:]
	for i := range 1200 {
		r.send(pathTear(i))
	}
	for range 10 {
		list, _ := r.run(pause)
		heard(list)
	}
	for _, id := range left {
		if told[id] != 1 {
			t.Fatalf("%d is told of %d times in a round", id, told[id])
		}
	}
}
