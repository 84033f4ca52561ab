package reliable

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// FuzzLayer: b is a script of sends, messages that arrive, and time that passes.
// The tables must agree at any moment, what is sent must be a message, and all
// must be gone after a while.
func FuzzLayer(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09"))
	f.Add([]byte{0, 0, 3, 1, 8, 255, 3, 2, 4, 0, 8, 255, 5, 0, 8, 255, 8, 255, 6, 0, 1, 0, 0, 0, 7, 3})
	f.Add([]byte{4, 0, 4, 1, 5, 0, 5, 1, 2, 0, 0, 0, 2, 0, 8, 9, 6, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 400 {
			return // a long script is only slow
		}
		n := &node{i: 1}
		l := New(Config{Limits: Limits{Neighbors: 4, Sent: 8, Received: 8}}, n, rand.New(rand.NewPCG(1, 1)))
		now := epoch
		out := func(list []softstate.Send) {
			for _, s := range list {
				if _, err := s.Msg.Append(nil); err != nil {
					t.Fatalf("%v: %v", s.Msg.Type, err)
				}
			}
			if err := l.check(); err != nil {
				t.Fatal(err)
			}
		}
		take := func(p Packet, m *wire.Message) {
			raw, err := m.Append(nil)
			if err != nil {
				return
			}
			p.Payload, p.TTL = raw, m.SendTTL
			_, list := l.Receive(now, p)
			out(list)
		}
		for ; len(b) >= 2; b = b[2:] {
			x := b[1]
			id := wire.MessageID{Epoch: uint32(x >> 6), ID: uint32(x & 7), AckDesired: x&8 != 0}
			up := Packet{Iface: left, Src: prev, Dst: linkAddr(1, 2)}
			down := Packet{Iface: right, Src: peer, Dst: linkAddr(2, 1)}
			if x&16 != 0 {
				down.Src = other
			}
			m := path(int(x & 3))
			m.SendTTL = 60 + x>>7
			switch b[0] % 9 {
			case 0:
				out(l.Send(now, softstate.Send{Out: right, Src: srcHost, Dst: dstHost, TTL: m.SendTTL, RouterAlert: true, Msg: m, Probe: x&64 != 0}))
			case 1:
				m = pathTear(int(x & 3))
				out(l.Send(now, softstate.Send{Out: right, Src: srcHost, Dst: dstHost, TTL: m.SendTTL, RouterAlert: true, Msg: m, Probe: x&64 != 0}))
			case 2:
				take(down, &wire.Message{Type: wire.Ack, Flags: x >> 5 & 1, SendTTL: 9, Acks: []wire.MessageIDAck{{Epoch: l.epoch, ID: uint32(x & 7), Nack: x&8 != 0}}})
			case 3:
				e := &wire.Message{Type: wire.PathErr, SendTTL: 9, Session: m.Session, SenderTemplate: m.SenderTemplate, ErrorSpec: &wire.ErrorSpec{Node: peer, Code: wire.ErrUnknownClass, Value: 23<<8 | 1}}
				if x&32 != 0 {
					e.ErrorSpec.Value = 0
				}
				take(down, e)
			case 4:
				m.Hop.Addr, m.MessageID, m.Flags = prev, &id, 1
				take(up, m)
			case 5:
				take(up, &wire.Message{Type: wire.Srefresh, Flags: 1, SendTTL: 9, Lists: []wire.MessageIDList{{Epoch: id.Epoch, IDs: []wire.ListedID{{ID: id.ID}}}}})
			case 6:
				m = pathTear(int(x & 3))
				m.Hop.Addr, m.MessageID = prev, &id
				take(up, m)
			case 7:
				_, list := l.Receive(now, Packet{Iface: left, Src: prev, Dst: linkAddr(1, 2), Payload: b})
				out(list)
			case 8:
				end := now.Add(time.Duration(x) * 200 * time.Millisecond)
				for at, ok := l.NextDeadline(); ok && at.Before(end); at, ok = l.NextDeadline() {
					now = at
					out(l.Advance(now))
				}
				now = end
			}
		}
		for range 10_000 {
			at, ok := l.NextDeadline()
			if !ok {
				break
			}
			now = at
			out(l.Advance(now))
		}
		if c := l.Counters(); c.Sent+c.Received != 0 {
			t.Fatalf("left over: %+v", c)
		}
	})
}
