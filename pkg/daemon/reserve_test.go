package daemon

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// fakeKernel is a table of treatments that fails when it is told to.
type fakeKernel struct {
	have    map[packet.FlowKey]plan.Treatment
	adopted map[packet.FlowKey]bool
	counted map[packet.FlowKey]shaper.Counters
	fail    error
	// failAfter is how many reservations are installed before it fails; failOnce:
	// and only then.
	failAfter int
	failOnce  bool
	installs  int
	moved     plan.ClassID // the class of all flows since; 0: as they were
	watch     func(key packet.FlowKey, t plan.Treatment, removed bool)
}

func (k *fakeKernel) Install(_ context.Context, t plan.Treatment) (plan.ClassID, error) {
	if k.fail != nil && t.Reserve {
		if k.failAfter == 0 {
			err := k.fail
			if k.failOnce {
				k.fail = nil
			}
			return 0, err
		}
		k.failAfter--
	}
	k.installs++
	if k.watch != nil {
		k.watch(t.Key, t, false)
	}
	k.have[t.Key] = t
	delete(k.adopted, t.Key)
	for key, o := range k.have { // as the shaper does
		if t.Grouped() && o.Group == t.Group {
			k.have[key] = o.WithTSpec(t)
		}
	}
	if t.Reserve {
		return plan.FirstPooled, nil
	}
	return 0, nil
}

func (k *fakeKernel) Take(_ context.Context, iface string, key packet.FlowKey) (shaper.Counters, error) {
	if k.watch != nil {
		k.watch(key, plan.Treatment{}, true)
	}
	c, err := k.Counters(iface, key)
	delete(k.have, key)
	delete(k.adopted, key)
	delete(k.counted, key)
	return c, err
}

func (k *fakeKernel) Counters(_ string, key packet.FlowKey) (shaper.Counters, error) {
	if _, ok := k.have[key]; !ok {
		return shaper.Counters{}, shaper.ErrNoFlow
	}
	return k.counted[key], nil
}

func (k *fakeKernel) SomeCounters(list []shaper.FlowID, tell func(int, shaper.Counters)) error {
	for i, id := range list {
		if c, err := k.Counters(id.Interface, id.Key); err == nil {
			tell(i, c)
		}
	}
	return nil
}

func (k *fakeKernel) Treatment(_ string, key packet.FlowKey) (plan.Treatment, bool) {
	t, ok := k.have[key]
	return t, ok
}

func (k *fakeKernel) Class(_ string, key packet.FlowKey) plan.ClassID {
	if k.moved != 0 {
		return k.moved
	}
	if k.have[key].Reserve {
		return plan.FirstPooled
	}
	return 0
}

func (k *fakeKernel) Unclaim(_ string, key packet.FlowKey) { k.adopted[key] = true }

func (k *fakeKernel) IsAdopted(_ string, key packet.FlowKey) bool { return k.adopted[key] }

// fakeCheat notes what is started.
type fakeCheat struct {
	running map[packet.FlowKey]tcpcheat.Params
	stopped func(packet.FlowKey)
}

func (c *fakeCheat) start(_ int, key packet.FlowKey, p tcpcheat.Params) { c.running[key] = p }
func (c *fakeCheat) stop(_ int, key packet.FlowKey) {
	if c.stopped != nil {
		c.stopped(key)
	}
	delete(c.running, key)
}

type rig struct {
	*trafficControl
	fake  *fakeKernel
	cheat *fakeCheat
}

func testControl(t *testing.T) rig { return controlOf(t, testConfig) }

func controlOf(t *testing.T, file string) rig {
	t.Helper()
	c, err := config.Parse("box.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	l := &links{list: []link{
		{Link: route.Link{Index: lan, Name: "lan0", MTU: 1500}, cfg: c.Interfaces[0]},
		{Link: route.Link{Index: wan, Name: "wan0", MTU: 1500}, cfg: c.Interfaces[1]},
	}, byIndex: map[int]*link{}}
	for i := range l.list {
		l.byIndex[l.list[i].Index] = &l.list[i]
	}
	k, ch := &fakeKernel{have: map[packet.FlowKey]plan.Treatment{}}, &fakeCheat{running: map[packet.FlowKey]tcpcheat.Params{}}
	tc := newTrafficControl()
	tc.flows, tc.admit = tableOf(t, file), admission.New(admission.NewMemory(), 100, l.admission(time.Now())...)
	tc.kernel, tc.cheat = k, ch
	tc.config, tc.links, tc.log = func() *config.Config { return c }, func() *links { return l }, zap.NewNop()
	return rig{tc, k, ch}
}

func spec(rate float64) intserv.FlowSpec {
	return intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: intserv.TSpec{
		Rate: rate, Bucket: 64000, Peak: 10 * rate, MinUnit: 64, MaxPacket: 1500,
	}}
}

var imagingKey = packet.MakeKey(packet.ProtoTCP, netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("10.2.0.2:104"))

func request(id uint64, rate float64) softstate.Reserve {
	s, f := sessionOf(imagingKey)
	return softstate.Reserve{
		ID: id, Session: s, Filters: []wire.Filter{f}, Style: wire.FF, In: lan, Out: wan, Role: softstate.SenderProxy,
		FlowSpec: spec(rate), SenderTSpec: spec(rate).TSpec,
	}
}

// RFC 2205 section 3.11.2: admission, then the classifier and scheduler.
func TestReserveProgramsThenCheats(t *testing.T) {
	r := testControl(t)
	r.flows.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN), lan, wan)
	if refusal := r.Reserve(request(1, 1e6)); refusal != nil {
		t.Fatal(refusal)
	}
	got := r.fake.have[imagingKey]
	if !got.Reserve || !got.Cheated || !got.Mark || got.DSCP != 26 || got.Rate != 1e6 || got.Interface != "wan0" {
		t.Errorf("treatment = %+v", got)
	}
	p, running := r.cheat.running[imagingKey]
	if !running || p.Mode != tcpcheat.Reliable || !p.Predict || p.Rate != 1e6 {
		t.Errorf("cheating = %+v, running %v", p, running)
	}
	f, _, _ := r.flows.get(imagingKey)
	if f.state != stateManaged || f.reserved.IsZero() || f.class != plan.FirstPooled {
		t.Errorf("flow = %+v", f)
	}
	u, _, err := r.admit.Usage("wan0")
	if err != nil || u.Reservations != 1 {
		t.Errorf("ledger = %+v, %v", u, err)
	}

	r.Release(1)
	if got = r.fake.have[imagingKey]; got.Reserve || got.Mark {
		t.Errorf("after the release the flow is still treated: %+v", got)
	}
	if len(r.cheat.running) != 0 {
		t.Error("after the release the flow is still cheated")
	}
	if u, _, _ = r.admit.Usage("wan0"); u.Reservations != 0 {
		t.Errorf("ledger after the release = %+v", u)
	}
}

// RFC 2205 section 2.5 and Appendix B: error 1, value 2.
func TestReserveBeyondTheLinkIsRefused(t *testing.T) {
	r := testControl(t)
	refusal := r.Reserve(request(1, 5e6)) // of 19 Mbit/s
	if refusal == nil || refusal.Code != wire.ErrAdmission || refusal.Value != 2 {
		t.Fatalf("refusal = %v, want code 1 value 2", refusal)
	}
	if len(r.fake.have) != 0 {
		t.Error("a refused reservation reached the kernel")
	}
}

// RFC 2205 section 3.11.2: a flow that cannot be added leaves nothing.
func TestKernelFailureLeavesKernelAndLedgerAsTheyWere(t *testing.T) {
	r := testControl(t)
	r.fake.fail = errors.New("no room in the map")
	refusal := r.Reserve(request(1, 1e6))
	if refusal == nil || refusal.Code != wire.ErrTCSystem || !strings.Contains(refusal.Text, "no room in the map") {
		t.Fatalf("refusal = %v", refusal)
	}
	if u, _, _ := r.admit.Usage("wan0"); u.Reservations != 0 {
		t.Errorf("ledger = %+v", u)
	}
	// A change that fails leaves the old reservation in place.
	r.fake.fail = nil
	if refusal := r.Reserve(request(2, 1e6)); refusal != nil {
		t.Fatal(refusal)
	}
	before, _, _ := r.admit.Usage("wan0")
	r.fake.fail = errors.New("no class left")
	change := request(2, 1.5e6)
	change.Change = true
	if refusal := r.Reserve(change); refusal == nil {
		t.Fatal("the change was granted")
	}
	if after, _, _ := r.admit.Usage("wan0"); after.Bandwidth != before.Bandwidth {
		t.Errorf("ledger = %d bytes/s, want %d", after.Bandwidth, before.Bandwidth)
	}
	if got := r.fake.have[imagingKey]; !got.Reserve || got.Rate != 1e6 {
		t.Errorf("kernel = %+v, want the old reservation", got)
	}
}

func TestReceiverProxyAnswersByPolicy(t *testing.T) {
	r := testControl(t)
	s, f := sessionOf(imagingKey)
	info := softstate.PathInfo{Session: s, Sender: f, TSpec: spec(5e5).TSpec, In: wan, Out: lan}
	got, ok := r.receiverProxy(info)
	if !ok || got.Style != wire.FF || got.FlowSpec.TSpec.Rate != 5e5 {
		t.Errorf("answer = %+v, %v; want the smaller of policy and sender", got, ok)
	}
	info.Out = wan
	if _, ok := r.receiverProxy(info); ok {
		t.Error("answered for a receiver that is not on the hosts' side")
	}
	voice := packet.MakeKey(packet.ProtoUDP, netip.MustParseAddrPort("10.1.0.2:9"), netip.MustParseAddrPort("10.2.0.2:5004"))
	info.Session, info.Sender = sessionOf(voice)
	info.Out = lan
	if _, ok := r.receiverProxy(info); ok {
		t.Error("answered although the policy speaks only for senders")
	}
}

// RFC 5946 section 4.2: a sender that says its receiver needs a proxy is answered
// with what it announces where no policy claims the flow, on the hosts' side, and
// within what admission grants. Where a policy claims it that rules.
func TestReceiverProxyNeededRFC5946Section4_2(t *testing.T) {
	r := testControl(t)
	key := packet.MakeKey(packet.ProtoUDP, netip.MustParseAddrPort("10.1.0.2:9"), netip.MustParseAddrPort("10.2.0.2:7777"))
	s, f := sessionOf(key)
	info := softstate.PathInfo{Session: s, Sender: f, TSpec: spec(5e5).TSpec, In: wan, Out: lan}
	if _, ok := r.receiverProxy(info); ok {
		t.Fatal("answered without a policy and without being asked to")
	}
	info.Needed = true
	info.TSpec.MinUnit, info.TSpec.MaxPacket = 0, 1<<31-1 // as Cisco's routers announce
	got, ok := r.receiverProxy(info)
	if !ok || !got.Auto || got.Refusal != nil || got.FlowSpec.Service != intserv.ControlledLoad || got.FlowSpec.TSpec.Rate != 5e5 {
		t.Fatalf("%+v, %v", got, ok)
	}
	if err := got.FlowSpec.Validate(); err != nil {
		t.Error(err)
	}
	ask := softstate.Reserve{
		ID: 1, Session: s, Filters: []wire.Filter{f}, Style: wire.WF, In: wan, Out: lan, Role: softstate.ReceiverProxy,
		FlowSpec: spec(5e5), SenderTSpec: spec(5e5).TSpec,
	}
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatal(refusal)
	}
	if have := r.fake.have[key]; !have.Reserve || have.Rate != 5e5 || have.DSCP != 26 { // mapping, as for other hosts' requests
		t.Errorf("%+v", have)
	}
	info.TSpec = intserv.TSpec{MaxPacket: 1500}
	if got, ok = r.receiverProxy(info); !ok || got.Refusal == nil {
		t.Errorf("null service: %+v, %v", got, ok)
	}
	info.Out = wan
	if _, ok := r.receiverProxy(info); ok {
		t.Error("answered for a receiver that is not on the hosts' side")
	}
	voice := packet.MakeKey(packet.ProtoUDP, netip.MustParseAddrPort("10.1.0.2:9"), netip.MustParseAddrPort("10.2.0.2:5004"))
	info.Session, info.Sender = sessionOf(voice)
	info.Out = lan
	if _, ok := r.receiverProxy(info); ok {
		t.Error("answered although the policy speaks only for senders")
	}
	info.Session = byEF
	info.Session.Dst = imagingKey.DstAddr()
	if _, ok := r.receiverProxy(info); ok {
		t.Error("answered for a deaggregator")
	}
}

// RFC 3181: the priority of a policy goes along, for the receiver too.
func TestPriorityOfPolicy(t *testing.T) {
	r := &config.Reserve{}
	if p := priorityOf(r); p != nil {
		t.Errorf("%v without one in the policy", p)
	}
	r.Priority = config.Priority{Given: true, Setup: 3, Hold: 7}
	want := softstate.Priority{Preempting: 3, Defending: 7}
	if p := priorityOf(r); p == nil || *p != want {
		t.Errorf("%v", p)
	}
	r.TSpec = config.TSpec{Rate: 1000, Burst: 1500, MinUnit: 64, MaxPacket: 1500}
	if s := askFor(r, softstate.PathInfo{TSpec: spec(5e5).TSpec}); s.Priority == nil || *s.Priority != want {
		t.Errorf("%+v", s)
	}
}

// The first packet's treatment and the reservation race: whichever comes last,
// the reservation stands, in the kernel and in the row.
func TestCountingNeverReplacesAReservation(t *testing.T) {
	r := testControl(t)
	if refusal := r.Reserve(request(1, 1e6)); refusal != nil {
		t.Fatal(refusal)
	}
	r.flows.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN), lan, wan)
	if err := r.count(t.Context(), plan.Treatment{Key: imagingKey, Interface: "wan0"}); err != nil {
		t.Fatal(err)
	}
	if got := r.fake.have[imagingKey]; !got.Reserve || !got.Mark {
		t.Errorf("kernel = %+v, want the reservation", got)
	}
	f, _, _ := r.flows.get(imagingKey)
	if f.state != stateManaged || f.class != plan.FirstPooled || f.reserved.IsZero() {
		t.Errorf("row = %+v, want the reservation", f)
	}
}

// RSVP may know a direction of a UDP flow before its first packet: the packet
// must not make the row forget the reservation.
func TestFirstPacketAfterReservation(t *testing.T) {
	r := testControl(t)
	now := time.Now()
	r.flows.first(now, udpPacket(t, "10.2.0.2:5004", "10.1.0.2:5004"), wan, lan)
	key := packet.MakeKey(packet.ProtoUDP, netip.MustParseAddrPort("10.1.0.2:5004"), netip.MustParseAddrPort("10.2.0.2:5004"))
	s, f := sessionOf(key)
	ask := softstate.Reserve{ID: 7, Session: s, Filters: []wire.Filter{f}, In: lan, Out: wan, FlowSpec: spec(1e4), SenderTSpec: spec(1e4).TSpec}
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatal(refusal)
	}
	r.flows.first(now, udpPacket(t, "10.1.0.2:5004", "10.2.0.2:5004"), lan, wan)
	if g, _, ok := r.flows.get(key); !ok || g.reserved.IsZero() || g.state != stateManaged {
		t.Errorf("row = %+v, want it reserved", g)
	}
}

// A connection that is cheated no more is policed like others.
func TestReprogramAfterCheating(t *testing.T) {
	r := testControl(t)
	r.flows.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN), lan, wan)
	if refusal := r.Reserve(request(1, 1e6)); refusal != nil {
		t.Fatal(refusal)
	}
	r.flows.update(imagingKey, func(c *conn, _ *flow) { c.shard = -1 })
	r.reprogram(t.Context(), imagingKey)
	if got := r.fake.have[imagingKey]; got.Cheated || !got.Police || !got.Reserve {
		t.Errorf("kernel = %+v, want a policed reservation", got)
	}
}
