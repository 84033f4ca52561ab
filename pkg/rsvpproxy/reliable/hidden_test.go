package reliable

import (
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// A PATH that crosses an aggregation region is acknowledged by who takes it at the
// far edge (RFC 3175 section 1.4.10), and repeated until then; but it never goes to the
// next hop of routing in a Bundle, nor is it refreshed by a Srefresh, which routers
// inside the region would look at (section 3.1).
func TestHiddenRFC3175Section1_4_10(t *testing.T) {
	r := newRig(t, Config{})
	hide := func(m *wire.Message) []softstate.Send {
		return r.checked(r.l.Send(r.now, softstate.Send{
			Out: right, Src: srcHost, Dst: m.Session.Dst, TTL: m.SendTTL, RouterAlert: true, Hidden: true, Msg: m,
		}))
	}
	whole := func(list []softstate.Send, typ wire.MsgType) *wire.MessageID {
		t.Helper()
		if len(list) != 1 || !list[0].Hidden || list[0].Msg.Type != typ || list[0].Msg.MessageID == nil {
			t.Fatalf("%+v", list)
		}
		return list[0].Msg.MessageID
	}
	// The next hop of routing is a neighbour that takes bundles and summaries.
	r.in(right, peer, linkAddr(2, 1), &wire.Message{Type: wire.Ack, Flags: wire.RefreshReduction, SendTTL: 255, Acks: []wire.MessageIDAck{{}}})
	plain := r.send(path(9))[0].Msg.MessageID
	r.ack(peer, wire.RefreshReduction, wire.MessageIDAck{Epoch: plain.Epoch, ID: plain.ID})
	id := whole(hide(path(0)), wire.Path)
	if again := whole(r.next(5*time.Second), wire.Path); again.ID != id.ID {
		t.Errorf("%+v again as %+v", id, again)
	}
	r.ack(other, wire.RefreshReduction, wire.MessageIDAck{Epoch: id.Epoch, ID: id.ID})
	list, _ := r.run(2 * time.Minute)
	if slices.ContainsFunc(list, func(s softstate.Send) bool { return s.Hidden || len(s.Msg.Lists) > 0 && s.Dst == srcHost }) {
		t.Errorf("%+v", list)
	}
	whole(hide(path(0)), wire.Path) // its refresh, by the node
	id = whole(hide(pathTear(0)), wire.PathTear)
	whole(r.next(5*time.Second), wire.PathTear)
	r.ack(other, wire.RefreshReduction, wire.MessageIDAck{Epoch: id.Epoch, ID: id.ID})
	for _, s := range func() []softstate.Send { l, _ := r.run(time.Minute); return l }() {
		if s.Hidden {
			t.Errorf("%+v after its acknowledgment", s)
		}
	}
}

// What has come as protocol 134 is handed on so, again too.
func TestHiddenIsKept(t *testing.T) {
	r := newRig(t, Config{})
	m := path(0)
	m.Hop = &wire.Hop{Addr: peer, LIH: 1}
	m.MessageID = &wire.MessageID{Epoch: 7, ID: 1, AckDesired: true}
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	in, _ := r.l.Receive(r.now, Packet{Iface: right, Src: srcHost, Dst: m.Session.Dst, TTL: 50, Hidden: true, Payload: b})
	if len(in) != 1 || !in[0].Hidden {
		t.Fatalf("%+v", in)
	}
	in, _ = r.in(right, peer, linkAddr(2, 1), &wire.Message{
		Type: wire.Srefresh, Flags: wire.RefreshReduction, SendTTL: 60, Lists: []wire.MessageIDList{{Epoch: 7, IDs: []wire.ListedID{{ID: 1}}}},
	})
	if len(in) != 1 || !in[0].Hidden || in[0].TTL != 50 {
		t.Fatalf("%+v", in)
	}
}
