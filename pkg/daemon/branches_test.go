package daemon

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

var groupKey = packet.MakeKey(packet.ProtoUDP, netip.MustParseAddrPort("10.1.0.2:9"), netip.MustParseAddrPort("239.1.2.3:5004"))

func TestToGroup(t *testing.T) {
	for dst, want := range map[string]bool{
		"224.0.0.1": true, "239.255.0.1": true, "223.255.255.255": false, "240.0.0.1": false, "10.224.0.1": false,
		"ff3e::1": true, "ff02::1": true, "fe80::1": false, "fd00::ffff:e001:203": false, "::1": false,
	} {
		a := netip.MustParseAddr(dst)
		src := netip.MustParseAddr("10.1.0.2")
		if a.Is6() {
			src = netip.MustParseAddr("fd00:1::2")
		}
		k := packet.MakeKey(packet.ProtoUDP, netip.AddrPortFrom(src, 9), netip.AddrPortFrom(a, 5004))
		if toGroup(k) != want || toGroup(k.Reverse()) != want || a.IsMulticast() != want {
			t.Errorf("%s: %v", dst, !want)
		}
	}
}

// A flow to a group has a row for each interface that it leaves by; PATH for it
// goes as far as its data. What is said of the flow is said of all, what of one
// branch of that alone.
func TestBranchesOfAFlow(t *testing.T) {
	table, now := testTable(t), time.Now()
	v := udpPacket(t, "10.1.0.2:9", "239.1.2.3:5004")
	one := table.first(now, v, lan, wan)
	if one.known || len(one.ask) != 1 || pathTTL(&one.ask[0]) != v.TTL() {
		t.Fatalf("the first branch: %+v", one)
	}
	if two := table.first(now, v, lan, third); two.known || len(two.count) != 1 || two.count[0].out != third {
		t.Fatalf("the second branch: %+v", two)
	}
	if again := table.first(now, v, lan, wan); !again.known {
		t.Errorf("a branch that is known: %+v", again)
	}
	for group, want := range map[string]int{"239.1.2.3/32": 1, "224.0.0.0/4": 1, "239.1.2.4/32": 0, "ff00::/8": 0} {
		if got := table.toGroups([]netip.Prefix{netip.MustParsePrefix(group)}); len(got) != want || want == 1 && got[0] != groupKey {
			t.Errorf("%s: %v", group, got)
		}
	}
	n := 0
	table.update(groupKey, func(*conn, *flow) { n++ })
	if n != 2 {
		t.Errorf("%d branches were told", n)
	}
	table.updateOn(groupKey, third, func(_ *conn, f *flow) { f.reason = "third" })
	if f, _, ok := table.getOn(groupKey, wan); !ok || f.reason == "third" {
		t.Errorf("%+v, %v", f, ok)
	}
	if c, ok := table.removeOn(groupKey, wan); !ok || c.dirs[0].out != wan || !table.lastBranch(groupKey) {
		t.Errorf("%+v, %v", c, ok)
	}
	if was := table.remove(groupKey); len(was) != 1 || len(table.conns) != 0 || len(table.branches) != 0 {
		t.Errorf("removed %d; %d rows and %d groups are left", len(was), len(table.conns), len(table.branches))
	}
	if d := table.first(now, udpPacket(t, "10.1.0.2:9", "10.2.0.2:5004"), lan, wan); len(d.ask) != 1 || pathTTL(&d.ask[0]) != 0 {
		t.Errorf("unicast: %+v", d)
	}
}

// byPlace is a kernel that keeps treatments by interface too.
type byPlace struct {
	have    map[shaper.FlowID]plan.Treatment
	counted map[shaper.FlowID]shaper.Counters
	refuses string // an interface
}

func (k *byPlace) Install(_ context.Context, t plan.Treatment) (plan.ClassID, error) {
	if t.Interface == k.refuses {
		return 0, errFault
	}
	k.have[shaper.FlowID{Interface: t.Interface, Key: t.Key}] = t
	return plan.FirstPooled, nil
}

func (k *byPlace) Take(_ context.Context, iface string, key packet.FlowKey) (shaper.Counters, error) {
	c, err := k.Counters(iface, key)
	delete(k.have, shaper.FlowID{Interface: iface, Key: key})
	return c, err
}

func (k *byPlace) Counters(iface string, key packet.FlowKey) (shaper.Counters, error) {
	id := shaper.FlowID{Interface: iface, Key: key}
	if _, ok := k.have[id]; !ok {
		return shaper.Counters{}, shaper.ErrNoFlow
	}
	return k.counted[id], nil
}

func (k *byPlace) Treatment(iface string, key packet.FlowKey) (plan.Treatment, bool) {
	t, ok := k.have[shaper.FlowID{Interface: iface, Key: key}]
	return t, ok
}

func (k *byPlace) Class(iface string, key packet.FlowKey) plan.ClassID {
	if k.have[shaper.FlowID{Interface: iface, Key: key}].Reserve {
		return plan.FirstPooled
	}
	return 0
}

func (k *byPlace) Unclaim(string, packet.FlowKey) {}

func (k *byPlace) IsAdopted(string, packet.FlowKey) bool { return false }

// RFC 2205 section 1.2: resources are set aside for each outgoing interface. The
// branches' reservations come, change and go one by one.
func TestBranchesReserveRFC2205Section1_2(t *testing.T) {
	r := testControl(t)
	k := &byPlace{have: map[shaper.FlowID]plan.Treatment{}}
	r.kernel = k
	session, filter := sessionOf(groupKey)
	reserve := func(id uint64, out int, rate float64) {
		t.Helper()
		if refusal := r.Reserve(softstate.Reserve{
			ID: id, Session: session, Filters: []wire.Filter{filter}, Style: wire.FF, In: 7, Out: softstate.IfIndex(out), FlowSpec: spec(rate), SenderTSpec: spec(rate).TSpec,
		}); refusal != nil {
			t.Fatal(refusal)
		}
	}
	at := func(iface string) plan.Treatment { return k.have[shaper.FlowID{Interface: iface, Key: groupKey}] }
	reserve(1, wan, 1e4)
	reserve(2, lan, 2e4)
	if a, b := at("wan0"), at("lan0"); !a.Reserve || !b.Reserve || a.Rate != 1e4 || b.Rate != 2e4 {
		t.Errorf("%+v and %+v", a, b)
	}
	for out, rate := range map[int]float64{wan: 1e4, lan: 2e4} {
		if f, _, ok := r.flows.getOn(groupKey, out); !ok || f.rate != rate || f.out != out {
			t.Errorf("row by %d: %+v, %v", out, f, ok)
		}
	}
	reserve(1, wan, 3e4)
	if a, b := at("wan0"), at("lan0"); a.Rate != 3e4 || b.Rate != 2e4 {
		t.Errorf("changed one: %+v and %+v", a, b)
	}
	if !r.reserves(shaper.FlowID{Interface: "lan0", Key: groupKey}) || r.reserves(shaper.FlowID{Interface: "other0", Key: groupKey}) {
		t.Error("a branch's treatment is not told from another's")
	}
	r.uncount(t.Context(), groupKey, "wan0")
	if !at("wan0").Reserve {
		t.Error("a reserved branch was taken away")
	}
	r.Release(1)
	if a, b := at("wan0"), at("lan0"); a.Reserve || !b.Reserve {
		t.Errorf("released one: %+v and %+v", a, b)
	}
	r.Release(2)
	if b := at("lan0"); b.Reserve {
		t.Errorf("released both: %+v", b)
	}
}

// What the kernel would not change on one branch is tried again, whatever it does for
// the others of the flow.
func TestFailedBranchIsTriedAgain(t *testing.T) {
	for _, refuses := range []string{"wan0", "lan0"} {
		r := testControl(t)
		k := &byPlace{have: map[shaper.FlowID]plan.Treatment{}}
		r.kernel = k
		session, filter := sessionOf(groupKey)
		for id, out := range map[uint64]int{1: wan, 2: lan} {
			if refusal := r.Reserve(softstate.Reserve{
				ID: id, Session: session, Filters: []wire.Filter{filter}, Style: wire.FF, In: 7, Out: softstate.IfIndex(out), FlowSpec: spec(1e4), SenderTSpec: spec(1e4).TSpec,
			}); refusal != nil {
				t.Fatal(refusal)
			}
		}
		failed := shaper.FlowID{Interface: refuses, Key: groupKey}
		for _, at := range r.held { // as after a reload that wants something else
			at.members[groupKey].put.Bucket++
		}
		k.refuses = refuses
		r.reprogram(t.Context(), groupKey)
		if !r.stale[failed] || r.debts() != 1 {
			t.Errorf("%s: noted are %v", refuses, r.stale)
		}
		delete(k.have, failed)
		k.refuses = ""
		r.settleDebts(t.Context())
		if !k.have[failed].Reserve || r.debts() != 0 {
			t.Errorf("%s: not tried again: %v", refuses, r.stale)
		}
	}
}
