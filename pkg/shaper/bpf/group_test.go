package bpf

import (
	"errors"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

const groupNumber = 7

var session = packet.FlowKey{Dst: key4.Dst, DstPort: key4.DstPort, Proto: key4.Proto}

// senders are n flows of one session.
func senders(n int) []packet.FlowKey {
	keys := make([]packet.FlowKey, n)
	for i := range keys {
		keys[i] = key4
		keys[i].SrcPort += uint16(i)
	}
	return keys
}

func (h *harness) join(tr plan.Treatment, keys ...packet.FlowKey) {
	h.t.Helper()
	tr.Group = session
	if err := h.PutGroup(h.ifindex, groupNumber, tr); err != nil {
		h.t.Fatal(err)
	}
	for _, k := range keys {
		tr.Key = k
		if err := h.Put(h.ifindex, tr, mine, plan.BestEffort, groupNumber); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *harness) levels() treatmentLevels {
	h.t.Helper()
	var v treatmentGroup
	number := uint32(groupNumber)
	if err := h.groups.LookupWithFlags(raw(&number), raw(&v), ebpf.LookupLock); err != nil {
		h.t.Fatal(err)
	}
	return v.Levels
}

// RFC 2205 section 1.3: the senders of a shared reservation have one bucket. It
// decides as the model does for one flow, whoever sends, and each sender's
// packets are counted as its own. Senders come and go meanwhile, the TSpec changes,
// and packets come merged.
func TestSharedPolicerIsExact(t *testing.T) {
	h := newHarness(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for round := range 20 {
		tr := randomSpec(rng, packet.FlowKey{})
		keys := senders(2 + rng.IntN(4))
		m := newModel(tr)
		h.join(tr, keys[0])
		joined := 1
		sent := map[packet.FlowKey]*Counters{}
		for i := range 200 {
			if rng.IntN(25) == 0 {
				tr = randomSpec(rng, packet.FlowKey{})
				h.join(tr, keys[0])
				m.change(h.levels().Last, tr)
			}
			if joined < len(keys) && rng.IntN(10) == 0 {
				h.join(tr, keys[joined])
				joined++
			}
			k := keys[rng.IntN(joined)]
			c := sent[k]
			if c == nil || rng.IntN(50) == 0 { // one leaves and comes back
				if c != nil {
					if err := h.Delete(h.ifindex, k); err != nil {
						t.Fatal(err)
					}
					h.join(tr, k)
				}
				c = &Counters{}
				sent[k] = c
			}
			b, mss, sizes := randomPacket(rng, k)
			r := h.send(b, mss)
			l := h.levels()
			want := m.decide(l.Last, sizes...)
			packets, n := uint64(len(sizes)), uint64(0)
			for _, size := range sizes {
				n += uint64(size)
			}
			if got := r.priority == uint32(mine); got != want {
				t.Fatalf("round %d packet %d with %+v: conforms %t, want %t", round, i, tr, got, want)
			}
			if level := new(big.Rat).SetFrac64(l.Level, nsec); level.Cmp(m.level) != 0 {
				t.Fatalf("round %d packet %d: level %s, want %s", round, i, level, m.level)
			}
			c.Packets, c.Bytes = c.Packets+packets, c.Bytes+n
			if want {
				c.Conform, c.ConformBytes = c.Conform+packets, c.ConformBytes+n
			} else {
				c.Exceed, c.ExceedBytes = c.Exceed+packets, c.ExceedBytes+n
			}
			if rng.IntN(20) == 0 {
				time.Sleep(time.Duration(rng.IntN(int(2 * time.Millisecond))))
			}
		}
		for k, want := range sent {
			if got, err := h.Counters(h.ifindex, k); err != nil || got != *want {
				t.Errorf("round %d: %s counted %+v, %v, want %+v", round, k, got, err, *want)
			}
			if err := h.Delete(h.ifindex, k); err != nil {
				t.Fatal(err)
			}
		}
		for _, k := range keys[:joined] {
			if err := h.Delete(h.ifindex, k); err != nil && !errors.Is(err, ErrNoFlow) {
				t.Fatal(err)
			}
		}
		if err := h.DeleteGroup(groupNumber); err != nil {
			t.Fatal(err)
		}
	}
}

// What three senders get together is within rT + b, and M + pT; a sum that
// conforms loses nothing.
func TestSharedSumIsInTheEnvelope(t *testing.T) {
	h := newHarness(t)
	tr := plan.Treatment{Rate: 3e6, Bucket: 5000, Peak: 6e6, MaxPacket: 1500, Police: true}
	keys := senders(3)
	h.join(tr, keys...)
	type event struct {
		at   uint64
		size float64
	}
	var events []event
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 3000 {
		n := 60 + rng.IntN(1440)
		if h.send(frame(keys[i%3], 0, n), 0).priority == uint32(mine) {
			events = append(events, event{h.levels().Last, float64(n)})
		}
	}
	if len(events) < 20 {
		t.Fatalf("only %d packets conform", len(events))
	}
	for i := range events {
		sum := 0.0
		for _, e := range events[i:] {
			sum += e.size
			seconds := float64(e.at-events[i].at) / 1e9
			if bound := min(tr.Rate*seconds+tr.Bucket, tr.Peak*seconds+1500); sum > bound+0.01 {
				t.Fatalf("%g bytes conform in %g s, bound %g", sum, seconds, bound)
			}
		}
	}
	t.Logf("%d of 3000 packets conform", len(events))

	time.Sleep(5 * time.Millisecond) // full again
	for i := range 60 {
		const n = 1000
		if h.send(frame(keys[i%3], 0, n), 0).priority != uint32(mine) {
			t.Fatalf("packet %d of a conforming sum exceeds", i)
		}
		time.Sleep(n * time.Second / 3e6)
	}
}

// A change of the TSpec is one for all senders, and fills no bucket.
func TestGroupChangesInPlace(t *testing.T) {
	h := newHarness(t)
	keys := senders(2)
	tr := plan.Treatment{Rate: 1, Bucket: 1000, Police: true}
	h.join(tr, keys...)
	h.send(frame(keys[0], 0, 600), 0)
	tr.Bucket = 2000
	h.join(tr, keys[0])
	if r := h.send(frame(keys[1], 0, 600), 0); r.priority != uint32(plan.BestEffort) {
		t.Errorf("the bucket was filled by a change: priority %#x", r.priority)
	}
	var list []Entry
	if err := h.Each(func(e Entry) { list = append(list, e) }); err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Number != groupNumber || e.Treatment.Group != session || e.Treatment.Bucket != 2000 {
			t.Errorf("read back %+v", e)
		}
	}
	if len(list) != 2 {
		t.Errorf("%d entries", len(list))
	}
}

// A cheated flow is not policed in a group either; what it sends is no longer
// there for the others.
func TestUnpolicedMemberTakesFromTheOthers(t *testing.T) {
	h := newHarness(t)
	keys := senders(2)
	tr := plan.Treatment{Rate: 1, Bucket: 2000, Police: true, Drop: true}
	h.join(tr, keys[0])
	tr.Cheated = true
	h.join(tr, keys[1])
	if h.send(frame(keys[1], 0, 1500), 0).priority != uint32(mine) {
		t.Fatal("the cheated flow is policed")
	}
	if h.send(frame(keys[0], 0, 1000), 0).verdict != drop {
		t.Error("the bucket was emptied, and yet another sender conforms")
	}
	for range 5 {
		if h.send(frame(keys[1], 0, 1500), 0).priority != uint32(mine) {
			t.Fatal("the cheated flow is policed")
		}
	}
	if l := h.levels().Level; l < 0 {
		t.Errorf("level %d: the cheated flow made a debt for the others", l)
	}
}

// A flow whose group is not there is policed by itself.
func TestMissingGroupIsNoBypass(t *testing.T) {
	h := newHarness(t)
	tr := plan.Treatment{Key: key4, Rate: 1, Bucket: 1000, Police: true}
	if err := h.Put(h.ifindex, tr, mine, plan.BestEffort, 99); err != nil {
		t.Fatal(err)
	}
	if r := h.send(frame(key4, 0, 600), 0); r.priority != uint32(mine) {
		t.Errorf("priority %#x, want the flow's class", r.priority)
	}
	if r := h.send(frame(key4, 0, 600), 0); r.priority != uint32(plan.BestEffort) {
		t.Errorf("priority %#x, want best effort", r.priority)
	}
}

// RFC 2215 section 3.6: a bucket is full in the beginning, a flow's own as well
// as one that senders share, whichever of the two rows comes first. So the first
// packets of a reservation that is made while its flow runs conform.
func TestNewBucketIsFull(t *testing.T) {
	const depth = 1 << 28 // no machine is up for as long as it takes to fill
	for _, groupFirst := range []bool{true, false} {
		h := newHarness(t)
		tr := plan.Treatment{Key: key4, Rate: 1, Bucket: depth, Police: true, Drop: true, Group: session}
		steps := []func() error{
			func() error { return h.PutGroup(h.ifindex, groupNumber, tr) },
			func() error { return h.Put(h.ifindex, tr, mine, plan.BestEffort, groupNumber) },
		}
		if !groupFirst {
			slices.Reverse(steps)
		}
		for _, step := range steps {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		if r := h.send(frame(key4, 0, 1000), 0); r.verdict == drop || r.priority != uint32(mine) {
			t.Errorf("group first %t: the first packet has verdict %d, priority %#x", groupFirst, r.verdict, r.priority)
		}
		own, err := h.read(h.ifindex, key4)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.levels().Level; got != (depth-1000)*nsec || own.Levels.Level != depth*nsec {
			t.Errorf("group first %t: level %d of the group, %d of the flow", groupFirst, got, own.Levels.Level)
		}
	}
}

// Groups are adopted with their flows, also into a table of another size.
func TestGroupsAreAdopted(t *testing.T) {
	h := newHarness(t)
	keys := senders(2)
	h.join(plan.Treatment{Rate: 1, Bucket: 1000, Police: true}, keys...)
	h.send(frame(keys[0], 0, 600), 0)
	level := h.levels().Level
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	for _, flows := range []int{1000, 2000} {
		table, err := Open(h.dir, flows, 0)
		if err != nil {
			t.Fatal(err)
		}
		h.Table = table
		if got := h.levels().Level; !table.Adopted || got != level {
			t.Errorf("adopted %t, level %d, want %d", table.Adopted, got, level)
		}
		n := 0
		if err := table.Each(func(e Entry) {
			if e.Treatment.Group == session {
				n++
			}
		}); err != nil || n != 2 {
			t.Errorf("%d flows of the group, %v", n, err)
		}
		if flows == 1000 {
			if err := table.Close(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := table.Remove(); err != nil {
			t.Error(err)
		}
	}
}

// The maps of the version before groups came have other values under another
// name: they go, and are not read.
func TestLayoutOneIsReplaced(t *testing.T) {
	newNamespace(t)
	dir := pinDir(t)
	if err := openTable(t, dir, 10).Close(); err != nil {
		t.Fatal(err)
	}
	var key treatmentFlowKey
	old, err := ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.Hash, Flags: unix.BPF_F_NO_PREALLOC, KeySize: uint32(len(raw(&key))), ValueSize: 168, MaxEntries: 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Close() }()
	if err := old.Put(raw(&key), make([]byte, 168)); err != nil {
		t.Fatal(err)
	}
	if err := old.Pin(dir + "/flows-1"); err != nil {
		t.Fatal(err)
	}
	table := openTable(t, dir, 10)
	if err := table.Each(func(e Entry) { t.Errorf("read %+v", e) }); err != nil {
		t.Error(err)
	}
	if _, err := ebpf.LoadPinnedMap(dir+"/flows-1", nil); err == nil {
		t.Error("the pin of the old layout is still there")
	}
}
