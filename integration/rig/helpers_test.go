package rig

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

// deadline bounds a test's traffic.
func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func newRig(t *testing.T) *Rig {
	t.Helper()
	roottest.Need(t)
	r, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func newTopology(t *testing.T, cfg wire.Config) *Topology {
	t.Helper()
	roottest.Need(t)
	top, err := NewTopology(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := top.Close(); err != nil {
			t.Error(err)
		}
	})
	return top
}

// pair is two hosts joined by an emulated link alone.
type pair struct {
	*Rig
	a, b *netns.NetNS
	wire *wire.Wire
}

var (
	pairA = netip.MustParseAddr("192.0.2.1")
	pairB = netip.MustParseAddr("192.0.2.2")
)

func newPair(t *testing.T, cfg wire.Config) pair {
	t.Helper()
	p := pair{Rig: newRig(t)}
	var err error
	for role, ns := range map[string]**netns.NetNS{"a": &p.a, "b": &p.b, "wan": &cfg.NS} {
		if *ns, err = p.Namespace(role); err != nil {
			t.Fatal(err)
		}
	}
	hostA := netns.End{NS: p.a, Name: "eth0", Wire: true, Addrs: []netip.Prefix{netip.PrefixFrom(pairA, 24)}}
	hostB := netns.End{NS: p.b, Name: "eth0", Wire: true, Addrs: []netip.Prefix{netip.PrefixFrom(pairB, 24)}}
	err = errors.Join(
		netns.Veth(hostA, netns.End{NS: cfg.NS, Name: "a", Wire: true}),
		netns.Veth(hostB, netns.End{NS: cfg.NS, Name: "b", Wire: true}),
		netns.Neighbour(hostA, hostB),
	)
	if err != nil {
		t.Fatal(err)
	}
	cfg.A, cfg.B = "a", "b"
	if p.wire, err = p.Wire(cfg); err != nil {
		t.Fatal(err)
	}
	return p
}

// checkTrust fails a measurement that the machine itself disturbed.
func checkTrust(t *testing.T, w *wire.Wire) {
	t.Helper()
	for _, dir := range []wire.Direction{wire.AB, wire.BA} {
		c := w.Counters(dir)
		if c.KernelDrops+c.SendErrors+c.Oversize > 0 {
			t.Errorf("%s: the emulator dropped frames by itself: %+v", dir, c)
		}
		t.Logf("%s: %d frames, %d late, at most %s behind schedule", dir, c.Frames, c.LateFrames, c.MaxLateness)
	}
}

func both(p emulator.Params) wire.Config {
	return wire.Config{AB: p, BA: p, Seed: 1}
}

func at(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 0) }
