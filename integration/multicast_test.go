package integration

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/mroute"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// branchIface is box 2's interface towards C, a second network with receivers, and
// box 1's towards D, one with senders.
const branchIface = "lan1"

// tree is a row of two boxes, each with a further network:
//
//	A -- box1 -- box2 -- B
//	      |        |
//	      D        C
//
// The test plays the boxes' multicast routing daemon.
type tree struct {
	*lab
	c, d   *netns.NetNS
	v6     bool
	group  netip.Addr
	source netip.Addr
	one    *mroute.Router
	two    *mroute.Router
}

func newTree(t *testing.T, v6 bool) *tree {
	t.Helper()
	tr := &tree{lab: newLab(t, 2, nil), v6: v6, group: netip.MustParseAddr("239.1.2.3"), source: addrA}
	if v6 {
		tr.group, tr.source = netip.MustParseAddr("ff3e::239:1"), addrA6
	}
	var err error
	if tr.c, err = tr.Namespace("c"); err != nil {
		t.Fatal(err)
	}
	err = netns.Veth(netns.End{NS: tr.c, Name: hostIface, Addrs: on("10.3.0.2/24", "fd00:3::2/64")},
		netns.End{NS: tr.boxes[1].ns, Name: branchIface, Addrs: on("10.3.0.1/24", "fd00:3::1/64")})
	if err == nil {
		err = errors.Join(tr.c.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.3.0.1")),
			tr.c.Route(netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd00:3::1")))
	}
	if err == nil {
		tr.d, err = tr.Namespace("d")
	}
	if err == nil {
		err = netns.Veth(netns.End{NS: tr.d, Name: hostIface, Addrs: on("10.4.0.2/24", "fd00:4::2/64")},
			netns.End{NS: tr.boxes[0].ns, Name: branchIface, Addrs: on("10.4.0.1/24", "fd00:4::1/64")})
	}
	if err == nil {
		err = errors.Join(tr.d.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.4.0.1")),
			tr.d.Route(netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd00:4::1")))
	}
	if err == nil {
		tr.one, err = mroute.New(tr.boxes[0].ns, v6, 1, lanIface, branchIface, rightWAN)
	}
	if err == nil {
		tr.two, err = mroute.New(tr.boxes[1].ns, v6, 1, leftWAN, lanIface, branchIface)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(tr.one.Close(), tr.two.Close()); err != nil {
			t.Error(err)
		}
	})
	tr.route(t, tr.source, lanIface, lanIface, branchIface)
	return tr
}

// route has both boxes forward a source's packets: by box 1 from in, by box 2 to
// outs.
func (tr *tree) route(t *testing.T, source netip.Addr, in string, outs ...string) {
	t.Helper()
	if err := errors.Join(
		tr.one.Set(mroute.Route{Source: source, Group: tr.group, In: in, Out: []string{rightWAN}}),
		tr.two.Set(mroute.Route{Source: source, Group: tr.group, In: leftWAN, Out: outs}),
	); err != nil {
		t.Fatal(err)
	}
}

// listen joins the group in a namespace and counts what comes.
func (tr *tree) listen(t *testing.T, ns *netns.NetNS) *atomic.Int64 {
	t.Helper()
	var c *net.UDPConn
	if err := ns.Do(func() error {
		link, err := net.InterfaceByName(hostIface)
		if err == nil {
			c, err = net.ListenMulticastUDP("udp", link, net.UDPAddrFromAddrPort(at(tr.group, portVoice)))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	n := &atomic.Int64{}
	go func() {
		for b := make([]byte, 300); ; n.Add(1) {
			if _, err := c.Read(b); err != nil {
				return // the test is over
			}
		}
	}()
	return n
}

// talkAll sends voice to the group until the returned function is called, or the
// test ends. It leaves the source with a TTL of 9.
func (tr *tree) talkAll(t *testing.T, ns *netns.NetNS) (stop func()) {
	t.Helper()
	return tr.talkOn(t, dialUDP(t, ns, at(tr.group, portVoice)))
}

// talkOn is talkAll on a connection.
func (tr *tree) talkOn(t *testing.T, c *net.UDPConn) (stop func()) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	level, option := unix.IPPROTO_IP, unix.IP_MULTICAST_TTL
	if tr.v6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS
	}
	var set error
	if err := errors.Join(raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), level, option, 9) }), set, c.SetDeadline(time.Time{})); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	stop = sync.OnceFunc(func() { close(done) })
	t.Cleanup(stop)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := uint32(0); ; n++ {
			select {
			case <-done:
				return
			case <-tick.C:
				b := make([]byte, 140)
				binary.BigEndian.PutUint32(b, n)
				_, _ = c.Write(b) // what is lost is missed by who listens
			}
		}
	}()
	return stop
}

// configs of the two boxes: behind C is a receiver that speaks RSVP.
func (tr *tree) start(t *testing.T, policies string) {
	t.Helper()
	one := config{hosts: []string{lanIface, branchIface}, network: []string{rightWAN}, capacity: "19mbit", policies: policies}
	two := config{hosts: []string{lanIface}, network: []string{leftWAN, branchIface}, capacity: "19mbit", policies: policies}
	tr.startAll(t, one.String(), two.String())
}

// branch waits for a box's row of a flow that leaves by an interface.
func (b *box) branch(t *testing.T, src netip.Addr, iface, what string, want func(console.FlowRow) bool) console.FlowRow {
	t.Helper()
	var found console.FlowRow
	eventually(t, 10*time.Second, fmt.Sprintf("%s: branch by %s %s", b.name, iface, what), func() error {
		rows, err := b.Flows(t.Context())
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.Src == src.String() && r.Interface == iface && r.Dport == portVoice {
				if found = r; want(r) {
					return nil
				}
			}
		}
		return fmt.Errorf("rows: %+v", rows)
	})
	return found
}

func reserved(r console.FlowRow) bool {
	return r.State == console.FlowManaged && r.ReservedBPS > 0 && r.ConformPackets > 10
}

// groupMAC is the Ethernet address of a group (RFC 1112 section 6.4, RFC 2464
// section 7).
func groupMAC(g netip.Addr) []byte {
	if a := g.AsSlice(); g.Is4() {
		return []byte{1, 0, 0x5e, a[1] & 0x7f, a[2], a[3]}
	} else {
		return append([]byte{0x33, 0x33}, a[12:]...)
	}
}

// resvOf makes the RESV of a receiver that speaks RSVP, to the hop that its PATH
// names.
func resvOf(t *testing.T, path *wire.Message, from netip.Addr, style wire.Style) []byte {
	t.Helper()
	m := &wire.Message{
		Type: wire.Resv, SendTTL: 255, Session: path.Session, Hop: &wire.Hop{Addr: from, LIH: path.Hop.LIH},
		TimeValues: &wire.TimeValues{Refresh: 1000}, Style: style,
	}
	fd := wire.FlowDescriptor{FlowSpec: &intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: *path.SenderTSpec}}
	if style != wire.WF {
		fd.Filters = []wire.Filter{*path.SenderTemplate}
	}
	m.Flows = []wire.FlowDescriptor{fd}
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// answer sends a message from a namespace every half second until the returned
// function is called, or the test ends.
func answer(t *testing.T, ns *netns.NetNS, to netip.Addr, b []byte) (stop func()) {
	t.Helper()
	var fd int
	family, dst := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: to.As16()})
	if to.Is4() {
		family, dst = unix.AF_INET, &unix.SockaddrInet4{Addr: to.As4()}
	}
	if err := ns.Do(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, packet.ProtoRSVP)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	stop = sync.OnceFunc(func() { close(done); <-ended; _ = unix.Close(fd) })
	t.Cleanup(stop)
	go func() {
		defer close(ended)
		for {
			_ = unix.Sendto(fd, b, 0, dst)
			select {
			case <-done:
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
	}()
	return stop
}

// rsvpOf accepts the messages of the tree's family.
func (tr *tree) rsvpOf() func([]byte) bool {
	if tr.v6 {
		return isRSVP6
	}
	return isRSVP
}

// checkGroupPath holds a multicast PATH to RFC 2205 section 3.1.3: from the
// sender's address to the group, in the scope of its data.
func (tr *tree) checkGroupPath(t *testing.T, where string, frame []byte, ttl uint8, phop netip.Addr) {
	t.Helper()
	ip, err := packet.Parse(frame[ethernet:])
	if err != nil {
		t.Fatal(err)
	}
	m, err := wire.Parse(ip.Transport())
	if err != nil {
		t.Fatal(err)
	}
	if ip.Src() != tr.source || ip.Dst() != tr.group || ip.TTL() != ttl || m.SendTTL != ttl || m.Hop == nil || m.Hop.Addr != phop {
		t.Errorf("%s: PATH from %s to %s, TTL %d, Send_TTL %d, hop %+v; want TTL %d, hop %s", where, ip.Src(), ip.Dst(), ip.TTL(), m.SendTTL, m.Hop, ttl, phop)
	}
	if !bytes.Equal(frame[:6], groupMAC(tr.group)) {
		t.Errorf("%s: PATH goes to %x, want the group's Ethernet address %x", where, frame[:6], groupMAC(tr.group))
	}
	if tr.v6 && ip.Header()[6] != packet.ProtoHopByHop || !tr.v6 && binary.BigEndian.Uint32(ip.Header()[20:]) != 0x94040000 {
		t.Errorf("%s: PATH has no Router Alert: % x", where, ip.Header())
	}
}

// A group's traffic branches at box 2. Each branch has its own reservation: at
// first that towards B, for whom the box answers, then that towards C, who answers
// itself. Leaving ends the one and not the other (RFC 2205 sections 3.6 and 3.9).
func TestMulticastBranches(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[v6], func(t *testing.T) {
			t.Parallel()
			tr := newTree(t, v6)
			policies := voicePolicy
			hop4, hop6 := hop(0, 1)
			one, two, branch := hop4, netip.MustParseAddr("10.3.0.1"), netip.MustParseAddr("10.3.0.2")
			if v6 {
				one, two, branch = hop6, netip.MustParseAddr("fd00:3::1"), netip.MustParseAddr("fd00:3::2")
			}
			wan := capture(t, tr.boxes[0].ns, rightWAN, tr.rsvpOf())
			atC, atB := capture(t, tr.c, hostIface, tr.rsvpOf()), capture(t, tr.b, hostIface, tr.rsvpOf())
			heardB := capture(t, tr.b, hostIface, toPort(portVoice))
			tr.start(t, policies)
			b, c := tr.listen(t, tr.b), tr.listen(t, tr.c)
			tr.talkAll(t, tr.a)

			_, frame := waitMessage(t, wan, wire.Path)
			tr.checkGroupPath(t, "box 1", frame, 8, one)
			if tr.boxes[0].waitSession(t, portVoice, console.SessionReserved).Role != "sender-proxy" {
				t.Error("box 1 is no sender proxy")
			}
			tr.boxes[1].branch(t, tr.source, lanIface, "reserved", reserved)
			waitFrame(t, heardB, "voice marked at B", func(f []byte) bool { return dscpOf(f) == dscp.VoiceAdmit })
			path, frame := waitMessage(t, atC, wire.Path)
			tr.checkGroupPath(t, "box 2", frame, 7, two)
			before := tr.boxes[1].branch(t, tr.source, branchIface, "counted", func(r console.FlowRow) bool { return r.Packets > 10 })
			if before.ReservedBPS != 0 || before.Class != "" {
				t.Errorf("the branch towards C is reserved before anybody has asked: %+v", before)
			}

			answer(t, tr.c, two, resvOf(t, path, branch, wire.FF))
			both := tr.boxes[1].branch(t, tr.source, branchIface, "reserved", reserved)
			other := tr.boxes[1].branch(t, tr.source, lanIface, "still reserved", reserved)
			if both.Class == "" || other.Conn == both.Conn { // B's network has no capacity to share, and no classes
				t.Errorf("branches %+v and %+v", other, both)
			}

			// B leaves.
			tr.route(t, tr.source, lanIface, branchIface)
			eventually(t, 10*time.Second, "B's branch is given back", func() error {
				rows, err := tr.boxes[1].Flows(t.Context())
				for _, r := range rows {
					if r.Interface == lanIface && r.ReservedBPS != 0 {
						return fmt.Errorf("%+v", r)
					}
				}
				return err
			})
			tr.boxes[1].branch(t, tr.source, branchIface, "outlives the other", reserved)
			tr.boxes[0].waitSession(t, portVoice, console.SessionReserved)
			// ... and joins again.
			tr.route(t, tr.source, lanIface, lanIface, branchIface)
			tr.boxes[1].branch(t, tr.source, lanIface, "reserved again", reserved)
			if n := b.Load(); n < 20 {
				t.Errorf("%d packets came to B", n)
			}
			if n := c.Load(); n < 50 {
				t.Errorf("%d packets came to C", n)
			}
			checkUnaware(t, "B", atB)
			tr.boxes[0].stop(t)
			waitMessage(t, wan, wire.PathTear)
			tr.boxes[1].waitNoSession(t, portVoice)
			tr.boxes[1].stop(t)
			tr.readAll(t, wan, atC)
		})
	}
}

// Two senders to a group share one reservation on each branch in wildcard style
// (RFC 2205 section 1.3), and each goes on when the other stops.
func TestMulticastWildcard(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[v6], func(t *testing.T) {
			t.Parallel()
			tr := newTree(t, v6)
			two, branch, second := netip.MustParseAddr("10.3.0.1"), netip.MustParseAddr("10.3.0.2"), netip.MustParseAddr("10.4.0.2")
			if v6 {
				two, branch, second = netip.MustParseAddr("fd00:3::1"), netip.MustParseAddr("fd00:3::2"), netip.MustParseAddr("fd00:4::2")
			}
			tr.route(t, second, branchIface, lanIface, branchIface)
			wan, atC := capture(t, tr.boxes[0].ns, rightWAN, tr.rsvpOf()), capture(t, tr.c, hostIface, tr.rsvpOf())
			tr.start(t, strings.Replace(voicePolicy, "reserve: {role: both,", "reserve: {role: both, style: wf,", 1))
			tr.listen(t, tr.b)
			tr.listen(t, tr.c)
			tr.talkAll(t, tr.a)
			path, _ := waitMessage(t, atC, wire.Path)
			answer(t, tr.c, two, resvOf(t, path, branch, wire.WF))
			stop := tr.talkAll(t, tr.d)

			for _, place := range []struct {
				box   *box
				iface string
				class bool
			}{{tr.boxes[0], rightWAN, true}, {tr.boxes[1], lanIface, false}, {tr.boxes[1], branchIface, true}} {
				one := place.box.branch(t, tr.source, place.iface, "reserved for A", reserved)
				other := place.box.branch(t, second, place.iface, "reserved for D", reserved)
				if one.Class != other.Class || place.class == (one.Class == "") {
					t.Errorf("%s, %s: classes %q and %q, want one for both", place.box.name, place.iface, one.Class, other.Class)
				}
				if n := place.box.reservations(t, place.iface); n != 1 {
					t.Errorf("%s, %s: %d reservations, want one for both senders", place.box.name, place.iface, n)
				}
			}
			stop()
			tr.boxes[0].stop(t)
			tr.boxes[1].waitNoSession(t, portVoice)
			tr.boxes[1].stop(t)
			tr.readAll(t, wan, atC)
		})
	}
}

// reservations is how many the ledger has on an interface.
func (b *box) reservations(t *testing.T, iface string) int {
	t.Helper()
	rows, err := b.Links(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return linkRow(rows, iface).Reservations
}

// readAll has tshark read what was captured.
func (tr *tree) readAll(t *testing.T, captures ...*traffic.Capture) {
	t.Helper()
	for i, c := range captures {
		frames := captured(t, c)
		if len(frames) == 0 {
			t.Errorf("capture %d is empty", i)
		}
		readFrames(t, frames)
	}
}

// A listener that joins later, where the flow is marked without a reservation:
// its branch is seen, marked and counted at once, though the flow is settled.
func TestMulticastLaterBranch(t *testing.T) {
	t.Parallel()
	tr := newTree(t, false)
	tr.route(t, tr.source, lanIface, lanIface)
	heard := capture(t, tr.c, hostIface, toPort(portVoice))
	const marked = `
  - name: video
    match: {protocol: udp, to_port: 5004}
    mark: af31
`
	// Box 1 marks nothing of it.
	one := config{hosts: []string{lanIface, branchIface}, network: []string{rightWAN}, capacity: "19mbit", policies: strings.Replace(marked, "5004", "6004", 1)}
	two := config{hosts: []string{lanIface}, network: []string{leftWAN, branchIface}, capacity: "19mbit", policies: marked}
	tr.startAll(t, one.String(), two.String())
	tr.listen(t, tr.b)
	c := tr.listen(t, tr.c)
	tr.talkAll(t, tr.a)
	tr.boxes[1].branch(t, tr.source, lanIface, "marked", func(r console.FlowRow) bool {
		return r.State == console.FlowManaged && r.PHB == "af31" && r.Packets > 20
	})
	if n := c.Load(); n != 0 {
		t.Fatalf("%d packets came to C, whom no route leads to", n)
	}
	tr.route(t, tr.source, lanIface, lanIface, branchIface)
	tr.boxes[1].branch(t, tr.source, branchIface, "marked", func(r console.FlowRow) bool {
		return r.State == console.FlowManaged && r.PHB == "af31" && r.Packets > 20
	})
	waitFrame(t, heard, "voice marked at C", func(f []byte) bool { return dscpOf(f) == dscp.AF31 })
}
