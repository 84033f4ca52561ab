package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/nfq"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// collector is a queue's handler that drops all and keeps copies.
type collector struct {
	mu      sync.Mutex
	n       atomic.Uint64
	packets [][]byte
}

func (c *collector) Handle(_ time.Time, p *nfq.Packet) nfq.Verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.packets) < 100 {
		c.packets = append(c.packets, append([]byte(nil), p.Data...))
	}
	c.n.Add(1)
	return nfq.Drop
}

// at returns packet number i, which has come.
func (c *collector) at(i uint64) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.packets[i]
}

func (c *collector) NextDeadline() (time.Time, bool) { return time.Time{}, false }
func (c *collector) Advance(time.Time)               {}
func (c *collector) Wake(time.Time)                  {}
func (c *collector) BatchEnd(time.Time)              {}

// collect runs a queue in the box that drops all.
func (l *lab) collect(t testing.TB, num uint16) *collector {
	t.Helper()
	c := &collector{}
	var q *nfq.Queue
	must(t, l.Box.Do(func() (err error) { q, err = nfq.Open(nfq.Config{Num: num, Handler: c}); return err }))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	t.Cleanup(func() { cancel(); must(t, <-done) })
	return c
}

func (l *lab) dropQueue(t testing.TB, num uint16) func() uint64 {
	t.Helper()
	return l.collect(t, num).n.Load
}

// rawSend sends IP payload of a protocol from a namespace.
func rawSend(t testing.TB, ns *netns.NetNS, proto int, dst netip.Addr, payload []byte) {
	t.Helper()
	must(t, ns.Do(func() error {
		family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: dst.As16()})
		if dst.Is4() {
			family, to = unix.AF_INET, &unix.SockaddrInet4{Addr: dst.As4()}
		}
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }() // nothing to lose in a test
		return unix.Sendto(fd, payload, 0, to)
	}))
}

func TestControlQueueGetsRSVP(t *testing.T) {
	l := newLab(t)
	q := l.open(t, testQueue)
	q.beating(t)
	got := l.collect(t, testQueue.Control)
	rawSend(t, l.Source, packet.ProtoRSVP, dstAddr, []byte("a message"))
	rawSend(t, l.Source, packet.ProtoRSVPE2E, dstAddr6, []byte("another"))
	waitFor(t, func() bool { return got.n.Load() == 2 })
	if ttl := got.at(0)[8]; ttl != 64 {
		t.Errorf("TTL %d: it was decremented before the queue", ttl)
	}
}

// RFC 2711 section 2.1: a PATH over IPv6 has a hop-by-hop header before it. It is
// caught whole or in fragments, unicast and, as IPv4 too, to a group, with its
// hop limit as it came.
func TestControlQueueGetsRouterAlertRFC2711Section2_1(t *testing.T) {
	l := newLab(t)
	want := testQueue
	want.Reassemble = true
	q := l.open(t, want)
	q.beating(t)
	got := l.collect(t, want.Control)
	group, group4 := netip.MustParseAddr("ff3e::4321"), netip.MustParseAddr("239.1.2.3")
	for _, tt := range []struct {
		dst  netip.Addr
		size int
	}{{dstAddr6, 100}, {dstAddr6, 4000}, {group, 100}, {group4, 100}, {dstAddr, 4000}} {
		before := got.n.Load()
		l.sendAlert(t, tt.dst, make([]byte, tt.size))
		waitFor(t, func() bool { return got.n.Load() == before+1 })
		v, err := packet.Parse(got.at(before))
		if err != nil || v.Fragment() || v.Proto() != packet.ProtoRSVP || len(v.Transport()) != tt.size || v.TTL() != 64 || v.Dst() != tt.dst {
			t.Errorf("%+v: %v, protocol %d, %d bytes, hop limit %d", tt, err, v.Proto(), len(v.Transport()), v.TTL())
		}
	}
}

// sendAlert sends a message with the Router Alert from the source, hop limit 64.
func (l *lab) sendAlert(t testing.TB, dst netip.Addr, payload []byte) {
	t.Helper()
	must(t, l.Source.Do(func() error {
		family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: dst.As16()})
		level, hops, options := unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, unix.IPV6_HOPOPTS
		alert := []byte{0, 0, 5, 2, 0, 1, 1, 0}
		if dst.Is4() {
			family, to = unix.AF_INET, &unix.SockaddrInet4{Addr: dst.As4()}
			level, hops, options = unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, unix.IP_OPTIONS
			alert = []byte{0x94, 4, 0, 0}
		}
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, packet.ProtoRSVP)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }() // nothing to lose in a test
		return errors.Join(unix.SetsockoptInt(fd, level, hops, 64), unix.SetsockoptString(fd, level, options, string(alert)), unix.Sendto(fd, payload, 0, to))
	}))
}

// What no queue takes reaches this box's own stack, which has no RSVP socket: it
// must not tell the neighbour that the protocol is unreachable.
func TestOwnUnreachableIsSwallowed(t *testing.T) {
	l := newLab(t)
	q := l.open(t, testQueue) // without a beat the rules are open
	c := &counts{q: q}
	c.since(t)
	for _, dst := range []string{"10.1.0.1", "fd01::1"} {
		rawSend(t, l.Source, packet.ProtoRSVP, netip.MustParseAddr(dst), []byte("a message"))
		waitFor(t, func() bool { return c.since(t)["rsvp unreachable"] == 1 })
	}
	l.sendAlert(t, netip.MustParseAddr("fd01::1"), make([]byte, 2000))
	waitFor(t, func() bool { return c.since(t)["rsvp unreachable"] == 1 })
}

// RFC 2205 section 3.3: a message may be longer than the MTU and comes in
// fragments. Each of them is caught; reassembly makes it one packet again (RFC
// 2205 section 3.3).
func TestFragmentedRSVP(t *testing.T) {
	for _, reassemble := range []bool{false, true} {
		l := newLab(t)
		want := testQueue
		want.Reassemble = reassemble
		q := l.open(t, want)
		q.beating(t)
		got := l.collect(t, want.Control)
		rawSend(t, l.Source, packet.ProtoRSVP, dstAddr, make([]byte, 4000))
		rawSend(t, l.Source, packet.ProtoRSVP, dstAddr6, make([]byte, 4000))
		n := uint64(6)
		if reassemble {
			n = 2
		}
		waitFor(t, func() bool { return got.n.Load() == n })
		time.Sleep(20 * time.Millisecond)
		if got.n.Load() != n {
			t.Errorf("reassemble %v: %d packets, want %d", reassemble, got.n.Load(), n)
		}
		for i, b := range got.packets {
			v, err := packet.Parse(b)
			if err != nil || v.Fragment() == reassemble || v.Proto() != packet.ProtoRSVP {
				t.Errorf("reassemble %v: packet %d: %v, fragment %v, protocol %d", reassemble, i, err, v.Fragment(), v.Proto())
			}
		}
	}
}

// A fragmented datagram has its ports in the first fragment only: reassembly
// lets a settled flow be known as a whole, and the sink gets the same bytes.
func TestReassembledFlow(t *testing.T) {
	l := newLab(t)
	want := testQueue
	want.Reassemble = true
	q := l.open(t, want)
	q.beating(t)
	for _, a := range [][2]netip.Addr{{srcAddr, dstAddr}, {srcAddr6, dstAddr6}} {
		s := l.sockets(t, a[0], a[1], 7000)
		c := &counts{q: q}
		c.since(t)
		for i, wantFirst := range []uint64{1, 0} {
			_, err := s.out.Write(make([]byte, 5000))
			must(t, err)
			must(t, s.in.SetReadDeadline(time.Now().Add(2*time.Second)))
			n, err := s.in.Read(make([]byte, 6000))
			if err != nil || n != 5000 {
				t.Fatalf("%v: %d bytes, %v", a, n, err)
			}
			if got := c.since(t); got["first"] != wantFirst {
				t.Errorf("%v: datagram %d: %v", a, i, got)
			}
			must(t, q.Settle(s.key))
		}
	}
}

// A host without RSVP answers a PATH with an ICMP error, which must not reach
// the other host (kernel.md); other ICMP errors must.
func TestProtocolUnreachableIsSwallowed(t *testing.T) {
	l := newLab(t)
	q := l.open(t, testQueue)
	q.beating(t)
	c := &counts{q: q}
	c.since(t)
	quote4 := func(code, proto byte) []byte {
		b := make([]byte, 8+28)
		b[0], b[1], b[8], b[8+9] = 3, code, 0x45, proto
		binary.BigEndian.PutUint16(b[2:], packet.Checksum(b))
		return b
	}
	for _, tt := range []struct {
		code, proto byte
		swallowed   uint64
	}{{2, 46, 1}, {2, 134, 1}, {2, 132, 0}, {3, 46, 0}} {
		rawSend(t, l.Sink, unix.IPPROTO_ICMP, srcAddr, quote4(tt.code, tt.proto))
		time.Sleep(5 * time.Millisecond)
		if got := c.since(t); got["rsvp unreachable"] != tt.swallowed {
			t.Errorf("ICMP code %d about protocol %d: %v", tt.code, tt.proto, got)
		}
	}
	// RFC 4443 section 3.4, with and without the hop-by-hop header of a PATH.
	quote6 := func(code byte, next ...byte) []byte {
		b := make([]byte, 8+40+16)
		b[0], b[1], b[8], b[8+6] = 4, code, 0x60, next[0]
		for i, n := range next[1:] {
			b[8+40+8*i] = n
		}
		return b
	}
	for i, tt := range []struct {
		payload   []byte
		swallowed uint64
	}{
		{quote6(1, 46), 1},
		{quote6(1, 0, 46), 1},
		{quote6(1, 0, 134), 1},
		{quote6(1, 0, 17), 0},
		{quote6(0, 46), 0},
		{quote6(1, 44, 46), 1},
		{quote6(1, 0, 44, 134), 1},
		{quote6(1, 0, 44, 17), 0},
		{quote6(1, 44, 17), 0},
		{quote6(1, 17, 46), 0},
	} {
		rawSend(t, l.Sink, unix.IPPROTO_ICMPV6, srcAddr6, tt.payload)
		time.Sleep(5 * time.Millisecond)
		if got := c.since(t); got["rsvp unreachable"] != tt.swallowed {
			t.Errorf("ICMPv6 case %d: %v", i, got)
		}
	}
}

// What carries our mark is never queued.
func TestMarkedPacketsAreOurs(t *testing.T) {
	l := newLab(t)
	q := l.open(t, testQueue)
	q.beating(t)
	// A mark does not cross a veth pair, so a rule of the box's sets it.
	l.markAll(t, 0x51000007)
	s := l.sockets(t, srcAddr, dstAddr, 7000)
	c := &counts{q: q}
	c.since(t)
	s.send(t)
	if got := c.since(t); len(got) != 0 {
		t.Errorf("marked: %v", got)
	}
}

// A flow whose time is renewed stays settled, and one that is not there is settled.
func TestRenew(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	want := testQueue
	want.SettledTimeout = time.Second
	q := l.open(t, want)
	q.beating(t)
	one, other := l.sockets(t, srcAddr, dstAddr, 7000), l.sockets(t, srcAddr6, dstAddr6, 7000)
	must(t, q.Settle(one.key))
	c := &counts{q: q}
	c.since(t)
	for range 6 {
		must(t, q.Renew(one.key, other.key))
		one.send(t)
		other.send(t)
		time.Sleep(250 * time.Millisecond)
	}
	if got := c.since(t); got["first"] != 0 {
		t.Errorf("renewed: %v", got)
	}
	time.Sleep(1200 * time.Millisecond)
	one.send(t)
	if got := c.since(t); got["first"] != 1 {
		t.Errorf("after the timeout: %v", got)
	}
}

// A flow that is settled can be looked at again; one that is not, or no more, is
// no error, and nothing else is touched.
func TestUnsettle(t *testing.T) {
	l := newLab(t)
	q := l.open(t, testQueue)
	q.beating(t)
	one, other := l.sockets(t, srcAddr, dstAddr, 7000), l.sockets(t, srcAddr6, dstAddr6, 7000)
	must(t, q.Settle(one.key, other.key))
	c := &counts{q: q}
	c.since(t)
	one.send(t)
	other.send(t)
	if got := c.since(t); got["first"] != 0 {
		t.Fatalf("settled: %v", got)
	}
	stranger := one.key
	stranger.SrcPort++
	must(t, q.Unsettle(one.key, stranger))
	one.send(t)
	other.send(t)
	if got := c.since(t); got["first"] != 1 {
		t.Errorf("one of them unsettled: %v", got)
	}
	must(t, q.Unsettle(one.key, stranger))
}
