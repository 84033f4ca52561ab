package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

var addrC = netip.MustParseAddr("10.3.0.2")

// The flows of TestThreePorts beside portReliable and portVoice, from A to B.
const (
	portFromC  = portVoice + 1 // from C to B
	portGroup  = portVoice + 2 // from A to threeGroup
	portInside = portRealtime  // from A to C
)

var threeGroup = netip.MustParseAddr("239.1.2.3")

// newThreePorts is a bridged lab whose first box has a third port:
//
//	A -- lan0 box1 wan1 -- wan0 box2 lan0 -- B
//	C -- lan1
//
// B says nothing of itself: it has no IPv6, and A need not ask where it is.
func newThreePorts(t *testing.T) (l *lab, c *netns.NetNS) {
	t.Helper()
	l = newBridgedLab(t, 2, nil)
	c, err := l.Namespace("c")
	if err != nil {
		t.Fatal(err)
	}
	route := func(ns *netns.NetNS, prefix string) error { return ns.OnLink(netip.MustParsePrefix(prefix), hostIface) }
	if err := errors.Join(
		netns.Veth(netns.End{NS: c, Name: hostIface, Addrs: on("10.3.0.2/24")}, netns.End{NS: l.boxes[0].ns, Name: branchIface}),
		route(c, "10.1.0.0/24"), route(c, "10.2.0.0/24"), route(l.a, "10.3.0.0/24"), route(l.b, "10.3.0.0/24"), route(l.a, "224.0.0.0/4"),
		l.b.Sysctl("net/ipv6/conf/"+hostIface+"/disable_ipv6", "1"),
	); err != nil {
		t.Fatal(err)
	}
	a, b := l.hostA(), l.hostB()
	a.Addrs, b.Addrs = on("10.1.0.2/24"), on("10.2.0.2/24")
	if err := netns.Neighbour(a, b); err != nil {
		t.Fatal(err)
	}
	return l, c
}

// A box with three ports treats what goes from each of its two networks of hosts to
// the third, and by that alone. What is for a station that nobody has heard leaves by all
// ports, and is not decided about until it is known where that is: for that no packet from
// it to the other host is needed. Hosts of two ports of its own talk to each other as
// without it, and PATH to a group goes by both other ports.
func TestThreePorts(t *testing.T) {
	t.Parallel()
	l, c := newThreePorts(t)
	one, two := l.boxes[0], l.boxes[1]
	first, last := l.edge(0, usualPolicies, "tcp: {window: predict}"), l.edge(1, usualPolicies, "")
	first.hosts = append(first.hosts, branchIface)
	isIP := func(f []byte) bool { return isIPv4(f) }
	atA, atC, atB := capture(t, l.a, hostIface, isIP), capture(t, c, hostIface, isIP), capture(t, l.b, hostIface, isRSVP)
	l.startAll(t, first.String(), last.String())

	// Nobody has heard B.
	end := l.talk(t, portVoice, 60*time.Second)
	voice := toPort(portVoice)
	waitFrame(t, atC, "what is for nobody knows whom, at C", voice)
	waitCount(t, two, portVoice)
	if row, err := one.flow(t, portVoice); err == nil {
		t.Errorf("decided without knowing by which port: %+v", row)
	}
	// It is heard, but says nothing to A.
	if _, err := dialUDP(t, l.b, at(addrC, portOther)).Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	heard := time.Now()
	reservedBy := func(r console.FlowRow) bool {
		return r.State == console.FlowManaged && r.ReservedBPS > 0 && r.Interface == rightWAN
	}
	row := one.waitFlow(t, portVoice, "reserved by the only port that leads there", reservedBy)
	if took := time.Since(heard); took > 4*time.Second || row.Policy != "voice" {
		t.Errorf("after %v: %+v", took, row)
	}
	known := time.Now()

	// C to B, in one direction.
	listenUDP(t, l.b, at(addrB, portFromC))
	beat(t, c, at(addrC, 0), at(addrB, portFromC))
	one.waitFlowFrom(t, addrC, portFromC, "reserved", reservedBy)

	// A to B, cheated; A to C, inside; A to a group.
	source, sink := connect(t, l.a, l.b, at(addrB, portReliable))
	cheated := send(source, sink, random(1, 1_500_000))
	near, far := connect(t, l.a, c, at(addrC, portInside))
	inside := send(near, far, random(2, 1_000_000))
	tr := &tree{lab: l, group: threeGroup}
	stop := tr.talkOn(t, dialUDP(t, l.a, at(threeGroup, portGroup)))
	one.waitFlow(t, portReliable, "cheated", func(r console.FlowRow) bool {
		return r.State == console.FlowCheated && r.FakeAcks > 10 && r.AbsorbedAcks > 10 && r.Interface == rightWAN
	})
	one.waitFlow(t, portInside, "left alone", func(r console.FlowRow) bool {
		return r.State == console.FlowLeftAlone && r.Dst == addrC.String() && r.Interface == branchIface && r.ReservedBPS == 0 &&
			strings.Contains(r.Reason, "both ends are on the hosts' side")
	})
	for _, at := range []*traffic.Capture{atB, atC} {
		waitFrame(t, at, "PATH to the group", func(f []byte) bool {
			m, err := message(f)
			return isRSVP(f) && err == nil && m.Type == wire.Path && m.Session.Dst == threeGroup
		})
	}
	inside.wait(t)
	cheated.wait(t)
	stop()
	end().check(t)

	// Each host's cable has its own packets alone.
	onlyOf(t, "A", atA, known, addrA, threeGroup)
	onlyOf(t, "C", atC, known, addrC, threeGroup)
	frames := captured(t, atA)
	for _, f := range frames {
		if isRSVP(f.Data) {
			t.Errorf("RSVP came to A: % x", f.Data[:min(len(f.Data), 80)])
			break
		}
	}
	frames = captured(t, atC)
	for _, f := range frames {
		if m, err := message(f.Data); isRSVP(f.Data) && (err != nil || m.Session.Dst != threeGroup) {
			t.Errorf("RSVP of a session beyond came to C: %+v, %v", m, err)
			break
		}
		if v, err := packet.Parse(f.Data[ethernet:]); err == nil && v.IsTCP() && v.Src() == addrA && dscpOf(f.Data) != 0 {
			t.Errorf("a packet from A to C was marked: % x", f.Data[:min(len(f.Data), 80)])
			break
		}
	}
	for _, b := range l.boxes {
		st, err := b.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st.Inject.NoFrame+st.Inject.NoPort+st.Inject.TooLong > 0 || st.RSVP.Errors.SendFailed > 0 {
			t.Errorf("%s: of our own packets: %+v; RSVP: %+v", b.name, st.Inject, st.RSVP.Errors)
		}
	}
	if rows, err := two.Flows(t.Context()); err != nil || len(rows) == 0 {
		t.Errorf("rows of box 2: %+v, %v", rows, err)
	}
}

// waitCount waits until a box has counted packets of a flow.
func waitCount(t *testing.T, b *box, port uint16) {
	t.Helper()
	b.waitFlow(t, port, "counted", func(r console.FlowRow) bool { return r.Packets > 10 })
}

// onlyOf holds what a host's cable had from a time on to packets from or to these.
func onlyOf(t *testing.T, name string, at *traffic.Capture, from time.Time, own ...netip.Addr) {
	t.Helper()
	strange := map[string]int{}
	for _, f := range captured(t, at) {
		v, err := packet.Parse(f.Data[ethernet:])
		if err != nil || f.At.Before(from) {
			continue
		}
		mine := false
		for _, a := range own {
			mine = mine || v.Src() == a || v.Dst() == a
		}
		if !mine && f.Data[0]&1 == 0 {
			strange[fmt.Sprintf("%s > %s, protocol %d", v.Src(), v.Dst(), v.Proto())]++
		}
	}
	if len(strange) > 0 {
		t.Errorf("%s's cable had packets of others: %v", name, strange)
	}
}
