package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

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

// lab is a row of routers between two hosts:
//
//	A eth0 -- lan0 box1 wan1 -- wan0 box2 wan1 -- ... -- wan0 boxN lan0 -- eth0 B
//
// The link between the first two boxes can be an emulated one.
type lab struct {
	*rig.Rig
	a, b  *netns.NetNS
	boxes []*box
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
	roottest.Need(t)
	r, err := rig.New()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{Rig: r, links: links}
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
			b.checkLog(t)
		}
		if t.Failed() {
			l.dump(t)
		}
	})
	if err := l.build(t, boxes); err != nil {
		t.Fatal(err)
	}
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

func (l *lab) cables() error {
	first, last := l.boxes[0].ns, l.boxes[len(l.boxes)-1].ns
	lastLAN := lanIface
	if first == last {
		lastLAN = rightWAN // one box alone: B is on its network side
	}
	err := errors.Join(
		netns.Veth(netns.End{NS: l.a, Name: hostIface, Addrs: on("10.1.0.2/24", "fd00:1::2/64")},
			netns.End{NS: first, Name: lanIface, Addrs: on("10.1.0.1/24", "fd00:1::1/64")}),
		netns.Veth(netns.End{NS: l.b, Name: hostIface, Addrs: on("10.2.0.2/24", "fd00:2::2/64")},
			netns.End{NS: last, Name: lastLAN, Addrs: on("10.2.0.1/24", "fd00:2::1/64")}),
	)
	if err != nil {
		return err
	}
	for i := range len(l.boxes) - 1 {
		left := netns.End{NS: l.boxes[i].ns, Name: rightWAN, Addrs: hopPrefixes(i, 1)}
		right := netns.End{NS: l.boxes[i+1].ns, Name: leftWAN, Addrs: hopPrefixes(i, 2)}
		if cfg := l.links(i); cfg != nil {
			err = l.emulate(i, left, right, *cfg)
		} else {
			err = netns.Veth(left, right)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// emulate puts a wire between two boxes. No neighbour discovery crosses it,
// whose loss would only be waited for.
func (l *lab) emulate(i int, left, right netns.End, cfg wire.Config) error {
	ns, err := l.Namespace(fmt.Sprintf("wan%d", i))
	if err != nil {
		return err
	}
	left.Wire, right.Wire = true, true
	err = errors.Join(
		netns.Veth(left, netns.End{NS: ns, Name: "left", Wire: true}),
		netns.Veth(right, netns.End{NS: ns, Name: "right", Wire: true}),
		netns.Neighbour(left, right),
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

func (l *lab) routes() error {
	addr := netip.MustParseAddr
	type route struct {
		ns  *netns.NetNS
		dst netip.Prefix
		via netip.Addr
	}
	all4, all6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	routes := []route{
		{l.a, all4, addr("10.1.0.1")},
		{l.a, all6, addr("fd00:1::1")},
		{l.b, all4, addr("10.2.0.1")},
		{l.b, all6, addr("fd00:2::1")},
	}
	for i := range len(l.boxes) - 1 {
		left4, left6 := hop(i, 1)
		right4, right6 := hop(i, 2)
		routes = append(routes,
			route{l.boxes[i].ns, netip.MustParsePrefix("10.2.0.0/24"), right4},
			route{l.boxes[i].ns, netip.MustParsePrefix("fd00:2::/64"), right6},
			route{l.boxes[i+1].ns, netip.MustParsePrefix("10.1.0.0/24"), left4},
			route{l.boxes[i+1].ns, netip.MustParsePrefix("fd00:1::/64"), left6},
		)
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
	cfg := rig.SnapshotConfig{}
	for _, b := range l.boxes {
		cfg.Namespaces = append(cfg.Namespaces, b.ns)
	}
	s, err := rig.TakeSnapshot(cfg)
	if err != nil {
		t.Fatal(err)
	}
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
