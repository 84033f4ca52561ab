package inject

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/nfq"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/nft"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

const testMark = plan.DefaultMark | 1

func (l *lab) sender(t testing.TB) (s *Sender) {
	t.Helper()
	must(t, l.Box.Do(func() (err error) { s, err = New(Config{Mark: testMark}); return err }))
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// tap receives what arrives at an interface, from the Ethernet payload on.
type tap struct{ fd int }

func newTap(t testing.TB, ns *netns.NetNS) *tap {
	t.Helper()
	p := &tap{}
	must(t, ns.Do(func() (err error) {
		all := uint16(unix.ETH_P_ALL)
		p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all<<8|all>>8))
		if err != nil {
			return err
		}
		return unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20000})
	}))
	t.Cleanup(func() { must(t, unix.Close(p.fd)) })
	return p
}

// next is the next packet from a source, nil after a while without any: ARP asks
// again after a second, should the link have come up too late for the first.
func (p *tap) next(t testing.TB, src netip.Addr) []byte {
	t.Helper()
	b := make([]byte, 70000)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		n, _, err := unix.Recvfrom(p.fd, b, 0)
		if err != nil {
			continue
		}
		if v, err := packet.Parse(b[:n]); err == nil && v.Src() == src {
			return bytes.Clone(v.Bytes())
		}
	}
	return nil
}

// foreign are addresses that nobody in the lab has.
var (
	foreign  = netip.MustParseAddrPort("203.0.113.9:443")
	foreign6 = netip.MustParseAddrPort("[2001:db8::9]:443")
)

func segment(src netip.AddrPort, dst netip.Addr, n int) []byte {
	return packet.AppendTCP(nil, &packet.Segment{
		Key: packet.MakeKey(packet.ProtoTCP, src, netip.AddrPortFrom(dst, 4000)),
		TTL: 57, TOS: 46 << 2, DF: true, Seq: 1, Ack: 2, Flags: 0x10, Window: 100, Payload: make([]byte, n),
	})
}

// A packet with a source that is not ours leaves as it is, towards either side.
// The kernel sets the IPv4 checksum, and an identification only where one is
// needed: not with DF (RFC 6864 section 4.1), and never in place of ours.
func TestForeignSource(t *testing.T) {
	l := newLab(t)
	s := l.sender(t)
	for _, tt := range []struct {
		ns  *netns.NetNS
		src netip.AddrPort
		dst netip.Addr
	}{{l.Sink, foreign, dstAddr}, {l.Source, foreign, srcAddr}, {l.Sink, foreign6, dstAddr6}, {l.Source, foreign6, srcAddr6}} {
		p := newTap(t, tt.ns)
		want := segment(tt.src, tt.dst, 100)
		must(t, s.Send(want))
		got := p.next(t, tt.src.Addr())
		if got == nil {
			t.Fatalf("%v to %v did not arrive", tt.src, tt.dst)
		}
		v, err := packet.Parse(got)
		must(t, err)
		if !v.IPv4ChecksumOK() || !v.TCPChecksumOK() || v.TTL() != 57 || v.DSCP() != 46 || !v.DF() {
			t.Errorf("%v to %v: % x", tt.src, tt.dst, got[:40])
		}
		if v.Is4() {
			clear(got[10:12])
			clear(want[10:12])
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%v to %v was changed:\n% x\n% x", tt.src, tt.dst, got, want)
		}
		if !v.Is4() {
			continue
		}
		want[6] = 0 // DF off
		must(t, s.Send(want))
		if got := p.next(t, tt.src.Addr()); got == nil || be16(got[4:]) == 0 {
			t.Error("the kernel chose no identification")
		}
		binary.BigEndian.PutUint16(want[4:], 4711)
		must(t, s.Send(want))
		if got := p.next(t, tt.src.Addr()); got == nil || be16(got[4:]) != 4711 {
			t.Error("our identification was changed")
		}
	}
	if c := s.Counters(); c.Packets != 8 || c.Errors != 0 {
		t.Errorf("%+v", c)
	}
}

// The Router Alert is in the header that we bring (RFC 2113, RFC 2711).
func TestRouterAlert(t *testing.T) {
	l := newLab(t)
	s := l.sender(t)
	p := newTap(t, l.Sink)
	must(t, s.Send(rsvp4(routerAlert, []byte("path"), false)))
	if got := p.next(t, netip.MustParseAddr("10.9.9.9")); got == nil || !bytes.Equal(got[20:24], routerAlert) {
		t.Errorf("IPv4: % x", got)
	}
	must(t, s.Send(rsvp6([]byte("path"))))
	if got := p.next(t, netip.MustParseAddr("fd09::9")); got == nil || got[42] != 5 {
		t.Errorf("IPv6: % x", got)
	}
}

// SendVia wins over the routes.
func TestSendVia(t *testing.T) {
	l := newLab(t)
	s := l.sender(t)
	wrongWay := newTap(t, l.Source)
	var index int
	must(t, l.Box.Do(func() (err error) { index, err = ifindex("in0"); return err }))
	// Nobody answers for the sink's address there, so this host gets a
	// permanent neighbour of that name: its own Ethernet address.
	mac, err := l.Source.HardwareAddr("eth0")
	must(t, err)
	must(t, l.neighbour("in0", dstAddr, mac))
	must(t, l.neighbour("in0", dstAddr6, mac))
	// IPv6 wants a route out of the interface as well, be it a worse one.
	must(t, l.worseRoute("in0", netip.PrefixFrom(dstAddr6, 64).Masked()))
	must(t, s.SendVia(segment(foreign, dstAddr, 10), index))
	if wrongWay.next(t, foreign.Addr()) == nil {
		t.Error("IPv4: not sent out of the interface")
	}
	must(t, s.SendVia(segment(foreign6, dstAddr6, 10), index))
	if wrongWay.next(t, foreign6.Addr()) == nil {
		t.Error("IPv6: not sent out of the interface")
	}
}

func TestTooLong(t *testing.T) {
	l := newLab(t)
	s := l.sender(t)
	for range 100 { // the error queue must not fill up
		for _, p := range [][]byte{segment(foreign, dstAddr, 3000), segment(foreign6, dstAddr6, 3000)} {
			if err := s.Send(p); !errors.Is(err, unix.EMSGSIZE) {
				t.Fatal(err)
			}
		}
	}
	must(t, s.Send(segment(foreign, dstAddr, 100)))
	// RFC 2205 section 3.3: an RSVP message is one datagram, fragmented above
	// the MTU.
	for _, tt := range []struct {
		pkt []byte
		src string
	}{
		{rsvp4(routerAlert, make([]byte, 3000), false), "10.9.9.9"}, {rsvp6(make([]byte, 3000)), "fd09::9"},
	} {
		p := newTap(t, l.Sink)
		must(t, s.Send(tt.pkt))
		n, ids := 0, map[uint32]bool{}
		for range 3 {
			got := p.next(t, netip.MustParseAddr(tt.src))
			if got == nil {
				t.Fatal("fragments are missing")
			}
			v, err := packet.Parse(got)
			must(t, err)
			_, _, id := position(got)
			ids[id] = true
			n += len(v.Transport())
		}
		if n != 3000 || len(ids) != 1 || ids[0] {
			t.Errorf("%s: %d bytes in 3 fragments, identifications %v", tt.src, n, ids)
		}
	}
	if c := s.Counters(); c.TooLong != 200 || c.Fragmented != 2 || c.Errors != 200 {
		t.Errorf("%+v", c)
	}
	if err := s.Send([]byte("no packet")); !errors.Is(err, ErrPacket) {
		t.Error(err)
	}
}

// What we send is never queued to us (the queue drops all), and carries the
// mark: the sockets' packets meet neither prerouting nor forward.
func TestMarkPassesTheQueue(t *testing.T) {
	l := newLab(t)
	s := l.sender(t)
	var table *nft.QueueTable
	must(t, l.Box.Do(func() (err error) {
		table, err = nft.Open(plan.Queue{Control: 100, First: 101, HasIPv6: true, Prefilters: []plan.Prefilter{{}}})
		return err
	}))
	t.Cleanup(func() { must(t, table.Close()) })
	var q *nfq.Queue
	must(t, l.Box.Do(func() (err error) {
		q, err = nfq.Open(nfq.Config{Num: 101, Handler: dropAll{}})
		return err
	}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	t.Cleanup(func() { cancel(); must(t, <-done) })
	p := newTap(t, l.Sink)
	must(t, table.Beat())
	must(t, s.Send(segment(foreign, dstAddr, 10)))
	if p.next(t, foreign.Addr()) == nil {
		t.Error("IPv4: not sent")
	}
	must(t, s.Send(segment(foreign6, dstAddr6, 10)))
	if p.next(t, foreign6.Addr()) == nil {
		t.Error("IPv6: not sent")
	}
	if c := q.Counters(); c.Packets != 0 {
		t.Errorf("queued to ourselves: %+v", c)
	}
	must(t, l.Box.Do(func() error {
		for _, fd := range []int{s.v4, s.v6} {
			mark, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK)
			if err != nil || mark != testMark {
				t.Errorf("mark %#x, %v", mark, err)
			}
		}
		return nil
	}))
}

type dropAll struct{}

func (dropAll) Handle(time.Time, *nfq.Packet) nfq.Verdict { return nfq.Drop }
func (dropAll) NextDeadline() (time.Time, bool)           { return time.Time{}, false }
func (dropAll) Advance(time.Time)                         {}
func (dropAll) Wake(time.Time)                            {}
func (dropAll) BatchEnd(time.Time)                        {}

// What the interface's queue drops is told.
func TestFullQueueIsTold(t *testing.T) {
	l := newLab(t)
	s := l.sender(t)
	p := newTap(t, l.Sink)
	// Else packets would wait for the neighbours to be known, not in the queue.
	for _, known := range []struct {
		src netip.AddrPort
		dst netip.Addr
	}{{foreign, dstAddr}, {foreign6, dstAddr6}} {
		must(t, s.Send(segment(known.src, known.dst, 1)))
		if p.next(t, known.src.Addr()) == nil {
			t.Fatalf("%v is not reached", known.dst)
		}
	}
	must(t, l.narrow("out0"))
	for _, pkt := range [][]byte{segment(foreign, dstAddr, 1000), segment(foreign6, dstAddr6, 1000)} {
		var err error
		for range 100 {
			if err = s.Send(pkt); err != nil {
				break
			}
		}
		if !errors.Is(err, unix.ENOBUFS) {
			t.Errorf("a full queue: %v", err)
		}
	}
	if c := s.Counters(); c.NoBuffers != 2 {
		t.Errorf("%+v", c)
	}
}

func TestSendAllocatesNothing(t *testing.T) {
	l := newLab(t)
	s := l.sender(t)
	var index int
	must(t, l.Box.Do(func() (err error) { index, err = ifindex("out0"); return err }))
	for _, pkt := range [][]byte{segment(foreign, dstAddr, 100), segment(foreign6, dstAddr6, 100)} {
		if n := testing.AllocsPerRun(100, func() { must(t, s.Send(pkt)) }); n != 0 {
			t.Errorf("Send: %v allocations", n)
		}
		if n := testing.AllocsPerRun(100, func() { must(t, s.SendVia(pkt, index)) }); n != 0 {
			t.Errorf("SendVia: %v allocations", n)
		}
	}
}

func BenchmarkSend(b *testing.B) {
	l := newLab(b)
	s := l.sender(b)
	for name, pkt := range map[string][]byte{"ipv4": segment(foreign, dstAddr, 0), "ipv6": segment(foreign6, dstAddr6, 0)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				must(b, s.Send(pkt))
			}
		})
	}
}

// What goes to a group out of an interface needs no route to it, and goes out of
// that one alone.
func TestSendViaToGroup(t *testing.T) {
	l := newLab(t)
	s := l.sender(t)
	var index int
	must(t, l.Box.Do(func() (err error) { index, err = ifindex("out0"); return err }))
	for _, tt := range []struct {
		src        netip.AddrPort
		dst, other netip.Addr
	}{
		{foreign, netip.MustParseAddr("239.129.2.3"), srcAddr}, {foreign6, netip.MustParseAddr("ff3e::1:2:3"), srcAddr6},
	} {
		there, elsewhere := newTap(t, l.Sink), newTap(t, l.Source)
		must(t, s.SendVia(segment(tt.src, tt.dst, 10), index))
		must(t, s.Send(segment(tt.src, tt.other, 10))) // what comes behind it
		for name, p := range map[string]*tap{tt.dst.String(): there, tt.other.String(): elsewhere} {
			got := p.next(t, tt.src.Addr())
			if got == nil {
				t.Errorf("nothing to %s", name)
				continue
			}
			if v, err := packet.Parse(got); err != nil || v.Dst().String() != name || v.TTL() != 57 {
				t.Errorf("%v, % x, want it to %s", err, got[:40], name)
			}
		}
	}
}
