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

// tunnelRow is a lab of three boxes where the way from A to B is a tunnel from the
// first to the last, of IPv4 in IPv4 or IPv6 in IPv6; the second is in the middle.
func tunnelRow(t *testing.T, f family) *lab {
	t.Helper()
	l := newLab(t, 3, nil)
	l.linkRoutes(t)
	for i := range 2 {
		b := l.boxes[2*i]
		near, far := f.hop(i, 1+i), f.hop(1-i, 2-i) // 10.9.0.1, 10.9.1.2
		tunnel, err := tun.Open(t.Context(), tun.Config{NS: b.ns, Name: "tun0", Addr: f.inTunnel(i), Local: near, Remote: far})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := tunnel.Close(); err != nil {
				t.Error(err)
			}
		})
		dst := f.dst
		if i == 1 {
			dst = f.src
		}
		if err := b.ns.Route(netip.PrefixFrom(dst, dst.BitLen()), f.inTunnel(1-i).Addr()); err != nil {
			t.Fatal(err)
		}
	}
	l.watch(t, leftWAN, rightWAN)
	return l
}

// inTunnel is the inner address of an end, 0 or 1.
func (f family) inTunnel(end int) netip.Prefix {
	if f.v6 {
		return netip.MustParsePrefix(fmt.Sprintf("fd00:77::%d/64", end+1))
	}
	return netip.MustParsePrefix(fmt.Sprintf("172.16.0.%d/30", end+1))
}

// tunnelEnd is the configuration of an end: the tunnel is an interface towards
// the network, and so is what is under it.
func (l *lab) tunnelEnd(f family, i int) string {
	near, far, carries := f.hop(i, 1+i), f.hop(1-i, 2-i), "ipip"
	if f.v6 {
		carries = "ipv6"
	}
	wan := rightWAN
	if i == 1 {
		wan = leftWAN
	}
	policies := f.policies(voicePolicy)
	if i == 0 { // what is reserved by hand there is no policy's
		policies = strings.Replace(policies, "to_port: 5004-5020", "to_port: 5004", 1)
	}
	c := config{hosts: []string{lanIface}, network: []string{wan, "tun0"}, capacity: "10mbit", policies: policies, reliable: true}
	return strings.Replace(c.String(), "{name: tun0, zone: network", fmt.Sprintf("{name: tun0, zone: network, tunnel: {local: '%s', remote: '%s', protocol: %s}", near, far, carries), 1)
}

// protoOf is the protocol of the outer packets.
func (f family) protoOf() string {
	if f.v6 {
		return "41"
	}
	return "4"
}

// waitTunnel waits until a box has so many bytes/s in the tunnel session; 0: no
// reservation at all.
func (b *box) waitTunnel(t *testing.T, f family, rate float64) console.SessionRow {
	t.Helper()
	var found console.SessionRow
	eventually(t, 12*time.Second, fmt.Sprintf("%s: tunnel session with %g bytes/s", b.name, rate), func() error {
		rows, err := b.Sessions(t.Context())
		if err != nil {
			return err
		}
		got := 0.0
		for _, row := range rows {
			if row.Protocol == f.protoOf() && row.State == console.SessionReserved && row.FlowSpec != nil {
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
func TestTunnelRFC2746(t *testing.T) { overBoth(t, tunnelRFC2746) }

func tunnelRFC2746(t *testing.T, f family) {
	l := tunnelRow(t, f)
	outer := []string{f.hop(0, 1).String(), f.hop(1, 2).String()}
	header := uint32(20)
	if f.v6 {
		header = 40
	}
	l.boxes[0].launch(t, l.tunnelEnd(f, 0))
	l.boxes[1].launch(t, l.transit())
	l.boxes[2].launch(t, l.tunnelEnd(f, 1))
	for _, b := range l.boxes {
		b.wait(t)
	}
	one := l.callOver(t, f, portVoice, time.Minute)
	row := l.boxes[0].waitSession(t, portVoice, console.SessionReserved)
	if row.Interface != "tun0" || row.NextHop != f.inTunnel(1).Addr().String() {
		t.Errorf("%+v", row)
	}
	l.boxes[2].waitSession(t, portVoice, console.SessionReserved)
	// r of the call, times what the header more is to its smallest packet.
	m := float64(max(row.FlowSpec.Min, 20))
	rate := row.FlowSpec.R * (m + float64(header)) / m
	for _, b := range l.boxes[:2] {
		if got := b.waitTunnel(t, f, rate); got.FlowSpec.Max != row.FlowSpec.Max+header || got.Style != "ff" || got.Sport != 0 || got.Dport != 0 {
			t.Errorf("%s: %+v", b.name, got)
		}
	}
	const second = portVoice + 1
	by, err := l.boxes[0].Reserve(t.Context(), console.ReservationRequest{
		Protocol: console.Text("udp"), Src: f.src.String(), Sport: 4000, Dst: f.dst.String(), Dport: second, Side: "sender",
		Rate: console.Text(fmt.Sprintf("%dbit", f.voiceRate())), Burst: console.Text("800B"), MinUnit: console.Text(fmt.Sprintf("%dB", row.FlowSpec.Min)), MaxPacket: console.Text("400B"),
	})
	if err != nil {
		t.Fatal(err)
	}
	l.boxes[0].waitSession(t, second, console.SessionReserved)
	mid := l.boxes[1].waitTunnel(t, f, 2*rate)
	if mid.Src != outer[0] || mid.Dst != outer[1] || mid.Role != "transit" || mid.Class == "" {
		t.Errorf("%+v", mid)
	}
	eventually(t, 10*time.Second, "the middle treats the tunnel's packets", func() error {
		rows, err := l.boxes[1].Flows(t.Context())
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.Protocol == f.protoOf() && row.Src == outer[0] && row.ConformPackets > 20 {
				return nil
			}
		}
		return fmt.Errorf("%+v", rows)
	})
	if _, err := l.boxes[0].Release(t.Context(), by.ID); err != nil {
		t.Fatal(err)
	}
	l.boxes[0].waitNoSession(t, second)
	l.boxes[1].waitTunnel(t, f, rate)
	one().check(t)
	// The first box tears its sessions down; the tunnel session goes with the last.
	l.boxes[0].stop(t)
	l.boxes[1].waitTunnel(t, f, 0)
	for _, b := range l.boxes[1:] {
		b.stop(t)
	}
}

// RFC 2746 section 6.2: what the middle of the tunnel has no room for is refused
// end to end.
func TestTunnelFullRFC2746Section6_2(t *testing.T) {
	t.Parallel()
	f := ipv4
	l := tunnelRow(t, f)
	small := strings.Replace(voicePolicy, "rate: 80kbit", "rate: 8kbit", 1) // it has to fit; the tunnel is none of it
	middle := config{network: []string{leftWAN, rightWAN}, capacity: "90kbit", policies: small, reliable: true}
	l.boxes[0].launch(t, l.tunnelEnd(f, 0))
	l.boxes[1].launch(t, middle.String())
	l.boxes[2].launch(t, l.tunnelEnd(f, 1))
	for _, b := range l.boxes {
		b.wait(t)
	}
	end := l.talk(t, portVoice, time.Minute)
	row := l.boxes[0].waitSession(t, portVoice, console.SessionRejected)
	if !strings.Contains(row.Error, "bandwidth") {
		t.Errorf("%+v", row)
	}
	l.boxes[1].waitTunnel(t, f, 0)
	end()
}
