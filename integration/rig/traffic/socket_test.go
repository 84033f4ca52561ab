package traffic

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// island is a namespace with nothing but its loopback.
func island(t *testing.T) *netns.NetNS {
	t.Helper()
	roottest.Need(t)
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := ns.Up("lo"); err != nil {
		t.Fatal(err)
	}
	return ns
}

func TestStreamOverLoopback(t *testing.T) {
	ns := island(t)
	r, err := Stream(t.Context(), Voice(ns, ns, loopback, 300*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent != 15 || r.Received != 15 || r.Lost != 0 || r.Delay.Min <= 0 || r.Delay.Max > time.Second {
		t.Errorf("%+v", r)
	}
}

func TestStreamOfTrains(t *testing.T) {
	ns := island(t)
	cfg := Voice(ns, ns, loopback, 300*time.Millisecond)
	cfg.Train, cfg.Warmup = 4, 100*time.Millisecond
	r, err := Stream(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent != 10*4 || r.Received != r.Sent || r.PayloadRate < 4*64_000/2 || r.PayloadRate > 4*64_000*3/2 {
		t.Errorf("%+v", r)
	}
}

func TestStreamEndsWithItsContext(t *testing.T) {
	ns := island(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	r, err := Stream(ctx, Voice(ns, ns, loopback, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 5*time.Second || r.Sent == 0 || r.Sent > 20 {
		t.Errorf("took %s: %+v", took, r)
	}
}

func TestBulkEndsWithItsContext(t *testing.T) {
	ns := island(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	r, err := Bulk(ctx, BulkConfig{From: ns, To: ns, Remote: loopback, Duration: time.Minute, Drain: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 5*time.Second || !r.Sink.Intact() || r.Sink.Bytes == 0 || r.Complete() {
		t.Errorf("took %s: sent %d, received %d", took, r.Source.Bytes, r.Sink.Bytes)
	}
}

func TestSlowReader(t *testing.T) {
	ns := island(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	sink, err := ListenBulk(ctx, BulkSinkConfig{NS: ns, Listen: loopback, Seed: 4, ReceiveBuffer: 8192, ReadRate: 200_000})
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := SendBulk(ctx, BulkSourceConfig{
			NS: ns, Remote: sink.Addr(), Seed: 4, Bytes: 100_000, Drain: 5 * time.Second,
		})
		sent <- err
	}()
	r, err := sink.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !r.Ended || !r.Intact() || r.Bytes != 100_000 || r.Elapsed < 400*time.Millisecond {
		t.Errorf("%+v", r)
	}
}

func TestLatencyOverLoopback(t *testing.T) {
	ns := island(t)
	r, err := Latency(t.Context(), LatencyConfig{
		From: ns, To: ns, Remote: loopback, Duration: 200 * time.Millisecond, Pause: time.Millisecond, Response: 10_000,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Times.Count < 10 || r.Times.P50 <= 0 {
		t.Errorf("%+v", r.Times)
	}
}

func TestSourceWithoutSinkTellsSo(t *testing.T) {
	ns := island(t)
	_, err := SendBulk(t.Context(), BulkSourceConfig{NS: ns, Remote: netip.MustParseAddrPort("127.0.0.1:9"), Bytes: 1})
	if err == nil {
		t.Error("connected to nobody")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	sink, err := ListenBulk(ctx, BulkSinkConfig{NS: ns, Listen: loopback})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Receive(ctx); err == nil {
		t.Error("a connection came from nobody")
	}
}
