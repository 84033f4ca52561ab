package daemon

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/byhand"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/statefile"
)

// A request's values, and what is made of those that are left out.
func TestHandsRequest(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a := ask(4000)
	r, err := reservationOf(&a, now)
	if err != nil {
		t.Fatal(err)
	}
	if r.Side != byhand.Both || r.Style != byhand.Fixed || r.TCP != byhand.TCPNone || r.TSpec.Rate != 125000 || r.TSpec.MaxPacket != 1500 || r.TSpec.MinUnit != 64 || r.Marked || !r.Expires.IsZero() {
		t.Errorf("%+v", r)
	}
	number := func(s string) console.Value { return console.Value{Text: s, Number: true} }
	a.Rate, a.Burst, a.Peak, a.MaxPacket, a.Mark, a.Duration = number("1e6"), console.Value{}, number("2000000"), number("400"), number("46"), number("90.5")
	a.Excess = "drop"
	if r, err = reservationOf(&a, now); err != nil {
		t.Fatal(err)
	}
	if r.TSpec.Rate != 1e6 || r.TSpec.Bucket != 100_000 || r.TSpec.Peak != 2e6 || r.TSpec.MaxPacket != 400 || !r.Marked || r.DSCP != dscp.EF || !r.Drop || r.Expires != now.Add(90500*time.Millisecond) {
		t.Errorf("%+v", r)
	}
	a.Excess = "le"
	if r, err = reservationOf(&a, now); err != nil || r.Drop || r.Excess != dscp.LE || excessOf(&r).String() != "le" || handPolicy(&r).Excess.DSCP() != dscp.LE {
		t.Errorf("excess le: %+v, %v", r, err)
	}
	// By the name of a service class too (RFC 4594), of whatever admission lets in.
	for name, code := range map[string]uint8{"telephony": dscp.EF, "admitted-telephony": dscp.VoiceAdmit, "real-time-interactive": dscp.CS4, "le": dscp.LE} {
		a.Mark = console.Text(name)
		if r, err = reservationOf(&a, now); err != nil || !r.Marked || r.DSCP != code {
			t.Errorf("mark %s: %d, %v", name, r.DSCP, err)
		}
	}
	a.Rate = number("1000")
	a.MaxPacket = console.Value{}
	if r, _ = reservationOf(&a, now); r.TSpec.Bucket != 3000 {
		t.Errorf("a burst of less than two packets: %+v", r.TSpec)
	}
	for want, spoil := range map[string]func(*console.ReservationRequest){
		"protocol:":                   func(a *console.ReservationRequest) { a.Protocol = console.Text("xyz") },
		"src: \"h\" is no address":    func(a *console.ReservationRequest) { a.Src = "h" },
		"reaches no further":          func(a *console.ReservationRequest) { a.Src = "fe80::1%eth0" },
		"rate: give the bandwidth":    func(a *console.ReservationRequest) { a.Rate = console.Value{} },
		"rate: 1.5 is not a whole":    func(a *console.ReservationRequest) { a.Rate = number("1.5") },
		"rate: 1e300 is out of range": func(a *console.ReservationRequest) { a.Rate = number("1e300") },
		"rate: -5 is out of range":    func(a *console.ReservationRequest) { a.Rate = number("-5") },
		"has no unit":                 func(a *console.ReservationRequest) { a.Rate = console.Text("8000") },
		"burst: unknown unit":         func(a *console.ReservationRequest) { a.Burst = console.Text("8mbit") },
		"mark: unknown PHB":           func(a *console.ReservationRequest) { a.Mark = console.Text("gold") },
		"excess: voice-admit":         func(a *console.ReservationRequest) { a.Excess = "voice-admit" },
		"excess:":                     func(a *console.ReservationRequest) { a.Excess = "burn" },
		"service":                     func(a *console.ReservationRequest) { a.Service = "best" },
		"delay is kept by guaranteed": func(a *console.ReservationRequest) { a.Delay = console.Text("5ms") },
		"delay: 0 is out of range":    func(a *console.ReservationRequest) { a.Delay = number("0") },
		"duration is given too": func(a *console.ReservationRequest) {
			a.Duration, a.Expires = console.Text("1h"), "2027-01-01T00:00:00Z"
		},
		"is no time: write it as":        func(a *console.ReservationRequest) { a.Expires = "tomorrow" },
		"expires is not in the future":   func(a *console.ReservationRequest) { a.Expires = "2020-01-01T00:00:00Z" },
		"more than ten years":            func(a *console.ReservationRequest) { a.Expires = "2099-01-01T00:00:00Z" },
		"2 things are wrong":             func(a *console.ReservationRequest) { a.Src, a.Excess = "h", "burn" },
		"side: sender, receiver or both": func(a *console.ReservationRequest) { a.Side = "left" },
	} {
		a := ask(4000)
		spoil(&a)
		_, err := reservationOf(&a, now)
		e, ok := errors.AsType[*console.Error](err)
		if !ok || e.Status != 400 || e.Code != "invalid" || !strings.Contains(e.Message, want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A reservation by hand asks for PATH without a packet of the flow, and is to
// the rest of the box a policy that comes before the others.
func TestHandsBegin(t *testing.T) {
	r := testHands(t, t.TempDir())
	a := ask(4000)
	a.Mark, a.Priority = console.Text("ef"), &console.Priority{Setup: 3, Hold: 4}
	e := r.must(t, a)
	s, asked := r.rsvp.senders[handKey(4000)]
	if !asked || s.TSpec != e.TSpec || s.In != lan || s.Priority == nil || *s.Priority != (softstate.Priority{Preempting: 3, Defending: 4}) {
		t.Errorf("sender %+v, asked for %v", s, asked)
	}
	if !slices.Contains(r.rsvp.answered, handKey(4000)) {
		t.Error("RSVP was not told that the receiver may be spoken for")
	}
	session, filter := sessionOf(handKey(4000))
	refusal := r.Reserve(softstate.Reserve{
		ID: 1, Session: session, Filters: []wire.Filter{filter}, Style: wire.FF, In: lan, Out: wan, Role: softstate.SenderProxy,
		FlowSpec: spec(125000), SenderTSpec: spec(125000).TSpec,
	})
	if refusal != nil {
		t.Fatal(refusal)
	}
	if got := r.fake.have[handKey(4000)]; !got.Reserve || !got.Police || got.DSCP != dscp.EF || got.Cheated {
		t.Errorf("treatment %+v", got)
	}
	f, _, ok := r.trafficControl.flows.get(handKey(4000))
	if !ok || f.state != stateManaged || f.policy.Name != "by-hand:1" || f.role != roleSender {
		t.Errorf("row %+v", f)
	}
	if _, err := r.remove(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	if len(r.rsvp.senders) != 0 {
		t.Errorf("released, and PATH goes on: %+v", r.rsvp.senders)
	}
	r.Release(1)
	if _, _, ok := r.trafficControl.flows.get(handKey(4000)); ok || len(r.fake.have) != 0 {
		t.Errorf("released, and it is treated: %+v", r.fake.have)
	}
	if diff := cmp.Diff([]string{"made 1", "released 1"}, r.events); diff != "" {
		t.Error(diff)
	}
}

// RFC 5945 section 4: the receiver's side answers PATH with what was reserved by
// hand, whatever the policies say, and in the style that was named.
func TestHandsReceiver(t *testing.T) {
	r := testHands(t, t.TempDir())
	back := packet.MakeKey(packet.ProtoUDP, netip.MustParseAddrPort("10.2.0.2:9"), netip.MustParseAddrPort("10.1.0.2:5004"))
	s, f := sessionOf(back)
	info := softstate.PathInfo{Session: s, Sender: f, TSpec: spec(5e5).TSpec, In: wan, Out: lan}
	if _, ok := r.receiverProxy(info); ok {
		t.Fatal("answered before")
	}
	for style, want := range map[string]softstate.ReserveSpec{"ff": {Style: wire.FF}, "se": {Style: wire.SE}, "wf": {Style: wire.WF}, "auto": {Style: wire.FF, Auto: true}} {
		a := ask(0)
		a.Src, a.Sport, a.Dst, a.Dport, a.Style, a.Side = "10.2.0.2", 9, "10.1.0.2", 5004, style, "receiver"
		a.Priority = &console.Priority{Setup: 2}
		e := r.must(t, a)
		got, ok := r.receiverProxy(info)
		if p := got.Priority; p == nil || *p != (softstate.Priority{Preempting: 2, Defending: 2}) {
			t.Errorf("%s: priority %v", style, p)
		}
		if !ok || got.Style != want.Style || got.Auto != want.Auto || got.FlowSpec.TSpec.Rate != 125000 {
			t.Errorf("%s: %+v, %v", style, got, ok)
		}
		if len(r.rsvp.senders) != 0 {
			t.Errorf("%s: it speaks for a sender that is not here", style)
		}
		if _, err := r.remove(t.Context(), e.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := r.receiverProxy(info); ok {
		t.Error("answered after")
	}
}

func TestHandsSayNo(t *testing.T) {
	r := testHands(t, t.TempDir())
	first := r.must(t, ask(4000))
	with := func(change func(*console.ReservationRequest)) console.ReservationRequest {
		a := ask(4001)
		change(&a)
		return a
	}
	for _, tt := range []struct {
		ask    console.ReservationRequest
		status int
		code   string
		text   string
	}{
		{ask(4000), 409, "taken", "already: 1"},
		{with(func(a *console.ReservationRequest) { a.Src = "10.3.0.2" }), 409, "not_here", "speak for neither host: 10.3.0.2 is not behind this box"},
		{with(func(a *console.ReservationRequest) { a.Src, a.Side = "10.9.0.2", "sender" }), 409, "not_here", "unreachable"},
		{with(func(a *console.ReservationRequest) { a.Src = "10.1.0.1" }), 409, "not_here", "address of this box"},
		{with(func(a *console.ReservationRequest) { a.Side = "receiver" }), 409, "not_here", "side receiver: 10.2.0.2 is not behind"},
		{with(func(a *console.ReservationRequest) { a.Dst = "10.1.0.9" }), 409, "not_here", "do not cross this box"},
		{with(func(a *console.ReservationRequest) { a.Priority = &console.Priority{Setup: 2, Hold: 1} }), 400, "invalid", "hold is below setup"},
	} {
		_, err := r.reserve(tt.ask)
		e, ok := errors.AsType[*console.Error](err)
		if !ok || e.Status != tt.status || e.Code != tt.code || !strings.Contains(e.Message, tt.text) {
			t.Errorf("%+v: %v", tt.ask, err)
		}
	}
	r.must(t, ask(4002))
	r.must(t, ask(4003))
	if _, err := r.reserve(ask(4004)); err == nil || err.(*console.Error).Status != 507 { //nolint:errorlint // that type or a failed test
		t.Errorf("one too many: %v", err)
	}
	if len(r.list()) != 3 || len(r.rsvp.senders) != 3 {
		t.Errorf("what was refused is there: %+v %+v", r.list(), r.rsvp.senders)
	}
	if _, err := r.remove(t.Context(), 99); err == nil {
		t.Error("released what was never made")
	}
	if got, err := r.get(first.ID); err != nil || got.ID != first.ID {
		t.Errorf("%+v, %v", got, err)
	}
}

// After a restart everything is there again with its id; what was over
// meanwhile is dropped.
func TestHandsRestore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "at once")
	r := testHands(t, dir)
	r.must(t, ask(4000))
	short := ask(4001)
	short.Duration = console.Text("10s")
	r.must(t, short)
	r.must(t, ask(4002))
	want := r.list()
	if _, err := os.Stat(filepath.Join(dir, handKept+statefile.New)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the new file is still there: %v", err)
	}
	other := testHands(t, dir)
	if other.problem == nil || !strings.Contains(other.problem.Error(), "another running daemon's") {
		t.Errorf("two daemons in one directory: %v", other.problem)
	}
	if _, err := other.reserve(ask(4003)); err == nil {
		t.Error("the other daemon's file would be replaced")
	}
	if err := r.file.close(); err != nil {
		t.Fatal(err)
	}

	r = testHands(t, dir)
	r.clock = r.clock.Add(20 * time.Second)
	r.restore(t.Context())
	if r.problem != nil {
		t.Fatal(r.problem)
	}
	if diff := cmp.Diff([]byhand.Reservation{want[0], want[2]}, r.list()); diff != "" {
		t.Error(diff)
	}
	if len(r.rsvp.senders) != 2 || r.rsvp.senders[handKey(4002)].TSpec != want[2].TSpec {
		t.Errorf("%+v", r.rsvp.senders)
	}
	if e := r.must(t, ask(4001)); e.ID != 4 {
		t.Errorf("id %d is used twice", e.ID)
	}
}

// A change that cannot be kept is not made.
func TestHandsNotKept(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "state")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // no directory can be made here
		t.Fatal(err)
	}
	r := testHands(t, dir)
	_, err := r.reserve(ask(4000))
	if e, ok := errors.AsType[*console.Error](err); !ok || e.Code != "not_kept" {
		t.Errorf("%v", err)
	}
	if len(r.list()) != 0 || len(r.rsvp.senders) != 0 || r.table.policy(handKey(4000)) != nil {
		t.Error("it was made all the same")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	e := r.must(t, ask(4000))
	if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.remove(t.Context(), e.ID); err == nil {
		t.Error("released, but the next start would make it again")
	}
	if len(r.list()) != 1 || len(r.rsvp.senders) != 1 {
		t.Error("it was ended all the same")
	}
}

func TestHandsBrokenFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, handKept), []byte(`{"version":1`), 0o600); err != nil {
		t.Fatal(err)
	}
	r := testHands(t, dir)
	if r.problem == nil || !strings.Contains(r.problem.Error(), "set aside as "+filepath.Join(dir, handBad)) {
		t.Errorf("%v", r.problem)
	}
	data, err := os.ReadFile(filepath.Join(dir, handBad))
	if err != nil || string(data) != `{"version":1` {
		t.Errorf("%q, %v", data, err)
	}
	r.must(t, ask(4000))
}

// What cannot be asked for is tried again: a sender whose host speaks RSVP
// itself for a while (RFC 5945 section 4.3), a route that comes later.
func TestHandsTryAgain(t *testing.T) {
	r := testHands(t, t.TempDir())
	r.rsvp.refuse = softstate.ErrSpeaksRSVP
	e := r.must(t, ask(4000))
	f, _ := r.table.get(e.Flow)
	if !strings.Contains(f.problem, "speaks RSVP itself") {
		t.Errorf("%+v", f)
	}
	r.sweep(t.Context(), r.clock)
	if len(r.rsvp.senders) != 0 {
		t.Fatal("refused, and yet there")
	}
	r.rsvp.refuse = nil
	r.sweep(t.Context(), r.clock)
	if f, _ = r.table.get(e.Flow); len(r.rsvp.senders) != 1 || f.problem != "" || f.lost {
		t.Errorf("%+v, senders %+v", f, r.rsvp.senders)
	}
	// Its state is gone, for whatever reason.
	delete(r.rsvp.senders, e.Flow)
	r.gone(e.Flow)
	r.sweep(t.Context(), r.clock)
	if len(r.rsvp.senders) != 1 {
		t.Error("not asked for again")
	}
	was := r.route
	r.route = func(a, _ netip.Addr) (route.Hop, error) { return route.Hop{}, errors.New("no route") }
	r.gone(e.Flow)
	delete(r.rsvp.senders, e.Flow)
	r.sweep(t.Context(), r.clock)
	if f, _ = r.table.get(e.Flow); !strings.Contains(f.problem, "no route") || !f.lost {
		t.Errorf("%+v", f)
	}
	r.route = was
	r.sweep(t.Context(), r.clock)
	if len(r.rsvp.senders) != 1 {
		t.Error("not asked for when the route came")
	}
}

func TestHandsExpire(t *testing.T) {
	dir := t.TempDir()
	r := testHands(t, dir)
	a := ask(4000)
	a.Expires = r.clock.Add(time.Minute).Format(time.RFC3339)
	r.must(t, a)
	r.sweep(t.Context(), r.clock.Add(59*time.Second))
	if len(r.list()) != 1 {
		t.Fatal("ended early")
	}
	r.sweep(t.Context(), r.clock.Add(time.Minute))
	if len(r.list()) != 0 || len(r.rsvp.senders) != 0 || r.events[len(r.events)-1] != "expired 1" {
		t.Errorf("%+v %v", r.rsvp.senders, r.events)
	}
	if data, err := os.ReadFile(filepath.Join(dir, handKept)); err != nil || strings.Contains(string(data), `"id"`) {
		t.Errorf("%s, %v", data, err)
	}
}

// A TCP connection that shall be cheated is watched for from its first packet
// on, though no policy claims it; the reservation is in place before it.
func TestHandsTCP(t *testing.T) {
	r := testHands(t, t.TempDir())
	key := packet.MakeKey(packet.ProtoTCP, netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("10.2.0.2:5500"))
	a := ask(4000)
	a.Protocol, a.TCP = console.Text("tcp"), "reliable"
	e := r.must(t, a)
	if !r.watched[key] || !r.watched[key.Reverse()] {
		t.Errorf("watched: %v", r.watched)
	}
	session, filter := sessionOf(key)
	reserve := softstate.Reserve{ID: 1, Session: session, Filters: []wire.Filter{filter}, In: lan, Out: wan, FlowSpec: spec(125000), SenderTSpec: spec(125000).TSpec}
	if refusal := r.Reserve(reserve); refusal != nil {
		t.Fatal(refusal)
	}
	if r.fake.have[key].Cheated {
		t.Error("cheated before there is a connection")
	}
	d := r.trafficControl.flows.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:5500", packet.FlagSYN), lan, wan)
	if d.shard < 0 || d.watch != key {
		t.Fatalf("decision %+v", d)
	}
	r.restart(key)
	if _, running := r.cheat.running[key]; !running || !r.fake.have[key].Cheated {
		t.Errorf("running %v, treatment %+v", running, r.fake.have[key])
	}
	if _, err := r.remove(t.Context(), e.ID); err != nil || len(r.watched) != 0 {
		t.Errorf("%v, watched: %v", err, r.watched)
	}

	r.watched = nil // no room
	if _, err := r.reserve(a); err == nil || len(r.list()) != 0 || len(r.rsvp.senders) != 0 || r.table.policy(key) != nil {
		t.Errorf("half of it was made: %v, %+v", err, r.list())
	}
}

// A flow that a policy has reserved already: the hand comes before it, and when
// it lets go the policy is there again, both without a gap.
func TestHandsBeforePolicies(t *testing.T) {
	r := testHands(t, t.TempDir())
	flows, signal := r.trafficControl.flows, ofSender{r.table, r.rsvp}
	voice := packet.MakeKey(packet.ProtoUDP, netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("10.2.0.2:5004"))
	session, filter := sessionOf(voice)
	policySender := softstate.Sender{Session: session, Filter: filter, TSpec: tspecOf(config.TSpec{Rate: 10000, Burst: 400, MinUnit: 64, MaxPacket: 400}), In: lan}
	d := flows.first(time.Now(), udpPacket(t, "10.1.0.2:4000", "10.2.0.2:5004"), lan, wan)
	if len(d.ask) != 1 || d.ask[0].policy.Name != "voice" {
		t.Fatalf("decision %+v", d)
	}
	if err := signal.AddSender(policySender, nil); err != nil {
		t.Fatal(err)
	}
	reserve := softstate.Reserve{ID: 1, Session: session, Filters: []wire.Filter{filter}, In: lan, Out: wan, FlowSpec: spec(10000), SenderTSpec: spec(10000).TSpec}
	if refusal := r.Reserve(reserve); refusal != nil {
		t.Fatal(refusal)
	}

	a := ask(4000)
	a.Dport, a.Mark = 5004, console.Text("cs5")
	e := r.must(t, a)
	if got := r.rsvp.senders[voice].TSpec; got.Rate != 125000 {
		t.Errorf("PATH says %v", got)
	}
	f, _, _ := flows.get(voice)
	if f.policy.Name != "by-hand:1" || f.state != stateManaged || f.reserved.IsZero() || r.fake.have[voice].DSCP != 40 {
		t.Errorf("row %+v, treatment %+v", f, r.fake.have[voice])
	}
	// What the policy's side does meanwhile changes nothing.
	if err := errors.Join(signal.AddSender(policySender, nil), signal.RemoveSender(session, filter)); err != nil {
		t.Fatal(err)
	}
	if got, ok := r.rsvp.senders[voice]; !ok || got.TSpec.Rate != 125000 {
		t.Errorf("PATH says %+v, %v", got, ok)
	}
	if changed := flows.adopt("box.yaml", flows.current(), flows.zones); len(changed) != 0 {
		t.Errorf("a reload decides anew: %v", changed)
	}

	if _, err := r.remove(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	if got, ok := r.rsvp.senders[voice]; !ok || got.TSpec.Rate != 10000 {
		t.Errorf("after the release PATH says %+v, %v, want the policy's", got, ok)
	}
	f, _, _ = flows.get(voice)
	if f.policy.Name != "voice" || f.role != roleSender || f.reserved.IsZero() || r.fake.have[voice].DSCP != dscp.VoiceAdmit {
		t.Errorf("row %+v, treatment %+v", f, r.fake.have[voice])
	}
}

// A row that a released reservation leaves without a claim and without anything
// in place goes at once.
func TestHandsLeaveNoRow(t *testing.T) {
	r := testHands(t, t.TempDir())
	e := r.must(t, ask(4000))
	flows := r.trafficControl.flows
	flows.first(time.Now(), udpPacket(t, "10.1.0.2:4000", "10.2.0.2:5500"), lan, wan)
	if f, _, ok := flows.get(e.Flow); !ok || f.policy.Name != "by-hand:1" || f.state != stateWatched {
		t.Fatalf("row %+v, %v", f, ok)
	}
	if _, err := r.remove(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	if f, _, ok := flows.get(e.Flow); ok {
		t.Errorf("row %+v", f)
	}
}
