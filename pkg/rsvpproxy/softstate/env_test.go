package softstate

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// The machine under test has three interfaces: left (1), right (2) and a
// second way to the right (3).
const (
	left  IfIndex = 1
	right IfIndex = 2
	other IfIndex = 3
)

var (
	epoch    = time.Now()
	srcHost  = netip.MustParseAddr("10.1.0.1")
	dstHost  = netip.MustParseAddr("10.2.0.1")
	prevHop  = netip.MustParseAddr("192.0.2.1")
	nextHop  = netip.MustParseAddr("198.51.100.2")
	leftAddr = netip.MustParseAddr("192.0.2.2")
	rightAdr = netip.MustParseAddr("198.51.100.1")
	otherAdr = netip.MustParseAddr("203.0.113.1")

	sess   = wire.Session{Dst: dstHost, Protocol: 17, DstPort: 5004}
	filter = wire.Filter{Src: srcHost, SrcPort: 4000}
	tspec  = intserv.TSpec{Rate: 10000, Bucket: 1500, Peak: 20000, MinUnit: 64, MaxPacket: 1500}
	flow   = intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: tspec}
)

// testEnv is an environment that tests change at will.
type testEnv struct {
	addrs   map[IfIndex]netip.Addr
	routes  map[netip.Addr]IfIndex
	def     IfIndex
	unaware map[netip.Addr]bool
	// discovers: PATH goes to the unaware too, as it does in a box.
	discovers bool
	proxy     func(PathInfo) (ReserveSpec, bool)
	mtu       uint32

	guaranteed bool
	// turn is the trigger for the other direction; nil: never.
	turn func(PathInfo) (intserv.TSpec, bool)

	// marks has a say in DCLASS; nil: none.
	marks func(Marking) ([]uint8, bool)

	addrs6 map[IfIndex]netip.Addr
	// groups: where a group's packets from a source come in and leave; nil:
	// multicast is not routed.
	groups func(dst, src netip.Addr, in IfIndex) []IfIndex
	// host is an address of ours whose data go on to an application.
	host netip.Addr
}

func newEnv() *testEnv {
	return &testEnv{
		addrs:   map[IfIndex]netip.Addr{left: leftAddr, right: rightAdr, other: otherAdr},
		routes:  map[netip.Addr]IfIndex{dstHost: right, srcHost: left},
		unaware: map[netip.Addr]bool{}, mtu: 1500,
	}
}

func (e *testEnv) Local(a netip.Addr) bool {
	for _, x := range e.addrs {
		if x == a {
			return true
		}
	}
	for _, x := range e.addrs6 {
		if x == a {
			return true
		}
	}
	return false
}

func (e *testEnv) Route(dst netip.Addr) (IfIndex, bool, bool) {
	if e.Local(dst) && dst != e.host {
		return 0, true, true
	}
	if i, ok := e.routes[dst]; ok {
		return i, false, i != 0
	}
	return e.def, false, e.def != 0
}

func (e *testEnv) Routes(dst, src netip.Addr, in IfIndex) ([]IfIndex, bool) {
	if e.groups == nil {
		return nil, false
	}
	return e.groups(dst, src, in), true
}

func (e *testEnv) Marks(m Marking) ([]uint8, bool) {
	if e.marks == nil {
		return nil, false
	}
	return e.marks(m)
}

func (e *testEnv) Addr6(i IfIndex) netip.Addr { return e.addrs6[i] }

func (e *testEnv) Addr(i IfIndex) netip.Addr { return e.addrs[i] }

func (e *testEnv) Hop(IfIndex) intserv.Hop {
	h := intserv.Hop{Bandwidth: 1e6, MTU: e.mtu, Latency: 10, ControlledLoad: &intserv.ServiceHop{}}
	if e.guaranteed {
		h.Guaranteed = &intserv.GuaranteedHop{C: 1500, D: 1000}
	}
	return h
}

func (e *testEnv) Aware(dst netip.Addr, _ IfIndex) bool { return !e.unaware[dst] }

func (e *testEnv) Discovers(IfIndex) bool { return e.discovers }

func (e *testEnv) ReceiverProxy(i PathInfo) (ReserveSpec, bool) {
	if e.proxy == nil {
		return ReserveSpec{}, false
	}
	return e.proxy(i)
}

// Port and Onward are for transparent nodes.
func (e *testEnv) Port(i IfIndex) bool { return i == left || i == right || e.addrs[i].IsValid() }

func (e *testEnv) Onward(dst, _ netip.Addr, in IfIndex) (IfIndex, bool) {
	if i, ok := e.routes[dst]; ok {
		return i, i != in && i != 0
	}
	if in == left || in == right { // a bridge with two ports
		return left + right - in, true
	}
	return e.def, e.def != 0
}

func (e *testEnv) Reverse(i PathInfo) (intserv.TSpec, bool) {
	if e.turn == nil {
		return intserv.TSpec{}, false
	}
	return e.turn(i)
}

// sayYes is a policy that asks for what the sender announces.
func sayYes(i PathInfo) (ReserveSpec, bool) {
	return ReserveSpec{FlowSpec: intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: i.TSpec}}, true
}

// rig drives one Node.
type rig struct {
	t   *testing.T
	env *testEnv
	n   *Node
	now time.Time
}

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	if cfg.Quick == 0 {
		cfg.Quick = -1
	}
	env := newEnv()
	return &rig{t: t, env: env, n: New(cfg, env, rand.New(rand.NewPCG(1, 2))), now: epoch}
}

// in hands a message to the node and checks that what comes out can be sent.
func (r *rig) in(iface IfIndex, src, dst netip.Addr, m *wire.Message) []Effect {
	r.t.Helper()
	rx := Received{Iface: iface, Src: src, Dst: dst, TTL: 60, RouterAlert: m.Type.NeedsRouterAlert(), Msg: m}
	if m.SendTTL == 0 {
		m.SendTTL = 60
	}
	return r.checked(r.n.Handle(r.now, rx))
}

func (r *rig) checked(es []Effect) []Effect {
	r.t.Helper()
	for _, s := range sends(es) {
		mustEncode(r.t, s)
	}
	r.t.Helper()
	if err := r.n.check(); err != nil {
		r.t.Fatal(err)
	}
	return es
}

// run advances time by d, timer by timer, answering nothing.
func (r *rig) run(d time.Duration) (es []Effect) {
	r.t.Helper()
	end := r.now.Add(d)
	for {
		at, ok := r.n.NextDeadline()
		if !ok || at.After(end) {
			r.now = end
			return es
		}
		r.now = at
		es = append(es, r.checked(r.n.Advance(at))...)
	}
}

// grant answers every Reserve among es, and what follows.
func (r *rig) grant(es []Effect) []Effect {
	r.t.Helper()
	out := slices.Clone(es)
	for _, e := range es {
		if v, ok := e.(Reserve); ok {
			out = append(out, r.grant(r.checked(r.n.ReserveResult(r.now, v.ID, nil)))...)
		}
	}
	return out
}

func (r *rig) refuse(es []Effect, f Refusal) []Effect {
	r.t.Helper()
	v := only[Reserve](r.t, es)
	return r.checked(r.n.ReserveResult(r.now, v.ID, &f))
}

func (r *rig) view() SessionView {
	r.t.Helper()
	v, ok := r.n.Session(r.now, sess, filter)
	if !ok {
		r.t.Fatal("no such session")
	}
	return v
}

func (r *rig) wantState(s State) {
	r.t.Helper()
	if v := r.view(); v.State != s {
		r.t.Fatalf("state %v, want %v (failure %v)", v.State, s, v.Failure)
	}
}

func all[E Effect](es []Effect) (out []E) {
	for _, e := range es {
		if v, ok := e.(E); ok {
			out = append(out, v)
		}
	}
	return out
}

func only[E Effect](t *testing.T, es []Effect) E {
	t.Helper()
	v := all[E](es)
	if len(v) != 1 {
		t.Fatalf("%d effects of type %T, want 1: %s", len(v), *new(E), dump(es))
	}
	return v[0]
}

func sends(es []Effect, types ...wire.MsgType) (out []Send) {
	for _, s := range all[Send](es) {
		if len(types) == 0 || slices.Contains(types, s.Msg.Type) {
			out = append(out, s)
		}
	}
	return out
}

func onlySend(t *testing.T, es []Effect, typ wire.MsgType) Send {
	t.Helper()
	s := sends(es, typ)
	if len(s) != 1 {
		t.Fatalf("%d messages %v, want 1: %s", len(s), typ, dump(es))
	}
	return s[0]
}

func noSend(t *testing.T, es []Effect, types ...wire.MsgType) {
	t.Helper()
	if s := sends(es, types...); len(s) != 0 {
		t.Fatalf("unwanted messages: %s", dump(es))
	}
}

func dump(es []Effect) (s string) {
	for _, e := range es {
		if v, ok := e.(Send); ok {
			s += fmt.Sprintf("\n  send %v %v->%v if %d ttl %d ra %v: %+v", v.Msg.Type, v.Src, v.Dst, v.Out, v.TTL, v.RouterAlert, *v.Msg)
			continue
		}
		s += fmt.Sprintf("\n  %T %+v", e, e)
	}
	return s
}

// mustEncode checks that a message survives the wire.
func mustEncode(t *testing.T, s Send) *wire.Message {
	t.Helper()
	b, err := s.Msg.Append(nil)
	if err != nil {
		t.Fatalf("%v cannot be encoded: %v\n%+v", s.Msg.Type, err, *s.Msg)
	}
	got, err := wire.ParseWith(b, wire.AllFormats)
	if err != nil && got == nil {
		t.Fatalf("%v does not parse: %v\n%+v", s.Msg.Type, err, *s.Msg)
	}
	if s.Msg.Type == wire.PathTear { // ignored on reception (RFC 2205 section 3.1.5)
		got.SenderTSpec = s.Msg.SenderTSpec
	}
	if !reflect.DeepEqual(s.Msg, got) { // cmp is slow, and tells more
		diffMessage(t, s.Msg, got)
	}
	if e := s.Msg.ErrorSpec; e != nil && e.Flags&wire.NotGuilty != 0 {
		t.Fatalf("%v carries NotGuilty, which is for the receiver's interface only (RFC 2205 Appendix A.5)", s.Msg.Type)
	}
	if s.RouterAlert != s.Msg.Type.NeedsRouterAlert() || s.TTL != s.Msg.SendTTL {
		t.Fatalf("%v: router alert %v, TTL %d, Send_TTL %d", s.Msg.Type, s.RouterAlert, s.TTL, s.Msg.SendTTL)
	}
	if v4 := s.Msg.Session.Dst.Is4(); !s.Src.IsValid() || s.Src.Is4() != v4 || s.Dst.Is4() != v4 {
		t.Fatalf("%v from %v to %v", s.Msg.Type, s.Src, s.Dst)
	}
	return got
}

func diffMessage(t *testing.T, sent, got *wire.Message) {
	t.Helper()
	opts := cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}
	if d := cmp.Diff(sent, got, opts); d != "" {
		t.Fatalf("%v changed on the wire (-sent +received):\n%s", sent.Type, d)
	}
}

// The messages a neighbour sends.

func pathMsg() *wire.Message {
	ts := tspec
	ad := intserv.NewAdSpec(intserv.Hop{Bandwidth: 2e6, MTU: 1400, Latency: 5, ControlledLoad: &intserv.ServiceHop{}})
	return &wire.Message{
		Type: wire.Path, Session: sess, Hop: &wire.Hop{Addr: prevHop, LIH: 7},
		TimeValues: &wire.TimeValues{Refresh: 30000}, SenderTemplate: &filter, SenderTSpec: &ts, AdSpec: &ad,
	}
}

func (r *rig) path(change ...func(*wire.Message)) []Effect {
	r.t.Helper()
	m := pathMsg()
	for _, f := range change {
		f(m)
	}
	return r.in(left, m.SenderTemplate.Src, m.Session.Dst, m)
}

func resvMsg() *wire.Message {
	f := flow
	return &wire.Message{
		Type: wire.Resv, Session: sess, Hop: &wire.Hop{Addr: nextHop, LIH: uint32(right)},
		TimeValues: &wire.TimeValues{Refresh: 30000}, Style: wire.FF,
		Flows: []wire.FlowDescriptor{{FlowSpec: &f, Filters: []wire.Filter{filter}}},
	}
}

func (r *rig) resv(change ...func(*wire.Message)) []Effect {
	r.t.Helper()
	m := resvMsg()
	for _, f := range change {
		f(m)
	}
	return r.in(right, m.Hop.Addr, rightAdr, m)
}

func resvTear() *wire.Message {
	return &wire.Message{
		Type: wire.ResvTear, Session: sess, Hop: &wire.Hop{Addr: nextHop, LIH: uint32(right)}, Style: wire.FF,
		Flows: []wire.FlowDescriptor{{Filters: []wire.Filter{filter}}},
	}
}

func pathTear() *wire.Message {
	return &wire.Message{
		Type: wire.PathTear, Session: sess, Hop: &wire.Hop{Addr: prevHop, LIH: 7}, SenderTemplate: &filter,
	}
}

func rate(bytesPerSecond float64) func(*wire.Message) {
	return func(m *wire.Message) {
		for i := range m.Flows {
			f := *m.Flows[i].FlowSpec
			f.TSpec.Rate = bytesPerSecond
			m.Flows[i].FlowSpec = &f
		}
		if m.SenderTSpec != nil {
			t := *m.SenderTSpec
			t.Rate = bytesPerSecond
			m.SenderTSpec = &t
		}
	}
}

// reserved brings a transit hop to a reservation in place.
func (r *rig) reserved() []Effect {
	r.t.Helper()
	r.path()
	es := r.grant(r.resv())
	r.wantState(Reserved)
	return es
}

type addrT = netip.Addr

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

var dstPrefix = netip.MustParsePrefix("10.2.0.0/16")
