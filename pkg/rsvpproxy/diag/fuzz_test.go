package diag

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// FuzzNode: whatever comes, what is sent can be encoded, is addressed, and is
// never more than a fragment and what follows it.
func FuzzNode(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b, uint8(255), false)
		f.Add(b, uint8(1), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, ttl uint8, toHost bool) {
		c := newChain(t, four, 3)
		c.reserve()
		b = sealed(b)
		d, err := wire.ParseDiag(b)
		box := c.boxes[1]
		rx := Received{Iface: right, Src: c.f.link(2, 2), Dst: box.at(right), TTL: ttl, Msg: d, Raw: b, Err: err}
		if toHost {
			rx.Dst = c.f.b
		}
		out := box.diag.Handle(c.now, rx)
		if len(out) > 2 || err != nil && len(out) > 0 {
			t.Fatalf("%+v", out)
		}
		for _, s := range out {
			if !s.Dst.IsValid() || s.Port == 0 && (!s.Src.IsValid() || s.Out == 0) {
				t.Errorf("%+v", s)
			}
			if s.Raw != nil {
				continue
			}
			if again, err := s.Msg.Append(nil); err != nil {
				t.Errorf("%+v: %v", s.Msg, err)
			} else if _, err := wire.ParseDiag(again); err != nil {
				t.Errorf("%x: %v", again, err)
			}
		}
	})
}

// sealed gets a message past length and checksum.
func sealed(b []byte) []byte {
	b = slices.Clone(b)
	if len(b) >= 8 && len(b) <= wire.MaxMessage {
		binary.BigEndian.PutUint16(b[6:], uint16(len(b)))
		wire.SetChecksum(b)
	}
	return b
}

// seeds are a request in several states, and its reply.
func seeds() (out [][]byte) {
	q := Query{
		Session: wire.Session{Dst: four.b, Protocol: 17, DstPort: 5004}, Sender: wire.Filter{Src: four.a, SrcPort: 4000},
		LastHop: four.b, Requester: wire.Filter{Src: four.link(0, 2), SrcPort: 40000}, Hop: wire.Hop{Addr: four.link(2, 2), LIH: uint32(right)}, PathMTU: 1500,
	}
	fresh := q.request(1, 0, true)
	begun := q.request(2, 3, true)
	begun.Responses = []wire.DiagResponse{response(2)}
	begun.Route.Nodes, begun.Route.Pointer = append(begun.Route.Nodes, four.link(2, 2)), 1
	tight := q.request(3, 0, false)
	tight.Responses, tight.Diagnostic.PathMTU = []wire.DiagResponse{response(2)}, 200
	back := q.request(4, 0, true)
	back.Type = wire.DiagReply
	back.Route.Nodes, back.Route.Pointer = append(back.Route.Nodes, four.link(2, 2), four.link(1, 2)), 1
	for _, d := range []*wire.Diag{fresh, begun, tight, back} {
		b, err := d.Append(nil)
		if err != nil {
			panic(err)
		}
		out = append(out, b)
	}
	return out
}

// FuzzClient: replies of any kind in any order end in a result that is whole or
// says that it is not, and keep no more than their bound.
func FuzzClient(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b, b)
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		q := clientQuery()
		q.Session.DstPort, q.Sender.SrcPort, q.Requester.Src, q.ID = 5004, 4000, four.link(0, 2), 1
		c := NewClient(q)
		now := epoch
		for i := 0; i < 12 && !c.Done(); i++ {
			c.Next(now)
			m := a
			if i%2 == 1 {
				m = b
			}
			if d, err := wire.ParseDiag(sealed(m)); err == nil {
				d.Type = wire.DiagReply
				c.Handle(now, d)
			}
			now = c.Deadline()
		}
		r := c.Result()
		if r.Outcome == ReachedEnd && !r.Hops[len(r.Hops)-1].Previous.IsUnspecified() || r.Outcome == NoAnswer && len(r.Hops) > 0 {
			t.Errorf("%+v", r)
		}
	})
}
