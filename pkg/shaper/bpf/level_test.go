package bpf

import (
	"bytes"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

const (
	af31 = 26
	ef   = 46
	le   = 1
)

// byDSCP makes the harness send through a program that looks at code points.
func (h *harness) byDSCP(d Direction) {
	h.t.Helper()
	prog, err := h.loadFor(d, plan.Program{Header: 14, Control: plan.Control, ByDSCP: true})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = prog.Close() })
	h.prog = prog
}

func (h *harness) putRow(r plan.Row) {
	h.t.Helper()
	if err := h.PutRow(h.ifindex, r); err != nil {
		h.t.Fatal(err)
	}
}

// level reads a row as it is in the kernel.
func (h *harness) level(r plan.Row) treatmentLevel {
	h.t.Helper()
	key := levelKey(h.ifindex, r)
	var v treatmentLevel
	if err := h.dscps.LookupWithFlags(raw(&key), raw(&v), 4); err != nil { // BPF_F_LOCK
		h.t.Fatal(err)
	}
	return v
}

// asMark is a packet as it should be but for its DSCP.
func asMark(t *testing.T, b []byte, code uint8) []byte {
	t.Helper()
	want, err := packet.Parse(bytes.Clone(b[14:]))
	if err != nil {
		t.Fatal(err)
	}
	want.SetDSCP(code)
	return want.Bytes()
}

// RFC 2475 section 2.3.3: packets are classified by their DSCP; what is in the profile goes
// on in the level's class, what is not is remarked or dropped. Nothing else of a
// packet changes.
func TestRowsConditionByDSCP(t *testing.T) {
	h := newHarness(t)
	h.byDSCP(Egress)
	for _, k := range []packet.FlowKey{key4, key6} {
		r := plan.Row{
			DSCP: af31, Policed: true, Rate: 1, Burst: 400, Excess: le,
			Class: plan.LevelClass(af31), ExcessClass: plan.BestEffort,
		}
		h.putRow(r)
		in := frame(k, af31<<2|1, 400)
		if got := h.send(in, 0); got.priority != uint32(r.Class) || got.verdict != next || !bytes.Equal(got.frame, in) {
			t.Errorf("%s: what conforms: verdict %d, priority %#x", k, got.verdict, got.priority)
		}
		got := h.send(in, 0)
		if got.priority != uint32(plan.BestEffort) || got.verdict != next {
			t.Errorf("%s: what exceeds: verdict %d, priority %#x", k, got.verdict, got.priority)
		}
		if v := parsed(t, got); !v.IPv4ChecksumOK() || cmp.Diff(asMark(t, in, le), v.Bytes()) != "" {
			t.Errorf("%s: what exceeds has DSCP %d", k, v.DSCP())
		}
		other := frame(k, ef<<2, 400)
		if got := h.send(other, 0); got.priority != 0 || !bytes.Equal(got.frame, other) {
			t.Errorf("%s: a DSCP without a row was treated: priority %#x", k, got.priority)
		}
		r.Drop, r.Excess, r.ExcessClass = true, 0, 0
		h.putRow(r)
		if got := h.send(in, 0); got.verdict != drop {
			t.Errorf("%s: what exceeds was not dropped", k)
		}
		want := Counters{Packets: 3, Bytes: 1200, Conform: 1, ConformBytes: 400, Exceed: 2, ExceedBytes: 800, Dropped: 1, DroppedBytes: 400}
		var all []Level
		if err := h.EachLevel(func(l Level) { all = append(all, l) }); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]Level{{Ifindex: h.ifindex, Row: r, Counters: want}}, all); d != "" {
			t.Errorf("%s: the table:\n%s", k, d)
		}
		for range 2 { // the second time it is not there
			if err := h.DeleteRow(h.ifindex, r); err != nil {
				t.Fatal(err)
			}
		}
		if got := h.send(in, 0); got.priority != 0 || got.verdict != next {
			t.Errorf("%s: treated without a row", k)
		}
	}
}

// The network's own traffic is not subject to a contract.
func TestRowsSpareControlTraffic(t *testing.T) {
	h := newHarness(t)
	h.byDSCP(Egress)
	h.putRow(plan.Row{DSCP: 48, Policed: true, Rate: 1, Burst: 1, Drop: true})
	rsvp := key4
	rsvp.Proto, rsvp.SrcPort, rsvp.DstPort = 46, 0, 0
	if got := h.send(frame(rsvp, 48<<2, 100), 0); got.verdict != next || got.priority != uint32(plan.Control) {
		t.Errorf("RSVP: verdict %d, priority %#x", got.verdict, got.priority)
	}
	if got := h.send(frame(key4, 48<<2, 100), 0); got.verdict != drop {
		t.Error("a packet that somebody marked CS6 was not policed")
	}
}

// trust: policed. A DSCP of the contract is kept within it and remarked or dropped
// beyond; any other is taken off. Packets are not put into classes there.
func TestArrivingRows(t *testing.T) {
	h := newHarness(t)
	h.byDSCP(Ingress)
	for _, k := range []packet.FlowKey{key4, key6} {
		r := plan.Row{Arriving: true, DSCP: af31, Policed: true, Rate: 1, Burst: 400}
		h.putRow(r)
		// The other way's row is another.
		h.putRow(plan.Row{DSCP: af31, Policed: true, Rate: 1, Burst: 1, Drop: true})
		send := func(code, want uint8) {
			t.Helper()
			in := frame(k, code<<2|2, 400)
			got := h.send(in, 0)
			if got.verdict != next || got.priority != 0 {
				t.Errorf("%s: verdict %d, priority %#x", k, got.verdict, got.priority)
			}
			if v := parsed(t, got); !v.IPv4ChecksumOK() || cmp.Diff(asMark(t, in, want), v.Bytes()) != "" {
				t.Errorf("%s: DSCP %d became %d, want %d", k, code, v.DSCP(), want)
			}
		}
		send(ef, 0)
		send(af31, af31)
		send(af31, 0)
		r.Excess = le
		h.putRow(r)
		send(af31, le)
		r.Drop = true
		h.putRow(r)
		if got := h.send(frame(k, af31<<2, 400), 0); got.verdict != drop {
			t.Errorf("%s: what exceeds arrived", k)
		}
		if err := h.DeleteRow(h.ifindex, r); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 20 { // a packet that cannot be read is reset and passes
		b := frame(key4, af31<<2, 200)[:34+n]
		if got := h.send(b, 0); got.verdict != next {
			t.Errorf("%d bytes: verdict %d", len(b), got.verdict)
		}
	}
}

// What ends within its IP header is no packet, and arrives as it came.
func TestArrivingPiecesStay(t *testing.T) {
	h := newHarness(t)
	h.byDSCP(Ingress)
	for k, whole := range map[packet.FlowKey]int{key4: 18 + 20, key6: 18 + 40} {
		for n := 19; n <= whole; n++ {
			// With a tag, or the kernel takes no such frame for a test.
			b := frame(k, af31<<2, 200)
			in := slices.Concat(b[:12], []byte{0x81, 0, 0, 7}, b[12:])[:n]
			got := h.send(bytes.Clone(in), 0)
			if got.verdict != next || bytes.Equal(got.frame, in) != (n < whole) {
				t.Errorf("%s, %d bytes: verdict %d, % x of % x", k, n, got.verdict, got.frame, in)
			}
		}
	}
}

// A change of the rate, as at a time of day, keeps what the bucket holds and what
// was counted.
func TestRowChangesInPlace(t *testing.T) {
	h := newHarness(t)
	h.byDSCP(Egress)
	r := plan.Row{DSCP: af31, Policed: true, Rate: 1, Burst: 1000, Class: plan.LevelClass(af31), ExcessClass: plan.BestEffort}
	h.putRow(r)
	h.send(frame(key4, af31<<2, 600), 0)
	was := h.level(r)
	r.Rate, r.Burst = 2, 2000
	h.putRow(r)
	now := h.level(r)
	if d := now.Levels.Level - was.Levels.Level; d < 0 || d > nsec || now.counters() != was.counters() || now.Spec == was.Spec {
		t.Errorf("the change made %+v of %+v", now, was)
	}
	if got := h.send(frame(key4, af31<<2, 600), 0); got.priority != uint32(plan.BestEffort) {
		t.Error("the bucket was filled by a change")
	}
	r.Burst = 100 // a bucket that is smaller holds no more than that
	h.putRow(r)
	h.send(frame(key4, af31<<2, 40), 0)
	if v := h.level(r); v.Levels.Level > 100*nsec {
		t.Errorf("a bucket of 100 bytes holds %d", v.Levels.Level/nsec)
	}
}

// A flow's own row comes first. Static marks are conditioned in aggregate with
// their new DSCP; a reservation passes, uses the contract up, and is not policed
// twice.
func TestRowsAndFlows(t *testing.T) {
	h := newHarness(t)
	h.byDSCP(Egress)
	r := plan.Row{DSCP: af31, Policed: true, Rate: 1, Burst: 1000, Class: plan.LevelClass(af31), ExcessClass: plan.BestEffort}
	h.putRow(r)
	h.put(plan.Treatment{Key: key4, Mark: true, DSCP: af31}, 0)
	if got := h.send(frame(key4, 0, 600), 0); got.priority != uint32(r.Class) || parsed(t, got).DSCP() != af31 {
		t.Errorf("a marked flow within the contract: priority %#x, DSCP %d", got.priority, parsed(t, got).DSCP())
	}
	if got := h.send(frame(key4, 0, 600), 0); got.priority != uint32(plan.BestEffort) || parsed(t, got).DSCP() != 0 {
		t.Errorf("a marked flow beyond the contract: priority %#x, DSCP %d", got.priority, parsed(t, got).DSCP())
	}
	was := h.level(r)
	h.put(plan.Treatment{Key: key4, Mark: true, DSCP: af31, Reserve: true, Police: true, Rate: 1, Bucket: 1200, Excess: le}, mine)
	for i := range 2 {
		if got := h.send(frame(key4, 0, 600), 0); got.priority != uint32(mine) || parsed(t, got).DSCP() != af31 {
			t.Errorf("reserved packet %d: priority %#x, DSCP %d", i, got.priority, parsed(t, got).DSCP())
		}
	}
	now := h.level(r)
	if now.counters() != was.counters() {
		t.Errorf("reserved packets were counted with the others: %+v", now.counters())
	}
	// 400 bytes were left, and what 1 byte/s brought comes on top.
	if got := now.Levels.Level; got < (400-1200)*nsec || got > (410-1200)*nsec {
		t.Errorf("the contract has %g bytes left", float64(got)/nsec)
	}
	// What exceeds its reservation has no part in it.
	if got := h.send(frame(key4, 0, 600), 0); got.priority != uint32(plan.BestEffort) || parsed(t, got).DSCP() != le {
		t.Errorf("the excess of a reservation: priority %#x, DSCP %d", got.priority, parsed(t, got).DSCP())
	}
	// The debt has a bottom.
	h.put(plan.Treatment{Key: key4, Mark: true, DSCP: af31, Reserve: true}, mine)
	for range 1000 {
		h.send(frame(key4, 0, 1500), 0)
	}
	if got := h.level(r).Levels.Level; got < -mergedMost*nsec || got > -mergedMost*nsec+nsec {
		t.Errorf("the debt is %d bytes", got/nsec)
	}
	if err := h.Renew(time.Nanosecond); err != nil {
		t.Fatal(err)
	}
	// Without a lease the flow is an ordinary one, and the contract still holds.
	if got := h.send(frame(key4, af31<<2, 600), 0); got.priority != uint32(plan.BestEffort) || parsed(t, got).DSCP() != 0 {
		t.Errorf("after the lease: priority %#x, DSCP %d", got.priority, parsed(t, got).DSCP())
	}
}

// The aggregate policer decides as the exact model does on random traffic, to the
// nanosecond: of many flows, in both IP versions, in super-packets, with
// reservations that use up the same level; as packets leave and as they arrive.
func TestAggregatePolicerIsExact(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, d := range []Direction{Egress, Ingress} {
		t.Run(string(d), func(t *testing.T) { aggregateRounds(t, d, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func aggregateRounds(t *testing.T, d Direction, rng *rand.Rand) {
	h := newHarness(t)
	h.byDSCP(d)
	var keys []packet.FlowKey
	for i := range uint16(4) {
		for _, k := range []packet.FlowKey{key4, key6} {
			k.DstPort += i
			tcp := k
			tcp.Proto = unix.IPPROTO_TCP
			keys = append(keys, k, tcp)
		}
	}
	reserved := key4
	reserved.DstPort = 9999
	h.put(plan.Treatment{Key: reserved, Reserve: true, Mark: true, DSCP: af31}, mine)
	for round := range 20 {
		r := plan.Row{
			Arriving: d == Ingress, DSCP: af31, Policed: true,
			Rate: uint64(math.Exp2(8 + 18*rng.Float64())), Burst: uint64(math.Exp2(6 + 11*rng.Float64())),
			Excess: le, Drop: rng.IntN(2) == 0, Class: plan.LevelClass(af31), ExcessClass: plan.BestEffort,
		}
		h.putRow(r)
		m := newModel(plan.Treatment{Rate: float64(r.Rate), Bucket: float64(r.Burst), MaxPacket: uint32(r.Burst), Peak: math.Inf(1)})
		var want Counters
		for i := range 100 {
			k, mss := keys[rng.IntN(len(keys))], 0
			b, sizes := frame(k, af31<<2, 80+rng.IntN(1400)), []int(nil)
			if k.Proto == unix.IPPROTO_TCP && rng.IntN(2) == 0 {
				mss = 100 + rng.IntN(600)
				b, sizes = superFrame(k, 1+rng.IntN(4), mss, rng.IntN(mss))
				setDSCP(t, b, af31)
			}
			if sizes == nil {
				sizes = []int{len(b) - 14}
			}
			if d == Egress && rng.IntN(8) == 0 { // what is reserved passes, and takes its part
				b, sizes = frame(reserved, 0, 80+rng.IntN(1400)), nil
				if got := h.send(b, 0); got.priority != uint32(mine) || got.verdict != next {
					t.Fatalf("round %d packet %d: a reserved packet got verdict %d, priority %#x", round, i, got.verdict, got.priority)
				}
				m.owe(h.level(r).Levels.Last, len(b)-14)
			} else {
				got := h.send(b, mss)
				v := h.level(r)
				conforms := m.decide(v.Levels.Last, sizes...)
				want.add(sizes, conforms, r.Drop)
				if v.counters() != want {
					t.Fatalf("round %d packet %d sizes %v with %+v: counted %+v, want %+v", round, i, sizes, r, v.counters(), want)
				}
				code, verdict := uint8(af31), int32(next)
				if !conforms {
					code = le
					if r.Drop {
						verdict = drop
					}
				}
				if got.verdict != verdict || verdict == next && parsed(t, got).DSCP() != code {
					t.Fatalf("round %d packet %d: conforms %t, but verdict %d, DSCP %d", round, i, conforms, got.verdict, parsed(t, got).DSCP())
				}
			}
			if level := new(big.Rat).SetFrac64(h.level(r).Levels.Level, nsec); level.Cmp(m.level) != 0 {
				t.Fatalf("round %d packet %d: level %s, want %s", round, i, level, m.level)
			}
			if rng.IntN(20) == 0 {
				time.Sleep(time.Duration(rng.IntN(int(2 * time.Millisecond))))
			}
		}
		if err := h.DeleteRow(h.ifindex, r); err != nil {
			t.Fatal(err)
		}
	}
}

// owe is for what passes in any case.
func (m *model) owe(now uint64, size int) {
	refill(m.level, m.tr.Rate, m.tr.Bucket, now-m.last)
	if m.last == 0 {
		m.level = rat(m.tr.Bucket)
	}
	m.last = now
	m.level.Sub(m.level, rat(float64(size)))
	if bottom := rat(-mergedMost); m.level.Cmp(bottom) < 0 {
		m.level.Set(bottom)
	}
}

func (c *Counters) add(sizes []int, conforms, dropped bool) {
	for _, n := range sizes {
		size := uint64(n)
		c.Packets++
		c.Bytes += size
		switch {
		case conforms:
			c.Conform++
			c.ConformBytes += size
		case dropped:
			c.Dropped++
			c.DroppedBytes += size
			fallthrough
		default:
			c.Exceed++
			c.ExceedBytes += size
		}
	}
}

func setDSCP(t *testing.T, b []byte, code uint8) {
	t.Helper()
	v, err := packet.Parse(b[14:])
	if err != nil {
		t.Fatal(err)
	}
	v.SetDSCP(code)
}

// RFC 2475 section 2.3.3.1: over any time no more conforms than the rate gives and the bucket
// holds, and packets of a conforming aggregate all do.
func TestAggregateIsInItsProfile(t *testing.T) {
	h := newHarness(t)
	h.byDSCP(Egress)
	r := plan.Row{DSCP: ef, Policed: true, Rate: 3e6, Burst: 5000, Class: plan.LevelClass(ef), ExcessClass: plan.BestEffort}
	h.putRow(r)
	var first uint64
	for range 3000 {
		h.send(frame(key4, ef<<2, 60+rand.IntN(1440)), 0)
		if first == 0 {
			first = h.level(r).Levels.Last
		}
	}
	v := h.level(r)
	passed := float64(v.Levels.Last-first) / 1e9
	if bound := passed*float64(r.Rate) + float64(r.Burst); float64(v.ConformBytes) > bound {
		t.Errorf("%d bytes conform in %g s, at most %g may", v.ConformBytes, passed, bound)
	}
	if v.ConformBytes < r.Burst-1500 || v.ExceedPackets == 0 {
		t.Errorf("of a flood: %+v", v.counters())
	}
	// A slower stream after a rest, in bursts that fit.
	time.Sleep(10 * time.Millisecond)
	was := h.level(r)
	for range 50 {
		for range 4 {
			if got := h.send(frame(key6, ef<<2, 1000), 0); got.priority != uint32(r.Class) {
				t.Fatal("a conforming aggregate lost a packet")
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	if got := h.level(r).ExceedPackets; got != was.ExceedPackets {
		t.Errorf("%d packets of a conforming aggregate exceed", got-was.ExceedPackets)
	}
}

// A level that has nothing at this time of day passes nothing, nor a super-packet.
func TestClosedRow(t *testing.T) {
	h := newHarness(t)
	h.byDSCP(Egress)
	r := plan.Row{DSCP: af31, Policed: true, Class: plan.LevelClass(af31), ExcessClass: plan.BestEffort}
	h.putRow(r)
	k := key4
	k.Proto = unix.IPPROTO_TCP
	b, _ := superFrame(k, 3, 300, 0)
	setDSCP(t, b, af31)
	for range 2 {
		for _, mss := range []int{0, 300} {
			if got := h.send(b, mss); got.priority != uint32(plan.BestEffort) || parsed(t, got).DSCP() != 0 {
				t.Errorf("mss %d: priority %#x, DSCP %d", mss, got.priority, parsed(t, got).DSCP())
			}
		}
	}
	r.Rate, r.Burst = 1e6, 10000
	h.putRow(r)
	time.Sleep(10 * time.Millisecond)
	if got := h.send(frame(key4, af31<<2, 1000), 0); got.priority != uint32(r.Class) {
		t.Error("it did not open")
	}
}

func TestRowRoundTrip(t *testing.T) {
	for _, r := range []plan.Row{
		{DSCP: 63, Class: plan.LevelClass(63)},
		{DSCP: 5, Policed: true},
		{DSCP: 1, Arriving: true, Policed: true, Rate: 40e12, Burst: 4e9, Drop: true},
		{DSCP: 0, Policed: true, Rate: 1, Burst: 1, Excess: 63, Class: plan.BestEffort, ExcessClass: plan.BestEffort},
	} {
		if got := rowSpec(r).row(levelKey(7, r)); got != r {
			t.Errorf("read back %+v, want %+v", got, r)
		}
	}
}
