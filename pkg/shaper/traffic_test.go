package shaper

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

func class(t testing.TB, s *Shaper, id plan.ClassID) ClassStats {
	t.Helper()
	all, err := s.Classes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all["qp0"] {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("no class %s", id)
	return ClassStats{}
}

// tosOf reads a datagram and the TOS it came with.
func tosOf(t testing.TB, c *net.UDPConn) byte {
	t.Helper()
	b, oob := make([]byte, 2048), make([]byte, 128)
	if err := c.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, n, _, _, err := c.ReadMsgUDP(b, oob)
	if err != nil {
		t.Fatal(err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range msgs {
		if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_TOS {
			return m.Data[0]
		}
	}
	t.Fatal("no TOS with the datagram")
	return 0
}

func setsockopt(t testing.TB, c interface {
	SyscallConn() (syscall.RawConn, error)
}, level, name, value int,
) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var inner error
	if err := errors.Join(raw.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), level, name, value) }), inner); err != nil {
		t.Fatal(err)
	}
}

// A reserved flow's packets arrive marked, through their own class; what
// exceeds arrives as best effort.
func TestFlowIsMarkedAndClassed(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), plan20))
	tr := voice
	tr.Rate, tr.Bucket = 1, 1000
	id, err := s.Install(t.Context(), tr)
	n.check(err)
	in := n.listenUDP("10.9.0.2:5004")
	setsockopt(t, in, unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
	out := n.dialUDP("10.9.0.1:4000", "10.9.0.2:5004")
	setsockopt(t, out, unix.IPPROTO_IP, unix.IP_TOS, 8<<2|2) // CS1, and an ECN codepoint
	for i := range 8 {
		_, err := out.Write(make([]byte, 172)) // 200 bytes of IP: five fit the bucket
		n.check(err)
		want := byte(44<<2 | 2)
		if i >= 5 {
			want = 2
		}
		if got := tosOf(t, in); got != want {
			t.Errorf("packet %d: TOS %#x, want %#x", i, got, want)
		}
	}
	if c := class(t, s, id); c.Packets != 5 || c.Bytes != 5*214 {
		t.Errorf("the class sent %d packets with %d bytes", c.Packets, c.Bytes)
	}
	got, err := s.Counters("qp0", voice.Key)
	n.check(err)
	if want := (Counters{Packets: 8, Bytes: 1600, Conform: 5, ConformBytes: 1000, Exceed: 3, ExceedBytes: 600}); got != want {
		t.Errorf("counted %+v", got)
	}
	some := map[int]Counters{}
	n.check(s.SomeCounters([]FlowID{{"qp0", voice.Key.Reverse()}, {"qp0", voice.Key}, {"none", voice.Key}}, func(i int, c Counters) { some[i] = c }))
	if len(some) != 1 || some[1] != got {
		t.Errorf("some counters: %+v", some)
	}
	last, err := s.Take(t.Context(), "qp0", voice.Key)
	n.check(err)
	if last != got {
		t.Errorf("the last counts are %+v", last)
	}
	if _, err := s.Counters("qp0", voice.Key); !errors.Is(err, ErrNoFlow) {
		t.Errorf("the row is still there: %v", err)
	}
	_, err = out.Write(make([]byte, 172))
	n.check(err)
	if got := tosOf(t, in); got != 8<<2|2 {
		t.Errorf("after Remove: TOS %#x", got)
	}
}

// Markings of hosts that are not trusted are taken off what arrives.
func TestIngressResetsDSCP(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), plan20))
	in, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.9.0.1:7000")))
	n.check(err)
	t.Cleanup(func() { _ = in.Close() })
	setsockopt(t, in, unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
	out := n.listenUDP("10.9.0.2:0")
	setsockopt(t, out, unix.IPPROTO_IP, unix.IP_TOS, 46<<2|1)
	_, err = out.WriteTo([]byte("x"), in.LocalAddr())
	n.check(err)
	if got := tosOf(t, in); got != 1 {
		t.Errorf("TOS %#x, want only the ECN bit", got)
	}
}

// sendTCP sends bytes of the stack's own super-packets to the far end.
func (n *testnet) sendTCP(from, to string, size int) {
	n.t.Helper()
	var l net.Listener
	n.at(func() (err error) { l, err = net.Listen("tcp", to); return err })
	defer func() { _ = l.Close() }()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(io.Discard, c)
			err = errors.Join(err, c.Close())
		}
		done <- err
	}()
	local, err := net.ResolveTCPAddr("tcp", from)
	n.check(err)
	remote, err := net.ResolveTCPAddr("tcp", to)
	n.check(err)
	c, err := net.DialTCP("tcp", local, remote)
	n.check(err)
	_, err = c.Write(make([]byte, size))
	n.check(errors.Join(err, c.Close(), <-done))
}

// The counters of a flow in super-packets are those of the packets that its
// class, behind the splitting leaf, sends: to the packet and to the byte.
func TestSuperPacketsCountAsPackets(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	p := plan20
	p.Interfaces = []plan.Interface{{Name: "qp0", Capacity: 12_500_000}}
	n.check(s.Set(t.Context(), p))
	for _, addr := range [][2]string{{"10.9.0.1:4001", "10.9.0.2:104"}, {"[fd09::1]:4001", "[fd09::2]:104"}} {
		tr := plan.Treatment{
			Key:       packet.MakeKey(packet.ProtoTCP, netip.MustParseAddrPort(addr[0]), netip.MustParseAddrPort(addr[1])),
			Interface: "qp0", Rate: 10_000_000, Bucket: 1 << 20, MaxPacket: 1500, Police: true, Reserve: true, Mark: true, DSCP: 26,
		}
		id, err := s.Install(t.Context(), tr)
		n.check(err)
		old := class(t, s, id) // of the flow that had it before
		n.sendTCP(addr[0], addr[1], 3_000_000)
		time.Sleep(50 * time.Millisecond)
		c, err := s.Counters("qp0", tr.Key)
		n.check(err)
		st := class(t, s, id)
		be := class(t, s, plan.BestEffort)
		if c.Packets < 2000 || c.Packets != c.Conform+c.Exceed {
			t.Errorf("counted %+v", c)
		}
		if c.Conform != st.Packets-old.Packets || c.ConformBytes+14*c.Conform != st.Bytes-old.Bytes {
			t.Errorf("conforming %d packets, %d bytes; the class sent %d, %d", c.Conform, c.ConformBytes+14*c.Conform, st.Packets, st.Bytes)
		}
		t.Logf("%s: %+v, class %+v, best effort %+v", addr[0], c, st, be)
		n.check(s.Remove(t.Context(), "qp0", tr.Key))
	}
}

// A cheated flow is shaped to its rate and loses nothing.
func TestCheatedFlowIsShaped(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), plan20))
	tr := voice
	tr.Rate, tr.Bucket, tr.MaxPacket, tr.Cheated, tr.RealTime = 500_000, 5000, 1500, true, false
	id, err := s.Install(t.Context(), tr)
	n.check(err)
	in := n.listenUDP("10.9.0.2:5004")
	out := n.dialUDP("10.9.0.1:4000", "10.9.0.2:5004")
	n.check(in.SetReadBuffer(1 << 20))
	start := time.Now()
	const packets = 150
	for range packets {
		_, err := out.Write(make([]byte, 1472))
		n.check(err)
	}
	b := make([]byte, 2048)
	n.check(in.SetReadDeadline(time.Now().Add(5 * time.Second)))
	for i := range packets {
		if _, err := in.Read(b); err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
	}
	rate := float64(packets*1500) / time.Since(start).Seconds()
	if rate < 0.9*tr.Rate || rate > 1.1*tr.Rate {
		t.Errorf("the flow got %.0f bytes/s of %.0f", rate, tr.Rate)
	}
	if c := class(t, s, id); c.Drops != 0 || c.Packets != packets {
		t.Errorf("class %+v", c)
	}
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A flood of best effort, by datagrams and by super-packets, does not delay a
// reserved flow.
func TestFloodDoesNotDelayReserved(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	n.check(s.Set(t.Context(), plan20))
	tr := voice
	tr.Rate = 25_000 // 200 bytes of IP each 10 ms are 20 000 bytes/s
	id, err := s.Install(t.Context(), tr)
	n.check(err)
	in := n.listenUDP("10.9.0.2:5004")
	n.listenUDP("10.9.0.2:9")
	out, flood := n.dialUDP("10.9.0.1:4000", "10.9.0.2:5004"), n.dialUDP("10.9.0.1:4999", "10.9.0.2:9")

	stop := make(chan struct{})
	flooded := make(chan error, 1)
	go func() { // 1.5 times the capacity
		b := make([]byte, 1400)
		start, sent := time.Now(), 0
		for {
			if closed(stop) {
				flooded <- nil
				return
			}
			for float64(sent) < 3_750_000*time.Since(start).Seconds() && !closed(stop) {
				if _, err := flood.Write(b); err != nil && !errors.Is(err, unix.ENOBUFS) {
					flooded <- err
					return
				}
				sent += len(b)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	bulk := make(chan struct{})
	var l net.Listener
	n.at(func() (err error) { l, err = net.Listen("tcp", "10.9.0.2:5001"); return err })
	go func() {
		defer close(bulk)
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, c) // ends with the connection
		_ = c.Close()
	}()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("10.9.0.2:5001")))
	n.check(err)
	n.check(c.SetLinger(0)) // what is still to be sent is nobody's concern
	pushed := make(chan struct{})
	go func() {
		defer close(pushed)
		b := make([]byte, 1<<18)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}()

	time.Sleep(300 * time.Millisecond)
	const packets = 150
	go func() {
		b := make([]byte, 172)
		next := time.Now()
		for range packets {
			binary.BigEndian.PutUint64(b, uint64(time.Now().UnixNano()))
			_, _ = out.Write(b) // what is lost is missed below
			next = next.Add(10 * time.Millisecond)
			time.Sleep(time.Until(next))
		}
	}()
	var delays []time.Duration
	b := make([]byte, 2048)
	n.check(in.SetReadDeadline(time.Now().Add(5 * time.Second)))
	for len(delays) < packets {
		if _, err := in.Read(b); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			t.Fatal(err)
		}
		delays = append(delays, time.Duration(uint64(time.Now().UnixNano())-binary.BigEndian.Uint64(b)))
	}
	close(stop)
	n.check(errors.Join(<-flooded, c.Close(), l.Close()))
	<-pushed
	<-bulk
	slices.Sort(delays)
	be := class(t, s, plan.BestEffort)
	t.Logf("%d of %d packets, delay p50 %v p99 %v; best effort %+v", len(delays), packets, delays[len(delays)/2], delays[len(delays)*99/100], be)
	if len(delays) != packets {
		t.Errorf("%d of %d packets arrived", len(delays), packets)
	}
	if p99 := delays[len(delays)*99/100]; p99 > 20*time.Millisecond {
		t.Errorf("p99 of the reserved flow's delay is %v", p99)
	}
	// It need not drop: where both senders wait for their sockets the queue holds
	// just what they may have in it.
	if full := float64(be.Ceil) * packets / 100; float64(be.Bytes) < 0.8*full {
		t.Errorf("best effort was not flooded: %d bytes in 1.5 s and more, where %.0f fit", be.Bytes, full)
	}
	if c := class(t, s, id); c.Drops != 0 {
		t.Errorf("the reserved class dropped %d packets", c.Drops)
	}
}
