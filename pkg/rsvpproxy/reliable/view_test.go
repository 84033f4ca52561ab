package reliable

import (
	"testing"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// What people are shown of a neighbour: that it can (RFC 2961 section 2), that
// it acknowledges (section 4.4), and what it has not acknowledged yet.
func TestNeighborsRFC2961(t *testing.T) {
	r := newRig(t, Config{})
	if list := r.l.Neighbors(); len(list) != 0 {
		t.Fatalf("%+v", list)
	}
	sent := r.send(path(0))
	list := r.l.Neighbors()
	if len(list) != 1 || list[0].Addr != peer || list[0].Iface != right || list[0].Heard || list[0].Capable || list[0].Flying != 1 {
		t.Fatalf("%+v", list)
	}
	r.ack(peer, wire.RefreshReduction, ackOf(sent[0]))
	if list = r.l.Neighbors(); !list[0].Heard || !list[0].Capable || !list[0].Acks || list[0].Refused || list[0].Flying != 0 || !list[0].Seen.Equal(r.now) {
		t.Errorf("%+v", list)
	}
}
