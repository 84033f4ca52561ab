package integration

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
)

const policyForNothing = `
  - name: nothing
    match: {protocol: tcp, to_port: 9}
    ` + tcpReserve + `
    mark: af31
    tcp: reliable
`

// What no policy claims never leaves the kernel, and arrives as it was sent.
func TestPassThrough(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	l.startEdges(t, policyForNothing, "")
	seen := capture(t, l.b, hostIface, toPort(portOther))

	for i, addr := range []netip.Addr{addrB, addrB6} {
		a, b := connect(t, l.a, l.b, at(addr, portOther))
		send(a, b, random(uint64(i), 3_000_000)).wait(t)
		back, forth := connect(t, l.b, l.a, at([]netip.Addr{addrA, addrA6}[i], portOther))
		send(forth, back, random(uint64(i)+5, 1_000_000)).wait(t)
	}
	for _, addr := range []netip.Addr{addrB, addrB6} {
		for _, size := range []int{100, 4000} { // the second travels in fragments
			exchange(t, l.a, l.b, addr, size)
		}
		ping(t, l.a, addr)
	}
	checkReset(t, seen)
	for _, b := range l.boxes {
		for role, n := range b.queued(t) {
			if n != 0 {
				t.Errorf("%s: %d packets went to user space through the queue %s", b.name, n, role)
			}
		}
		if rows, err := b.Flows(t.Context()); err != nil || len(rows) != 0 {
			t.Errorf("%s: flows %+v, %v; want none", b.name, rows, err)
		}
	}
}

// checkReset holds that hosts' own DSCP marks do not pass, and ECN does
// (RFC 2474 section 3, RFC 3168 section 5).
func checkReset(t *testing.T, seen *traffic.Capture) {
	t.Helper()
	frames := captured(t, seen)
	udp, ecn := 0, 0
	for _, f := range frames {
		if f.Outgoing {
			continue
		}
		if dscpOf(f.Data) != 0 {
			t.Fatalf("DSCP %d arrives from a host that is not trusted", dscpOf(f.Data))
		}
		if (isIPv4(f.Data) && f.Data[ethernet+9] == unix.IPPROTO_UDP) || (isIPv6(f.Data) && f.Data[ethernet+6] == unix.IPPROTO_UDP) {
			udp++
			if tos(f.Data)&3 == 2 {
				ecn++
			}
		}
	}
	if udp == 0 || ecn != udp {
		t.Errorf("%d of %d UDP packets kept ECT(0)", ecn, udp)
	}
}

// exchange sends a UDP packet with DSCP EF and ECT(0) there and back.
func exchange(t *testing.T, from, to *netns.NetNS, addr netip.Addr, size int) {
	t.Helper()
	server := listenUDP(t, to, at(addr, portOther))
	defer func() { _ = server.Close() }()
	client := dialUDP(t, from, at(addr, portOther))
	defer func() { _ = client.Close() }()
	setTOS(t, client, addr.Is6(), 46<<2|2)
	data := random(uint64(size), size)
	if _, err := client.Write(data); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 8000)
	n, peer, err := server.ReadFromUDPAddrPort(buf)
	if err != nil || string(buf[:n]) != string(data) {
		t.Fatalf("UDP to %s: %d of %d bytes, %v", addr, n, size, err)
	}
	if _, err := server.WriteToUDPAddrPort(buf[:n], peer); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(buf); err != nil || string(buf[:n]) != string(data) {
		t.Errorf("UDP back from %s: %d of %d bytes, %v", addr, n, size, err)
	}
}

func listenUDP(t *testing.T, ns *netns.NetNS, addr netip.AddrPort) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := ns.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		return err
	})
	if err == nil {
		err = c.SetDeadline(time.Now().Add(12 * time.Second))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func dialUDP(t *testing.T, ns *netns.NetNS, addr netip.AddrPort) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := ns.Do(func() (err error) {
		c, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
		return err
	})
	if err == nil {
		err = c.SetDeadline(time.Now().Add(12 * time.Second))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func setTOS(t *testing.T, c *net.UDPConn, v6 bool, value int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	controlErr := raw.Control(func(fd uintptr) {
		if v6 {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_TCLASS, value)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, value)
		}
	})
	if err != nil || controlErr != nil {
		t.Fatal(err, controlErr)
	}
}

// ping sends an ICMP echo request and waits for its reply.
func ping(t *testing.T, ns *netns.NetNS, addr netip.Addr) {
	t.Helper()
	network, request, reply := "ip4:icmp", byte(8), byte(0)
	if addr.Is6() {
		network, request, reply = "ip6:ipv6-icmp", 128, 129
	}
	var c *net.IPConn
	err := ns.Do(func() (err error) {
		c, err = net.DialIP(network, nil, &net.IPAddr{IP: addr.AsSlice()})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	packet := append([]byte{request, 0, 0, 0, 0x47, 0x11, 0, 1}, random(1, 48)...)
	if addr.Is4() { // the kernel fills in ICMPv6's
		sum := uint32(0)
		for i := 0; i < len(packet); i += 2 {
			sum += uint32(packet[i])<<8 | uint32(packet[i+1])
		}
		sum = sum>>16 + sum&0xffff
		sum += sum >> 16
		packet[2], packet[3] = byte(^sum>>8), byte(^sum)
	}
	if _, err := c.Write(packet); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 200)
	for {
		n, _, err := c.ReadFromIP(buf) // Read would leave the IPv4 header on
		if err != nil {
			t.Fatal(fmt.Errorf("ping %s: %w", addr, err))
		}
		if n == len(packet) && buf[0] == reply && string(buf[8:n]) == string(packet[8:]) {
			return
		}
	}
}
