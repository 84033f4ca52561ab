package integration

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/qosproxy/qosproxy/pkg/console"
)

// renumber takes an interface's address away and gives it another. The old one
// goes first: the kernel would remove a second one along with it.
func (b *box) renumber(t *testing.T, iface string, was, now netip.Prefix) {
	t.Helper()
	if err := b.ns.Do(func() error {
		l, err := netlink.LinkByName(iface)
		if err != nil {
			return err
		}
		for _, p := range []struct {
			prefix netip.Prefix
			change func(netlink.Link, *netlink.Addr) error
		}{{was, netlink.AddrDel}, {now, netlink.AddrAdd}} {
			a, err := netlink.ParseAddr(p.prefix.String())
			if err != nil {
				return err
			}
			if err := p.change(l, a); err != nil {
				return fmt.Errorf("%s: %w", p.prefix, err)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// A box is given another address while it works: its neighbours learn of it, and
// the reservation stays (RFC 2205 section 3.6).
func TestAddressChangesRFC2205Section3_6(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	l.startEdges(t, usualPolicies, "")
	end := l.talk(t, portVoice, 30*time.Second)
	one, two := l.boxes[0], l.boxes[1]
	one.waitSession(t, portVoice, console.SessionReserved)
	old, _ := hop(0, 2)
	next := netip.MustParsePrefix("10.9.0.7/24")
	two.renumber(t, leftWAN, netip.PrefixFrom(old, 24), next)
	replace := func(b *box, dst string, via netip.Addr) {
		if err := b.ns.Do(func() error {
			n, err := netlink.ParseIPNet(dst)
			if err != nil {
				return err
			}
			return netlink.RouteReplace(&netlink.Route{Dst: n, Gw: via.AsSlice()})
		}); err != nil {
			t.Fatal(err)
		}
	}
	left, _ := hop(0, 1)
	replace(one, "10.2.0.0/24", next.Addr())
	replace(two, "10.1.0.0/24", left)
	eventually(t, 15*time.Second, "box 1 has the new next hop", func() error {
		rows, err := one.Sessions(t.Context())
		if err != nil {
			return err
		}
		if len(rows) != 1 || rows[0].State != console.SessionReserved {
			return fmt.Errorf("sessions %+v", rows)
		}
		if rows[0].NextHop != next.Addr().String() {
			return fmt.Errorf("next hop %s", rows[0].NextHop)
		}
		return nil
	})
	one.waitSession(t, portVoice, console.SessionReserved)
	two.waitSession(t, portVoice, console.SessionReserved)
	if got := one.reserved(t, rightWAN); got != 80_000 {
		t.Errorf("%d bit/s are reserved", got)
	}
	if c := end(); c.lost > c.sent/5 {
		t.Errorf("%+v", c)
	}
}
