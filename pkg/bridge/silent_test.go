package bridge

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
)

// Nothing leaves a box's ports that it has said itself: not when IPv6 was on there
// before, not when somebody asks for an address that the box has elsewhere, which Linux
// answers on every interface else, and not when everybody is asked.
func TestSilent(t *testing.T) {
	b := newBox(t)
	b.arrange(t, []string{"link set lo up", "addr add 192.0.2.1/32 dev lo", "addr add 2001:db8::1/128 dev lo"})
	if err := b.ns.Sysctl("net/ipv4/icmp_echo_ignore_broadcasts", "0"); err != nil {
		t.Fatal(err)
	}
	br := b.made(t)
	var own [][]byte
	for _, name := range []string{"lan0", "wan0", "qp0"} {
		mac, err := b.ns.HardwareAddr(name)
		if err != nil {
			t.Fatal(err)
		}
		own = append(own, mac)
	}
	said := func(f []byte) bool {
		for _, mac := range own {
			if bytes.Equal(f[6:12], mac) {
				return true
			}
		}
		return false
	}
	// What crosses shows that the captures work.
	left, right := start(t, b.left), start(t, b.right)
	for _, host := range []struct {
		ns   *netns.NetNS
		addr string
	}{{b.left, "192.0.2.7/24"}, {b.right, "192.0.2.8/24"}} {
		addrOn(t, host.ns, host.addr)
	}
	ask(t, b.left, "192.0.2.255", "192.0.2.1")
	ask(t, b.right, "192.0.2.255", "192.0.2.1")
	ask(t, b.left, "192.0.2.8")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, c := range []*traffic.Capture{left, right} {
		if _, err := c.Wait(ctx, func(f traffic.Frame) bool { return !f.Outgoing && !said(f.Data) }); err != nil {
			t.Fatal("nothing crosses", err)
		}
	}
	// Routers are solicited three times within 9 s, groups are joined within 2 s.
	time.Sleep(3 * time.Second)
	for _, c := range []*traffic.Capture{left, right} {
		frames, err := c.Frames()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames {
			if said(f.Data) {
				t.Errorf("the box says % x", f.Data[:min(len(f.Data), 60)])
			}
		}
	}
	b.in(t, br.Undo)
}

func start(t *testing.T, ns *netns.NetNS) *traffic.Capture {
	t.Helper()
	c, err := traffic.StartCapture(ns, "eth0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func addrOn(t *testing.T, ns *netns.NetNS, prefix string) {
	t.Helper()
	host := &box{ns: ns}
	host.ip(t, "addr", "add", netip.MustParsePrefix(prefix).String(), "broadcast", "+", "dev", "eth0")
}

// ask has a host look for addresses and ping them; nobody need answer.
func ask(t *testing.T, ns *netns.NetNS, addrs ...string) {
	t.Helper()
	for _, addr := range addrs {
		err := ns.Do(func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
			if err != nil {
				return err
			}
			defer func() { _ = unix.Close(fd) }()
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
				return err
			}
			echo := []byte{8, 0, 0xf7, 0xfe, 0, 0, 0, 1}
			return unix.Sendto(fd, echo, 0, &unix.SockaddrInet4{Addr: [4]byte(net.ParseIP(addr).To4())})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
