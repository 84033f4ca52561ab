package reliable

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

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
	// The layer's books are checked after each every-th call; 0: after all.
	every, calls int
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
	if r.calls++; r.every == 0 || r.calls%r.every == 0 {
		if err := r.l.check(); err != nil {
			r.t.Fatal(err)
		}
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
