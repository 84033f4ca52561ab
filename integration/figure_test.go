package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// The bound of the calls, and who is in their way: as many bytes of bursts as
// admission lets on the link while guaranteed flows are there.
const (
	calls       = 2
	portCalls   = 5030 // and the next
	bursters    = 2
	portBurster = 5040 // and the next
	callBound   = 20 * time.Millisecond
	burstBytes  = 16_000
	linkRate    = 20_000_000
)

var figurePolicies = fmt.Sprintf(`
  - name: call
    match: {protocol: udp, to_port: 5030-5031}
    reserve: {role: both, service: guaranteed, delay: %s, tspec: {rate: 320kbit, burst: 1000B, max_packet: 200B}}
  - name: burster
    match: {protocol: udp, to_port: 5040-5041}
    reserve: {role: both, service: controlled-load, tspec: {rate: 1600kbit, burst: %dB, max_packet: 1500B}}
    mark: af41
`, callBound, burstBytes)

// burst sends what the bursters may send at once, all of them at the same time,
// again and again until ctx ends.
func (l *lab) burst(ctx context.Context, t *testing.T) {
	t.Helper()
	var out []*net.UDPConn
	for i := range bursters {
		c := dialUDP(t, l.a, at(addrB, uint16(portBurster+i)))
		if err := c.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	go func() {
		b := make([]byte, 1472)
		for ctx.Err() == nil {
			for range burstBytes / 1500 {
				for _, c := range out {
					_, _ = c.Write(b) // what is lost is not what is measured
				}
			}
			// At r the bucket is full again after 80 ms; not in step with anything.
			time.Sleep(85*time.Millisecond + rand.N(10*time.Millisecond))
		}
	}()
}

// RFC 2212: the packets of guaranteed flows keep the bound that they were promised,
// while a flood of best effort and all other reserved flows' bursts are on the link,
// at once. Behind the box is a link of the rate that it says, and one queue, first
// in, first out: that is where D arises. QOSPROXY_FIGURES=1 (make qosbench) measures
// for long enough to judge 99.99 %, on a machine that does nothing else.
func TestFigureDelayBound(t *testing.T) {
	judged := os.Getenv("QOSPROXY_FIGURES") == "1"
	d, share := 6*time.Second, "99 %"
	if judged {
		d, share = 90*time.Second, "99.99 %"
	}
	l := newLab(t, 2, &wire.Config{AB: emulator.Params{Rate: linkRate, Queue: 256 << 10}, Seed: 1})
	l.startEdges(t, figurePolicies, "")
	ctx := within(t, d+60*time.Second)

	call := traffic.StreamConfig{
		From: l.a, To: l.b, Remote: at(addrB, portOther), Payload: 172, Interval: 5200 * time.Microsecond, Duration: 2 * time.Second,
	}
	quiet, err := traffic.Stream(ctx, call)
	if err != nil {
		t.Fatal(err)
	}
	// The flows are there before anything is in their way.
	warm := 3 * time.Second
	call.Duration, call.Warmup = d+warm, warm
	results := make(chan traffic.StreamResult, calls)
	for i := range calls {
		c := call
		c.Remote = at(addrB, uint16(portCalls+i))
		go func() {
			r, err := traffic.Stream(ctx, c)
			if err != nil {
				t.Error(err)
			}
			results <- r
		}()
	}
	busy, calm := context.WithCancel(ctx)
	defer calm()
	l.burst(busy, t)
	flood := traffic.Flood(l.a, l.b, at(addrB, portOther+1), 30_000_000, d+2*warm)
	flooded := make(chan traffic.StreamResult, 1)
	go func() {
		r, err := traffic.Stream(busy, flood)
		if err != nil {
			t.Error(err)
		}
		flooded <- r
	}()
	rows := make([]console.SessionRow, calls)
	for i := range calls {
		rows[i] = l.boxes[0].waitSession(t, uint16(portCalls+i), console.SessionReserved)
		l.boxes[0].waitSession(t, uint16(portBurster+i), console.SessionReserved)
	}
	worst := traffic.Distribution{}
	for range calls {
		r := <-results
		if r.Lost > 0 {
			t.Errorf("%d of %d packets of a call were lost", r.Lost, r.Sent)
		}
		if r.Delay.P9999 > worst.P9999 || worst.Count == 0 {
			worst = r.Delay
		}
	}
	calm()
	others := <-flooded
	base := quiet.Delay.Min
	got := worst.P99 - base
	if judged {
		got = worst.P9999 - base
	}
	f := rows[0].FlowSpec
	t.Logf("promised %v with R = %.0f bytes/s, which %d packets of each call got: queueing p50 %v, p99 %v, p99.9 %v, p99.99 %v, the slowest %v; best effort's p50 %v",
		callBound, f.Rate, worst.Count, worst.P50-base, worst.P99-base, worst.P999-base, worst.P9999-base, worst.Max-base, others.Delay.P50-base)
	verdict := "pass  "
	if got > callBound {
		verdict = "MISSED"
		t.Errorf("%s of the packets waited up to %v, promised are %v", share, got, callBound)
	}
	t.Logf("%s delay of guaranteed flows under full load: %s within %v of %v, margin %v", verdict, share, got, callBound, callBound-got)
	// There was something to be protected from, and the bursts were on the link.
	if others.Delay.P50-base < callBound {
		t.Errorf("the flood delays best effort by %v only: nothing is proved", others.Delay.P50-base)
	}
	for i := range bursters {
		row, err := l.boxes[0].flow(t, uint16(portBurster+i))
		if err != nil || row.ConformPackets < uint64(d.Seconds()*10*burstBytes/1500/2) {
			t.Errorf("burster %d: %+v, %v", i, row, err)
		}
	}
}
