package nfq_test

import (
	"errors"
	"io"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/bridgelab"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/routerlab"
	"github.com/qosproxy/qosproxy/pkg/nfq"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// A packet of a bridge comes with the ports that it came in by and leaves by, each
// way and in both families, and not with the bridge that br_netfilter shows to the
// rules.
func TestPortsOfABridge(t *testing.T) {
	b := bridgelab.New(t)
	l := &lab{&routerlab.Lab{Source: b.Source, Box: b.Box, Sink: b.Sink}}
	in, out := b.Index(t, bridgelab.In), b.Index(t, bridgelab.Out)
	type ports struct {
		hook    uint8
		in, out int
	}
	var mu sync.Mutex
	seen := map[ports]int{}
	l.rules(t)
	l.queue(t, nfq.Config{Num: 101, Handler: &handler{handle: func(p *nfq.Packet) nfq.Verdict {
		mu.Lock()
		defer mu.Unlock()
		seen[ports{p.Hook, p.InIndex, p.OutIndex}]++
		return nfq.Accept
	}}})
	for _, dst := range []netip.Addr{dstAddr, dstAddr6} {
		if n := l.tcp(t, dst, 1<<20, io.Discard); n != 1<<20 {
			t.Fatalf("%d bytes to %v", n, dst)
		}
		mu.Lock()
		const forward = 2 // NF_INET_FORWARD
		there, back := seen[ports{forward, in, out}], seen[ports{forward, out, in}]
		if there == 0 || back == 0 || len(seen) != 2 {
			t.Errorf("%v: %+v, ports are %d and %d", dst, seen, in, out)
		}
		clear(seen)
		mu.Unlock()
	}
}

// RSVP is caught before it is forwarded: its port is known, and none that it leaves
// by.
func TestPortBeforeForwarding(t *testing.T) {
	b := bridgelab.New(t)
	l := &lab{&routerlab.Lab{Source: b.Source, Box: b.Box, Sink: b.Sink}}
	seen := make(chan [2]int, 10)
	l.rules(t)
	l.queue(t, nfq.Config{Num: 100, Handler: &handler{handle: func(p *nfq.Packet) nfq.Verdict {
		seen <- [2]int{p.InIndex, p.OutIndex}
		return nfq.Drop
	}}})
	rawSend(t, b.Source, dstAddr)
	select {
	case p := <-seen:
		if want := [2]int{b.Index(t, bridgelab.In), 0}; p != want {
			t.Errorf("in and out %v, want %v", p, want)
		}
	case <-time.After(10 * time.Second):
		t.Error("RSVP was not queued")
	}
}

// rawSend has a host send a packet of RSVP's protocol.
func rawSend(t *testing.T, ns *netns.NetNS, dst netip.Addr) {
	t.Helper()
	must(t, ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(packet.ProtoRSVP))
		if err != nil {
			return err
		}
		return errors.Join(unix.Sendto(fd, make([]byte, 8), 0, &unix.SockaddrInet4{Addr: dst.As4()}), unix.Close(fd))
	}))
}
