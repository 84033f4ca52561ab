package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/tun"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// tunnelRow is a lab of three boxes where the way from A to B is an IP-in-IP
// tunnel from the first to the last; the second is in the middle of it.
func tunnelRow(t *testing.T) *lab {
	t.Helper()
	l := newLab(t, 3, nil)
	l.linkRoutes(t)
	for i, inner := range []string{"172.16.0.1/30", "172.16.0.2/30"} {
		b := l.boxes[2*i]
		near, _ := hop(i, 1+i) // 10.9.0.1, 10.9.1.2
		far, _ := hop(1-i, 2-i)
		tunnel, err := tun.Open(t.Context(), tun.Config{NS: b.ns, Name: "tun0", Addr: netip.MustParsePrefix(inner), Local: near, Remote: far})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := tunnel.Close(); err != nil {
				t.Error(err)
			}
		})
		dst, via := addrB, netip.MustParseAddr("172.16.0.2")
		if i == 1 {
			dst, via = addrA, netip.MustParseAddr("172.16.0.1")
		}
		if err := b.ns.Route(netip.PrefixFrom(dst, 32), via); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// tunnelEnd is the configuration of an end: the tunnel is an interface towards
// the network, and so is what is under it.
func (l *lab) tunnelEnd(i int) string {
	near, _ := hop(i, 1+i)
	far, _ := hop(1-i, 2-i)
	wan := rightWAN
	if i == 1 {
		wan = leftWAN
	}
	policies := voicePolicy
	if i == 0 { // what is reserved by hand there is no policy's
		policies = strings.Replace(policies, "to_port: 5004-5020", "to_port: 5004", 1)
	}
	c := config{hosts: []string{lanIface}, network: []string{wan, "tun0"}, capacity: "10mbit", policies: policies, reliable: true}
	return strings.Replace(c.String(), "{name: tun0, zone: network", fmt.Sprintf("{name: tun0, zone: network, tunnel: {local: %s, remote: %s}", near, far), 1)
}

const protoIPIP = "4"

// waitTunnel waits until a box has so many bytes/s in the tunnel session; 0: no
// reservation at all.
func (b *box) waitTunnel(t *testing.T, rate float64) console.SessionRow {
	t.Helper()
	var found console.SessionRow
	eventually(t, 12*time.Second, fmt.Sprintf("%s: tunnel session with %g bytes/s", b.name, rate), func() error {
		rows, err := b.Sessions(t.Context())
		if err != nil {
			return err
		}
		got := 0.0
		for _, row := range rows {
			if row.Protocol == protoIPIP && row.State == console.SessionReserved && row.FlowSpec != nil {
				found, got = row, row.FlowSpec.R
			}
		}
		if got < rate*0.999 || got > rate*1.001 {
			return fmt.Errorf("it has %g: %+v", got, rows)
		}
		return nil
	})
	return found
}

// RFC 2746: a reservation that crosses a tunnel is one of the tunnel session too,
// in the router in the middle, encapsulation included; it grows and shrinks with
// those end to end, and the packets in it are treated there.
func TestTunnelRFC2746(t *testing.T) {
	t.Parallel()
	l := tunnelRow(t)
	l.boxes[0].launch(t, l.tunnelEnd(0))
	l.boxes[1].launch(t, l.transit())
	l.boxes[2].launch(t, l.tunnelEnd(1))
	for _, b := range l.boxes {
		b.wait(t)
	}
	one := l.talk(t, portVoice, time.Minute)
	row := l.boxes[0].waitSession(t, portVoice, console.SessionReserved)
	if row.Interface != "tun0" || row.NextHop != "172.16.0.2" {
		t.Errorf("%+v", row)
	}
	l.boxes[2].waitSession(t, portVoice, console.SessionReserved)
	// r of the call, times what 20 bytes more are to its smallest packet.
	m := float64(max(row.FlowSpec.Min, 20))
	rate := row.FlowSpec.R * (m + 20) / m
	for _, b := range l.boxes[:2] {
		if got := b.waitTunnel(t, rate); got.FlowSpec.Max != row.FlowSpec.Max+20 || got.Style != "ff" || got.Sport != 0 || got.Dport != 0 {
			t.Errorf("%s: %+v", b.name, got)
		}
	}
	const second = portVoice + 1
	by, err := l.boxes[0].Reserve(t.Context(), console.ReservationRequest{
		Protocol: console.Text("udp"), Src: addrA.String(), Sport: 4000, Dst: addrB.String(), Dport: second, Side: "sender",
		Rate: console.Text("80kbit"), Burst: console.Text("800B"), MinUnit: console.Text(fmt.Sprintf("%dB", row.FlowSpec.Min)), MaxPacket: console.Text("400B"),
	})
	if err != nil {
		t.Fatal(err)
	}
	l.boxes[0].waitSession(t, second, console.SessionReserved)
	mid := l.boxes[1].waitTunnel(t, 2*rate)
	if mid.Src != "10.9.0.1" || mid.Dst != "10.9.1.2" || mid.Role != "transit" || mid.Class == "" {
		t.Errorf("%+v", mid)
	}
	eventually(t, 10*time.Second, "the middle treats the tunnel's packets", func() error {
		rows, err := l.boxes[1].Flows(t.Context())
		if err != nil {
			return err
		}
		for _, f := range rows {
			if f.Protocol == protoIPIP && f.Src == "10.9.0.1" && f.ConformPackets > 20 {
				return nil
			}
		}
		return fmt.Errorf("%+v", rows)
	})
	if _, err := l.boxes[0].Release(t.Context(), by.ID); err != nil {
		t.Fatal(err)
	}
	l.boxes[0].waitNoSession(t, second)
	l.boxes[1].waitTunnel(t, rate)
	one().check(t)
	// The first box tears its sessions down; the tunnel session goes with the last.
	l.boxes[0].stop(t)
	l.boxes[1].waitTunnel(t, 0)
	for _, b := range l.boxes[1:] {
		b.stop(t)
	}
}

// RFC 2746 section 6.2: what the middle of the tunnel has no room for is refused
// end to end.
func TestTunnelFullRFC2746Section6_2(t *testing.T) {
	t.Parallel()
	l := tunnelRow(t)
	small := strings.Replace(voicePolicy, "rate: 80kbit", "rate: 8kbit", 1) // it has to fit; the tunnel is none of it
	middle := config{network: []string{leftWAN, rightWAN}, capacity: "90kbit", policies: small, reliable: true}
	l.boxes[0].launch(t, l.tunnelEnd(0))
	l.boxes[1].launch(t, middle.String())
	l.boxes[2].launch(t, l.tunnelEnd(1))
	for _, b := range l.boxes {
		b.wait(t)
	}
	end := l.talk(t, portVoice, time.Minute)
	row := l.boxes[0].waitSession(t, portVoice, console.SessionRejected)
	if !strings.Contains(row.Error, "bandwidth") {
		t.Errorf("%+v", row)
	}
	l.boxes[1].waitTunnel(t, 0)
	end()
}
