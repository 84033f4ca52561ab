package bpf

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

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
	return &model{tr: tr, level: rat(tr.Bucket), peak: rat(float64(tr.MaxPacket))}
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
	passed := now - m.last
	if m.last == 0 {
		passed = 1 << 40
	}
	m.last = now
	refill(m.level, m.tr.Rate, m.tr.Bucket, passed)
	if m.tr.HasPeak() {
		refill(m.peak, m.tr.Peak, float64(m.tr.MaxPacket), passed)
	}
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
	if short(m.level, m.tr.Bucket) || m.tr.HasPeak() && short(m.peak, float64(m.tr.MaxPacket)) {
		return false
	}
	m.level.Sub(m.level, cost)
	m.peak.Sub(m.peak, cost)
	return true
}

// superFrame is a TCP super-packet that becomes n segments of mss bytes of
// payload and one of the rest, with the sizes of those IP packets.
func superFrame(k packet.FlowKey, n, mss, rest int) (b []byte, sizes []int) {
	header := 52
	if !k.Is4() {
		header = 72
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

// The policer decides as the model does on random traffic: each decision, the
// levels to the nanosecond, and the counters.
func TestPolicerIsExact(t *testing.T) {
	h := newHarness(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	tcp4, tcp6 := key4, key6
	tcp4.Proto, tcp6.Proto = unix.IPPROTO_TCP, unix.IPPROTO_TCP
	for round := range 40 {
		tr := plan.Treatment{
			Key: []packet.FlowKey{key4, key6, tcp4, tcp6}[round%4], Police: true,
			Rate: math.Ceil(math.Exp2(8 + 18*rng.Float64())), Bucket: math.Floor(math.Exp2(6 + 10*rng.Float64())),
			Peak: math.Inf(1), MinUnit: uint32(rng.IntN(300)), MaxPacket: uint32(300 + rng.IntN(1300)),
		}
		if rng.IntN(2) == 0 {
			tr.Peak = math.Ceil(tr.Rate * (1 + 4*rng.Float64()))
		}
		h.put(tr, mine)
		m := newModel(tr)
		var sent, conform Counters
		for i := range 100 {
			b, sizes := frame(tr.Key, 0, 60+rng.IntN(1500)), []int(nil)
			mss := 0
			if tr.Key.Proto == unix.IPPROTO_TCP {
				if rng.IntN(3) == 0 {
					mss = 100 + rng.IntN(600) // test runs take a page of data at most
					b, sizes = superFrame(tr.Key, 1+rng.IntN(4), mss, rng.IntN(mss))
				} else {
					b = frame(tr.Key, 0, 72+rng.IntN(1400))
				}
			}
			if sizes == nil {
				sizes = []int{len(b) - 14}
			}
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
			for _, n := range sizes {
				sent.Packets++
				sent.Bytes += uint64(n)
				if want {
					conform.Conform++
					conform.ConformBytes += uint64(n)
				}
			}
			if rng.IntN(20) == 0 {
				time.Sleep(time.Duration(rng.IntN(int(2 * time.Millisecond))))
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
