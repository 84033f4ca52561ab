package daemon

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func TestReductionRequest(t *testing.T) {
	r := testControl(t)
	l := r.links()
	ask := console.ReductionRequest{
		Dst: "10.2.0.9", Protocol: console.Text("udp"), Dport: 5004, Src: "10.1.0.2", Sport: 4000, Interface: "wan0",
		Rate: console.Text("4mbit"), Peak: console.Value{Text: "600000", Number: true},
	}
	q, err := reductionOf(&ask, l)
	want := rsvpproxy.ReduceQuery{
		Dst: netip.MustParseAddr("10.2.0.9"), Src: netip.MustParseAddr("10.1.0.2"), Protocol: 17, DstPort: 5004, SrcPort: 4000,
		Out: wan, Left: softstate.Left{Bandwidth: 500_000, Peak: 600_000},
	}
	if err != nil || q != want {
		t.Errorf("%+v, %v", q, err)
	}
	for want, spoil := range map[string]func(*console.ReductionRequest){
		`dst: "" is no address`:        func(a *console.ReductionRequest) { a.Dst = "" },
		`src: "x" is no address`:       func(a *console.ReductionRequest) { a.Src = "x" },
		`protocol: "x" is none`:        func(a *console.ReductionRequest) { a.Protocol = console.Text("x") },
		`interface: "eth9" is not in`:  func(a *console.ReductionRequest) { a.Interface = "eth9" },
		"rate: say what shall be left": func(a *console.ReductionRequest) { a.Rate = console.Value{} },
		"rate: 0 is out of range":      func(a *console.ReductionRequest) { a.Rate = console.Value{Text: "0", Number: true} },
		"peak: no less than rate":      func(a *console.ReductionRequest) { a.Peak = console.Text("1mbit") },
		"2 things are wrong":           func(a *console.ReductionRequest) { a.Src, a.Dst = "x", "fe80::1%eth0" },
	} {
		bad := ask
		spoil(&bad)
		if _, err := reductionOf(&bad, l); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestReductionErrors(t *testing.T) {
	r := testControl(t)
	session := wire.Session{Dst: netip.MustParseAddr("10.2.0.9"), Protocol: 17, DstPort: 5004}
	sender := wire.Filter{Src: netip.MustParseAddr("10.1.0.2"), SrcPort: 4000}
	many := &rsvpproxy.SeveralError{Found: []rsvpproxy.Reducible{
		{ID: 1, Session: session, Senders: []wire.Filter{sender}, Out: wan}, {ID: 2, Session: session, Senders: []wire.Filter{sender, sender}, Out: lan},
	}}
	for _, tt := range []struct {
		err    error
		status int
		code   string
		text   string
	}{
		{many, 409, "ambiguous", "protocol=udp dport=5004 src=10.1.0.2 sport=4000 interface=wan0; protocol=udp dport=5004 interface=lan0"},
		{rsvpproxy.ErrNotKnown, 404, "no_session", "is known here"},
		{rsvpproxy.ErrNotReserved, 409, "not_reserved", "nothing is reserved"},
		{softstate.ErrNoReduction, 409, "not_less", "not less"},
	} {
		var e *console.Error
		if !errors.As(reduceError(tt.err, r.links()), &e) || e.Status != tt.status || e.Code != tt.code || !strings.Contains(e.Message, tt.text) {
			t.Errorf("%v: %+v", tt.err, e)
		}
	}
	var e *console.Error
	if err := reduceError(rsvpproxy.ErrStopped, r.links()); errors.As(err, &e) {
		t.Errorf("a fault of the daemon: %v", err)
	}
}
