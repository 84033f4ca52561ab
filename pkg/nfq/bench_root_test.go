package nfq_test

import (
	"fmt"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/nfq"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// BenchmarkStream is the goodput of one TCP connection through a queue.
func BenchmarkStream(b *testing.B) {
	full := func(p *nfq.Packet) nfq.Verdict {
		v, err := packet.Parse(p.Data)
		if err != nil {
			return nfq.Drop
		}
		v.SetTCPChecksum()
		return nfq.AcceptModified
	}
	for _, bb := range []struct {
		name   string
		queue  bool
		gso    bool
		batch  int
		handle func(*nfq.Packet) nfq.Verdict
	}{
		{"kernel", false, false, 0, nil},
		{"accept", true, true, 0, nil},
		{"accept-batch8", true, true, 8, nil},
		{"accept-batch128", true, true, 128, nil},
		{"rewrite", true, true, 0, full},
		{"accept-nogso", true, false, 0, nil},
	} {
		b.Run(bb.name, func(b *testing.B) {
			l := newLab(b)
			if bb.queue {
				l.rules(b)
				l.queue(b, nfq.Config{Num: 101, GSO: bb.gso, Batch: bb.batch, Handler: &handler{handle: bb.handle}})
			}
			total := 2 << 30
			if bb.queue && !bb.gso {
				total = 256 << 20
			}
			for b.Loop() {
				start := time.Now()
				if n := l.tcp(b, dstAddr, total, io.Discard); n != total {
					b.Fatalf("%d bytes", n)
				}
				b.ReportMetric(float64(total)*8/time.Since(start).Seconds()/1e9, "Gbit/s")
			}
		})
	}
}

// BenchmarkPacketRate sends small packets at a steady rate and tells what each
// costs the process and how long it waited.
func BenchmarkPacketRate(b *testing.B) {
	const rate, n = 50000, 100000
	for _, batch := range []int{1, 8, 32, 128} {
		b.Run(fmt.Sprintf("50kpps/batch%d", batch), func(b *testing.B) {
			l := newLab(b)
			l.rules(b)
			var cpu time.Duration
			q, _ := l.queue(b, nfq.Config{Num: 101, GSO: true, Batch: batch, Handler: &handler{
				end: func() { cpu = threadTime() },
			}})
			u := l.udp(b, dstAddr)
			for b.Loop() {
				start := time.Now()
				for i := range n {
					for time.Since(start) < time.Duration(i)*time.Second/rate {
					}
					u.send(b, "0123456789")
				}
			}
			time.Sleep(100 * time.Millisecond)
			c := q.Counters()
			b.ReportMetric(float64(cpu.Microseconds())/float64(c.Packets), "us-cpu/packet")
			b.ReportMetric(float64(c.Packets)/float64(c.Batches), "packets/batch")
			b.ReportMetric(float64(c.Kernel.QueueDropped+c.Kernel.UserDropped), "lost")
		})
	}
}

// threadTime is the CPU time of the calling thread.
func threadTime() time.Duration {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
