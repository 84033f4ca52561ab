package integration

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/integration/rig/vlan"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// Addresses of the hosts in a VLAN, on one network.
var (
	vlanA = netip.MustParseAddr("10.7.0.2")
	vlanB = netip.MustParseAddr("10.7.0.3")
)

const (
	vlanTCI   = 5<<13 | 7 // of the hosts' tagged frames: priority 5, VLAN 7
	vlanIface = "vlan7"   // of hosts
)

// tagHosts gives both hosts an interface in a VLAN.
func (l *lab) tagHosts(t *testing.T) {
	t.Helper()
	for ns, addr := range map[*netns.NetNS]netip.Addr{l.a: vlanA, l.b: vlanB} {
		i, err := vlan.Open(vlan.Config{NS: ns, Link: hostIface, Name: vlanIface, TCI: vlanTCI, Addrs: []netip.Prefix{netip.PrefixFrom(addr, 24)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.OnClose(i.Close); err != nil {
			t.Fatal(err)
		}
	}
}

// overBridges is a transfer between hosts that see nothing of the boxes.
type overBridges struct {
	name     string
	port     uint16
	src, dst netip.Addr
	tagged   bool
}

// A reserved connection is cheated by a box that is a bridge, and all that the hosts
// ever get is frames of each other.
func TestCheatedOverBridges(t *testing.T) {
	t.Parallel()
	for _, c := range []overBridges{
		{"reliable", portReliable, addrA, addrB, false},
		{"reliable over IPv6", portReliable, addrA6, addrB6, false},
		{"realtime in a VLAN", portRealtime, vlanA, vlanB, true},
		{"realtime", portRealtime, addrA, addrB, false},
		{"reliable in a VLAN", portReliable, vlanA, vlanB, true},
	}[:soak(3, 5)] {
		t.Run(c.name, func(t *testing.T) { atReservedRate(t, c.clocked) })
	}
}

func (c overBridges) clocked(t *testing.T) float64 {
	t.Helper()
	l := newBridgedLab(t, 2, nil)
	if c.tagged {
		l.tagHosts(t)
	}
	l.startEdges(t, usualPolicies, "tcp: {window: predict}")
	all := func([]byte) bool { return true }
	atA, atB := capture(t, l.a, hostIface, all), capture(t, l.b, hostIface, all)
	source, sink := connect(t, l.a, l.b, at(c.dst, c.port))
	const size = 4_000_000
	begin := time.Now()
	tr := send(source, sink, random(uint64(c.port), size))
	l.boxes[0].waitFlowFrom(t, c.src, c.port, "cheated", func(r console.FlowRow) bool {
		return r.State == console.FlowCheated && r.FakeAcks > 10 && r.AbsorbedAcks > 10
	})
	start := sentAgainAtTheStart(t, source)
	tr.wait(t)
	took := tr.got.ended.Sub(begin).Seconds()
	if again := tcpInfo(t, source).Total_retrans - start; again > 3 {
		t.Errorf("the source sent %d segments again on a path without loss, and %d before", again, start)
	}
	st, err := l.boxes[0].Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Cheat.FakeAcks == 0 || st.Inject.NoFrame+st.Inject.NoPort+st.Inject.TooLong > 0 {
		t.Errorf("%d fake ACKs; of our own packets: %+v", st.Cheat.FakeAcks, st.Inject)
	}
	l.checkUnseen(t, c, atA, atB)
	// A capture on a busy machine misses some.
	if got := tcpFrames(t, atA, c); uint64(got) < st.Cheat.FakeAcks*3/4 {
		t.Errorf("%d frames of the connection came to the source, and the box has made %d acknowledgements", got, st.Cheat.FakeAcks)
	}
	return size / 1448 * 1500 * 8 / took
}

// tcpFrames holds the frames of the connection that came to the source to what those
// of the receiver are like, and counts them.
func tcpFrames(t *testing.T, at *traffic.Capture, c overBridges) (n int) {
	t.Helper()
	frames := captured(t, at)
	for _, f := range frames {
		ip := f.Data[ethernet:]
		if c.tagged {
			if !bytes.Equal(f.Data[12:16], []byte{0x81, 0x00, vlanTCI >> 8, vlanTCI & 0xff}) {
				continue
			}
			ip = f.Data[ethernet+4:]
		}
		v, err := packet.Parse(ip)
		if err != nil || f.Outgoing || !v.IsTCP() || v.Src() != c.dst || v.TCP().SrcPort() != c.port {
			continue
		}
		if v.Is4() && !v.IPv4ChecksumOK() || c.tagged && !v.TCPChecksumOK() { // a veth leaves that to nobody
			t.Errorf("a wrong checksum: % x", f.Data)
		}
		n++
	}
	return n
}

// checkUnseen holds all frames that came to the hosts, and what the hosts have made
// of them, to there being nobody but the other host.
func (l *lab) checkUnseen(t *testing.T, c overBridges, atA, atB *traffic.Capture) {
	t.Helper()
	macs := map[*netns.NetNS]net.HardwareAddr{}
	for _, ns := range []*netns.NetNS{l.a, l.b} {
		mac, err := ns.HardwareAddr(hostIface)
		if err != nil {
			t.Fatal(err)
		}
		macs[ns] = mac
	}
	for ns, at := range map[*netns.NetNS]*traffic.Capture{l.a: atA, l.b: atB} {
		other := macs[l.b]
		if ns == l.b {
			other = macs[l.a]
		}
		strange := 0
		for _, f := range captured(t, at) {
			if f.Outgoing {
				continue
			}
			if !bytes.Equal(f.Data[6:12], other) || f.Data[0]&1 == 0 && !bytes.Equal(f.Data[:6], macs[ns]) {
				if strange++; strange < 4 {
					t.Errorf("a frame that is not of the other host: % x", f.Data[:min(len(f.Data), 80)])
				}
			}
			if c.tagged != (f.Data[12] == 0x81) && isTCPTo(f.Data, c) {
				t.Errorf("a frame with the wrong tag: % x", f.Data[:min(len(f.Data), 80)])
			}
		}
		iface := hostIface
		if c.tagged {
			iface = vlanIface
		}
		table, err := ns.Neighbours(iface)
		if err != nil {
			t.Fatal(err)
		}
		known := 0
		for _, n := range table {
			if len(n.MAC) == 0 {
				continue
			}
			if known++; !bytes.Equal(n.MAC, other) {
				t.Errorf("%v is at %v, and there is only %v", n.Addr, n.MAC, other)
			}
		}
		if known == 0 {
			t.Errorf("%s knows nobody, with whom it has spoken", ns.Name())
		}
	}
}

// isTCPTo tells whether a frame, tagged or not, has a packet of the transfer.
func isTCPTo(f []byte, c overBridges) bool {
	for _, at := range []int{ethernet, ethernet + 4} {
		if v, err := packet.Parse(f[min(at, len(f)):]); err == nil && v.IsTCP() && (v.Src() == c.src || v.Dst() == c.src) {
			return true
		}
	}
	return false
}

// otherWay joins the hosts by a cable beside the boxes.
func (l *lab) otherWay(t *testing.T) {
	t.Helper()
	a, b := netns.End{NS: l.a, Name: "eth1"}, netns.End{NS: l.b, Name: "eth1"}
	if err := netns.Veth(a, b); err != nil {
		t.Fatal(err)
	}
	a.Addrs, b.Addrs = on("10.1.0.2/32"), on("10.2.0.2/32")
	if err := netns.Neighbour(a, b); err != nil {
		t.Fatal(err)
	}
}

// back has B's packets to A take it.
func (l *lab) back(t *testing.T) {
	t.Helper()
	if err := l.b.OnLink(netip.PrefixFrom(addrA, 32), "eth1"); err != nil {
		t.Fatal(err)
	}
}

// A connection of which one direction alone passes the boxes is noticed and left
// alone, from its beginning or from when its way back is lost, and nothing of it is
// lost.
func TestAsymmetricRoutingBesideBridges(t *testing.T) {
	t.Parallel()
	leftAlone := func(r console.FlowRow) bool {
		return r.State != console.FlowCheated && strings.Contains(r.Reason, tcpcheat.ErrOneWay.Error())
	}
	for _, fromTheStart := range []bool{true, false} {
		t.Run(fmt.Sprintf("from the start %v", fromTheStart), func(t *testing.T) {
			t.Parallel()
			l := newBridgedLab(t, 2, nil)
			l.startEdges(t, usualPolicies, "tcp: {window: predict}")
			l.otherWay(t)
			if fromTheStart {
				l.back(t)
			}
			source, sink := connect(t, l.a, l.b, at(addrB, portReliable))
			enough := sendOn(source, sink, 1)
			if !fromTheStart {
				l.boxes[0].waitFlow(t, portReliable, "cheated", func(r console.FlowRow) bool {
					return r.State == console.FlowCheated && r.FakeAcks > 100
				})
				l.back(t)
			}
			eventually(t, 20*time.Second, "left alone", func() error {
				r, err := l.boxes[0].flowFrom(t, addrA, portReliable)
				if err == nil && !leftAlone(r) {
					err = fmt.Errorf("it is %+v", r)
				}
				return err
			})
			enough().wait(t)
		})
	}
}

// The ports between two boxes go, and come back with other indexes: the connection
// that is cheated goes on.
func TestCheatedWhilePortsComeBack(t *testing.T) {
	t.Parallel()
	l := newBridgedLab(t, 2, nil)
	l.startEdges(t, usualPolicies, "tcp: {window: predict}")
	source, sink := connect(t, l.a, l.b, at(addrB, portReliable))
	enough := sendOn(source, sink, 1)
	cheated := func(more uint64) console.FlowRow {
		return l.boxes[0].waitFlow(t, portReliable, "cheated", func(r console.FlowRow) bool {
			return r.State == console.FlowCheated && r.FakeAcks > more
		})
	}
	before := cheated(100)
	if err := l.boxes[0].ns.Do(func() error {
		link, err := netlink.LinkByName(rightWAN)
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	}); err != nil {
		t.Fatal(err)
	}
	if err := netns.Veth(l.rightEnd(0), l.leftEnd(1)); err != nil {
		t.Fatal(err)
	}
	after := cheated(before.FakeAcks + 500)
	enough().wait(t)
	if after.Interface != rightWAN || after.Conn != before.Conn {
		t.Errorf("it was %+v and is %+v", before, after)
	}
	// Not a quarter of a second of the reserved rate.
	if info := tcpInfo(t, source); info.Total_retrans > 170 {
		t.Errorf("the source sent %d segments again", info.Total_retrans)
	}
}
