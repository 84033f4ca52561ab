package netns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/roottest"
)

func newNS(t *testing.T) *NetNS {
	t.Helper()
	roottest.Need(t)
	ns, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	return ns
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Error(err)
	}
	return st.Ino
}

func TestDoIsInsideAndLeavesNoThreadBehind(t *testing.T) {
	ns := newNS(t)
	want, err := ns.Inode()
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			err := ns.Do(func() error {
				if got := inode(t, "/proc/thread-self/ns/net"); got != want {
					t.Errorf("namespace %d, want %d", got, want)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(threads) == 0 {
		t.Fatal(threads, err)
	}
	for _, thread := range threads {
		var st unix.Stat_t
		if unix.Stat(thread, &st) == nil && st.Ino == want {
			t.Errorf("%s is still inside", thread)
		}
	}
}

func TestDoReturnsErrorsAndSurvivesGoexit(t *testing.T) {
	ns := newNS(t)
	broken := errors.New("broken")
	if err := ns.Do(func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	err := ns.Do(func() error { runtime.Goexit(); return nil })
	if !errors.Is(err, errNoReturn) {
		t.Errorf("error %v, want %v", err, errNoReturn)
	}
}

func TestNamedNamespaceIsListedUntilClosed(t *testing.T) {
	roottest.Need(t)
	name := NewGroup() + "named"
	ns, err := NewNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	listed := func() bool {
		names, err := Names()
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(names, name)
	}
	if !listed() {
		t.Error("not listed")
	}
	if want, err := ns.Inode(); err != nil || inode(t, filepath.Join(Dir, name)) != want {
		t.Errorf("the name is another namespace's: %v", err)
	}
	if _, err := NewNamed(name); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second one: %v, want %v", err, os.ErrExist)
	}
	if !listed() {
		t.Error("the refused second one removed the first")
	}
	if err := errors.Join(ns.Close(), ns.Close()); err != nil {
		t.Error(err)
	}
	if listed() {
		t.Error("still listed")
	}
}

func TestNamesOfOrphans(t *testing.T) {
	for name, want := range map[string]int{
		"qp123-4-box1":  123,
		"qp123-4-a-b":   123,
		"qp123-4":       0,
		"qp-4-box1":     0,
		"qpx-4-box1":    0,
		"qp123-x-box1":  0,
		"qp-1-4-box1":   0,
		"other123-4-b":  0,
		"qp0-1-box":     0,
		"qp99999999999": 0,
	} {
		if got, ok := maker(name); ok != (want != 0) || ok && got != want {
			t.Errorf("%s: %d, %t; want %d", name, got, ok, want)
		}
	}
	if !alive(os.Getpid()) || alive(1<<22+1) {
		t.Error("alive is wrong about this process or one that cannot be")
	}
	if one, two := NewGroup(), NewGroup(); one == two || !strings.HasPrefix(one, Prefix) {
		t.Error("group names are not unique")
	}
}

func TestVethAddressesRoutesAndOffloads(t *testing.T) {
	a, b := newNS(t), newNS(t)
	prefix := func(s string) netip.Prefix { return netip.MustParsePrefix(s) }
	err := Veth(
		End{NS: a, Name: "left", MTU: 1400, Wire: true, Addrs: []netip.Prefix{prefix("192.0.2.1/24"), prefix("2001:db8::1/64")}},
		End{NS: b, Name: "right", MTU: 1400, Addrs: []netip.Prefix{prefix("192.0.2.2/24")}},
	)
	if err != nil {
		t.Fatal(err)
	}
	// An Ethernet address of its own for the neighbour, and no question asked.
	err = Neighbour(
		End{NS: a, Name: "left", Addrs: []netip.Prefix{prefix("192.0.2.1/24")}},
		End{NS: b, Name: "right", Addrs: []netip.Prefix{prefix("192.0.2.2/24")}},
	)
	if err != nil {
		t.Error(err)
	}
	if err := a.Route(prefix("198.51.100.0/24"), netip.MustParseAddr("192.0.2.2")); err != nil {
		t.Error(err)
	}
	if err := a.Route(prefix("::/0"), netip.MustParseAddr("2001:db8::2")); err != nil {
		t.Error(err)
	}
	if err := a.Route(prefix("0.0.0.0/0"), netip.MustParseAddr("203.0.113.1")); err == nil {
		t.Error("a route over an unreachable gateway is accepted")
	}
	err = a.Do(func() error {
		iface, err := net.InterfaceByName("left")
		if err != nil {
			return err
		}
		mac, err := a.HardwareAddr("left")
		if err != nil {
			return err
		}
		if iface.MTU != 1400 || iface.Flags&net.FlagUp == 0 || mac.String() != iface.HardwareAddr.String() {
			t.Errorf("interface %+v, address %s", iface, mac)
		}
		// Without duplicate detection wanted, the address can be used at once.
		listener, err := net.Listen("tcp", "[2001:db8::1]:0")
		if err != nil {
			return err
		}
		return listener.Close()
	})
	if err != nil {
		t.Error(err)
	}
	if err := b.Up("nothing"); err == nil {
		t.Error("an interface that is not there was set up")
	}
}

func TestSysctl(t *testing.T) {
	ns := newNS(t)
	for _, value := range []string{"1", "0"} {
		if err := ns.Sysctl("net.ipv4.ip_forward", value); err != nil {
			t.Fatal(err)
		}
		if got, err := ns.ReadSysctl("net/ipv4/ip_forward"); err != nil || got != value {
			t.Errorf("read %q, %v; want %q", got, err, value)
		}
	}
	if err := ns.Sysctl("net.ipv4.no_such_thing", "1"); !IsAbsent(err) {
		t.Errorf("error %v, want one that IsAbsent knows", err)
	}
}
