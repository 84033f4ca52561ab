package bpf

import (
	"math"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// lo is the interface that a measured run is at: it cannot be told another one.
const lo = 1

// BenchmarkEgress is the program's time per packet, without the socket
// buffer's way through the stack, as the kernel itself measures it.
func BenchmarkEgress(b *testing.B) {
	h := newHarness(b)
	h.ifindex = lo
	h.put(plan.Treatment{Key: key4, Rate: 1e12, Bucket: 1e9, Peak: math.Inf(1), MaxPacket: 1500, Police: true, Mark: true, DSCP: 26}, mine)
	h.put(plan.Treatment{Key: key6, Rate: 1e12, Bucket: 1e9, Peak: 2e12, MaxPacket: 1500, Police: true, Mark: true, DSCP: 26}, mine)
	for name, k := range map[string]packet.FlowKey{"miss": key4.Reverse(), "policed and marked": key4, "with peak, IPv6": key6} {
		b.Run(name, func(b *testing.B) {
			const repeat = 100_000
			in := frame(k, 0, 1400)
			var sum time.Duration
			n := 0
			for b.Loop() {
				_, d, err := h.prog.Benchmark(in, repeat, nil)
				if err != nil {
					b.Fatal(err)
				}
				sum += d
				n++
			}
			b.ReportMetric(float64(sum)/float64(n), "ns/packet")
		})
	}
}

// BenchmarkByDSCP is that of a packet that no row of a flow is for, where its DSCP
// has a row, and of a reserved one that uses its level up.
func BenchmarkByDSCP(b *testing.B) {
	h := newHarness(b)
	h.ifindex = lo
	h.byDSCP(Egress)
	h.putRow(plan.Row{DSCP: af31, Policed: true, Rate: 1e12, Burst: 1e9, Class: plan.LevelClass(af31), ExcessClass: plan.BestEffort})
	h.put(plan.Treatment{Key: key4, Rate: 1e12, Bucket: 1e9, Peak: math.Inf(1), Police: true, Mark: true, Reserve: true, DSCP: af31}, mine)
	for name, in := range map[string][]byte{
		"no row": frame(key4.Reverse(), 0, 1400), "in aggregate": frame(key4.Reverse(), af31<<2, 1400), "reserved": frame(key4, 0, 1400),
	} {
		b.Run(name, func(b *testing.B) {
			var sum time.Duration
			n := 0
			for b.Loop() {
				_, d, err := h.prog.Benchmark(in, 100_000, nil)
				if err != nil {
					b.Fatal(err)
				}
				sum += d
				n++
			}
			b.ReportMetric(float64(sum)/float64(n), "ns/packet")
		})
	}
}

// BenchmarkPut changes a treatment in place.
func BenchmarkPut(b *testing.B) {
	h := newHarness(b)
	tr := plan.Treatment{Key: key4, Rate: 1e6, Bucket: 1e5, Police: true}
	for b.Loop() {
		if err := h.Put(h.ifindex, tr, mine, plan.BestEffort, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLearn is the time of the program that learns frames, of packets that it
// knows; "nothing to learn" is that of one that it leaves at its first look, which is
// what calling a program costs.
func BenchmarkLearn(b *testing.B) {
	l := newLearner(b, 100_000)
	arp := make([]byte, 60)
	copy(arp[12:], []byte{8, 6})
	for _, c := range []struct {
		name  string
		frame []byte
	}{
		{"nothing to learn", arp},
		{"UDP", frame(key4, 0, 1400)},
		{"TCP", frame(tcp4, 0, 1400)},
		{"TCP, IPv6", frame(tcp6, 0, 1400)},
		{"TCP, QinQ", tagged(frame(tcp4, 0, 1400), dot1ad(100), dot1q(7))},
	} {
		b.Run(c.name, func(b *testing.B) {
			var sum time.Duration
			n := 0
			for b.Loop() {
				_, d, err := l.prog.Benchmark(c.frame, 100_000, nil)
				if err != nil {
					b.Fatal(err)
				}
				sum += d
				n++
			}
			b.ReportMetric(float64(sum)/float64(n), "ns/packet")
		})
	}
}

// BenchmarkReadFrame is what the box pays for each packet that it sends on a bridge.
func BenchmarkReadFrame(b *testing.B) {
	l := newLearner(b, 100_000)
	l.arrive(1, frame(tcp4, 0, 100))
	key := tcp4
	var f packet.Frame
	b.ReportAllocs()
	for b.Loop() {
		if !l.Frame(&key, &f) {
			b.Fatal("not known")
		}
	}
}

// BenchmarkIngress is the program of an interface with trust: none, on packets that
// have nothing to lose: what learning is beside.
func BenchmarkIngress(b *testing.B) {
	h := newHarness(b)
	prog, err := h.loadFor(Ingress, plan.Program{Header: 14})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = prog.Close() })
	in := frame(tcp4, 0, 1400)
	var sum time.Duration
	n := 0
	for b.Loop() {
		_, d, err := prog.Benchmark(in, 100_000, nil)
		if err != nil {
			b.Fatal(err)
		}
		sum += d
		n++
	}
	b.ReportMetric(float64(sum)/float64(n), "ns/packet")
}
