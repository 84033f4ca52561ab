package shaper

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/roottest"
	"github.com/qosproxy/qosproxy/pkg/shaper/bpf"
)

// testnet is two network namespaces joined by qp0 (10.9.0.1) and qp1
// (10.9.0.2). The test's own thread is in the first and ends with the test.
type testnet struct {
	t   testing.TB
	far chan func()
}

func newNet(t testing.TB) *testnet {
	t.Helper()
	roottest.Need(t)
	runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	n := &testnet{t: t, far: make(chan func())}
	fd := make(chan int)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			panic(err)
		}
		ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			panic(err)
		}
		fd <- ns
		for f := range n.far {
			f()
		}
	}()
	t.Cleanup(func() { close(n.far) })
	ns := <-fd
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "qp0"}, PeerName: "qp1", PeerNamespace: netlink.NsFd(ns)}
	n.check(netlink.LinkAdd(veth))
	n.check(unix.Close(ns))
	n.setUp("qp0", "10.9.0.1/24", "fd09::1/64")
	n.at(func() error { n.setUp("qp1", "10.9.0.2/24", "fd09::2/64"); return nil })
	return n
}

func (n *testnet) check(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *testnet) setUp(name string, addrs ...string) {
	n.t.Helper()
	link, err := netlink.LinkByName(name)
	n.check(err)
	n.check(netlink.LinkSetUp(link))
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		n.check(err)
		addr.Flags = unix.IFA_F_NODAD
		n.check(netlink.AddrAdd(link, addr))
	}
}

// at runs a function in the far namespace.
func (n *testnet) at(f func() error) {
	n.t.Helper()
	done := make(chan error)
	n.far <- func() { done <- f() }
	n.check(<-done)
}

func (n *testnet) listenUDP(addr string) *net.UDPConn {
	n.t.Helper()
	var c *net.UDPConn
	n.at(func() error {
		a, err := net.ResolveUDPAddr("udp", addr)
		if err != nil {
			return err
		}
		c, err = net.ListenUDP("udp", a)
		return err
	})
	n.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (n *testnet) dialUDP(from, to string) *net.UDPConn {
	n.t.Helper()
	l, err := net.ResolveUDPAddr("udp", from)
	n.check(err)
	r, err := net.ResolveUDPAddr("udp", to)
	n.check(err)
	c, err := net.DialUDP("udp", l, r)
	n.check(err)
	n.t.Cleanup(func() { _ = c.Close() })
	return c
}

// shaper opens a Shaper that is closed clean, and checks that nothing is left.
func (n *testnet) shaper(o Options) *Shaper {
	n.t.Helper()
	s, err := New(o)
	n.check(err)
	n.t.Cleanup(func() {
		if err := s.Close(true); err != nil {
			n.t.Error(err)
		}
		n.clean(s.options.PinDir)
	})
	return s
}

// clean checks that the kernel is as it was found.
func (n *testnet) clean(pins string) {
	n.t.Helper()
	if _, err := os.Stat(pins); !errors.Is(err, fs.ErrNotExist) {
		n.t.Errorf("%s is still there: %v", pins, err)
	}
	links, err := netlink.LinkList()
	n.check(err)
	for _, l := range links {
		qdiscs, err := netlink.QdiscList(l)
		n.check(err)
		for _, q := range qdiscs {
			if q.Attrs().Handle != 0 {
				n.t.Errorf("left on %s: %s", l.Attrs().Name, q)
			}
		}
		for _, d := range []bpf.Direction{bpf.Egress, bpf.Ingress} {
			if ids := attachedAt(n.t, l.Attrs().Index, d); len(ids) > 0 {
				n.t.Errorf("left on %s: %s programs %v", l.Attrs().Name, d, ids)
			}
		}
	}
}

// dummy adds another pair of interfaces.
func (n *testnet) pair(name string) {
	n.t.Helper()
	n.check(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}))
	n.setUp(name)
}

func failAt(n int) func(fmt.Stringer) error {
	return func(op fmt.Stringer) error {
		if n--; n < 0 {
			return fmt.Errorf("injected before %q: %w", op, errInjected)
		}
		return nil
	}
}

var errInjected = errors.New("injected failure")
