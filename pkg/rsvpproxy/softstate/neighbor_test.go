package softstate

import (
	"testing"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// A neighbour that fills the tables leaves room for the others, whether it
// comes with many sessions or with many senders of one; what it held before
// stays and is refreshed.
func TestNeighborShare(t *testing.T) {
	for name, session := range map[string]func(i int) uint16{
		"sessions": func(i int) uint16 { return uint16(1 + i) },
		"senders":  func(int) uint16 { return 1 },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Config{Quick: -1, Limits: Limits{Sessions: 90, Senders: 90}})
			send := func(iface IfIndex, hop string, i int, dport uint16) []Effect {
				m := pathMsg()
				m.Session.DstPort = dport
				m.SenderTemplate = &wire.Filter{Src: srcHost, SrcPort: uint16(1000 + i)}
				m.Hop.Addr = addr(hop)
				return r.in(iface, srcHost, dstHost, m)
			}
			const loud = "192.0.2.1"
			for i := range 200 {
				es := send(left, loud, i, session(i))
				switch {
				case i < 80:
					onlySend(t, es, wire.Path)
				default:
					s := onlySend(t, es, wire.PathErr)
					if e := s.Msg.ErrorSpec; e.Code != wire.ErrRSVPSystem || e.Value != systemLimit || s.Dst != addr(loud) {
						t.Fatalf("PATH %d: %s", i, dump(es))
					}
				}
			}
			if d, ok := r.n.Dropped(); !ok || d != DropShare {
				t.Errorf("dropped %v, %v", d, ok)
			}
			noSend(t, send(left, loud, 3, session(3)), wire.PathErr) // a refresh
			if _, ok := r.n.Dropped(); ok {
				t.Error("a refresh was dropped")
			}
			for i := range 9 { // another neighbour, and another that has the same address elsewhere
				onlySend(t, send(left, "192.0.2.9", 300+i, 1000+session(i)), wire.Path)
			}
			if c := r.n.Counters(); c.Dropped[DropShare] != 120 || c.Senders != 89 {
				t.Errorf("counters %+v", c)
			}
			r.run(10 * DefaultRefresh) // everything times out, and the loud one may come again
			onlySend(t, send(left, loud, 500, session(500)), wire.Path)
		})
	}
}

// Who claims a neighbour's address on another interface neither uses up nor
// inherits what that one may hold.
func TestNeighborIsKnownByInterface(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	if !r.n.Neighbor(left, prevHop) || r.n.Neighbor(right, prevHop) || r.n.Neighbor(left, nextHop) {
		t.Error("wrong judgement of who is a neighbour")
	}
	r.grant(r.resv())
	if !r.n.Neighbor(right, nextHop) || r.n.Neighbor(left, nextHop) {
		t.Error("wrong judgement of who is a neighbour")
	}
}

// The limit can be turned off.
func TestNeighborShareOff(t *testing.T) {
	r := newRig(t, Config{Quick: -1, Limits: Limits{Sessions: 20, Senders: 20, Share: -1}})
	for i := range 20 {
		onlySend(t, r.path(func(m *wire.Message) { m.Session.DstPort = uint16(1 + i) }), wire.Path)
	}
	if c := r.n.Counters(); c.Sessions != 20 {
		t.Errorf("counters %+v", c)
	}
}
