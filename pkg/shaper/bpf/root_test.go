package bpf

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/roottest"
)

// newNamespace moves the test into a network namespace of its own with a pair
// of interfaces, qp0 and qp1, and returns the first's index. The thread ends
// with the test.
func newNamespace(t testing.TB) (ifindex int) {
	t.Helper()
	roottest.Need(t)
	runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "qp0"}, PeerName: "qp1"}
	veth.HardwareAddr = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lo", "qp0", "qp1"} {
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	link, err := netlink.LinkByName("qp0")
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs().Index
}

// pinDir is a directory of the test's own below the daemons' ones.
func pinDir(t testing.TB) string {
	t.Helper()
	return filepath.Join(Mount, "qosproxy", fmt.Sprintf("test-%d-%d", os.Getpid(), rand.Uint32()))
}

func openTable(t testing.TB, dir string, flows int) *Table {
	t.Helper()
	table, err := Open(dir, flows, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Remove(); err != nil {
			t.Error(err)
		}
	})
	if err := table.Renew(0); err != nil {
		t.Fatal(err)
	}
	return table
}
