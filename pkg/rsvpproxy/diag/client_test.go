package diag

import (
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func clientQuery() Query {
	return Query{
		Session: wire.Session{Dst: four.b, Protocol: 17, DstPort: 9}, Sender: wire.Filter{Src: four.a, SrcPort: 8},
		LastHop: four.b, Requester: wire.Filter{Src: four.link(1, 1), SrcPort: 40000}, Hop: wire.Hop{Addr: four.link(1, 1)}, ID: 100,
	}
}

func replyTo(d *wire.Diag, hops ...wire.DiagResponse) *wire.Diag {
	r := *d
	r.Type, r.Responses = wire.DiagReply, hops
	return &r
}

func response(i int) wire.DiagResponse {
	return wire.DiagResponse{In: four.link(i, 2), Out: four.link(i+1, 1), Previous: four.link(i, 1)}
}

// RFC 2745 section 6, step 4: fragments in any order, some twice.
func TestClientReassemblyRFC2745Section6(t *testing.T) {
	c := NewClient(clientQuery())
	d := c.Next(epoch)
	if d == nil || d.Route != nil || d.Diagnostic.RequestID != 100 || d.Diagnostic.PathMTU != DefaultPathMTU {
		t.Fatalf("%+v", d)
	}
	last := response(0)
	last.Previous = netip.IPv4Unspecified()
	one, two, three := replyTo(d, response(3), response(2)), replyTo(d, response(1)), replyTo(d, last)
	one.Diagnostic.More, two.Diagnostic.More = true, true
	two.Diagnostic.FragmentOffset = uint16(one.ResponseBytes())
	three.Diagnostic.FragmentOffset = uint16(one.ResponseBytes() + two.ResponseBytes())
	now := epoch
	for _, r := range []*wire.Diag{three, one, one, three} {
		now = now.Add(400 * time.Millisecond)
		c.Handle(now, r)
		if c.Done() {
			t.Fatal("done without the middle")
		}
	}
	if at := c.Deadline(); !at.After(epoch.Add(DefaultTimeout)) { // the reassembly timer
		t.Errorf("deadline %v", at.Sub(epoch))
	}
	c.Handle(now, two)
	if r := c.Result(); r.Outcome != ReachedEnd || len(r.Hops) != 4 || r.Hops[3].In != last.In || r.Attempts != 1 {
		t.Errorf("%+v", r)
	}
}

// RFC 2745 sections 5.1 and 6: the request is repeated with a ROUTE; a late reply
// to the first is as good. Then each number of hops is tried, from one on.
func TestClientRepeatsRFC2745Section5_1(t *testing.T) {
	c := NewClient(clientQuery())
	first := c.Next(epoch)
	if c.Next(epoch.Add(DefaultTimeout/2)) != nil {
		t.Error("repeated too early")
	}
	second := c.Next(c.Deadline())
	if second == nil || second.Route == nil || second.Diagnostic.RequestID == first.Diagnostic.RequestID {
		t.Fatalf("%+v", second)
	}
	c.Handle(epoch, replyTo(first, response(1)))
	if r := c.Result(); r.HopByHop || r.Attempts != 2 || len(r.Hops) != 1 {
		t.Errorf("%+v", r)
	}
	c = NewClient(clientQuery())
	for range DefaultAttempts {
		if d := c.Next(c.Deadline()); d.Diagnostic.MaxHops != 0 {
			t.Fatalf("%+v", d.Diagnostic)
		}
	}
	for k := 1; k <= 3; k++ {
		d := c.Next(c.Deadline())
		if int(d.Diagnostic.MaxHops) != k {
			t.Fatalf("%+v", d.Diagnostic)
		}
		var hops []wire.DiagResponse
		for i := range k {
			hops = append(hops, response(9-i))
		}
		c.Handle(c.Deadline().Add(-time.Millisecond), replyTo(d, hops...))
	}
	for range DefaultAttempts {
		if d := c.Next(c.Deadline()); d.Diagnostic.MaxHops != 4 {
			t.Fatalf("%+v", d.Diagnostic)
		}
	}
	if c.Next(c.Deadline()) != nil || !c.Done() {
		t.Fatal("not given up")
	}
	if r := c.Result(); r.Outcome != Silent || len(r.Hops) != 3 || !r.HopByHop {
		t.Errorf("%+v", r)
	}
}

// What answers another question changes nothing; partial results are told.
func TestClientIgnoresOthers(t *testing.T) {
	c := NewClient(clientQuery())
	d := c.Next(epoch)
	for name, edit := range map[string]func(r *wire.Diag){
		"a request":     func(r *wire.Diag) { r.Type = wire.DiagRequest },
		"id":            func(r *wire.Diag) { r.Diagnostic.RequestID++ },
		"session":       func(r *wire.Diag) { r.Session.DstPort++ },
		"sender":        func(r *wire.Diag) { r.Diagnostic.Sender.SrcPort++ },
		"last hop":      func(r *wire.Diag) { r.Diagnostic.LastHop = four.a },
		"another's":     func(r *wire.Diag) { r.Diagnostic.Requester.SrcPort++ },
		"too many hops": func(r *wire.Diag) { r.Responses = make([]wire.DiagResponse, maxResponses+1) },
	} {
		r := replyTo(d, response(1))
		edit(r)
		if c.Handle(epoch, r); c.Done() {
			t.Fatalf("%s: taken", name)
		}
	}
	part := replyTo(d, response(1), response(0))
	part.Diagnostic.More = true
	c.Handle(epoch, part)
	for i := range 2 * maxFragments { // of no use, and bounded
		p := replyTo(d)
		p.Diagnostic.FragmentOffset = uint16(1000 + i)
		c.Handle(epoch, p)
	}
	if n := len(c.attempts[0].parts); n != maxFragments {
		t.Errorf("%d parts are kept", n)
	}
	if r := c.Result(); r.Outcome != Partial || len(r.Hops) != 2 {
		t.Errorf("%+v", r)
	}
}

func TestOutcomeNames(t *testing.T) {
	seen := map[string]bool{}
	for o := NoAnswer; o <= Partial; o++ {
		if s := o.String(); s == "unknown" || s == "" || seen[s] {
			t.Errorf("%d is %q", o, s)
		}
		seen[o.String()] = true
	}
	if s := (Partial + 1).String(); s != "unknown" {
		t.Error(s)
	}
}
