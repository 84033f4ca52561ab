package bpf

import (
	"math"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// BenchmarkEgress is the program's time per packet, without the socket
// buffer's way through the stack, as the kernel itself measures it.
func BenchmarkEgress(b *testing.B) {
	h := newHarness(b)
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
