package integration

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// taggedPacket reads a frame of the hosts' VLAN.
func taggedPacket(f []byte) (priority uint16, v packet.View, ok bool) {
	if len(f) < ethernet+4 || binary.BigEndian.Uint16(f[12:]) != 0x8100 {
		return 0, v, false
	}
	tci := binary.BigEndian.Uint16(f[14:])
	v, err := packet.Parse(f[ethernet+4:])
	return tci >> 13, v, err == nil && tci&0x1fff == vlanTCI&0x1fff
}

// A flow in a VLAN is reserved, marked and counted by boxes that are bridges as one
// without a tag is, and its tag leaves the first box with the priority of its class.
func TestReservedInAVLAN(t *testing.T) {
	t.Parallel()
	l := newBridgedLab(t, 2, nil)
	l.tagHosts(t)
	one, two := l.edge(0, usualPolicies, ""), l.edge(1, usualPolicies, "")
	one.secured = ", pcp: {voice-admit: 6, default: 1}"
	l.startAll(t, one.String(), two.String())
	heard := capture(t, l.b, hostIface, func(f []byte) bool {
		_, v, ok := taggedPacket(f)
		return ok && v.Proto() == packet.ProtoUDP && v.Src() == vlanA
	})
	for _, port := range []uint16{portVoice, portOther} {
		listenUDP(t, l.b, at(vlanB, port))
		beat(t, l.a, at(vlanA, 0), at(vlanB, port))
	}
	for _, b := range l.boxes {
		b.waitFlowFrom(t, vlanA, portVoice, "counted as conforming", func(r console.FlowRow) bool {
			return r.State == console.FlowManaged && r.ConformPackets > 50 && r.ExceedPackets+r.DroppedPackets == 0
		})
	}
	waitFrame(t, heard, "voice marked, with the priority of its class", func(f []byte) bool {
		priority, v, _ := taggedPacket(f)
		return v.Key().DstPort == portVoice && v.DSCP() == dscp.VoiceAdmit && priority == 6
	})
	waitFrame(t, heard, "what nobody reserves, with its own", func(f []byte) bool {
		priority, v, _ := taggedPacket(f)
		return v.Key().DstPort == portOther && v.DSCP() == dscp.Default && priority == 1
	})
	reserved := false // by the first box: the second one marks a moment before
	for _, f := range captured(t, heard) {
		priority, v, _ := taggedPacket(f.Data)
		reserved = reserved || priority == 6
		if v.DSCP() == dscp.VoiceAdmit && !reserved {
			continue
		}
		if want := map[uint8]uint16{dscp.VoiceAdmit: 6, dscp.Default: 1}[v.DSCP()]; priority != want || !v.IPv4ChecksumOK() {
			t.Fatalf("DSCP %d with priority %d, want %d: % x", v.DSCP(), priority, want, f.Data)
		}
	}
}

// beat sends a datagram of 100 bytes every 20 ms until the test ends.
func beat(t *testing.T, ns *netns.NetNS, from, to netip.AddrPort) {
	t.Helper()
	var c *net.UDPConn
	if err := ns.Do(func() (err error) {
		c, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(to))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop); _ = c.Close() })
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for b := make([]byte, 100); ; {
			_, _ = c.Write(b) // what is lost is another test's matter
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
}
