package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// icmpError is who says what to a probe.
type icmpError struct {
	from       netip.Addr
	kind, code uint8 // of ICMP
}

// Types of ICMP and ICMPv6.
const (
	unreachable4, portUnreachable4, exceeded4 = 3, 3, 11
	unreachable6, portUnreachable6, exceeded6 = 1, 4, 3
)

// probe sends a datagram with a TTL, as traceroute does, and waits for the error that
// comes back.
func probe(t *testing.T, ns *netns.NetNS, dst netip.Addr, port uint16, ttl int) (a icmpError) {
	t.Helper()
	level, hops, receive := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_RECVERR
	family, to := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(port)})
	if dst.Is6() {
		level, hops, receive = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_RECVERR
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Port: int(port), Addr: dst.As16()}
	} else {
		to = &unix.SockaddrInet4{Port: int(port), Addr: dst.As4()}
	}
	err := ns.Do(func() error {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		if err := errors.Join(unix.SetsockoptInt(fd, level, hops, ttl), unix.SetsockoptInt(fd, level, receive, 1), unix.Sendto(fd, []byte("probe"), 0, to)); err != nil {
			return err
		}
		wait := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLERR}}
		if n, err := unix.Poll(wait, 4000); err != nil || n == 0 {
			return fmt.Errorf("no answer: %w", err)
		}
		data, control := make([]byte, 512), make([]byte, 512)
		_, n, _, _, err := unix.Recvmsg(fd, data, control, unix.MSG_ERRQUEUE)
		if err != nil {
			return err
		}
		messages, err := unix.ParseSocketControlMessage(control[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			// struct sock_extended_err, and behind it the address of who answers.
			const kind, code, size = 5, 6, 16
			if len(m.Data) < size+28 && (dst.Is6() || len(m.Data) < size+8) {
				continue
			}
			a = icmpError{kind: m.Data[kind], code: m.Data[code]}
			if dst.Is6() {
				a.from, _ = netip.AddrFromSlice(m.Data[size+8 : size+24])
			} else {
				a.from, _ = netip.AddrFromSlice(m.Data[size+4 : size+8])
			}
			return nil
		}
		return errors.New("an error without its sender")
	})
	if err != nil {
		t.Fatalf("probe of %s with a TTL of %d: %v", dst, ttl, err)
	}
	return a
}

// trace is the way to an address as traceroute shows it.
func trace(t *testing.T, ns *netns.NetNS, dst netip.Addr, port uint16) (way []icmpError) {
	t.Helper()
	for ttl := 1; ttl < 10; ttl++ {
		a := probe(t, ns, dst, port, ttl)
		if way = append(way, a); a.from == dst {
			return way
		}
	}
	t.Fatalf("the way to %s has no end: %v", dst, way)
	return nil
}

// neighbours is what hosts have learned of who is on their link.
func (l *lab) neighbours(t *testing.T) map[string]string {
	t.Helper()
	table := map[string]string{}
	for name, ns := range map[string]*netns.NetNS{"A": l.a, "B": l.b} {
		list, err := ns.Neighbours(hostIface)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if len(e.MAC) > 0 {
				table[fmt.Sprintf("%s: %s", name, e.Addr)] = e.MAC.String()
			}
		}
	}
	return table
}

// What hosts can find out about the way between them is the same before there are boxes,
// while boxes work on their packets, and after: who answers traceroute, with the address
// or the port of a policy or without, and the TTLs that arrive, the largest packet, and
// the Ethernet addresses in their tables. With a router between the bridges it is the
// only hop.
func TestHostsSeeNoBridge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		forms []form
		hops4 []netip.Addr // from A to B
		hops6 []netip.Addr
	}{
		{"two bridges", []form{adopted, adopted}, nil, nil},
		{"a router between them", []form{adopted, routed, adopted}, []netip.Addr{netip.MustParseAddr("10.1.0.1")}, []netip.Addr{netip.MustParseAddr("fd00:1::1")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newMixedLab(t, c.forms, nil)
			last := len(l.boxes) - 1
			for _, ns := range []*netns.NetNS{l.b, l.boxes[1].ns} { // each probe shall be answered
				if err := errors.Join(ns.Sysctl("net/ipv4/icmp_ratelimit", "0"), ns.Sysctl("net/ipv6/icmp/ratelimit", "0")); err != nil {
					t.Fatal(err)
				}
			}
			look := func(when string) map[string]string {
				t.Helper()
				for _, f := range []struct {
					dst        netip.Addr
					hops       []netip.Addr
					over, shut icmpError
				}{
					{addrB, c.hops4, icmpError{kind: exceeded4}, icmpError{kind: unreachable4, code: portUnreachable4}},
					{addrB6, c.hops6, icmpError{kind: exceeded6}, icmpError{kind: unreachable6, code: portUnreachable6}},
				} {
					var want []icmpError
					for _, hop := range f.hops {
						want = append(want, icmpError{hop, f.over.kind, f.over.code})
					}
					want = append(want, icmpError{f.dst, f.shut.kind, f.shut.code})
					for _, port := range []uint16{portOther, portVoice} {
						if way := trace(t, l.a, f.dst, port); !slices.Equal(way, want) {
							t.Errorf("%s: the way to %s, port %d: %v, want %v", when, f.dst, port, way, want)
						}
					}
					l.largest(t, f.dst, when)
				}
				return l.neighbours(t)
			}
			before := look("before")
			if len(before) < 4 {
				t.Errorf("only %v are known", before)
			}
			l.boxes[0].launch(t, l.edge(0, usualPolicies, "tcp: {window: predict}").String())
			l.boxes[last].launch(t, l.edge(last, usualPolicies, "tcp: {window: predict}").String())
			l.boxes[0].wait(t)
			l.boxes[last].wait(t)
			atA, atB := capture(t, l.a, hostIface, nil), capture(t, l.b, hostIface, nil)
			source, sink := connect(t, l.a, l.b, at(addrB, portReliable))
			tr := send(source, sink, random(5, 3_000_000))
			l.boxes[0].waitFlow(t, portReliable, "cheated", func(r console.FlowRow) bool { return r.State == console.FlowCheated && r.FakeAcks > 100 })
			during := look("while a connection is cheated")
			tr.wait(t)
			if err := errors.Join(source.Close(), sink.Close()); err != nil {
				t.Error(err)
			}
			l.boxes[0].stop(t)
			l.boxes[last].stop(t)
			after := look("after")
			for when, table := range map[string]map[string]string{"while the boxes work": during, "after": after} {
				for entry, mac := range table { // of a host's link-local address too, which it may have used meanwhile
					if was, known := before[entry]; known && was != mac || !slices.Contains(slices.Collect(maps.Values(before)), mac) {
						t.Errorf("%s: %s is at %s; before there were %v", when, entry, mac, before)
					}
				}
			}
			ttl := 64 - len(c.hops4)
			for _, side := range []struct {
				name   string
				frames [][]byte
			}{{"A", arrived(t, atA)}, {"B", arrived(t, atB)}} {
				n := 0
				for _, f := range side.frames {
					v, err := packet.Parse(f[ethernet:])
					if err != nil || !v.IsTCP() {
						continue
					}
					if n++; int(v.TTL()) != ttl {
						t.Fatalf("a TTL of %d at %s, want %d: % x", v.TTL(), side.name, ttl, f[:80])
					}
				}
				if n < 100 {
					t.Errorf("only %d packets of TCP came to %s", n, side.name)
				}
			}
		})
	}
}

// arrived are the frames that came to where they were captured.
func arrived(t *testing.T, c *traffic.Capture) (list [][]byte) {
	t.Helper()
	all := captured(t, c)
	for _, f := range all {
		if !f.Outgoing {
			list = append(list, f.Data)
		}
	}
	return list
}

// largest holds that a datagram of 1500 bytes of IP arrives whole and may not be cut,
// and that its sender knows of no smaller packets on the way.
func (l *lab) largest(t *testing.T, dst netip.Addr, when string) {
	t.Helper()
	server := listenUDP(t, l.b, at(dst, portOther+1))
	client := dialUDP(t, l.a, at(dst, portOther+1))
	defer func() { _ = errors.Join(server.Close(), client.Close()) }()
	raw, err := client.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	level, discover, mtu, size := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_MTU, 1472
	if dst.Is6() {
		level, discover, mtu, size = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_MTU, 1452
	}
	known := 0
	controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), level, discover, unix.IP_PMTUDISC_DO)
		if err == nil {
			known, err = unix.GetsockoptInt(int(fd), level, mtu)
		}
	})
	if err := errors.Join(err, controlErr); err != nil {
		t.Fatal(err)
	}
	data := random(uint64(binary.BigEndian.Uint32([]byte(when))), size)
	if _, err := client.Write(data); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	if n, _, err := server.ReadFromUDPAddrPort(buf); err != nil || string(buf[:n]) != string(data) || known != 1500 {
		t.Errorf("%s: %d of %d bytes arrived, %v; the path's MTU is %d", when, n, size, err, known)
	}
}
