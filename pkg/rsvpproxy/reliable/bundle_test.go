package reliable

import (
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

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
