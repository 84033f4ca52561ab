package daemon

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/byhand"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// askGroup is a request for a flow from A to a group.
func askGroup(v6 bool, side string) (console.ReservationRequest, packet.FlowKey) {
	a := ask(9)
	a.Src, a.Dst, a.Dport, a.Side = "10.1.0.2", "239.1.2.3", 5500, side
	if v6 {
		a.Src, a.Dst = "fd00:1::2", "ff3e::239:1"
	}
	return a, packet.MakeKey(packet.ProtoUDP, netip.AddrPortFrom(netip.MustParseAddr(a.Src), 9), netip.AddrPortFrom(netip.MustParseAddr(a.Dst), 5500))
}

// RFC 2205 section 1.2 and Cisco's ip rsvp sender to a group: PATH is asked for
// once, each branch has its own treatment and row, and a release gives all back.
func TestHandsGroupSender(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		r := testHands(t, t.TempDir())
		k := &byPlace{have: map[shaper.FlowID]plan.Treatment{}}
		r.kernel = k
		a, key := askGroup(v6, "sender")
		a.Mark = console.Text("ef")
		e := r.must(t, a)
		if s, ok := r.rsvp.senders[key]; !ok || s.In != lan || s.TSpec != e.TSpec || s.TTL != 0 {
			t.Fatalf("sender %+v, asked for %v", s, ok)
		}
		session, filter := sessionOf(key)
		outs := map[int]string{wan: "wan0", third: "third0"}
		for out := range outs {
			refusal := r.Reserve(softstate.Reserve{
				ID: uint64(out), Session: session, Filters: []wire.Filter{filter}, Style: wire.FF, In: lan, Out: softstate.IfIndex(out),
				FlowSpec: spec(125000), SenderTSpec: spec(125000).TSpec,
			})
			if refusal != nil {
				t.Fatal(refusal)
			}
		}
		flows := r.trafficControl.flows
		for out, iface := range outs {
			if got := k.have[shaper.FlowID{Interface: iface, Key: key}]; !got.Reserve || got.DSCP != dscp.EF {
				t.Errorf("%s: treatment %+v", iface, got)
			}
			if f, _, ok := flows.getOn(key, out); !ok || f.state != stateManaged || f.policy.Name != "by-hand:1" || f.role != roleSender {
				t.Errorf("%s: row %+v, %v", iface, f, ok)
			}
		}
		// It is not answered for: those behind this box are none of side sender's.
		if _, ok := r.receiverProxy(softstate.PathInfo{Session: session, Sender: filter, TSpec: spec(5e5).TSpec, In: wan, Out: lan}); ok {
			t.Error("side sender answers for receivers")
		}
		if _, err := r.remove(t.Context(), e.ID); err != nil {
			t.Fatal(err)
		}
		if len(r.rsvp.senders) != 0 || r.rsvp.answered[len(r.rsvp.answered)-1] != key {
			t.Errorf("released: PATH for %v, answers asked again for %v", r.rsvp.senders, r.rsvp.answered)
		}
		for out, iface := range outs {
			r.Release(uint64(out))
			if got := k.have[shaper.FlowID{Interface: iface, Key: key}]; got.Reserve {
				t.Errorf("%s: released, and it is treated: %+v", iface, got)
			}
		}
		if list := flows.all(key); len(list) != 0 {
			t.Errorf("released, and there are rows: %+v", list)
		}
	}
}

// RFC 5945 section 4: the receivers of a group are answered for on branches
// towards hosts, and on no others.
func TestHandsGroupReceiver(t *testing.T) {
	for _, side := range []string{"receiver", "both"} {
		for _, v6 := range []bool{false, true} {
			r := testHands(t, t.TempDir())
			a, key := askGroup(v6, side)
			a.Src, a.Style = "10.2.0.2", "se"
			if v6 {
				a.Src = "fd00:2::2"
			}
			key = packet.MakeKey(packet.ProtoUDP, netip.AddrPortFrom(netip.MustParseAddr(a.Src), 9), key.DstAddrPort())
			session, filter := sessionOf(key)
			info := softstate.PathInfo{Session: session, Sender: filter, TSpec: spec(5e5).TSpec, In: wan}
			answers := func(out int) (softstate.ReserveSpec, bool) {
				info.Out = softstate.IfIndex(out)
				return r.receiverProxy(info)
			}
			if _, ok := answers(lan); ok {
				t.Fatal("answered before")
			}
			e := r.must(t, a)
			if got, ok := answers(lan); !ok || got.Style != wire.SE || got.FlowSpec.TSpec.Rate != 125000 {
				t.Errorf("side %s: %+v, %v", side, got, ok)
			}
			for _, out := range []int{third, wan, 99} {
				if _, ok := answers(out); ok {
					t.Errorf("side %s: it answers by interface %d, where its hosts are not", side, out)
				}
			}
			other := info
			other.Out, other.Sender.SrcPort = lan, 10
			if _, ok := r.receiverProxy(other); ok {
				t.Error("it answers another sender of the group")
			}
			if len(r.rsvp.senders) != 0 || !slices.Contains(r.rsvp.answered, key) {
				t.Errorf("side %s: it speaks for %v, answers are asked for again for %v", side, r.rsvp.senders, r.rsvp.answered)
			}
			if _, err := r.remove(t.Context(), e.ID); err != nil {
				t.Fatal(err)
			}
			if _, ok := answers(lan); ok {
				t.Error("answered after")
			}
		}
	}
}

func TestHandsGroupSayNo(t *testing.T) {
	r := testHands(t, t.TempDir())
	for _, tt := range []struct {
		text   string
		status int
		spoil  func(*console.ReservationRequest)
	}{
		{"tcp connects two hosts", 400, func(a *console.ReservationRequest) { a.Protocol = console.Text("tcp") }},
		{"src: 239.1.1.1 is a group", 400, func(a *console.ReservationRequest) { a.Src = "239.1.1.1" }},
		{"src: \"\" is no address", 400, func(a *console.ReservationRequest) { a.Src = "" }},
		{"src: give the address of a host", 400, func(a *console.ReservationRequest) { a.Src = "0.0.0.0" }},
		{"different IP versions", 400, func(a *console.ReservationRequest) { a.Dst = "ff3e::1" }},
		{"group of one link", 400, func(a *console.ReservationRequest) { a.Dst = "224.0.0.5" }},
		{"side sender: 10.2.0.2 is not behind this box", 409, func(a *console.ReservationRequest) { a.Src, a.Side = "10.2.0.2", "sender" }},
		{"unreachable", 409, func(a *console.ReservationRequest) { a.Src = "10.9.0.2" }}, // who is behind it cannot be told
		{"is an address of this box", 409, func(a *console.ReservationRequest) { a.Src, a.Side = "10.1.0.1", "receiver" }},
	} {
		a, _ := askGroup(false, "both")
		tt.spoil(&a)
		_, err := r.reserve(a)
		if e, ok := errors.AsType[*console.Error](err); !ok || e.Status != tt.status || !strings.Contains(e.Message, tt.text) {
			t.Errorf("%s: %v", tt.text, err)
		}
	}
	noHosts := *r.trafficControl.links()
	noHosts.list = noHosts.list[1:2]
	was := r.links
	r.links = func() *links { return &noHosts }
	a, _ := askGroup(false, "receiver")
	if _, err := r.reserve(a); err == nil || !strings.Contains(err.Error(), "no interface of zone hosts") {
		t.Errorf("a box without hosts: %v", err)
	}
	r.links = was
	if len(r.list()) != 0 || len(r.rsvp.senders) != 0 {
		t.Errorf("what was refused is there: %+v %+v", r.list(), r.rsvp.senders)
	}
}

// After a restart a reservation to a group is spoken for again; if the sender
// cannot be placed yet, as soon as it can.
func TestHandsGroupRestore(t *testing.T) {
	dir := t.TempDir()
	r := testHands(t, dir)
	a, key := askGroup(true, "both")
	e := r.must(t, a)
	if err := r.file.close(); err != nil {
		t.Fatal(err)
	}
	r = testHands(t, dir)
	was := r.route
	r.route = func(_, _ netip.Addr) (route.Hop, error) { return route.Hop{}, errors.New("no route yet") }
	r.restore(t.Context())
	if f, ok := r.table.get(key); !ok || f.ID != e.ID || !strings.Contains(f.problem, "no route yet") || !f.lost || len(r.rsvp.senders) != 0 {
		t.Errorf("%+v, %v, senders %v", f, ok, r.rsvp.senders)
	}
	session, filter := sessionOf(key)
	if _, ok := r.receiverProxy(softstate.PathInfo{Session: session, Sender: filter, TSpec: spec(5e5).TSpec, In: wan, Out: lan}); !ok {
		t.Error("receivers are not answered for meanwhile")
	}
	r.route = was
	r.sweep(t.Context(), r.clock)
	if s := r.rsvp.senders[key]; s.TSpec != e.TSpec {
		t.Errorf("%+v", r.rsvp.senders)
	}
	// Where the kernel's multicast routes cannot be read.
	r.rsvp.refuse = softstate.ErrUnsupported
	r.gone(key)
	r.sweep(t.Context(), r.clock)
	if f, _ := r.table.get(key); f.problem != errNoGroups.Error() || !f.lost {
		t.Errorf("%+v", f)
	}
}

// A policy has the flow's branches and the scope of its data already: by hand
// comes before it on all of them, PATH keeps its TTL (RFC 1112 section 6.1), and
// after the release the policy has them again.
func TestHandsGroupBeforePolicies(t *testing.T) {
	r := testHands(t, t.TempDir())
	flows := r.trafficControl.flows
	v := udpPacket(t, "10.1.0.2:9", "239.1.2.3:5004")
	flows.first(time.Now(), v, lan, wan)
	flows.first(time.Now(), v, lan, third)
	flows.first(time.Now(), v, lan, lan) // no branch that the sender is spoken for on
	a, key := askGroup(false, "sender")
	a.Dport = 5004
	key.DstPort = 5004
	e := r.must(t, a)
	if s := r.rsvp.senders[key]; s.TTL != v.TTL() || s.TSpec != e.TSpec {
		t.Errorf("by hand PATH is %+v, want TTL %d", s, v.TTL())
	}
	for _, out := range []int{wan, third} {
		if f, _, _ := flows.getOn(key, out); f.policy.Name != "by-hand:1" || f.role != roleSender {
			t.Errorf("branch by %d: %+v", out, f)
		}
	}
	if _, err := r.remove(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	if s := r.rsvp.senders[key]; s.TTL != v.TTL() || s.TSpec.Rate == e.TSpec.Rate {
		t.Errorf("released, the policy's PATH is %+v", s)
	}
	for _, out := range []int{wan, third} {
		if f, _, _ := flows.getOn(key, out); f.policy.Name != "voice" {
			t.Errorf("branch by %d: %+v", out, f)
		}
	}
}

// A released reservation leaves the branch that others have reserved, and no
// other.
func TestHandsGroupLeavesOthersBranch(t *testing.T) {
	r := testHands(t, t.TempDir())
	flows := r.trafficControl.flows
	a, key := askGroup(false, "both")
	e := r.must(t, a)
	v := udpPacket(t, "10.1.0.2:9", "239.1.2.3:5500")
	flows.first(time.Now(), v, lan, wan)
	flows.first(time.Now(), v, lan, third)
	session, filter := sessionOf(key)
	if refusal := r.Reserve(softstate.Reserve{
		ID: 1, Session: session, Filters: []wire.Filter{filter}, Style: wire.FF, In: lan, Out: third, FlowSpec: spec(125000), SenderTSpec: spec(125000).TSpec,
	}); refusal != nil {
		t.Fatal(refusal)
	}
	if _, err := r.remove(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	if f, _, ok := flows.getOn(key, third); !ok || f.policy != nil || f.reserved.IsZero() {
		t.Errorf("the branch that is reserved: %+v, %v", f, ok)
	}
	if f, _, ok := flows.getOn(key, wan); ok {
		t.Errorf("the branch that nothing keeps: %+v", f)
	}
}

// What a row says of a reservation to a group.
func TestHandsGroupReason(t *testing.T) {
	r := testHands(t, t.TempDir())
	_, key := askGroup(false, "both")
	at := func(state softstate.State, outs ...int) (list []softstate.BranchView) {
		for _, out := range outs {
			list = append(list, softstate.BranchView{Out: softstate.IfIndex(out), State: state})
		}
		return list
	}
	for _, tt := range []struct {
		sender bool
		view   *softstate.SessionView
		want   string
	}{
		{true, nil, "PATH is about to be sent"},
		{false, nil, "waiting for PATH from the sender's side"},
		{true, &softstate.SessionView{Role: softstate.SenderProxy, State: softstate.Inactive}, "multicast forwarding cache has no interface"},
		{false, &softstate.SessionView{State: softstate.Inactive}, "multicast forwarding cache has no interface"},
		{false, &softstate.SessionView{State: softstate.PathOnly, Branches: at(softstate.PathOnly, wan, third)}, "nobody behind this box has joined"},
		{false, &softstate.SessionView{State: softstate.PathOnly, Branches: at(softstate.PathOnly, lan)}, "the receiver speaks RSVP itself"},
		{true, &softstate.SessionView{Role: softstate.SenderProxy, State: softstate.PathOnly, Branches: at(softstate.PathOnly, wan)}, "waiting for RESV from"},
		{true, &softstate.SessionView{
			Role: softstate.SenderProxy, State: softstate.Reserved, Branches: append(at(softstate.Reserved, wan), at(softstate.PathOnly, third)...),
		}, "waiting for RESV on third0"},
		{true, &softstate.SessionView{Role: softstate.SenderProxy, State: softstate.Reserved, Branches: at(softstate.Reserved, wan, third)}, ""},
	} {
		got := handReason(&byhand.Reservation{Flow: key, Side: byhand.Both}, &handFlow{sender: tt.sender}, tt.view, r.trafficControl.links())
		if !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%+v: %q, want %q", tt.view, got, tt.want)
		}
	}
}
