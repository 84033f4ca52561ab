package inject

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/bridgelab"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/routerlab"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// bridged is a box without an address, with what was learned of the two hosts.
type bridged struct {
	*bridgelab.Lab
	*Bridge
	in, out          int
	macSrc, macDst   [6]byte
	atSource, atSink *bridgelab.Tap
	mu               sync.Mutex
	seen             seen
}

func (b *bridged) Frame(k *packet.FlowKey, f *packet.Frame) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen.Frame(k, f)
}

func newBridged(t testing.TB) *bridged {
	t.Helper()
	b := &bridged{Lab: bridgelab.New(t), seen: seen{}}
	b.in, b.out = b.Index(t, bridgelab.In), b.Index(t, bridgelab.Out)
	b.macSrc, b.macDst = macOf(t, b.Source), macOf(t, b.Sink)
	must(t, b.Box.Do(func() (err error) {
		b.Bridge, err = NewBridge(BridgeConfig{Mark: testMark, Frames: b, Ports: []int{b.in, b.out}})
		return err
	}))
	t.Cleanup(func() { must(t, b.Close()) })
	b.atSource, b.atSink = bridgelab.NewTap(t, b.Source, "eth0"), bridgelab.NewTap(t, b.Sink, "eth0")
	return b
}

func macOf(t testing.TB, ns *netns.NetNS) [6]byte {
	t.Helper()
	mac, err := ns.HardwareAddr("eth0")
	must(t, err)
	return [6]byte(mac)
}

// learn has a frame been seen in both directions of a pair of addresses.
func (b *bridged) learn(src, dst netip.Addr, tags ...packet.Tag) {
	there := packet.Frame{Port: b.in, Src: b.macSrc, Dst: b.macDst, NTags: len(tags)}
	copy(there.Tags[:], tags)
	back := there.Turned()
	back.Port = b.out
	k := packet.FlowKey{Src: src.As16(), Dst: dst.As16()}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen[k], b.seen[k.Reverse()] = there, back
}

// carries accepts frames that are of a packet with a source address.
func carries(src netip.Addr, tags int) func([]byte) bool {
	return func(f []byte) bool {
		if len(f) < 14+4*tags {
			return false
		}
		v, err := packet.Parse(f[14+4*tags:])
		return err == nil && v.Src() == src
	}
}

// What is sent on a bridge looks like a frame of the flow, and leaves by its port
// alone: both families, both directions, with no tag, one or two.
func TestBridgeSendsFramesOfTheFlow(t *testing.T) {
	b := newBridged(t)
	q := packet.Tag{TPID: 0x8100, TCI: 5<<13 | 100}
	ad := packet.Tag{TPID: 0x88a8, TCI: 3<<13 | 1<<12 | 2000}
	for _, tags := range [][]packet.Tag{nil, {q}, {ad}, {ad, q}} {
		for _, ends := range [][2]netip.AddrPort{
			// Behind the hosts, which would answer for themselves.
			{netip.MustParseAddrPort("10.1.0.99:80"), netip.MustParseAddrPort("10.2.0.99:4000")},
			{netip.MustParseAddrPort("[fd01::99]:80"), netip.MustParseAddrPort("[fd02::99]:4000")},
		} {
			b.learn(ends[0].Addr(), ends[1].Addr(), tags...)
			for _, back := range []bool{false, true} {
				from, to, here, away := ends[0], ends[1], b.atSink, b.atSource
				mac := append(bytes.Clone(b.macDst[:]), b.macSrc[:]...)
				if back {
					from, to, here, away = to, from, away, here
					mac = append(bytes.Clone(b.macSrc[:]), b.macDst[:]...)
				}
				want := segment(from, to.Addr(), 100)
				given := bytes.Clone(want)
				if want[0]>>4 == 4 {
					clear(given[10:12]) // it is for the sender to set
				}
				must(t, b.Send(given))
				got := here.Next(func(f []byte) bool { return len(f) > 100 && carries(from.Addr(), len(tags))(f) })
				for _, tag := range tags {
					mac = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(mac, tag.TPID), tag.TCI)
				}
				if want[0]>>4 == 4 {
					mac = append(mac, 0x08, 0x00)
				} else {
					mac = append(mac, 0x86, 0xdd)
				}
				if want := append(mac, want...); !bytes.Equal(got, want) {
					t.Errorf("%v to %v, %v:\n% x\nwant\n% x", from, to, tags, got, want)
				}
				// The end mark goes the other way.
				must(t, b.Send(segment(to, from.Addr(), 1)))
				if !away.None(carries(from.Addr(), len(tags)), carries(to.Addr(), len(tags))) {
					t.Errorf("%v to %v came out of the wrong port, or nothing did", from, to)
				}
			}
		}
	}
	if c := b.Counters(); c.Packets != 32 || c.Errors != 0 {
		t.Errorf("%+v", c)
	}
}

// The identification is ours to choose where the kernel did: never with DF (RFC
// 6864 section 4.1), never in place of one that is there.
func TestBridgeChoosesIdentification(t *testing.T) {
	b := newBridged(t)
	b.learn(srcAddr, dstAddr)
	pkt := segment(netip.AddrPortFrom(srcAddr, 80), dstAddr, 10)
	ids := map[int]bool{}
	for range 3 {
		pkt[6] = 0
		must(t, b.Send(pkt))
		got := b.atSink.Next(carries(srcAddr, 0))
		if got == nil {
			t.Fatal("nothing arrives")
		}
		ids[be16(got[14+4:])] = true
		if v, err := packet.Parse(got[14:]); err != nil || !v.IPv4ChecksumOK() {
			t.Errorf("%v, checksum % x", err, got[14:34])
		}
	}
	if len(ids) != 3 || ids[0] {
		t.Errorf("identifications %v", ids)
	}
	binary.BigEndian.PutUint16(pkt[4:], 4711)
	must(t, b.Send(pkt))
	if got := b.atSink.Next(carries(srcAddr, 0)); got == nil || be16(got[14+4:]) != 4711 {
		t.Error("our identification was changed")
	}
}

// What is not known is refused, told and counted.
func TestBridgeRefusesWhatItDoesNotKnow(t *testing.T) {
	b := newBridged(t)
	pkt := segment(netip.AddrPortFrom(srcAddr, 80), dstAddr, 10)
	if err := b.Send(pkt); !errors.Is(err, ErrNoFrame) {
		t.Error(err)
	}
	if err := b.SendVia(pkt, b.out); !errors.Is(err, ErrNoFrame) {
		t.Error(err)
	}
	b.learn(srcAddr, dstAddr)
	if err := b.SendVia(pkt, b.out+100); !errors.Is(err, ErrNoPort) {
		t.Error(err)
	}
	b.SetPorts(nil)
	if err := b.Send(pkt); !errors.Is(err, ErrNoPort) {
		t.Error(err)
	}
	if err := b.Send([]byte("no packet")); !errors.Is(err, ErrPacket) {
		t.Error(err)
	}
	if c := b.Counters(); c.Errors != 5 || c.NoFrame != 2 || c.NoPort != 2 || c.Packets != 0 {
		t.Errorf("%+v", c)
	}
}

// RSVP of a hop goes where packets of the flow go that it is about.
func TestBridgeSendsLikeAnotherFlow(t *testing.T) {
	b := newBridged(t)
	b.learn(srcAddr, dstAddr)
	like := packet.FlowKey{Src: srcAddr.As16(), Dst: dstAddr.As16()}
	hop, group := netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("239.1.2.3")
	for _, to := range []netip.Addr{dstAddr, group} {
		pkt := rsvp4(routerAlert, []byte("resv"), false) // its source is the hop
		copy(pkt[16:20], to.AsSlice())
		must(t, b.SendLike(pkt, b.out, like))
		want := b.macDst
		if to == group {
			want = [6]byte{0x01, 0x00, 0x5e, 1, 2, 3}
		}
		got := b.atSink.Next(carries(hop, 0))
		if got == nil || [6]byte(got) != want || [6]byte(got[6:]) != b.macSrc {
			t.Errorf("to %v: % x", to, got)
		}
	}
}

// A packet that is too long is told so, and one that may be fragmented is, to the
// port's MTU; the second tag of a frame takes from it.
func TestBridgeFragments(t *testing.T) {
	b := newBridged(t)
	hop, hop6 := netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("fd09::9")
	outer, inner := packet.Tag{TPID: 0x8100, TCI: 7}, packet.Tag{TPID: 0x8100, TCI: 9}
	b.learn(srcAddr, dstAddr)
	if err := b.Send(segment(netip.AddrPortFrom(srcAddr, 80), dstAddr, 3000)); !errors.Is(err, unix.EMSGSIZE) {
		t.Error(err)
	}
	for i, tags := range [][]packet.Tag{nil, {outer}, {outer, inner}} {
		for _, pkt := range [][]byte{rsvp4(routerAlert, make([]byte, 3000), false), rsvp6(make([]byte, 3000))} {
			v, err := packet.Parse(pkt)
			must(t, err)
			b.learn(v.Src(), v.Dst(), tags...)
			must(t, b.Send(pkt))
			src, n, longest := hop, 0, 0
			if !v.Is4() {
				src = hop6
			}
			ids := map[uint32]bool{}
			for range 3 {
				got := b.atSink.Next(carries(src, len(tags)))
				if got == nil {
					t.Fatalf("%v, %d tags: fragments are missing", src, len(tags))
				}
				part, err := packet.Parse(got[14+4*len(tags):])
				must(t, err)
				_, _, id := position(part.Bytes())
				ids[id], n, longest = true, n+len(part.Transport()), max(longest, part.Len())
			}
			if n != 3000 || len(ids) != 1 || longest > 1500-4*max(i-1, 0) {
				t.Errorf("%v, %d tags: %d bytes in fragments of up to %d, identifications %v", src, len(tags), n, longest, ids)
			}
		}
	}
	if c := b.Counters(); c.TooLong != 1 || c.Fragmented != 6 {
		t.Errorf("%+v", c)
	}
}

// A packet as long as the MTU fits, with one tag too.
func TestBridgeSendsWholeMTU(t *testing.T) {
	b := newBridged(t)
	for _, tags := range [][]packet.Tag{nil, {{TPID: 0x8100, TCI: 7}}} {
		b.learn(srcAddr, dstAddr, tags...)
		must(t, b.Send(segment(netip.AddrPortFrom(srcAddr, 80), dstAddr, 1460)))
		if b.atSink.Next(carries(srcAddr, len(tags))) == nil {
			t.Errorf("%v: nothing", tags)
		}
	}
	// Of other tags the kernel wants it shorter: Known tells by how much.
	for _, tags := range [][]packet.Tag{{{TPID: 0x88a8, TCI: 7}}, {{TPID: 0x8100, TCI: 7}, {TPID: 0x8100, TCI: 8}}} {
		b.learn(srcAddr, dstAddr, tags...)
		pkt := segment(netip.AddrPortFrom(srcAddr, 80), dstAddr, 1460)
		v, err := packet.Parse(pkt)
		must(t, err)
		less, ok := Known(b, v.Key())
		if err := b.Send(pkt); !ok || less == 0 || !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("%v: %v, %d bytes less", tags, err, less)
		}
		must(t, b.Send(segment(netip.AddrPortFrom(srcAddr, 80), dstAddr, 1460-less)))
		if b.atSink.Next(carries(srcAddr, len(tags))) == nil {
			t.Errorf("%v: nothing", tags)
		}
	}
}

// What the port's queue drops is told.
func TestBridgeFullQueueIsTold(t *testing.T) {
	b := newBridged(t)
	b.learn(srcAddr, dstAddr)
	l := &lab{&routerlab.Lab{Box: b.Box}}
	must(t, l.narrow(bridgelab.Out))
	var err error
	for range 100 {
		if err = b.Send(segment(netip.AddrPortFrom(srcAddr, 80), dstAddr, 1000)); err != nil {
			break
		}
	}
	if c := b.Counters(); !errors.Is(err, unix.ENOBUFS) || c.NoBuffers != 1 {
		t.Errorf("a full queue: %v, %+v", err, c)
	}
}

// A port that goes takes its index along. What was learned from it is of no use
// then but for the stations; when it is back it has another one.
func TestBridgePortComesBack(t *testing.T) {
	b := newBridged(t)
	b.learn(srcAddr, dstAddr)
	pkt := segment(netip.AddrPortFrom(srcAddr, 80), dstAddr, 10)
	must(t, b.Send(pkt))
	must(t, b.Box.Do(func() error {
		link, err := netlink.LinkByName(bridgelab.Out)
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	}))
	if err := b.Send(pkt); !errors.Is(err, unix.ENXIO) {
		t.Errorf("a port that is gone, and nobody said so: %v", err)
	}
	b.SetPorts([]int{b.in})
	if err := b.Send(pkt); !errors.Is(err, ErrNoPort) {
		t.Errorf("a port that is gone: %v", err)
	}
	must(t, netns.Veth(netns.End{NS: b.Sink, Name: "eth0"}, netns.End{NS: b.Box, Name: bridgelab.Out}))
	tap := bridgelab.NewTap(t, b.Sink, "eth0")
	now := b.Index(t, bridgelab.Out)
	b.SetPorts([]int{now, b.in})
	must(t, b.Send(pkt))
	if tap.Next(carries(srcAddr, 0)) == nil || now == b.out {
		t.Errorf("nothing by the port that is back; its index is %d, was %d", now, b.out)
	}
	must(t, b.Box.Do(func() error {
		i, err := net.InterfaceByName(bridgelab.Out)
		if err != nil {
			return err
		}
		link, err := netlink.LinkByIndex(i.Index)
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(link)
	}))
	if err := b.Send(pkt); !errors.Is(err, unix.ENETDOWN) {
		t.Errorf("a port that is down: %v", err)
	}
}

// The mark is that of all our own packets: the egress programs tell them by it.
func TestBridgeMark(t *testing.T) {
	b := newBridged(t)
	mark, err := unix.GetsockoptInt(b.fd, unix.SOL_SOCKET, unix.SO_MARK)
	if err != nil || mark != testMark {
		t.Errorf("mark %#x, %v", mark, err)
	}
}

func TestBridgeAllocatesNothing(t *testing.T) {
	b := newBridged(t)
	b.learn(srcAddr, dstAddr)
	b.learn(srcAddr6, dstAddr6, packet.Tag{TPID: 0x8100, TCI: 7})
	for _, pkt := range [][]byte{segment(netip.AddrPortFrom(srcAddr, 80), dstAddr, 100), segment(netip.AddrPortFrom(srcAddr6, 80), dstAddr6, 100)} {
		if n := testing.AllocsPerRun(200, func() { must(t, b.Send(pkt)) }); n != 0 {
			t.Errorf("Send: %v allocations", n)
		}
		if n := testing.AllocsPerRun(200, func() { must(t, b.SendVia(pkt, b.out)) }); n != 0 {
			t.Errorf("SendVia: %v allocations", n)
		}
	}
	unknown := segment(netip.AddrPortFrom(netip.MustParseAddr("10.7.7.7"), 80), dstAddr, 100)
	if n := testing.AllocsPerRun(200, func() { _ = b.Send(unknown) }); n != 0 {
		t.Errorf("a refusal: %v allocations", n)
	}
}

// Senders of several workers share a socket and nothing else.
func TestBridgeConcurrentUse(t *testing.T) {
	b := newBridged(t)
	addrs := []netip.Addr{netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("10.1.1.2"), netip.MustParseAddr("10.1.1.3")}
	var wg sync.WaitGroup
	var wrong, right sync.Map
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range len(addrs) * 50 {
			f := b.atSink.Next(func(f []byte) bool { return f[14]>>4 == 4 && f[14+12] == 10 && f[14+13] == 1 && f[14+14] == 1 })
			if f == nil {
				return
			}
			if f[11] != f[14+15] {
				wrong.Store(f[11], f[14+15])
			}
			right.Store(f[14+15], true)
		}
	}()
	for _, a := range addrs {
		b.learn(a, dstAddr)
		k := packet.FlowKey{Src: a.As16(), Dst: dstAddr.As16()}
		f := b.seen[k]
		f.Src = [6]byte{2, 5: a.As4()[3]}
		b.seen[k] = f
	}
	for _, a := range addrs {
		wg.Go(func() {
			for range 50 {
				if err := b.Send(segment(netip.AddrPortFrom(a, 80), dstAddr, 10)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("frames are missing")
	}
	wrong.Range(func(mac, addr any) bool { t.Errorf("station %v sent as address %v", mac, addr); return true })
	for _, a := range addrs {
		if _, ok := right.Load(a.As4()[3]); !ok {
			t.Errorf("nothing of %v", a)
		}
	}
}

func BenchmarkBridgeSend(b *testing.B) {
	l := newBridged(b)
	l.learn(srcAddr, dstAddr)
	pkt := segment(netip.AddrPortFrom(srcAddr, 80), dstAddr, 0)
	b.ReportAllocs()
	for b.Loop() {
		must(b, l.Send(pkt))
	}
}
