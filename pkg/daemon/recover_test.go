package daemon

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// adopt has the kernel hold a treatment of an earlier process.
func (r rig) adopt(key packet.FlowKey, rate float64) {
	f := spec(rate).TSpec
	tr := plan.Treatment{
		Key: key, Interface: "wan0", Rate: f.Rate, Bucket: f.Bucket, Peak: f.Peak, MinUnit: f.MinUnit, MaxPacket: f.MaxPacket,
		DSCP: 26, Mark: true, Police: true, Reserve: true,
	}
	if r.fake.adopted == nil {
		r.fake.adopted = map[packet.FlowKey]bool{}
	}
	r.fake.have[key], r.fake.adopted[key] = tr, true
	r.hold(leftovers([]plan.Treatment{tr, {Key: key.Reverse(), Interface: "wan0"}}))
}

func (r rig) used(t *testing.T) admission.LinkUsage {
	t.Helper()
	u, ok, err := r.admit.Usage("wan0")
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	return u
}

// What an earlier process granted is counted until it is claimed, and only once
// then: nobody else gets its place.
// RFC 5063 section 4.5.2.2.
func TestAdoptedIsCountedUntilClaimed(t *testing.T) {
	r := testControl(t)
	free := r.used(t).Free
	r.adopt(imagingKey, free*0.8)
	other := request(7, free*0.5)
	other.Session.DstPort++
	if refusal := r.Reserve(other); refusal == nil {
		t.Fatal("over-admission")
	}
	if u := r.used(t); u.Reservations != 1 {
		t.Fatalf("%+v", u)
	}
	if refusal := r.Reserve(request(1, free*0.9)); refusal != nil {
		t.Fatalf("its own place is its own: %v", refusal)
	}
	if u := r.used(t); u.Reservations != 1 || u.Free > free*0.11 {
		t.Errorf("%+v", u)
	}
	r.forfeit()
	if u := r.used(t); u.Reservations != 1 {
		t.Errorf("what was claimed stays: %+v", u)
	}
	r.Release(1)
	if u := r.used(t); u.Reservations != 0 || u.Free != free {
		t.Errorf("%+v", u)
	}
}

// A claim that is refused, or that cannot be programmed, leaves the ledger with
// what is still in the kernel.
// RFC 5063 section 4.5.2.2.
func TestAdoptedStaysWhenTheClaimFails(t *testing.T) {
	r := testControl(t)
	free := r.used(t).Free
	r.adopt(imagingKey, free*0.5)
	if refusal := r.Reserve(request(1, free*1.2)); refusal == nil {
		t.Fatal("granted more than there is")
	}
	if u := r.used(t); u.Reservations != 1 || u.Free > free*0.51 {
		t.Errorf("refused: %+v", u)
	}
	r.fake.fail = errors.New("out of memory")
	if refusal := r.Reserve(request(2, free*0.5)); refusal == nil {
		t.Fatal("granted without a kernel")
	}
	if u := r.used(t); u.Reservations != 1 || u.Free > free*0.51 {
		t.Errorf("not programmed: %+v", u)
	}
	r.fake.fail = nil
	if refusal := r.Reserve(request(3, free*0.5)); refusal != nil {
		t.Fatal(refusal)
	}
	if u := r.used(t); u.Reservations != 1 {
		t.Errorf("%+v", u)
	}
}

// What nobody claims goes from the ledger with its treatment: at the end of the
// recovery time, or with its flow.
// RFC 5063 section 4.5.2.3: the rest is deleted when the recovery period ends.
func TestAdoptedUnclaimed(t *testing.T) {
	r := testControl(t)
	free := r.used(t).Free
	r.adopt(imagingKey, 1e5)
	second := packet.MakeKey(packet.ProtoTCP, netip.MustParseAddrPort("10.1.0.2:4001"), netip.MustParseAddrPort("10.2.0.2:104"))
	r.adopt(second, 1e5)
	r.forfeit()
	if u := r.used(t); u.Reservations != 2 {
		t.Fatalf("the kernel still has them: %+v", u)
	}
	r.uncount(t.Context(), second, "wan0")
	if u := r.used(t); u.Reservations != 1 {
		t.Errorf("the flow has ended: %+v", u)
	}
	delete(r.fake.adopted, imagingKey) // Reconcile
	r.forfeit()
	if u := r.used(t); u.Reservations != 0 || u.Free != free || len(r.left) != 0 {
		t.Errorf("%+v, %v", u, r.left)
	}
}

// The recovery time is the lifetime of a neighbour's state, and never longer
// than on_crash.
// RFC 5063 section 4.5.2.3.
func TestRecoveryTime(t *testing.T) {
	c := &config.Config{OnCrash: 10 * time.Minute}
	c.RSVP.Refresh = 10 * time.Second
	if d := recoveryTime(c); d != 157500*time.Millisecond {
		t.Errorf("%v: the neighbour's period may be longer than ours", d)
	}
	c.RSVP.Refresh = 40 * time.Second
	if d := recoveryTime(c); d != 210*time.Second {
		t.Error(d)
	}
	c.OnCrash = 5 * time.Second
	if d := recoveryTime(c); d != 5*time.Second {
		t.Error(d)
	}
}

// What other boxes may be given when this one's lease has ended is not marked
// here any more by then.
func TestKernelStateEndsBeforeTheShareDoes(t *testing.T) {
	shared := &config.Etcd{TTL: 20 * time.Second}
	for _, c := range []struct {
		crash time.Duration
		etcd  *config.Etcd
		want  time.Duration
	}{
		{10 * time.Minute, nil, 10 * time.Minute},
		{10 * time.Minute, shared, 15 * time.Second},
		{5 * time.Second, shared, 5 * time.Second},
		{0, shared, 0},
	} {
		if got := outlives(&config.Config{OnCrash: c.crash, Admission: config.Admission{Etcd: c.etcd}}); got != c.want {
			t.Errorf("on_crash %v with %+v: %v, want %v", c.crash, c.etcd, got, c.want)
		}
	}
}

// Packets of a reserved flow that an earlier process has left do not wait until it is
// decided about, at the edges and between them. Those of connections and groups do.
func TestLeftFlowsPassFromTheBeginning(t *testing.T) {
	key := packet.MakeKey(packet.ProtoUDP, netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("10.2.0.2:5004"))
	connection, group := imaging(t), key
	group.Dst = packet.FlowKey{Dst: netip.MustParseAddr("239.1.2.3").As16()}.Dst
	seen := learned{key.PairKey(): {Port: lan}, connection.PairKey(): {Port: lan}, group.PairKey(): {Port: lan}}
	for name, tt := range map[string]struct {
		key  packet.FlowKey
		seen learned
		out  string
		role role
		want []packet.FlowKey
	}{
		"of a sender here":    {key, seen, "wan0", roleSender, []packet.FlowKey{key}},
		"to a receiver here":  {key, learned{key.PairKey(): {Port: wan}}, "lan0", roleReceiver, []packet.FlowKey{key}},
		"of who knows where":  {key, learned{}, "wan0", 0, nil},
		"by a link that left": {key, seen, "wan7", 0, nil},
		"a connection":        {connection, seen, "wan0", 0, nil},
		"to a group":          {group, seen, "wan0", 0, nil},
	} {
		d := &Daemon{flows: tableOf(t, strings.Replace(testConfig, "role: sender, ", "", 1)), log: zap.NewNop()}
		d.flows.frames = frames{learned: tt.seen}
		d.links.Store(newLinks([]link{
			{Link: route.Link{Index: lan, Name: "lan0"}, cfg: config.Interface{Zone: config.ZoneHosts}},
			{Link: route.Link{Index: wan, Name: "wan0"}, cfg: config.Interface{Zone: config.ZoneNetwork}},
		}))
		var k settled
		d.settleLeft(time.Now(), []plan.Treatment{{Key: tt.key, Interface: tt.out, Reserve: true}}, &k)
		f, _, ok := d.flows.get(tt.key)
		if !slices.Equal(k.in, tt.want) || ok != (len(tt.want) > 0) || ok && (f.role != tt.role || !f.treated) {
			t.Errorf("%s: settled %v; row %v: %+v", name, k.in, ok, f)
		}
	}
}

// On a bridge, too, the sender of a flow that an earlier process has left reserved is
// spoken for without its next packet: the frames that were seen tell where it is.
func TestLeftSenderOnABridgeIsSpokenFor(t *testing.T) {
	key := imaging(t)
	for name, tt := range map[string]struct {
		seen learned
		want calls
	}{
		"seen":              {learned{key.PairKey(): {Port: lan}}, calls{"ask"}},
		"only the receiver": {learned{key.Reverse().PairKey(): {Port: wan}}, calls{"ask"}},
		"never seen":        {learned{}, nil},
		"in the network":    {learned{key.PairKey(): {Port: wan}}, nil},
	} {
		var c calls
		d := &Daemon{flows: testTable(t)}
		d.flows.frames = frames{learned: tt.seen}
		d.links.Store(newLinks([]link{
			{Link: route.Link{Index: lan, Name: "lan0"}, cfg: config.Interface{Zone: config.ZoneHosts}},
			{Link: route.Link{Index: wan, Name: "wan0"}, cfg: config.Interface{Zone: config.ZoneNetwork}},
		}))
		d.first = &firstHandler{flows: d.flows, rsvp: &c}
		d.speakFor(time.Now(), d.placer(), &plan.Treatment{Key: key, Interface: "wan0"})
		if f, _, ok := d.flows.get(key); !slices.Equal(c, tt.want) || ok != (len(tt.want) > 0) || ok && (f.in != lan || f.out != wan) {
			t.Errorf("%s: asked for %v; row %v: in %d, out %d", name, c, ok, f.in, f.out)
		}
	}
}
