package diag

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// requestAt is a request on its way, as it comes to box i from the right.
func (c *chain) requestAt(i int, edit func(d *wire.Diag)) Received {
	q := c.query(0).withDefaults()
	d := q.request(7, 0, false)
	d.SendTTL, d.Hop.LIH = 255, uint32(right)
	d.Diagnostic.FragmentOffset = 40 // it has begun
	if edit != nil {
		edit(d)
	}
	return Received{Iface: right, Src: c.f.link(i+1, 2), Dst: c.boxes[i].at(right), TTL: 255, Msg: d}
}

// RFC 2745 section 4.1: a request that has not begun is handed on by every node
// but the LAST-HOP, with nothing of it changed.
func TestPassRFC2745Section4_1(t *testing.T) {
	c := newChain(t, four, 3)
	c.reserve()
	n := c.boxes[1].diag
	rx := c.requestAt(1, func(d *wire.Diag) { d.Diagnostic.FragmentOffset = 0 })
	rx.Iface, rx.Src, rx.Dst, rx.TTL, rx.Raw = left, c.f.link(1, 1), c.f.b, 200, []byte("as it came")
	out := n.Handle(c.now, rx)
	if len(out) != 1 || out[0].Out != right || out[0].Src != rx.Src || out[0].Dst != c.f.b || out[0].TTL != 199 || !bytes.Equal(out[0].Raw, rx.Raw) {
		t.Errorf("%+v", out)
	}
	rx.TTL = 1
	if out = n.Handle(c.now, rx); len(out) != 0 || n.Counters().Expired != 1 {
		t.Errorf("with TTL 1: %+v", out)
	}
	rx.TTL, rx.Iface = 200, right
	if out = n.Handle(c.now, rx); len(out) != 0 || n.Counters().Stray != 1 {
		t.Errorf("back to where it came from: %+v", out)
	}
	if k := n.Counters(); k.Passed != 1 || k.RequestsIn != 3 || k.RequestsOut != 0 {
		t.Errorf("%+v", k)
	}
	// One that is addressed to us, but is to start elsewhere, goes there.
	rx.Dst, rx.Iface = c.boxes[1].at(left), left
	if out = n.Handle(c.now, rx); len(out) != 1 || out[0].Dst != c.f.b {
		t.Errorf("%+v", out)
	}
	// Further on it would be for the node that it is addressed to alone.
	rx = c.requestAt(1, nil)
	rx.Dst = c.f.b
	if out = n.Handle(c.now, rx); len(out) != 0 || n.Counters().Stray != 2 {
		t.Errorf("not ours: %+v", out)
	}
}

// RFC 2745 section 3.2: the LIH in RSVP_HOP tells by which interface the
// sender's data leave, whichever the request came in by; upstream it is that of
// the previous hop's PATH.
func TestHopRFC2745Section3_2(t *testing.T) {
	c := newChain(t, four, 3)
	c.reserve()
	rx := c.requestAt(1, nil)
	rx.Iface = left
	out := c.boxes[1].diag.Handle(c.now, rx)
	if len(out) != 1 || out[0].Msg.Responses[0].Out != c.boxes[1].at(right) {
		t.Fatalf("%+v", out)
	}
	if h := out[0].Msg.Hop; h.Addr != c.boxes[1].at(left) || h.LIH != uint32(right) || out[0].Dst != c.boxes[0].at(right) || out[0].Msg.SendTTL != out[0].TTL {
		t.Errorf("%+v", out[0])
	}
	rx = c.requestAt(1, func(d *wire.Diag) { d.Hop.LIH = 99 })
	if out = c.boxes[1].diag.Handle(c.now, rx); len(out) != 1 || out[0].Msg.Responses[0].Out != c.boxes[1].at(right) {
		t.Errorf("a handle that is none of ours: %+v", out)
	}
}

// A request that comes back to a node is answered there: the state that leads it
// in a circle is what is being looked for.
func TestLoop(t *testing.T) {
	c := newChain(t, four, 3)
	c.reserve()
	n := c.boxes[1].diag
	rx := c.requestAt(1, nil)
	first := n.Handle(c.now, rx)[0].Msg
	again := c.requestAt(1, func(d *wire.Diag) {
		d.Responses = append(d.Responses, first.Responses[0], wire.DiagResponse{In: c.f.b, Out: c.f.a, Previous: c.f.b})
	})
	out := n.Handle(c.now, again)
	if len(out) != 1 || out[0].Msg.Type != wire.DiagReply || len(out[0].Msg.Responses) != 3 || n.Counters().Loops != 1 {
		t.Fatalf("%+v", out)
	}
	if o := outcome(out[0].Msg.Responses, 0); o != Looped {
		t.Errorf("outcome %v", o)
	}
	full := c.requestAt(1, func(d *wire.Diag) { d.Diagnostic.Hops = 255 })
	if out = n.Handle(c.now, full); len(out) != 1 || out[0].Msg.Type != wire.DiagReply || out[0].Msg.Diagnostic.Hops != 255 {
		t.Errorf("after 255 hops: %+v", out)
	}
}

// RFC 2745 section 4.2: a reply is forwarded only by those that its ROUTE names,
// at the place where it says so.
func TestReplyForwardingRFC2745Section4_2(t *testing.T) {
	c := newChain(t, four, 3)
	c.reserve()
	n, b := c.boxes[1].diag, c.boxes[1]
	reply := func(edit func(d *wire.Diag)) []Send {
		rx := c.requestAt(1, func(d *wire.Diag) {
			d.Type = wire.DiagReply
			d.Route = &wire.Route{Pointer: 1, Nodes: []netip.Addr{c.boxes[2].at(left), b.at(left)}}
			edit(d)
		})
		rx.Iface, rx.Src, rx.Dst = left, c.f.link(1, 1), b.at(left)
		return n.Handle(c.now, rx)
	}
	out := reply(func(*wire.Diag) {})
	if len(out) != 1 || out[0].Dst != c.boxes[2].at(left) || out[0].Msg.Route.Pointer != 0 || out[0].Port != 0 || out[0].Out != right {
		t.Errorf("%+v", out)
	}
	// Pointer zero, or LAST-HOP: to the requester, by UDP (section 6).
	out = reply(func(d *wire.Diag) { d.Route.Pointer, d.Route.Nodes = 0, d.Route.Nodes[1:] })
	if len(out) != 1 || out[0].Dst != c.boxes[0].at(left) || out[0].Port != 40000 {
		t.Errorf("%+v", out)
	}
	out = reply(func(d *wire.Diag) { d.Diagnostic.LastHop = b.at(right) })
	if len(out) != 1 || out[0].Port != 40000 {
		t.Errorf("%+v", out)
	}
	// A requester without a port gets the message as it is.
	out = reply(func(d *wire.Diag) {
		d.Route.Pointer, d.Route.Nodes = 0, d.Route.Nodes[1:]
		d.Diagnostic.Requester.SrcPort = 0
	})
	if len(out) != 1 || out[0].Port != 0 || out[0].Dst != c.boxes[0].at(left) || out[0].Out != left {
		t.Errorf("%+v", out)
	}
	stray := n.Counters().Stray
	for name, edit := range map[string]func(d *wire.Diag){
		"no ROUTE":          func(d *wire.Diag) { d.Route = nil },
		"another's turn":    func(d *wire.Diag) { d.Route.Pointer = 0 },
		"pointer past end":  func(d *wire.Diag) { d.Route.Pointer = 2 },
		"none of our names": func(d *wire.Diag) { d.Route.Nodes[1] = c.f.b },
	} {
		if out := reply(edit); len(out) != 0 {
			t.Errorf("%s: %+v", name, out)
		}
	}
	if got := n.Counters().Stray - stray; got != 4 {
		t.Errorf("%d strays counted", got)
	}
}

// Who asks is not known, and the answer goes where the question says: the rate
// is limited, whatever the messages are.
func TestRateIsLimited(t *testing.T) {
	c := newChain(t, four, 3)
	c.reserve()
	n := New(Config{Rate: 10}, c.boxes[1].rsvp, c.boxes[1])
	sent := 0
	for range 30 {
		sent += len(n.Handle(c.now, c.requestAt(1, nil)))
	}
	if k := n.Counters(); sent != 10 || k.Limited != 20 || k.RequestsIn != 10 {
		t.Errorf("%d answered: %+v", sent, k)
	}
	if out := n.Handle(c.now.Add(500*time.Millisecond), Received{Err: wireError(t)}); len(out) != 0 || n.Counters().Malformed != 1 {
		t.Errorf("%+v, %+v", out, n.Counters())
	}
	for range 5 {
		sent += len(n.Handle(c.now.Add(500*time.Millisecond), c.requestAt(1, nil)))
	}
	if sent != 14 {
		t.Errorf("%d answered half a second later", sent)
	}
	if out := n.Handle(c.now.Add(-time.Hour), c.requestAt(1, nil)); len(out) != 0 {
		t.Error("a clock that went back gives credit")
	}
}

func wireError(t *testing.T) error {
	t.Helper()
	_, err := wire.ParseDiag([]byte{0x10, 8})
	if err == nil {
		t.Fatal("accepted")
	}
	return err
}

// The fragment offset has 16 bits: a reply that grows beyond is given up.
func TestFragmentOffsetEnds(t *testing.T) {
	c := newChain(t, four, 3)
	c.reserve()
	rx := c.requestAt(1, func(d *wire.Diag) {
		d.Diagnostic.FragmentOffset, d.Diagnostic.PathMTU = 65500, 300
		d.Responses = []wire.DiagResponse{{In: c.f.b, Out: c.f.a, Previous: c.f.b, Objects: []wire.Object{{Class: 1, Body: make([]byte, 100)}}}}
	})
	if out := c.boxes[1].diag.Handle(c.now, rx); len(out) != 0 || c.boxes[1].diag.Counters().Expired != 1 {
		t.Errorf("%+v", out)
	}
}

// RFC 2745 section 3.6: D-TTL is the difference of Send_TTL and TTL, whatever lies.
func TestDTTLRFC2745Section3_6(t *testing.T) {
	c := newChain(t, four, 3)
	c.reserve()
	for ttl, want := range map[uint8]uint8{255: 0, 250: 5, 1: 254} {
		rx := c.requestAt(1, nil)
		rx.TTL = ttl
		if got := c.boxes[1].diag.Handle(c.now, rx)[0].Msg.Responses[0].TTL; got != want {
			t.Errorf("TTL %d: %d, want %d", ttl, got, want)
		}
	}
	rx := c.requestAt(1, func(d *wire.Diag) { d.SendTTL = 9 })
	if got := c.boxes[1].diag.Handle(c.now, rx)[0].Msg.Responses[0].TTL; got != 255 {
		t.Errorf("a TTL above Send_TTL: %d", got)
	}
}

// Where there is no way, nothing is sent, and it is counted.
func TestUnreachable(t *testing.T) {
	c := newChain(t, four, 3)
	c.reserve()
	n := New(Config{Rate: -1}, c.boxes[1].rsvp, nowhere{c.boxes[1]})
	rx := c.requestAt(1, func(d *wire.Diag) { d.Diagnostic.MaxHops, d.Diagnostic.Requester.SrcPort = 1, 0 })
	if out := n.Handle(c.now, rx); len(out) != 0 || n.Counters().Unreachable != 1 {
		t.Errorf("%+v %+v", out, n.Counters())
	}
	rx = c.requestAt(1, func(d *wire.Diag) { d.Diagnostic.FragmentOffset = 0 })
	if out := n.Handle(c.now, rx); len(out) != 0 || n.Counters().Unreachable != 2 {
		t.Errorf("%+v %+v", out, n.Counters())
	}
}

type nowhere struct{ *box }

func (nowhere) Route(netip.Addr) (softstate.IfIndex, bool, bool) { return 0, false, false }
