package diag

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// RFC 2745 section 4.1: from wherever it is asked, the request starts at the last
// hop, goes to the sender's side, and every hop tells its state. The host behind
// the last box sees nothing of it.
func TestTraceRFC2745Section4_1(t *testing.T) {
	for name, f := range map[string]family{"ipv4": four, "ipv6": six} {
		t.Run(name, func(t *testing.T) {
			c := newChain(t, f, 5)
			c.hidden[3] = 2
			c.reserve()
			for from := range c.boxes {
				r := c.trace(c.query(from))
				if r.Outcome != ReachedEnd || r.Attempts != 1 || r.HopByHop {
					t.Errorf("from box %d: %+v", from, r)
				}
				c.wantHops(r, 4, 3, 2, 1, 0)
				// The request itself passes the boxes between, which are routers to it.
				first := uint8(4 - from)
				if from < 3 {
					first += 2
				}
				if from < 4 {
					first-- // no router between the requester and its neighbour
				} else {
					first = 0
				}
				if r.Hops[0].TTL != first {
					t.Errorf("from box %d: D-TTL %d at the last hop, want %d", from, r.Hops[0].TTL, first)
				}
				for k, want := range []uint8{0, 2, 0, 0} { // routers without RSVP in front of box 3
					if got := r.Hops[k+1].TTL; got != want {
						t.Errorf("hop %d: D-TTL %d, want %d", k+2, got, want)
					}
				}
			}
		})
	}
}

// RFC 2745 section 4.2: with a ROUTE the reply takes the request's way back.
func TestTraceHopByHopRFC2745Section4_2(t *testing.T) {
	for name, f := range map[string]family{"ipv4": four, "ipv6": six} {
		t.Run(name, func(t *testing.T) {
			c := newChain(t, f, 5)
			c.reserve()
			q := c.query(2)
			q.HopByHop = true
			var by []int
			c.onPacket = func(p *packet) {
				if p.diag != nil && !p.udp && p.diag[1] == byte(wire.DiagReply) {
					by = append(by, p.to.i)
				}
			}
			r := c.trace(q)
			c.wantHops(r, 4, 3, 2, 1, 0)
			if !r.HopByHop || len(by) != 4 || by[0] != 1 || by[3] != 4 {
				t.Errorf("%+v, reply by way of boxes %v", r, by)
			}
			if n := c.boxes[4].diag.Counters(); n.RepliesIn != 1 || n.RepliesOut != 1 || n.Fragments != 0 {
				t.Errorf("last hop: %+v", n)
			}
		})
	}
}

// RFC 2745 section 3.3: Max-RSVP-hops ends the way; 1 asks the last hop alone.
func TestTraceMaxHopsRFC2745Section3_3(t *testing.T) {
	c := newChain(t, four, 5)
	c.reserve()
	for n, want := range map[uint8][]int{1: {4}, 3: {4, 3, 2}, 5: {4, 3, 2, 1, 0}, 200: {4, 3, 2, 1, 0}} {
		for _, route := range []bool{false, true} {
			q := c.query(0)
			q.MaxHops, q.HopByHop = n, route
			r := c.trace(q)
			c.wantHops(r, want...)
			if reached := len(want) == 5; reached != (r.Outcome == ReachedEnd) || !reached && r.Outcome != ReachedLimit {
				t.Errorf("%d: %v", n, r.Outcome)
			}
		}
	}
}

// RFC 2745 section 4.3: a reply longer than the MTU comes in fragments, straight
// and along a ROUTE. Path MTU is cut to the MTU of the interface in between.
func TestTraceFragmentsRFC2745Section4_3(t *testing.T) {
	for name, f := range map[string]family{"ipv4": four, "ipv6": six} {
		for _, route := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				c := newChain(t, f, 5)
				c.reserve()
				mtu := 480
				if name == "ipv6" {
					mtu = 720
				}
				c.boxes[3].mtu[left] = mtu
				q := c.query(1)
				q.HopByHop = route
				c.sent = nil
				r := c.trace(q)
				c.wantHops(r, 4, 3, 2, 1, 0)
				if r.Attempts != 1 || r.HopByHop != route {
					t.Errorf("%+v", r)
				}
				if r.Hops[0].Error != 0 || r.Hops[2].Error|r.Hops[3].Error != wire.DiagTooBig {
					t.Errorf("errors %#x %#x %#x", r.Hops[0].Error, r.Hops[2].Error, r.Hops[3].Error)
				}
				if n := len(c.udp); n < 2 || c.udp[n-1].Diagnostic.PathMTU != uint16(mtu) {
					t.Errorf("%d replies, the last %+v", n, c.udp[n-1].Diagnostic)
				}
				for _, b := range c.sent {
					if d, err := wire.ParseDiag(b); err != nil || len(d.Responses) > 1 && len(b)+overhead(d) > int(d.Diagnostic.PathMTU) {
						t.Errorf("%d bytes with a path MTU of %d", len(b), mtu)
					}
				}
			})
		}
	}
}

// RFC 2745 section 4.1, SD4: where even the ROUTE makes the request too long it
// is cut, and replies come back to that node and straight from there.
func TestTraceRouteTooLongRFC2745SectionSD4(t *testing.T) {
	c := newChain(t, four, 9)
	c.reserve()
	q := c.query(4)
	q.HopByHop = true
	base := overhead(q.request(1, 0, true)) + q.request(1, 0, true).Length() + 4
	q.PathMTU = uint16(base + oneResponse(c) + 8)
	r := c.trace(q)
	c.wantHopsErr(r, 9)
	cut := 0
	for _, h := range r.Hops {
		if h.Error&wire.DiagRouteTooLong != 0 {
			cut++
		}
	}
	if cut == 0 || r.Attempts != 1 || r.Outcome != ReachedEnd {
		t.Errorf("%d cut, %+v", cut, r)
	}
}

func oneResponse(c *chain) int {
	v, _ := c.boxes[3].rsvp.Inspect(c.session(), c.sender(), 0)
	r := wire.DiagResponse{In: c.f.a, Objects: v.Report.Objects(nil)}
	return r.Length()
}

func (c *chain) wantHopsErr(r Result, n int) {
	c.t.Helper()
	if len(r.Hops) != n {
		c.t.Fatalf("%d hops, want %d: %+v", len(r.Hops), n, r)
	}
	for k, h := range r.Hops {
		if b := c.boxes[n-1-k]; h.In != b.at(left) {
			c.t.Errorf("hop %d: %v, want %v", k+1, h.In, b.at(left))
		}
	}
}

// RFC 2745 section 4.4: without path state the node answers at once.
func TestTraceNoPathRFC2745Section4_4(t *testing.T) {
	c := newChain(t, four, 5)
	c.reserve()
	q := c.query(0)
	q.Session.DstPort++
	r := c.trace(q)
	if r.Outcome != NoPath || len(r.Hops) != 1 || r.Hops[0].Out != c.boxes[4].at(right) || len(r.Hops[0].Objects) != 0 {
		t.Errorf("%+v", r)
	}
	// In the middle: what was collected up to there comes back.
	c.boxes[2].diag.state = softstate.New(softstate.Config{}, c.boxes[2], c.rng)
	for _, route := range []bool{false, true} {
		q = c.query(0)
		q.HopByHop = route
		r = c.trace(q)
		if r.Outcome != NoPath || len(r.Hops) != 3 || r.Hops[2].Error != wire.DiagNoPath || r.Hops[1].Error != 0 {
			t.Errorf("%+v", r)
		}
	}
	if n := c.boxes[2].diag.Counters().NoPath; n != 2 {
		t.Errorf("%d counted", n)
	}
}

// RFC 2745 sections 5.6 and 6: a hop that does not know the messages swallows
// them. All attempts fail, then the search tells every hop up to there.
func TestTraceSilentHopRFC2745Section5_6(t *testing.T) {
	c := newChain(t, four, 5)
	c.reserve()
	c.boxes[1].dead = true
	r := c.trace(c.query(3))
	c.wantHops(r, 4, 3, 2)
	if r.Outcome != Silent {
		t.Errorf("%+v", r)
	}
	// The whole chain deaf: nobody answers.
	for _, b := range c.boxes {
		b.dead = true
	}
	if r = c.trace(c.query(0)); r.Outcome != NoAnswer || len(r.Hops) != 0 {
		t.Errorf("%+v", r)
	}
}

// RFC 2745 section 6, step 5: lost messages are made up for by repetition.
func TestTraceWithLossRFC2745Section6(t *testing.T) {
	for round := range 200 {
		c := newChain(t, four, 5)
		c.reserve()
		c.loss = 0.05
		c.boxes[3].mtu[left] = 480 + 400*(round%2)
		q := c.query(round % 5)
		q.HopByHop, q.Attempts = round%3 == 0, 24 // half of them may fail: one in ten million rounds then loses all
		r := c.trace(q)
		if r.Outcome != ReachedEnd {
			t.Errorf("round %d: %v after %d attempts", round, r.Outcome, r.Attempts)
			continue
		}
		c.wantHops(r, 4, 3, 2, 1, 0)
	}
	// However many are lost, it comes to an end in a bounded time.
	for range 50 {
		c := newChain(t, four, 5)
		c.reserve()
		c.loss = 0.7
		if r := c.trace(c.query(1)); r.Attempts > 20 {
			t.Errorf("%d attempts", r.Attempts)
		}
	}
}

// DIAG_SELECT chooses what is told (RFC 2745 section 3.4).
func TestTraceSelectRFC2745Section3_4(t *testing.T) {
	c := newChain(t, four, 3)
	c.reserve()
	q := c.query(0)
	q.Select = []wire.ClassCType{{Class: wire.ClassAdSpec}, {Class: wire.ClassHop, CType: 1}, {Class: wire.ClassFlowSpec, CType: 9}}
	r := c.trace(q)
	if len(r.Hops) != 3 {
		t.Fatalf("%+v", r)
	}
	s := r.Hops[0].Report()
	if s.AdSpec == nil || s.Hop == nil || s.Hop.Addr != c.boxes[1].at(right) || s.FlowSpec != nil || s.SenderTSpec != nil || s.Style != 0 {
		t.Errorf("%+v", s)
	}
	if s = r.Hops[2].Report(); s.Hop != nil || s.AdSpec != nil {
		t.Errorf("the sender's proxy has no previous hop: %+v", s)
	}
}

// Without a reservation there is path state to tell (RFC 2745 section 4.1, step 5).
func TestTraceWithoutReservationRFC2745Section4_1(t *testing.T) {
	c := newChain(t, four, 3)
	c.reserve()
	b := c.boxes[0]
	c.perform(b, b.rsvp.Handle(c.now, softstate.Received{
		Iface: right, Src: c.f.link(1, 2), Dst: b.at(right), TTL: 255,
		Msg: &wire.Message{
			Type: wire.ResvTear, Session: c.session(), Hop: &wire.Hop{Addr: c.f.link(1, 2), LIH: uint32(right)}, Style: wire.FF,
			Flows: []wire.FlowDescriptor{{Filters: []wire.Filter{c.sender()}}},
		},
	}))
	c.run(c.now.Add(10*time.Millisecond), nil)
	r := c.trace(c.query(0))
	if len(r.Hops) != 3 {
		t.Fatalf("%+v", r)
	}
	if s := r.Hops[2].Report(); s.SenderTSpec == nil || s.FlowSpec != nil || s.Style != 0 || len(s.Filters) != 0 {
		t.Errorf("%+v", s)
	}
}
