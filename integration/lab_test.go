package integration

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

var (
	addrA  = netip.MustParseAddr("10.1.0.2")
	addrB  = netip.MustParseAddr("10.2.0.2")
	addrA6 = netip.MustParseAddr("fd00:1::2")
	addrB6 = netip.MustParseAddr("fd00:2::2")
)

const (
	hostIface = "eth0" // of hosts
	lanIface  = "lan0" // of the first and the last box
	leftWAN   = "wan0" // of a box, towards A
	rightWAN  = "wan1" // of a box, towards B
)

// form is what a box is to the hosts.
type form uint8

const (
	routed  form = iota // a router, with an address on either side
	bridged             // two ports without addresses; box.start makes a bridge of them, and until then nothing passes
	adopted             // the same, in a bridge br0 that is there from the start: packets pass whether the box runs or not
)

// adoptedBridge is the bridge of boxes whose form is adopted.
const adoptedBridge = "br0"

// lab is a row of boxes between two hosts:
//
//	A eth0 -- lan0 box1 wan1 -- wan0 box2 wan1 -- ... -- wan0 boxN lan0 -- eth0 B
//
// The link between the first two boxes can be an emulated one. A box that is a
// bridge joins what is on its two sides to one layer 2. If all are bridges, A and B
// have routes to each other's prefix on their link, and else their gateway is the
// router next to them.
type lab struct {
	*rig.Rig
	a, b  *netns.NetNS
	boxes []*box
	forms []form     // of the boxes
	wan   *wire.Wire // nil: a plain cable
	links func(i int) *wire.Config
	wires []*wire.Wire // the emulated links
}

// newLab builds the network with so many boxes, none of them running. A
// non-nil wan emulates the link between the first two.
func newLab(t *testing.T, boxes int, wan *wire.Config) *lab {
	t.Helper()
	return newLabOf(t, boxes, func(i int) *wire.Config {
		if i == 0 {
			return wan
		}
		return nil
	})
}

// newLabOf is newLab with any of the links between boxes emulated: links tells
// of the one behind box i (from 0), nil for a cable.
func newLabOf(t *testing.T, boxes int, links func(i int) *wire.Config) *lab {
	t.Helper()
	return newLabIn(t, slices.Repeat([]form{formOf(t)}, boxes), links)
}

// newBridgedLab is newLab with boxes that are bridges: the same hosts with the same
// addresses, on one layer 2.
func newBridgedLab(t *testing.T, boxes int, wan *wire.Config) *lab {
	t.Helper()
	return newMixedLab(t, slices.Repeat([]form{bridged}, boxes), wan)
}

// newMixedLab is newLab with a form for each box.
func newMixedLab(t *testing.T, forms []form, wan *wire.Config) *lab {
	t.Helper()
	return newLabIn(t, forms, func(i int) *wire.Config {
		if i == 0 {
			return wan
		}
		return nil
	})
}

// newLabIn is newLabOf with a form for each box.
func newLabIn(t *testing.T, forms []form, links func(i int) *wire.Config) *lab {
	t.Helper()
	l := newEmptyLab(t, forms)
	l.links = links
	if err := l.build(t, len(forms)); err != nil {
		t.Fatal(err)
	}
	return l
}

// newEmptyLab has no network and no boxes yet; those that come to be in it are judged by
// their log, and nothing of them is left.
func newEmptyLab(t *testing.T, forms []form) *lab {
	t.Helper()
	roottest.Need(t)
	r, err := rig.New()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{Rig: r, forms: forms}
	t.Cleanup(func() {
		pins := l.pins(t)
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		for _, dir := range pins { // of boxes that were killed
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		}
		for _, b := range l.boxes {
			b.forgetPromises(t)
			b.checkLog(t)
		}
		if t.Failed() {
			l.dump(t)
		}
	})
	return l
}

// pins are the directories of the boxes' eBPF objects.
func (l *lab) pins(t *testing.T) (dirs []string) {
	t.Helper()
	for _, b := range l.boxes {
		dir, err := rig.PinDir(b.ns)
		if err != nil {
			t.Error(err)
			continue
		}
		dirs = append(dirs, dir)
	}
	return dirs
}

func (l *lab) build(t *testing.T, boxes int) error {
	var err error
	if l.a, err = l.Namespace("a"); err != nil {
		return err
	}
	if l.b, err = l.Namespace("b"); err != nil {
		return err
	}
	for i := range boxes {
		ns, err := l.Namespace(fmt.Sprintf("box%d", i+1))
		if err != nil {
			return err
		}
		l.boxes = append(l.boxes, newBox(t, l, ns, i))
		if l.forms[i] != routed {
			continue
		}
		for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
			if err := ns.Sysctl(key, "1"); err != nil {
				return err
			}
		}
	}
	if err := l.cables(); err != nil {
		return err
	}
	return l.routes()
}

func on(addrs ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range addrs {
		out = append(out, netip.MustParsePrefix(a))
	}
	return out
}

// hop returns an address of the link between box number i and the next (from
// 0); end is 1 for the left and 2 for the right.
func hop(i, end int) (v4, v6 netip.Addr) {
	return netip.AddrFrom4([4]byte{10, 9, byte(i), byte(end)}), netip.MustParseAddr(fmt.Sprintf("fd00:9:%x::%d", i, end))
}

func hopPrefixes(i, end int) []netip.Prefix {
	v4, v6 := hop(i, end)
	return []netip.Prefix{netip.PrefixFrom(v4, 24), netip.PrefixFrom(v6, 64)}
}

// leftEnd and rightEnd are the interfaces of box i. A router has an address on them: on
// its host's side the host's gateway, and else one of the link to the next router.
func (l *lab) leftEnd(i int) netns.End {
	end := netns.End{NS: l.boxes[i].ns, Name: leftWAN}
	if i == 0 {
		end.Name = lanIface
	}
	switch before := l.router(i-1, -1); {
	case l.forms[i] != routed:
	case before < 0:
		end.Addrs = on("10.1.0.1/24", "fd00:1::1/64")
	default:
		end.Addrs = hopPrefixes(before, 2)
	}
	return end
}

func (l *lab) rightEnd(i int) netns.End {
	end := netns.End{NS: l.boxes[i].ns, Name: rightWAN}
	last := len(l.boxes) - 1
	if i == last && i > 0 { // one box alone: B is on its network side
		end.Name = lanIface
	}
	switch next := l.router(i+1, 1); {
	case l.forms[i] != routed:
	case next > last:
		end.Addrs = on("10.2.0.1/24", "fd00:2::1/64")
	default:
		end.Addrs = hopPrefixes(i, 1)
	}
	return end
}

// isBridge tells whether box i is one; boxes that a scenario adds are routers.
func (l *lab) isBridge(i int) bool { return i < len(l.forms) && l.forms[i] != routed }

// seenHops are the IPv4 addresses of RSVP hops on the link between the first two boxes:
// theirs, or of transparent ones those of the hosts that they speak for.
func (l *lab) seenHops() (left, right netip.Addr) {
	if l.isBridge(0) {
		return addrA, addrB
	}
	left, _ = hop(0, 1)
	right, _ = hop(0, 2)
	return left, right
}

// router is the first box from i on that is one, in steps of 1 or -1; -1 or the number
// of boxes if there is none.
func (l *lab) router(i, step int) int {
	for i >= 0 && i < len(l.boxes) && l.forms[i] != routed {
		i += step
	}
	return i
}

func (l *lab) hostA() netns.End {
	return netns.End{NS: l.a, Name: hostIface, Addrs: on("10.1.0.2/24", "fd00:1::2/64")}
}

func (l *lab) hostB() netns.End {
	return netns.End{NS: l.b, Name: hostIface, Addrs: on("10.2.0.2/24", "fd00:2::2/64")}
}

func (l *lab) cables() error {
	last := len(l.boxes) - 1
	err := errors.Join(netns.Veth(l.hostA(), l.leftEnd(0)), netns.Veth(l.hostB(), l.rightEnd(last)))
	for i := range last {
		left, right := l.rightEnd(i), l.leftEnd(i+1)
		if cfg := l.links(i); cfg != nil {
			err = errors.Join(err, l.emulate(i, left, right, *cfg))
		} else {
			err = errors.Join(err, netns.Veth(left, right))
		}
	}
	if err != nil {
		return err
	}
	for i := range last {
		if l.links(i) == nil {
			continue
		}
		if err := l.acquaint(i); err != nil {
			return err
		}
	}
	for i, f := range l.forms {
		if f != adopted {
			continue
		}
		if err := l.boxes[i].ns.Bridge(adoptedBridge, l.leftEnd(i).Name, l.rightEnd(i).Name); err != nil {
			return err
		}
	}
	return nil
}

// emulate puts a wire between two boxes.
func (l *lab) emulate(i int, left, right netns.End, cfg wire.Config) error {
	ns, err := l.Namespace(fmt.Sprintf("wan%d", i))
	if err != nil {
		return err
	}
	left.Wire, right.Wire = true, true
	err = errors.Join(
		netns.Veth(left, netns.End{NS: ns, Name: "left", Wire: true}),
		netns.Veth(right, netns.End{NS: ns, Name: "right", Wire: true}),
	)
	if err != nil {
		return err
	}
	cfg.NS, cfg.A, cfg.B = ns, "left", "right"
	w, err := l.Wire(cfg)
	if i == 0 {
		l.wan = w
	}
	l.wires = append(l.wires, w)
	return err
}

// acquaint tells those who have addresses next to an emulated link each other's
// Ethernet address: no neighbour discovery crosses it, whose loss would only be waited
// for.
func (l *lab) acquaint(i int) error {
	left, right := l.hostA(), l.hostB()
	if r := l.router(i, -1); r >= 0 {
		left = l.rightEnd(r)
	}
	if r := l.router(i+1, 1); r < len(l.boxes) {
		right = l.leftEnd(r)
	}
	return netns.Neighbour(left, right)
}

func (l *lab) routes() error {
	addr := netip.MustParseAddr
	type route struct {
		ns  *netns.NetNS
		dst netip.Prefix
		via netip.Addr
	}
	first := l.router(0, 1)
	if first == len(l.boxes) {
		var errs []error
		for _, p := range on("10.2.0.0/24", "fd00:2::/64") {
			errs = append(errs, l.a.OnLink(p, hostIface))
		}
		for _, p := range on("10.1.0.0/24", "fd00:1::/64") {
			errs = append(errs, l.b.OnLink(p, hostIface))
		}
		return errors.Join(errs...)
	}
	all4, all6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	routes := []route{
		{l.a, all4, addr("10.1.0.1")},
		{l.a, all6, addr("fd00:1::1")},
		{l.b, all4, addr("10.2.0.1")},
		{l.b, all6, addr("fd00:2::1")},
	}
	for i := first; ; {
		next := l.router(i+1, 1)
		if next == len(l.boxes) {
			break
		}
		left4, left6 := hop(i, 1)
		right4, right6 := hop(i, 2)
		routes = append(routes,
			route{l.boxes[i].ns, netip.MustParsePrefix("10.2.0.0/24"), right4},
			route{l.boxes[i].ns, netip.MustParsePrefix("fd00:2::/64"), right6},
			route{l.boxes[next].ns, netip.MustParsePrefix("10.1.0.0/24"), left4},
			route{l.boxes[next].ns, netip.MustParsePrefix("fd00:1::/64"), left6},
		)
		i = next
	}
	for _, r := range routes {
		if err := r.ns.Route(r.dst, r.via); err != nil {
			return err
		}
	}
	return nil
}

// snapshot is what could be left behind in the boxes' namespaces.
func (l *lab) snapshot(t *testing.T) rig.Snapshot {
	t.Helper()
	return l.snapshotOf(t, rig.SnapshotConfig{})
}

// whole is snapshot with all that can be set of the boxes' network.
func (l *lab) whole(t *testing.T) rig.Snapshot {
	t.Helper()
	return l.snapshotOf(t, rig.SnapshotConfig{Whole: true})
}

// settled is whole, once the interfaces have taken their addresses: duplicate
// address detection takes its time.
func (l *lab) settled(t *testing.T) rig.Snapshot {
	t.Helper()
	return l.settledOf(t, l.whole)
}

func (l *lab) settledOf(t *testing.T, take func(*testing.T) rig.Snapshot) rig.Snapshot {
	t.Helper()
	now := take(t)
	for since := time.Now(); time.Since(since) < 1500*time.Millisecond; {
		time.Sleep(100 * time.Millisecond)
		if next := take(t); len(now.Added(next))+len(next.Added(now)) > 0 {
			now, since = next, time.Now()
		}
	}
	return now
}

func (l *lab) snapshotOf(t *testing.T, cfg rig.SnapshotConfig) rig.Snapshot {
	t.Helper()
	for _, b := range l.boxes {
		cfg.Namespaces = append(cfg.Namespaces, b.ns)
	}
	s, err := rig.TakeSnapshot(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// kernel is what snapshot has of this lab's boxes alone, for scenarios beside which
// others run.
func (l *lab) kernel(t *testing.T) rig.Snapshot {
	t.Helper()
	return l.own(t, l.snapshot(t))
}

// wholeOwn is what whole has of this lab's boxes alone.
func (l *lab) wholeOwn(t *testing.T) rig.Snapshot {
	t.Helper()
	return l.own(t, l.whole(t))
}

// own leaves out of a snapshot what is of other labs.
func (l *lab) own(t *testing.T, s rig.Snapshot) rig.Snapshot {
	t.Helper()
	var own []string
	for _, dir := range l.pins(t) {
		own = append(own, filepath.Base(dir))
	}
	for _, b := range l.boxes {
		own = append(own, b.ns.Name())
	}
	maps.DeleteFunc(s, func(line string, _ struct{}) bool {
		return !slices.ContainsFunc(own, func(name string) bool {
			return slices.Contains(strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '/' }), name)
		})
	})
	return s
}

// dump shows what the boxes said, for a test that failed.
func (l *lab) dump(t *testing.T) {
	t.Helper()
	for _, b := range l.boxes {
		if b.proc != nil {
			text := b.proc.Stderr()
			t.Logf("log of %s:\n%s", b.name, text[max(0, len(text)-6000):])
		}
	}
}
