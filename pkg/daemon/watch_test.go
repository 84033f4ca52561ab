package daemon

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/roottest"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/shaper/bpf"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// What is looked at by the shaper: another index or MTU, and nothing else.
func TestRemade(t *testing.T) {
	was := newLinks([]link{{Link: route.Link{Index: 2, Name: "wan0", MTU: 1500, Up: true}}})
	for name, c := range map[string]struct {
		now  route.Link
		want bool
	}{
		"the same":    {route.Link{Index: 2, Name: "wan0", MTU: 1500, Up: true}, false},
		"down":        {route.Link{Index: 2, Name: "wan0", MTU: 1500}, false},
		"made again":  {route.Link{Index: 9, Name: "wan0", MTU: 1500, Up: true}, true},
		"larger MTU":  {route.Link{Index: 2, Name: "wan0", MTU: 9000, Up: true}, true},
		"another one": {route.Link{Index: 3, Name: "wan1", MTU: 1500, Up: true}, false},
	} {
		if got := remade(was, newLinks([]link{{Link: c.now}})); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// An interface that is made again while the box runs is shaped and guarded as the
// configuration says, with the treatments that it had.
func TestInterfaceMadeAgainWhileRunning(t *testing.T) {
	roottest.Need(t)
	runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(unix.Unshare(unix.CLONE_NEWNET))
	pair := func(name string) int {
		t.Helper()
		check(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "x"}))
		l, err := netlink.LinkByName(name)
		check(err)
		check(netlink.LinkSetUp(l))
		return l.Attrs().Index
	}
	pair("lan0")
	first := pair("wan0")
	file := filepath.Join(t.TempDir(), "box.yaml")
	check(os.WriteFile(file, []byte("state_dir: "+t.TempDir()+`
interfaces:
  - {name: lan0, zone: hosts, trust: none}
  - {name: wan0, zone: network, capacity: 20mbit, reservable: 80%}
policies: []
`), 0o600))
	c, err := LoadConfig(file)
	check(err)
	d, err := build(Options{ConfigFile: file}, c, zap.NewNop())
	check(err)
	defer func() {
		check(d.closeQueues())
		check(d.shape.Close(true))
		check(d.echo.Close())
		check(d.sender.Close())
	}()
	check(d.setPlan(t.Context(), wanted(c, d.flows.current(), len(d.cheat.handlers), time.Now())))
	tr := plan.Treatment{Key: groupKey, Interface: "wan0", Rate: 1e5, Bucket: 1e4, Reserve: true, Police: true}
	class, err := d.shape.Install(t.Context(), tr)
	check(err)

	again := func(name string) int {
		t.Helper()
		l, err := netlink.LinkByName(name)
		check(err)
		check(netlink.LinkDel(l))
		d.linksChanged() // it is gone
		index := pair(name)
		d.linksChanged()
		return index
	}
	if second := again("wan0"); second == first || d.links.Load().named("wan0").Index != second {
		t.Fatalf("index %d was %d", second, first)
	}
	again("lan0")
	all, err := d.shape.Classes(t.Context())
	check(err)
	found := false
	for _, k := range all["wan0"] {
		found = found || k.ID == class
	}
	if !found {
		t.Errorf("class %s of the reservation is not there: %v", class, all["wan0"])
	}
	if _, err := d.shape.Counters("wan0", tr.Key); err != nil {
		t.Error(err)
	}
	for name, way := range map[string]bpf.Direction{"lan0": bpf.Ingress, "wan0": bpf.Egress} {
		l, err := netlink.LinkByName(name)
		check(err)
		if ids, err := bpf.Programs(way, l.Attrs().Index); err != nil || len(ids) != 1 {
			t.Errorf("%s %s: programs %v, %v", name, way, ids, err)
		}
	}
}
