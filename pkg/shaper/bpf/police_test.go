package bpf

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// model is RFC 2215 section 3.6 in exact arithmetic: time in ns, levels in
// bytes as fractions.
type model struct {
	tr          plan.Treatment
	level, peak *big.Rat
	last        uint64
}

func newModel(tr plan.Treatment) *model {
	return &model{tr: tr, level: rat(tr.Bucket), peak: rat(peakDepth(tr))}
}

// peakDepth is M, or where that is not stated b: nothing larger conforms anyway.
func peakDepth(tr plan.Treatment) float64 {
	if tr.MaxPacket == 0 {
		return tr.Bucket
	}
	return float64(tr.MaxPacket)
}

// change gives it another TSpec: the time up to now counts at the old rates.
func (m *model) change(now uint64, tr plan.Treatment) {
	had := m.tr.HasPeak()
	m.advance(now)
	if !had {
		m.peak = rat(peakDepth(tr))
	}
	m.tr = tr
	refill(m.level, 0, tr.Bucket, 0)
	refill(m.peak, 0, peakDepth(tr), 0)
}

func (m *model) advance(now uint64) {
	passed := now - m.last
	if m.last == 0 {
		passed = 1 << 40
	}
	m.last = now
	refill(m.level, m.tr.Rate, m.tr.Bucket, passed)
	if m.tr.HasPeak() {
		refill(m.peak, m.tr.Peak, peakDepth(m.tr), passed)
	}
}

func rat(v float64) *big.Rat { return new(big.Rat).SetFloat64(v) }

func refill(level *big.Rat, rate, depth float64, ns uint64) {
	gain := new(big.Rat).SetFrac(new(big.Int).SetUint64(ns), big.NewInt(1e9))
	level.Add(level, gain.Mul(gain, rat(rate)))
	if level.Cmp(rat(depth)) > 0 {
		level.Set(rat(depth))
	}
}

// decide takes packets that arrive as one.
func (m *model) decide(now uint64, sizes ...int) bool {
	m.advance(now)
	total := 0
	for _, n := range sizes {
		if m.tr.MaxPacket != 0 && n > int(m.tr.MaxPacket) {
			return false
		}
		total += max(n, int(m.tr.MinUnit))
	}
	cost := rat(float64(total))
	short := func(level *big.Rat, depth float64) bool {
		need := cost
		if len(sizes) > 1 && float64(total) > depth {
			need = rat(depth)
		}
		return level.Cmp(need) < 0
	}
	if short(m.level, m.tr.Bucket) || m.tr.HasPeak() && short(m.peak, peakDepth(m.tr)) {
		return false
	}
	m.level.Sub(m.level, cost)
	m.peak.Sub(m.peak, cost)
	return true
}

// superFrame is a super-packet of TCP or UDP that becomes n segments of mss bytes
// of payload and one of the rest, with the sizes of those IP packets.
func superFrame(k packet.FlowKey, n, mss, rest int) (b []byte, sizes []int) {
	header := 52
	if k.Proto == unix.IPPROTO_UDP {
		header = 28
	}
	if !k.Is4() {
		header += 20
	}
	payload := n * mss
	for range n {
		sizes = append(sizes, header+mss)
	}
	if rest > 0 {
		payload += rest
		sizes = append(sizes, header+rest)
	}
	return frame(k, 0, header+payload), sizes
}

// randomSpec is a treatment with a TSpec of any kind.
func randomSpec(rng *rand.Rand, k packet.FlowKey) plan.Treatment {
	tr := plan.Treatment{
		Key: k, Police: true,
		Rate: math.Ceil(math.Exp2(8 + 18*rng.Float64())), Bucket: math.Floor(math.Exp2(6 + 10*rng.Float64())),
		Peak: math.Inf(1), MinUnit: uint32(rng.IntN(300)), MaxPacket: uint32(300 + rng.IntN(1300)),
	}
	if rng.IntN(5) == 0 {
		tr.MaxPacket = 0 // no limit
	}
	if rng.IntN(2) == 0 {
		tr.Peak = math.Ceil(tr.Rate * (1 + 4*rng.Float64()))
	}
	return tr
}

// randomPacket is one packet of a flow, or one that becomes several.
func randomPacket(rng *rand.Rand, k packet.FlowKey) (b []byte, mss int, sizes []int) {
	if rng.IntN(3) == 0 {
		mss = 100 + rng.IntN(600) // test runs take a page of data at most
		b, sizes = superFrame(k, 1+rng.IntN(4), mss, rng.IntN(mss))
		return b, mss, sizes
	}
	b = frame(k, 0, 72+rng.IntN(1450))
	return b, 0, []int{len(b) - 14}
}

// ahead makes a row as another processor leaves it that read the clock later and
// was faster: the next packet comes before what the row has seen. It returns what
// the row then has seen.
func (h *harness) ahead(k packet.FlowKey, ns uint64) uint64 {
	h.t.Helper()
	v, err := h.read(h.ifindex, k)
	if err != nil {
		h.t.Fatal(err)
	}
	v.Lock.Val, v.Levels.Last = 0, v.Levels.Last+ns
	key := keyOf(h.ifindex, k)
	if err := h.flows.Update(raw(&key), raw(&v), ebpf.UpdateExist); err != nil {
		h.t.Fatal(err)
	}
	return v.Levels.Last
}

// The policer decides as the model does on random traffic: each decision, the
// levels to the nanosecond, and the counters; with every kind of TSpec, in single
// packets and in super-packets, with the TSpec changed in the middle, and with
// processors that read the clock in another order than they come to the row.
func TestPolicerIsExact(t *testing.T) {
	h := newHarness(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	tcp4, tcp6 := key4, key6
	tcp4.Proto, tcp6.Proto = unix.IPPROTO_TCP, unix.IPPROTO_TCP
	changed, turned := 0, 0
	for round := range 40 {
		tr := randomSpec(rng, []packet.FlowKey{key4, key6, tcp4, tcp6}[round%4])
		h.put(tr, mine)
		m := newModel(tr)
		var sent, conform Counters
		for i := range 100 {
			switch rng.IntN(20) {
			case 0:
				time.Sleep(time.Duration(rng.IntN(int(2 * time.Millisecond))))
			case 1:
				tr = randomSpec(rng, tr.Key)
				h.put(tr, mine)
				v, err := h.read(h.ifindex, tr.Key)
				if err != nil {
					t.Fatal(err)
				}
				m.change(v.Levels.Last, tr)
				changed++
			case 2:
				if i > 0 {
					// What has not passed yet is credited by nobody, now or later.
					m.last = h.ahead(tr.Key, uint64(rng.IntN(1e6)))
					turned++
				}
			}
			b, mss, sizes := randomPacket(rng, tr.Key)
			r := h.send(b, mss)
			v, err := h.read(h.ifindex, tr.Key)
			if err != nil {
				t.Fatal(err)
			}
			want := m.decide(v.Levels.Last, sizes...)
			if got := r.priority == uint32(mine); got != want {
				t.Fatalf("round %d packet %d sizes %v with %+v: conforms %t, want %t", round, i, sizes, tr, got, want)
			}
			if level := new(big.Rat).SetFrac64(v.Levels.Level, nsec); level.Cmp(m.level) != 0 {
				t.Fatalf("round %d packet %d: level %s, want %s", round, i, level, m.level)
			}
			if peak := new(big.Rat).SetFrac64(v.Levels.Peak, nsec); tr.HasPeak() && peak.Cmp(m.peak) != 0 {
				t.Fatalf("round %d packet %d: peak level %s, want %s", round, i, peak, m.peak)
			}
			for _, n := range sizes {
				sent.Packets++
				sent.Bytes += uint64(n)
				if want {
					conform.Conform++
					conform.ConformBytes += uint64(n)
				}
			}
		}
		c, err := h.Counters(h.ifindex, tr.Key)
		if err != nil {
			t.Fatal(err)
		}
		if c.Packets != sent.Packets || c.Bytes != sent.Bytes || c.Conform != conform.Conform || c.ConformBytes != conform.ConformBytes ||
			c.Exceed != c.Packets-c.Conform || c.ExceedBytes != c.Bytes-c.ConformBytes {
			t.Errorf("round %d counted %+v, sent %+v, conforming %+v", round, c, sent, conform)
		}
		if err := h.Delete(h.ifindex, tr.Key); err != nil {
			t.Fatal(err)
		}
	}
	if changed < 20 || turned < 20 {
		t.Errorf("only %d changes of a TSpec and %d of the clocks' order", changed, turned)
	}
}

// A TSpec that becomes larger while its flow is silent is not credited for the
// time before: else the flow could send at once what r would have let it send
// since its last packet, though it was promised nothing of the kind then.
func TestChangeCreditsNoTimeThatHasPassed(t *testing.T) {
	h := newHarness(t)
	small := plan.Treatment{Key: key4, Rate: 1, Bucket: 1000, Police: true}
	large := plan.Treatment{Key: key4, Rate: 1e6, Bucket: 1e6, Police: true}
	shared := func(tr plan.Treatment) { h.join(tr, key4) }
	alone := func(tr plan.Treatment) { h.put(tr, mine) }
	for name, put := range map[string]func(plan.Treatment){"alone": alone, "shared": shared} {
		put(small)
		h.send(frame(key4, 0, 1000), 0)
		time.Sleep(20 * time.Millisecond) // 20,000 bytes at the rate to come
		put(large)
		before := time.Now()
		conform := 0
		for range 10 {
			if h.send(frame(key4, 0, 1500), 0).priority == uint32(mine) {
				conform += 1500
			}
		}
		if most := large.Rate * time.Since(before).Seconds() * 2; float64(conform) > 1500+most {
			t.Errorf("%s: %d bytes conform at once, at most %.0f had passed", name, conform, most)
		}
		if err := h.Delete(h.ifindex, key4); err != nil {
			t.Fatal(err)
		}
	}
}

// A row that was there to count becomes a reservation's: its bucket begins full,
// whatever passed before.
func TestPolicingBeginsWithAFullBucket(t *testing.T) {
	h := newHarness(t)
	const depth = 1 << 28
	for _, tr := range []plan.Treatment{{Key: key4}, {Key: key4, Rate: 1, Bucket: 100, Police: true, Cheated: true}} {
		h.put(tr, 0)
		h.send(frame(key4, 0, 1000), 0)
		h.put(plan.Treatment{Key: key4, Rate: 1, Bucket: depth, Peak: 2, MaxPacket: 1500, Police: true}, mine)
		if r := h.send(frame(key4, 0, 1000), 0); r.priority != uint32(mine) {
			t.Errorf("the first packet of a reservation exceeds")
		}
		v, err := h.read(h.ifindex, key4)
		if err != nil {
			t.Fatal(err)
		}
		if got := v.Levels.Level; got != (depth-1000)*nsec {
			t.Errorf("level %d", got)
		}
		if err := h.Delete(h.ifindex, key4); err != nil {
			t.Fatal(err)
		}
	}
}

// What conforms one by one conforms merged, and the debt keeps the rate: a
// stream at exactly r in super-packets larger than the bucket conforms whole,
// a second one at once does not.
func TestMergingIsNotPunished(t *testing.T) {
	h := newHarness(t)
	k := key4
	k.Proto = unix.IPPROTO_TCP
	const mss = 300
	b, sizes := superFrame(k, 10, mss, 0) // 3520 bytes
	tr := plan.Treatment{Key: k, Rate: 1e6, Bucket: 1000, Peak: 1.1e6, MaxPacket: 400, Police: true}
	h.put(tr, mine)
	if h.send(b, mss).priority != uint32(mine) {
		t.Fatal("the first super-packet exceeds although the bucket is full")
	}
	if h.send(b, mss).priority == uint32(mine) {
		t.Fatal("a second super-packet at once conforms too")
	}
	total := 0
	for _, n := range sizes {
		total += n
	}
	for range 20 {
		time.Sleep(time.Duration(total) * time.Microsecond) // at least: r is a byte in 1 us
		if h.send(b, mss).priority != uint32(mine) {
			t.Fatal("a stream in super-packets below r exceeds")
		}
	}
}

// RFC 2215 section 3.6 bounds what conforms in any interval T by rT + b, and by
// M + pT.
func TestConformingTrafficIsInTheEnvelope(t *testing.T) {
	h := newHarness(t)
	tr := plan.Treatment{Key: key4, Rate: 3e6, Bucket: 5000, Peak: 6e6, MaxPacket: 1500, Police: true}
	h.put(tr, mine)
	type event struct {
		at   uint64
		size float64
	}
	var events []event
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		n := 60 + rng.IntN(1440)
		if h.send(frame(key4, 0, n), 0).priority != uint32(mine) {
			continue
		}
		v, err := h.read(h.ifindex, key4)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, event{v.Levels.Last, float64(n)})
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
}

func TestSpecRoundTrip(t *testing.T) {
	tr := plan.Treatment{
		Key: key6, Rate: 1e6, Bucket: 64000, Peak: math.Inf(1), MinUnit: 64, MaxPacket: 1500, DSCP: 46,
		Mark: true, Police: true, Drop: true, Reserve: true, Cheated: true, RealTime: true,
	}
	if got := specOf(tr, mine, plan.BestEffort, 0).treatment(key6); got != tr {
		t.Errorf("read back %+v, want %+v", got, tr)
	}
	tr.Peak, tr.Police, tr.Reserve, tr.Cheated = 2e6, false, false, false
	if got := specOf(tr, mine, plan.BestEffort, 0).treatment(key6); got != tr {
		t.Errorf("read back %+v, want %+v", got, tr)
	}
}

// The largest numbers must not overflow: a flow at 40 TB/s with a bucket of 4 GB.
func TestPolicerAtItsLimits(t *testing.T) {
	h := newHarness(t)
	for _, tr := range []plan.Treatment{
		{Key: key4, Rate: 40e12, Bucket: plan.MaxBucket, Peak: 40e12, MaxPacket: 65535, Police: true},
		{Key: key4, Rate: 1, Bucket: plan.MaxBucket, Police: true},
		{Key: key4, Rate: 1, Bucket: 1500, Police: true},
	} {
		h.put(tr, mine)
		for i := range 3 {
			time.Sleep(time.Millisecond)
			if r := h.send(frame(key4, 0, 500), 0); r.priority != uint32(mine) {
				t.Errorf("%s: packet %d exceeds", fmt.Sprint(tr.Rate), i)
			}
		}
		if err := h.Delete(h.ifindex, key4); err != nil {
			t.Fatal(err)
		}
	}
}
