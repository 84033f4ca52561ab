package integration

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// linkLocal leaves an interface no IPv6 address but the link-local one, and
// returns that.
func linkLocal(t *testing.T, ns *netns.NetNS, name string) (a netip.Addr) {
	t.Helper()
	if err := ns.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		list, err := netlink.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return err
		}
		for i := range list {
			if !list[i].IP.IsLinkLocalUnicast() {
				if err := netlink.AddrDel(link, &list[i]); err != nil {
					return err
				}
				continue
			}
			a, _ = netip.AddrFromSlice(list[i].IP)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !a.IsValid() {
		t.Fatalf("%s has no link-local address", name)
	}
	return a
}

// routeBy adds a route through a link-local gateway.
func routeBy(t *testing.T, ns *netns.NetNS, dst, dev string, via netip.Addr) {
	t.Helper()
	if err := ns.Do(func() error {
		link, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		_, to, err := net.ParseCIDR(dst)
		if err != nil {
			return err
		}
		return netlink.RouteReplace(&netlink.Route{Dst: to, Gw: via.AsSlice(), LinkIndex: link.Attrs().Index})
	}); err != nil {
		t.Fatal(err)
	}
}

// Between boxes whose link has link-local addresses alone, as many have, those are
// the hops, and reservations come about. Where there is a global address it is
// told instead (TestVoiceReservedIPv6).
func TestLinkLocalHopsIPv6(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	left, right := linkLocal(t, l.boxes[0].ns, rightWAN), linkLocal(t, l.boxes[1].ns, leftWAN)
	routeBy(t, l.boxes[0].ns, "fd00:2::/64", rightWAN, right)
	routeBy(t, l.boxes[1].ns, "fd00:1::/64", leftWAN, left)
	rsvp := capture(t, l.boxes[0].ns, rightWAN, isRSVP6)
	l.startEdges(t, voicePolicy, "")
	end := l.talkTo(t, at(addrB6, portVoice), 12*time.Second)
	row := l.boxes[0].waitSession(t, portVoice, console.SessionReserved)
	if row.NextHop != right.String() {
		t.Errorf("next hop %s, want %s", row.NextHop, right)
	}
	if row = l.boxes[1].waitSession(t, portVoice, console.SessionReserved); row.PrevHop != left.String() {
		t.Errorf("previous hop %s, want %s", row.PrevHop, left)
	}
	end().check(t)
	l.boxes[0].stop(t)
	l.boxes[1].waitNoSession(t, portVoice)
	l.boxes[1].stop(t)
	if frames := captured(t, rsvp); len(frames) == 0 {
		t.Error("nothing was captured")
	}
}
