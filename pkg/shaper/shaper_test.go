package shaper

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/bpf"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

func attachedAt(t testing.TB, ifindex int, d bpf.Direction) []uint32 {
	t.Helper()
	ids, err := bpf.Programs(d, ifindex)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

var (
	plan20 = plan.Plan{Interfaces: []plan.Interface{{Name: "qp0", Capacity: 2_500_000, ResetDSCP: true}}, Flows: 1000}
	voice  = plan.Treatment{
		Key:       packet.MakeKey(packet.ProtoUDP, netip.MustParseAddrPort("10.9.0.1:4000"), netip.MustParseAddrPort("10.9.0.2:5004")),
		Interface: "qp0", Rate: 10_000, Bucket: 2000, Peak: math.Inf(1), MinUnit: 64, MaxPacket: 400,
		DSCP: 44, Mark: true, Police: true, Reserve: true, RealTime: true,
	}
)

// state reads what the kernel has, as an operator would see it.
func state(t testing.TB, s *Shaper, names ...string) plan.State {
	t.Helper()
	facts := map[string]plan.Facts{}
	for _, name := range names {
		f, err := s.conn.Facts(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		facts[name] = f
	}
	var st plan.State
	for _, name := range names {
		p, err := s.conn.Read(t.Context(), name, facts[name].Index)
		if err != nil {
			t.Fatal(err)
		}
		p.Egress.Attached = len(attachedAt(t, facts[name].Index, bpf.Egress)) > 0
		p.Ingress.Attached = len(attachedAt(t, facts[name].Index, bpf.Ingress)) > 0
		st.Ports = append(st.Ports, p)
	}
	return st
}

func TestSetAgainDoesNothing(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), plan20))
	_, err := s.Install(t.Context(), voice)
	n.check(err)
	before := state(t, s, "qp0")
	s.before = func(op plan.Op) error { t.Errorf("a second Set does %q", op); return nil }
	n.check(s.Set(t.Context(), plan20))
	if d := cmp.Diff(before, state(t, s, "qp0")); d != "" {
		t.Error(d)
	}
}

func TestSetRepairs(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), plan20))
	id, err := s.Install(t.Context(), voice)
	n.check(err)
	want := state(t, s, "qp0")
	link, err := netlink.LinkByName("qp0")
	n.check(err)
	n.check(netlink.QdiscDel(&netlink.Htb{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: 0x10000, Parent: netlink.HANDLE_ROOT}}))
	n.check(s.Set(t.Context(), plan20))
	got := state(t, s, "qp0")
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, ok := got.Port("qp0").Class(id); !ok {
		t.Error("the class of a flow in force was not made again")
	}
}

// An interface that has gone keeps no other one from being set up again, and gets back
// what it had when it comes. One that never was there is refused.
func TestSetPassesOverWhatIsGone(t *testing.T) {
	n := newNet(t)
	names := []string{"qp0", "qp2", "qp4"}
	n.pair("qp2")
	n.pair("qp4")
	s := n.shaper(Options{})
	p := plan.Plan{Flows: 1000, Frames: 1000}
	on := func(name string) plan.Treatment { tr := voice; tr.Interface = name; return tr }
	for _, name := range names {
		p.Interfaces = append(p.Interfaces, plan.Interface{Name: name, Capacity: 1_000_000, ResetDSCP: true})
	}
	n.check(s.Set(t.Context(), p))
	for _, name := range names {
		_, err := s.Install(t.Context(), on(name))
		n.check(err)
	}
	before := state(t, s, names...)
	pull := func(name string) {
		t.Helper()
		link, err := netlink.LinkByName(name)
		n.check(err)
		n.check(netlink.LinkDel(link))
	}
	pull("qp2")
	pull("qp4")
	n.pair("qp4")
	n.check(s.Set(t.Context(), p))
	if got := s.Missing(); !slices.Equal(got, []string{"qp2"}) {
		t.Errorf("missing: %q", got)
	}
	if d := cmp.Diff([]plan.Port{before.Port("qp0"), before.Port("qp4")}, state(t, s, "qp0", "qp4").Ports); d != "" {
		t.Error(d)
	}
	if c, err := s.Counters("qp4", voice.Key); err != nil {
		t.Errorf("on the one that is back: %+v, %v", c, err)
	}
	if tr, ok := s.Treatment("qp2", voice.Key); !ok || tr != on("qp2") {
		t.Errorf("of the one that is gone: %+v, %v", tr, ok)
	}
	s.before = func(op plan.Op) error { t.Errorf("a second Set does %q", op); return nil }
	s.beforeRow = func(what string) error { t.Errorf("a second Set does %q", what); return nil }
	n.check(s.Set(t.Context(), p))
	s.before, s.beforeRow = nil, nil

	less, more := p, p
	less.Interfaces, more.Interfaces = slices.Clone(p.Interfaces), append(slices.Clone(p.Interfaces), plan.Interface{Name: "qp9"})
	less.Interfaces[1].Capacity = 10_000
	if err := s.Set(t.Context(), less); !errors.Is(err, ErrCapacity) {
		t.Errorf("a capacity below the reservations of one that is gone: %v", err)
	}
	var missing *MissingInterfaceError
	if err := s.Set(t.Context(), more); !errors.As(err, &missing) || missing.Name != "qp9" {
		t.Errorf("one that never was there: %v", err)
	}

	// A step that fails meanwhile is undone.
	shaped := p
	shaped.Interfaces = slices.Clone(p.Interfaces)
	shaped.Interfaces[2].Capacity = 2_000_000
	was := state(t, s, "qp0", "qp4")
	fail := failAt(1)
	s.before = func(op plan.Op) error { return fail(op) }
	if err := s.Set(t.Context(), shaped); !errors.Is(err, errInjected) {
		t.Error(err)
	}
	s.before = nil
	if d := cmp.Diff(was, state(t, s, "qp0", "qp4")); d != "" {
		t.Error(d)
	}

	n.pair("qp2")
	n.check(s.Set(t.Context(), p))
	if d := cmp.Diff(before, state(t, s, names...)); d != "" || len(s.Missing()) > 0 {
		t.Errorf("missing: %q, %s", s.Missing(), d)
	}
	if _, err := s.Counters("qp2", voice.Key); err != nil {
		t.Error(err)
	}
	pull("qp2")
	without := p
	without.Interfaces = []plan.Interface{p.Interfaces[0], p.Interfaces[2]}
	n.check(s.Set(t.Context(), without))
	if _, ok := s.Treatment("qp2", voice.Key); ok || len(s.Missing()) > 0 {
		t.Errorf("out of the plan: %v, missing %q", ok, s.Missing())
	}
}

// A failure at any step leaves the kernel as it was before.
func TestSetUndoes(t *testing.T) {
	n := newNet(t)
	n.pair("qp2")
	n.pair("qp3")
	s := n.shaper(Options{})
	first := plan.Plan{Flows: 1000, Interfaces: []plan.Interface{{Name: "qp0", Capacity: 2_500_000}, {Name: "qp2", Capacity: 1_000_000, ResetDSCP: true}}}
	second := plan.Plan{Flows: 2000, Interfaces: []plan.Interface{{Name: "qp0", Capacity: 5_000_000, ResetDSCP: true}, {Name: "qp3", Capacity: 1 << 30}}}
	names := []string{"qp0", "qp2", "qp3"}
	for _, p := range []plan.Plan{first, second} {
		before := state(t, s, names...)
		steps := 0
		for ; ; steps++ {
			fail := failAt(steps)
			s.before = func(op plan.Op) error { return fail(op) }
			err := s.Set(t.Context(), p)
			if err == nil {
				break
			}
			if !errors.Is(err, errInjected) {
				t.Fatal(err)
			}
			if d := cmp.Diff(before, state(t, s, names...)); d != "" {
				t.Fatalf("step %d (%v):\n%s", steps, err, d)
			}
		}
		if steps < 5 {
			t.Errorf("only %d steps", steps)
		}
		t.Logf("%d steps", steps)
		s.before = nil
		// Treatments come through the change of plans, whole or undone.
		_, err := s.Install(t.Context(), voice)
		n.check(err)
	}
	if _, err := s.Counters("qp0", voice.Key); err != nil {
		t.Error(err)
	}
}

func TestInstallUndoes(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), plan20))
	other := voice
	other.Key.SrcPort++
	_, err := s.Install(t.Context(), other)
	n.check(err)
	n.check(s.Remove(t.Context(), "qp0", other.Key)) // an idle class is there
	bigger := voice
	bigger.Rate, bigger.Bucket = 30_000, 50_000
	third := other
	third.Key.SrcPort++
	for _, tr := range []plan.Treatment{voice, bigger, third} {
		before, rates := state(t, s, "qp0"), s.ports["qp0"].rates
		for steps := 0; ; steps++ {
			fail := failAt(steps)
			s.before = func(op plan.Op) error { return fail(op) }
			_, err := s.Install(t.Context(), tr)
			if err == nil {
				break
			}
			if d := cmp.Diff(before, state(t, s, "qp0")); d != "" {
				t.Fatalf("step %d (%v):\n%s", steps, err, d)
			}
			if got := s.ports["qp0"].rates; got != rates {
				t.Fatalf("step %d: the books say %d bytes/s, before %d", steps, got, rates)
			}
		}
		s.before = nil
		n.check(s.Set(t.Context(), plan20))
	}
}

func TestTableFullUndoes(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	p := plan20
	p.Flows = 1
	n.check(s.Set(t.Context(), p))
	_, err := s.Install(t.Context(), voice)
	n.check(err)
	before := state(t, s, "qp0")
	other := voice
	other.Key.SrcPort++
	if _, err := s.Install(t.Context(), other); !errors.Is(err, ErrFull) {
		t.Fatalf("got %v", err)
	}
	if d := cmp.Diff(before, state(t, s, "qp0")); d != "" {
		t.Error(d)
	}
	n.check(s.Remove(t.Context(), "qp0", voice.Key))
	_, err = s.Install(t.Context(), other)
	n.check(err)
}

func TestRefusals(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	var missing *MissingInterfaceError
	err := s.Set(t.Context(), plan.Plan{Interfaces: []plan.Interface{{Name: "qp9"}}})
	if !errors.As(err, &missing) || missing.Name != "qp9" {
		t.Errorf("got %v", err)
	}
	n.pair("qp2")
	link, err := netlink.LinkByName("qp2")
	n.check(err)
	foreign := netlink.NewHtb(netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: 0x10000, Parent: netlink.HANDLE_ROOT})
	n.check(netlink.QdiscAdd(foreign))
	both := plan.Plan{Flows: 1000, Interfaces: []plan.Interface{plan20.Interfaces[0], {Name: "qp2", Capacity: 1 << 20}}}
	if err := s.Set(t.Context(), both); !errors.Is(err, ErrForeignQdisc) {
		t.Errorf("got %v", err)
	}
	n.check(netlink.QdiscDel(foreign))
	if _, err := s.Install(t.Context(), voice); !errors.Is(err, ErrNotManaged) {
		t.Errorf("got %v", err)
	}
	n.check(s.Set(t.Context(), plan20))
	greedy := voice
	greedy.Rate, greedy.MaxPacket = 2_400_000, 1500
	if _, err := s.Install(t.Context(), greedy); !errors.Is(err, ErrCapacity) {
		t.Errorf("got %v", err)
	}
	greedy.Rate = 2_300_000 // 92 %
	if _, err := s.Install(t.Context(), greedy); err != nil {
		t.Error(err)
	}
	if _, err := New(Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("a second Shaper in the namespace: %v", err)
	}
	small := plan20
	small.Interfaces = []plan.Interface{{Name: "qp0", Capacity: 1_000_000}}
	if err := s.Set(t.Context(), small); !errors.Is(err, ErrCapacity) {
		t.Errorf("a capacity below the reservations: %v", err)
	}
	if err := s.Remove(t.Context(), "qp0", voice.Key.Reverse()); !errors.Is(err, ErrNoFlow) {
		t.Errorf("got %v", err)
	}
}

func TestClassesAreUsedAgain(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	p := plan20
	p.Pool = 2
	n.check(s.Set(t.Context(), p))
	install := func(port uint16) (plan.ClassID, error) {
		tr := voice
		tr.Key.SrcPort = port
		return s.Install(t.Context(), tr)
	}
	for port, want := range []plan.ClassID{plan.FirstPooled, plan.FirstPooled + 1} {
		if id, err := install(uint16(port)); err != nil || id != want {
			t.Fatalf("got %s, %v", id, err)
		}
	}
	shaped := voice
	shaped.Key.SrcPort, shaped.Cheated = 2, true
	if _, err := s.Install(t.Context(), shaped); !errors.Is(err, ErrPool) {
		t.Errorf("got %v", err)
	}
	key := voice.Key
	key.SrcPort = 0
	n.check(s.Remove(t.Context(), "qp0", key))
	if id, err := install(2); err != nil || id.String() != "1:10" {
		t.Errorf("got %s, %v", id, err)
	}
	// The same flow again keeps its class.
	if id, err := install(2); err != nil || id.String() != "1:10" {
		t.Errorf("got %s, %v", id, err)
	}
}

// crash ends a Shaper as a SIGKILL would: its files are closed, no more.
func crash(t testing.TB, s *Shaper) {
	t.Helper()
	s.closed = true
	close(s.stop)
	s.conn.Close()
	if err := errors.Join(s.table.Close(), s.owner.release()); err != nil {
		t.Fatal(err)
	}
}

func TestAdoptsAfterCrash(t *testing.T) {
	n := newNet(t)
	n.pair("qp2")
	s, err := New(Options{OnCrash: time.Hour})
	n.check(err)
	both := plan20
	both.Interfaces = append(both.Interfaces[:1:1], plan.Interface{Name: "qp2", Capacity: 1 << 20})
	n.check(s.Set(t.Context(), both))
	other := voice
	other.Key.SrcPort++
	for _, tr := range []plan.Treatment{other, voice} {
		_, err = s.Install(t.Context(), tr)
		n.check(err)
	}
	n.listenUDP("10.9.0.2:5004")
	out := n.dialUDP("10.9.0.1:4000", "10.9.0.2:5004")
	for range 5 {
		_, err := out.Write(make([]byte, 100))
		n.check(err)
	}
	before := state(t, s, "qp0")
	crash(t, s)

	s = n.shaper(Options{OnCrash: time.Hour})
	s.before = func(op plan.Op) error {
		if op.Interface == "qp0" && op.Kind != plan.AttachEgress && op.Kind != plan.AttachIngress {
			t.Errorf("adopting does %q", op)
		}
		return nil
	}
	n.check(s.Set(t.Context(), plan20)) // qp2 is not in the plan any more
	if d := cmp.Diff(before, state(t, s, "qp0")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(plan.Port{Name: "qp2"}, state(t, s, "qp2").Port("qp2")); d != "" {
		t.Error(d)
	}
	if got := len(s.Adopted()); got != 2 {
		t.Errorf("adopted %d treatments, want 2", got)
	}
	c, err := s.Counters("qp0", voice.Key)
	n.check(err)
	if c.Packets != 5 {
		t.Errorf("%d packets counted before the crash, want 5", c.Packets)
	}
	id, err := s.Install(t.Context(), voice)
	if err != nil || id != plan.FirstPooled+1 {
		t.Errorf("got class %s, %v", id, err)
	}
	s.Unclaim("qp0", voice.Key) // the rest of a reservation could not be programmed
	if !s.IsAdopted("qp0", voice.Key) || len(s.Adopted()) != 2 {
		t.Errorf("after an undone claim %d are adopted, want 2", len(s.Adopted()))
	}
	_, err = s.Install(t.Context(), voice)
	n.check(err)
	n.check(s.Reconcile(t.Context()))
	all, err := s.AllCounters()
	n.check(err)
	if _, ok := all[FlowID{Interface: "qp0", Key: voice.Key}]; len(all) != 1 || !ok {
		t.Errorf("in force after reconciling: %v", all)
	}
}

// Pins of a network namespace that is gone are swept by the next process.
func TestSweepsDeadNamespaces(t *testing.T) {
	n := newNet(t)
	s, err := New(Options{})
	n.check(err)
	n.check(s.Set(t.Context(), plan20))
	dir := s.options.PinDir
	crash(t, s)
	link, err := netlink.LinkByName("qp0")
	n.check(err)
	n.check(netlink.LinkDel(link))
	n.check(unix.Unshare(unix.CLONE_NEWNET))
	n.check(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "qp0"}, PeerName: "qp1"}))
	s = n.shaper(Options{})
	n.check(s.Set(t.Context(), plan20))
	if s.options.PinDir == dir {
		t.Fatal("two network namespaces share a pin directory")
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the pins of a namespace that is gone are still there")
	}
}

// An interface that was made again has another number.
func TestInterfaceMadeAgain(t *testing.T) {
	n := newNet(t)
	n.pair("qp2")
	s := n.shaper(Options{})
	p := plan.Plan{Flows: 100, Interfaces: []plan.Interface{{Name: "qp2", Capacity: 1 << 20}}}
	n.check(s.Set(t.Context(), p))
	tr := voice
	tr.Interface = "qp2"
	id, err := s.Install(t.Context(), tr)
	n.check(err)
	link, err := netlink.LinkByName("qp2")
	n.check(err)
	n.check(netlink.LinkDel(link))
	n.pair("qp2")
	n.check(s.Set(t.Context(), p))
	if _, ok := state(t, s, "qp2").Port("qp2").Class(id); !ok {
		t.Error("the flow's class is gone")
	}
	if _, err := s.Counters("qp2", tr.Key); err != nil {
		t.Error(err)
	}
}

func TestCloseKeeps(t *testing.T) {
	n := newNet(t)
	s, err := New(Options{OnCrash: time.Hour})
	n.check(err)
	n.check(s.Set(t.Context(), plan20))
	_, err = s.Install(t.Context(), voice)
	n.check(err)
	n.check(s.Close(false))
	n.check(s.Close(false))
	s = n.shaper(Options{})
	n.check(s.Set(t.Context(), plan20))
	if len(s.Adopted()) != 1 {
		t.Error("the treatment did not outlive Close(false)")
	}
}

// What renews the treatments may wait for Close, and finds nothing to renew then.
func TestCloseBeforeRenewing(t *testing.T) {
	n := newNet(t)
	core, logs := observer.New(zap.ErrorLevel)
	for range 5 {
		s, err := New(Options{OnCrash: 4 * time.Millisecond, Log: zap.New(core)}) // renewed each millisecond
		n.check(err)
		n.check(s.Set(t.Context(), plan20))
		n.check(s.Close(true))
	}
	for _, e := range logs.All() {
		t.Errorf("%s %v", e.Message, e.ContextMap())
	}
}

// Frames are learned where the plan says so, on all its interfaces; the reader stays
// the same over another size and over a plan that fails.
func TestFramesAreLearnedByPlan(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	frames := s.Frames()
	learning, router := plan20, plan20
	learning.Frames = 1000
	key := packet.MakeKey(packet.ProtoUDP, netip.MustParseAddrPort("10.9.0.2:4000"), netip.MustParseAddrPort("10.9.0.1:5004"))
	pair := key.PairKey()
	known := func() bool {
		var f packet.Frame
		return frames.Frame(&pair, &f)
	}
	hear := func() {
		t.Helper()
		here, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IP{10, 9, 0, 1}, Port: 5004})
		n.check(err)
		n.at(func() error {
			c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IP{10, 9, 0, 2}, Port: 4000}, &net.UDPAddr{IP: net.IP{10, 9, 0, 1}, Port: 5004})
			if err != nil {
				return err
			}
			_, err = c.Write([]byte{1})
			return errors.Join(err, c.Close())
		})
		n.check(here.SetReadDeadline(time.Now().Add(10 * time.Second)))
		_, err = here.Read(make([]byte, 10))
		n.check(errors.Join(err, here.Close()))
	}
	if hear(); known() {
		t.Error("known before there was a plan")
	}
	n.check(s.Set(t.Context(), router))
	if hear(); known() {
		t.Error("known to a router")
	}
	n.check(s.Set(t.Context(), learning))
	if hear(); !known() {
		t.Error("not learned")
	}
	// Twice the size keeps what there is, and one that fails the former one.
	larger := learning
	larger.Frames *= 2
	s.before = func(op plan.Op) error {
		if op.Kind == plan.AttachLearn {
			return errInjected
		}
		return nil
	}
	if err := s.Set(t.Context(), larger); !errors.Is(err, errInjected) {
		t.Errorf("want the injected error: %v", err)
	}
	s.before = nil
	if !known() || !s.table.Sized(plan20.Flows, 1000) {
		t.Error("a plan that failed left other frames")
	}
	n.check(s.Set(t.Context(), larger))
	if !known() || !s.table.Sized(plan20.Flows, 2000) {
		t.Error("another size lost what was known")
	}
	s.before = func(op plan.Op) error { t.Errorf("a second Set does %q", op); return nil }
	n.check(s.Set(t.Context(), larger))
	s.before = nil
	n.check(s.Set(t.Context(), router))
	link, err := netlink.LinkByName("qp0")
	n.check(err)
	if ids := attachedAt(t, link.Attrs().Index, bpf.Ingress); known() || len(ids) != 1 {
		t.Errorf("a router again: known %v, %d programs at the ingress, want that of plan20", known(), len(ids))
	}
}
