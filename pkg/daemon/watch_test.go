package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/roottest"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/shaper/bpf"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// A subscription to changes that is refused, or ended, is asked for again, and what was
// missed is looked for then.
func TestFollowingIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		calls, changes, refused := 0, 0, errors.New("too many open files")
		var told []error
		subscribe := func(ctx context.Context) (<-chan struct{}, error) {
			ch := make(chan struct{}, 1)
			switch calls++; calls {
			case 1, 2, 4:
				return nil, refused
			case 3:
				ch <- struct{}{}
				close(ch)
			default:
				context.AfterFunc(ctx, func() { close(ch) })
			}
			return ch, nil
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			follow(ctx, subscribe, func() { changes++ }, func(err error) { told = append(told, err) })
		}()
		time.Sleep(100 * watchAgain)
		synctest.Wait()
		if want := []error{refused, refused, nil, refused, nil}; !slices.Equal(told, want) || changes != 3 {
			t.Errorf("told %v, and looked %d times", told, changes)
		}
		cancel()
		<-done
	})
}

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

// Flows that begin by an interface of which the daemon has not heard yet are claimed as
// all others when it has, and connections that have gone on meanwhile have no caveat.
func TestFlowsOfAnInterfaceThatComesBack(t *testing.T) {
	const back = 7
	table := testTable(t)
	table.limit = 10
	table.frames = frames{learned: learned{imaging(t): {}}}
	now := time.Now()
	older := tcpPacket(t, "10.1.0.3:4000", "10.2.0.2:104", packet.FlagACK)
	table.first(now, older, lan, wan)
	f, _, _ := table.get(older.Key())
	was := f.text()
	table.first(now, older, back, wan)
	if f, _, _ := table.get(older.Key()); f.text() != was {
		t.Errorf("by a port that is not known yet: %q", f.text())
	}
	voice, video := udpPacket(t, "10.1.0.2:9", "10.2.0.2:5004"), udpPacket(t, "10.1.0.2:9", "10.2.0.2:7000")
	data, stays := tcpPacket(t, imagingSrc, imagingDst, packet.FlagSYN), udpPacket(t, "10.1.0.2:9", "10.2.0.2:5006")
	for _, v := range []packet.View{voice, video, data} {
		table.first(now, v, back, wan)
	}
	table.first(now, stays, 8, wan)
	if list := table.found(); len(list) > 0 {
		t.Fatalf("found: %v", list)
	}
	counted := table.matches()
	table.configure("box.yaml", table.current(), map[int]config.Zone{back: config.ZoneHosts, wan: config.ZoneNetwork})
	got := map[packet.FlowKey]flow{}
	for _, f := range table.found() {
		got[f.key] = f
	}
	for _, v := range []packet.View{voice, data} {
		if f, ok := got[v.Key()]; !ok || f.state != stateWatched || f.role != roleSender || f.in != back {
			t.Errorf("%v: %+v", v.Key(), f)
		}
	}
	if f, ok := got[video.Key()]; !ok || f.state != stateManaged || !f.marked {
		t.Errorf("marked: %+v", f)
	}
	if f, _, _ := table.get(data.Key()); !strings.Contains(f.caveat, "it began before its interface was known") {
		t.Errorf("connection: %q", f.text())
	}
	if f, _, _ := table.get(stays.Key()); f.state != stateLeftAlone {
		t.Errorf("by an interface that is still unknown: %+v", f)
	}
	if again := table.found(); len(got) != 4 || len(again) > 0 { // the connection has two directions
		t.Errorf("found %v, and again %v", got, again)
	}
	if d := cmp.Diff(counted, table.matches()); d != "" {
		t.Error(d)
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
policies:
  - {name: video, match: {protocol: udp, to_port: 7000}, mark: af21}
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

	meanwhile := func() {}
	again := func(name string) int {
		t.Helper()
		l, err := netlink.LinkByName(name)
		check(err)
		check(netlink.LinkDel(l))
		d.linksChanged() // it is gone
		index := pair(name)
		meanwhile()
		d.linksChanged()
		return index
	}
	if second := again("wan0"); second == first || d.links.Load().named("wan0").Index != second {
		t.Fatalf("index %d was %d", second, first)
	}
	// A flow that has begun before the daemon knew of it is treated, too.
	video := udpPacket(t, "10.1.0.2:9", "10.2.0.2:7000")
	meanwhile = func() {
		in, err := netlink.LinkByName("lan0")
		check(err)
		d.flows.first(time.Now(), video, in.Attrs().Index, d.links.Load().named("wan0").Index)
	}
	again("lan0")
	if tr, ok := d.shape.Treatment("wan0", video.Key()); !ok || !tr.Mark || tr.DSCP != 18 {
		t.Errorf("what began meanwhile: %+v, %v", tr, ok)
	}
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
	// While another one is gone, too, and it is tried again until that is back.
	l, err := netlink.LinkByName("lan0")
	check(err)
	check(netlink.LinkDel(l))
	meanwhile = func() {}
	if ids, err := bpf.Programs(bpf.Egress, again("wan0")); err != nil || len(ids) != 1 {
		t.Errorf("lan0 is gone: programs of wan0 %v, %v", ids, err)
	}
	if d.shaped != nil {
		t.Error("lan0 is gone, and counts as shaped")
	}
	// It comes back, and nobody tells: it is looked for.
	index := pair("lan0")
	ended, end := context.WithCancel(t.Context())
	end()
	d.followClock(ended)
	if d.shaped == nil || d.links.Load().named("lan0").Index != index {
		t.Errorf("lan0 is back with index %d: shaped %v, %+v", index, d.shaped, d.links.Load().named("lan0"))
	}
}
