package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/vlan"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// hairpin is a bridge on the trunk between a switch and a router that routes between
// VLANs, by which every packet comes twice:
//
//	A eth0.7 -- switch -- lan0 box wan1 -- eth0.7 and eth0.8 R
//	C eth0.8 --
type hairpin struct {
	*lab
	a, c *netns.NetNS
}

var (
	hairpinA = netip.MustParseAddr("10.7.0.2")
	hairpinC = netip.MustParseAddr("10.8.0.2")
)

func newHairpin(t *testing.T) *hairpin {
	t.Helper()
	h := &hairpin{lab: newEmptyLab(t, []form{bridged})}
	var err error
	var crossing, box, router *netns.NetNS
	for role, ns := range map[string]**netns.NetNS{"a": &h.a, "c": &h.c, "switch": &crossing, "box1": &box, "router": &router} {
		if *ns, err = h.Namespace(role); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		netns.Veth(netns.End{NS: h.a, Name: hostIface}, netns.End{NS: crossing, Name: "a"}),
		netns.Veth(netns.End{NS: h.c, Name: hostIface}, netns.End{NS: crossing, Name: "c"}),
		netns.Veth(netns.End{NS: crossing, Name: "box"}, netns.End{NS: box, Name: lanIface}),
		netns.Veth(netns.End{NS: box, Name: rightWAN}, netns.End{NS: router, Name: hostIface}),
		router.Sysctl("net/ipv4/ip_forward", "1"),
	); err != nil {
		t.Fatal(err)
	}
	if err := crossing.Bridge("br0", "a", "c", "box"); err != nil {
		t.Fatal(err)
	}
	for _, i := range []struct {
		ns   *netns.NetNS
		id   uint16
		addr string
	}{{h.a, 7, "10.7.0.2/24"}, {h.c, 8, "10.8.0.2/24"}, {router, 7, "10.7.0.1/24"}, {router, 8, "10.8.0.1/24"}} {
		v, err := vlan.Open(vlan.Config{NS: i.ns, Link: hostIface, Name: fmt.Sprintf("vlan%d", i.id), TCI: i.id, Addrs: on(i.addr)})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.OnClose(v.Close); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		h.a.Route(netip.MustParsePrefix("10.8.0.0/24"), netip.MustParseAddr("10.7.0.1")),
		h.c.Route(netip.MustParsePrefix("10.7.0.0/24"), netip.MustParseAddr("10.8.0.1")),
	); err != nil {
		t.Fatal(err)
	}
	h.boxes = append(h.boxes, newBox(t, h.lab, box, 0))
	return h
}

// A connection that is routed behind the box and comes by it twice is left alone, and
// works.
func TestConnectionThatComesByTwiceIsLeftAlone(t *testing.T) {
	t.Parallel()
	h := newHairpin(t)
	h.startAll(t, h.edge(0, usualPolicies, "").String())
	source, sink := connect(t, h.a, h.c, at(hairpinC, portReliable))
	tr := send(source, sink, random(1, 1_000_000))
	h.boxes[0].waitFlowFrom(t, hairpinA, portReliable, "left alone", func(r console.FlowRow) bool {
		return r.State != console.FlowCheated && strings.Contains(r.Reason, tcpcheat.ErrTwoPorts.Error())
	})
	tr.wait(t)
	st, err := h.boxes[0].Stats(t.Context())
	if err != nil || st.Cheat.Started != 0 || st.Cheat.FakeAcks != 0 {
		t.Errorf("%+v, %v", st.Cheat, err)
	}
}
