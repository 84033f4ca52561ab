package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// readdress adds addresses to an interface, or removes them.
func readdress(t *testing.T, ns *netns.NetNS, iface string, change func(netlink.Link, *netlink.Addr) error, list ...netip.Prefix) {
	t.Helper()
	if err := ns.Do(func() error {
		l, err := netlink.LinkByName(iface)
		if err != nil {
			return err
		}
		for _, p := range list {
			a, err := netlink.ParseAddr(p.String())
			if err != nil {
				return err
			}
			if err := change(l, a); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// The link between two boxes has two networks, and the second box is in the other
// one than the first's first addresses are in: each is told the address that it
// has a way to, reservations come about, and stay while addresses come and go (RFC
// 2205 section 3.3). Without IPv4 and IPv6 in one lab it would be two of them.
func TestMultihomedRFC2205Section3_3(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	one, two := l.boxes[0], l.boxes[1]
	const voice6 = portVoice + 1
	// Box 2 is in the second network alone, and knows no way to the first.
	readdress(t, two.ns, leftWAN, netlink.AddrDel, hopPrefixes(0, 2)...)
	readdress(t, one.ns, rightWAN, netlink.AddrAdd, both(200, 1)...)
	readdress(t, two.ns, leftWAN, netlink.AddrAdd, both(200, 2)...)
	lead := func(f family, left, right netip.Addr) {
		t.Helper()
		if err := errors.Join(one.ns.Reroute(f.link(f.dst), right), two.ns.Reroute(f.link(f.src), left)); err != nil {
			t.Fatal(err)
		}
	}
	families := map[uint16]family{portVoice: ipv4, voice6: ipv6}
	for _, f := range families {
		lead(f, f.added(200, 1), f.added(200, 2))
	}
	l.startEdges(t, ipv6.policies(voicePolicy), "")
	end4, end6 := l.callOver(t, ipv4, portVoice, time.Minute), l.callOver(t, ipv6, voice6, time.Minute)
	hops := func(what string, left, right func(f family) netip.Addr) {
		t.Helper()
		for port, f := range families {
			eventually(t, 15*time.Second, fmt.Sprintf("%s over %s", what, f), func() error {
				a, err := one.session(t, port)
				b, err2 := two.session(t, port)
				if err := errors.Join(err, err2); err != nil {
					return err
				}
				if a.State != console.SessionReserved || a.NextHop != right(f).String() || b.State != console.SessionReserved || b.PrevHop != left(f).String() {
					return fmt.Errorf("box 1 %s to %s, box 2 %s from %s; want %s and %s", a.State, a.NextHop, b.State, b.PrevHop, right(f), left(f))
				}
				return nil
			})
		}
	}
	second := func(end int) func(family) netip.Addr { return func(f family) netip.Addr { return f.added(200, end) } }
	first := func(end int) func(family) netip.Addr { return func(f family) netip.Addr { return f.hop(0, end) } }
	hops("reserved in the second network", second(1), second(2))

	// More addresses come, in the same network and in others: nothing changes over
	// some refreshes.
	readdress(t, one.ns, rightWAN, netlink.AddrAdd, append(both(200, 7), both(201, 1)...)...)
	readdress(t, two.ns, leftWAN, netlink.AddrAdd, both(200, 8)...)
	for begin := time.Now(); time.Since(begin) < 3*time.Second; time.Sleep(100 * time.Millisecond) {
		for port, f := range families {
			a, err := one.session(t, port)
			b, err2 := two.session(t, port)
			if err := errors.Join(err, err2); err != nil || a.State != console.SessionReserved || a.NextHop != f.added(200, 2).String() ||
				b.State != console.SessionReserved || b.PrevHop != f.added(200, 1).String() {
				t.Fatalf("over %s: %v, %+v, %+v", f, err, a, b)
			}
		}
	}
	// Box 2 moves to the first network, and the second one goes.
	readdress(t, two.ns, leftWAN, netlink.AddrAdd, hopPrefixes(0, 2)...)
	for _, f := range families {
		lead(f, f.hop(0, 1), f.hop(0, 2))
	}
	readdress(t, two.ns, leftWAN, netlink.AddrDel, append(both(200, 8), both(200, 2)...)...)
	readdress(t, one.ns, rightWAN, netlink.AddrDel, append(both(200, 7), both(200, 1)...)...)
	hops("reserved in the first network", first(1), first(2))
	if got := one.reserved(t, rightWAN); got != 2*ipv6.voiceRate() {
		t.Errorf("box 1 has reserved %d bit/s", got)
	}
	end4().check(t)
	end6().check(t)
}
