package integration

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/mroute"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// A group is reserved for by hand, without a policy on any box: at box 1 for its
// sender, at box 2 for the receiver behind it. Each branch of box 2 has its own
// reservation (RFC 2205 section 1.2), that towards C, who speaks RSVP, is asked for
// by C. It outlives the sender's daemon, and ends everywhere when it is released.
func TestReserveGroupByHand(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[v6], func(t *testing.T) {
			t.Parallel()
			tr := newTree(t, v6)
			one, two := tr.boxes[0], tr.boxes[1]
			hop4, hop6 := hop(0, 1)
			phop, at2, c := hop4, netip.MustParseAddr("10.3.0.1"), netip.MustParseAddr("10.3.0.2")
			if v6 {
				phop, at2, c = hop6, netip.MustParseAddr("fd00:3::1"), netip.MustParseAddr("fd00:3::2")
			}
			if err := tr.one.Remove(mroute.Route{Source: tr.source, Group: tr.group, In: lanIface}); err != nil {
				t.Fatal(err)
			}
			wan, atC := capture(t, one.ns, rightWAN, tr.rsvpOf()), capture(t, tr.c, hostIface, tr.rsvpOf())
			atB, heardB := capture(t, tr.b, hostIface, tr.rsvpOf()), capture(t, tr.b, hostIface, toPort(portVoice))
			first := config{hosts: []string{lanIface, branchIface}, network: []string{rightWAN}, capacity: "19mbit", policies: "  []\n"}
			last := config{hosts: []string{lanIface}, network: []string{leftWAN, branchIface}, capacity: "19mbit", policies: "  []\n"}
			tr.watch(t, leftWAN, rightWAN, branchIface)
			tr.startAll(t, first.String(), last.String())
			flow := []string{"reserve", "udp", at(tr.source, portSource).String(), at(tr.group, portVoice).String(), "--bandwidth", "1mbit", "--burst", "8kB", "--mark", "ef"}
			by := func(more ...string) []string { return append(append([]string{}, flow...), more...) }

			// Nobody forwards the group: it is kept and says so.
			if out := one.must(t, by("--side", "sender", "--no-wait")...); !strings.Contains(out, "reservation 1: ") {
				t.Errorf("%s", out)
			}
			if row := one.waitReservation(t, "1", console.SessionInactive); row.Error != "" || len(row.Branches) != 0 {
				t.Errorf("%+v", row)
			}
			eventually(t, 8*time.Second, "the reason is told", func() error {
				row, err := one.Reservation(t.Context(), "1")
				if err == nil && !strings.Contains(row.Reason, "multicast forwarding cache has no interface") {
					err = fmt.Errorf("%+v", row)
				}
				return err
			})
			if frames := captured(t, wan); len(frames) != 0 {
				t.Errorf("%d RSVP messages before the group is forwarded", len(frames))
			}

			// It is: PATH goes without any packet of the flow.
			tr.route(t, tr.source, lanIface, lanIface, branchIface)
			_, frame := waitMessage(t, wan, wire.Path)
			tr.checkGroupPath(t, "box 1", frame, 255, phop)
			path, frame := waitMessage(t, atC, wire.Path)
			tr.checkGroupPath(t, "box 2", frame, 254, at2)
			one.waitReservation(t, "1", console.SessionPath)

			// The receiver's side answers towards B alone.
			if out := two.must(t, by("--side", "receiver")...); !strings.Contains(out, "reservation 1: reserved on 1 of 2 interfaces") {
				t.Errorf("%s", out)
			}
			row := two.waitReservation(t, "1", console.SessionReserved)
			if row.Role != "receiver-proxy" || !strings.Contains(row.Reason, "waiting for RESV on "+branchIface) || branchState(&row, lanIface) != console.SessionReserved || branchState(&row, branchIface) != console.SessionPath {
				t.Errorf("%+v", row)
			}
			row = one.waitReservation(t, "1", console.SessionReserved)
			if row.Role != "sender-proxy" || row.Reason != "" || len(row.Branches) != 1 || row.Branches[0].Interface != rightWAN || row.Branches[0].Class == "" || row.Class != row.Branches[0].Class {
				t.Errorf("%+v", row)
			}

			// The data are marked, policed and counted on the branch.
			tr.listen(t, tr.b)
			tr.talkFrom(t, portSource)
			waitFrame(t, heardB, "the group's data marked ef at B", func(f []byte) bool { return dscpOf(f) == dscp.EF })
			one.branch(t, tr.source, rightWAN, "reserved by hand", func(r console.FlowRow) bool { return reserved(r) && r.Policy == "by-hand:1" })
			two.branch(t, tr.source, lanIface, "reserved by hand", func(r console.FlowRow) bool { return reserved(r) && r.Policy == "by-hand:1" })

			// C asks for itself.
			answer(t, tr.c, at2, resvOf(t, path, c, wire.FF))
			eventually(t, 8*time.Second, "both branches are reserved", func() error {
				row, err := two.Reservation(t.Context(), "1")
				if n, of := row.Places(); err == nil && (n != 2 || of != 2 || row.Reason != "") {
					err = fmt.Errorf("%+v", row)
				}
				return err
			})
			if list := two.must(t, "reservations"); !strings.Contains(list, "reserved 2/2") || strings.Count(list, "\n") != 2 {
				t.Errorf("%s", list)
			}

			// They are one record, which has each branch (RFC 2998 section 6).
			if rows := two.accounts(t, console.AccountRunning); len(rows) != 1 || len(rows[0].Branches) != 2 || rows[0].Dst != tr.group.String() || rows[0].Src != tr.source.String() {
				t.Errorf("accounts %+v", rows)
			}

			// B leaves and joins again.
			tr.route(t, tr.source, lanIface, branchIface)
			eventually(t, 10*time.Second, "B's branch is given back", func() error {
				row, err := two.Reservation(t.Context(), "1")
				if err == nil && (len(row.Branches) != 1 || row.Branches[0].Interface != branchIface) {
					err = fmt.Errorf("%+v", row)
				}
				return err
			})
			tr.route(t, tr.source, lanIface, lanIface, branchIface)
			two.branch(t, tr.source, lanIface, "reserved again", reserved)

			// A restart of the sender's box.
			one.stop(t)
			waitMessage(t, wan, wire.PathTear)
			two.waitReservation(t, "1", console.SessionInactive)
			one.start(t, first.String())
			one.waitReservation(t, "1", console.SessionReserved)
			two.waitReservation(t, "1", console.SessionReserved)

			one.must(t, "release", "1")
			two.waitNoSession(t, portVoice)
			two.waitReservation(t, "1", console.SessionInactive)
			two.must(t, "release", "1")
			for _, b := range []*box{one, two} {
				eventually(t, 8*time.Second, b.name+": nothing is left of it", func() error {
					flows, err := b.Flows(t.Context())
					links, err2 := b.Links(t.Context())
					if err := errors.Join(err, err2); err != nil {
						return err
					}
					for _, l := range links {
						if l.Reservations != 0 {
							return fmt.Errorf("links %+v", links)
						}
					}
					if len(flows) != 0 {
						return fmt.Errorf("flows %+v", flows)
					}
					return nil
				})
			}
			checkUnaware(t, "B", atB)
			if code, _, stderr := one.cli(t, append([]string{"reserve", "tcp"}, flow[2:]...)...); code == 0 || !strings.Contains(stderr, "tcp connects two hosts") {
				t.Errorf("tcp to a group: %d, %s", code, stderr)
			}
			tr.readAll(t, wan, atC)
		})
	}
}

// branchState is the state of a row's branch, "" if it has none by iface.
func branchState(r *console.ReservationRow, iface string) string {
	for _, b := range r.Branches {
		if b.Interface == iface {
			return b.State
		}
	}
	return ""
}

// talkFrom has A send to the group from a port, until the test ends.
func (tr *tree) talkFrom(t *testing.T, sport uint16) {
	t.Helper()
	var c *net.UDPConn
	if err := tr.a.Do(func() (err error) {
		c, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(at(tr.source, sport)), net.UDPAddrFromAddrPort(at(tr.group, portVoice)))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	tr.talkOn(t, c)
}
