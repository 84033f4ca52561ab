package rig

import (
	"fmt"
	"net/netip"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
)

// The roles of the asymmetric topology's namespaces.
const (
	RoleHostA = "hostA"
	RoleHostC = "hostC"
	RoleHostD = "hostD"
	RoleHostB = "hostB"
	RoleBox1  = "box1"
	RoleBox2  = "box2"
	roleLAN   = "lan1"
	roleWAN   = "wan"
)

// Interface names: the boxes have both, the hosts have HostIface.
const (
	LANIface  = "lan0"
	WANIface  = "wan0"
	HostIface = "eth0"
)

// Addresses of the asymmetric topology.
var (
	AddrA       = netip.MustParseAddr("10.1.0.2")
	AddrC       = netip.MustParseAddr("10.1.0.3")
	AddrB       = netip.MustParseAddr("10.2.0.2")
	AddrD       = netip.MustParseAddr("10.9.0.4")
	AddrBox1LAN = netip.MustParseAddr("10.1.0.1")
	AddrBox1WAN = netip.MustParseAddr("10.9.0.1")
	AddrBox2WAN = netip.MustParseAddr("10.9.0.2")
	AddrBox2LAN = netip.MustParseAddr("10.2.0.1")

	netA = netip.MustParsePrefix("10.1.0.0/24")
	netB = netip.MustParsePrefix("10.2.0.0/24")
)

// everywhere is the network of the hosts where nothing but bridges is between them.
const everywhere = 8 // bits of 10.0.0.0/8

// Topology is the network of the asymmetric scenario:
//
//	A --+                                          +-- D
//	    +-- (switch) -- box1 ==== WAN ==== (switch) -- box2 -- B
//	C --+
//
// The WAN is a layer-2 wire between two interfaces of the WAN namespace: its
// direction AB leads from box 1 towards box 2 and D. Hosts and boxes are plain
// routers and hosts with offloads as the kernel sets them; only what touches
// the WAN has none.
//
// Bridged, the boxes are plain bridges, without addresses, between hosts of one
// network. The hosts find each other by ARP, and remember for as long as the
// topology is there: it would stand in the WAN's queue.
type Topology struct {
	*Rig
	A, B, C, D *netns.NetNS
	Box1, Box2 *netns.NetNS
	WAN        *wire.Wire

	bridged bool
}

// BoxBridge is the bridge in boxes that are bridges.
const BoxBridge = "br0"

// The interfaces of the WAN namespace.
const (
	wanLeft   = "left"   // to box 1
	wanRight  = "right"  // into the switch
	wanSwitch = "switch" // its other end
	wanBox2   = "box2"
	wanHostD  = "hostD"
)

// NewTopology builds the asymmetric network around a wire with the parameters
// given, whose namespace and interfaces it fills in. After an error everything
// is removed.
func NewTopology(cfg wire.Config) (*Topology, error) {
	return buildTopology(cfg, false)
}

// NewBridgedTopology is NewTopology with boxes that are bridges.
func NewBridgedTopology(cfg wire.Config) (*Topology, error) {
	return buildTopology(cfg, true)
}

func buildTopology(cfg wire.Config, bridged bool) (*Topology, error) {
	r, err := New()
	if err != nil {
		return nil, err
	}
	t := &Topology{Rig: r, bridged: bridged}
	if err := t.build(cfg); err != nil {
		if cleanup := r.Close(); cleanup != nil {
			return nil, fmt.Errorf("%w (and then: %w)", err, cleanup)
		}
		return nil, err
	}
	return t, nil
}

func (t *Topology) build(cfg wire.Config) error {
	var lan, wan *netns.NetNS
	for _, n := range []struct {
		role string
		ns   **netns.NetNS
	}{
		{RoleHostA, &t.A},
		{RoleHostB, &t.B},
		{RoleHostC, &t.C},
		{RoleHostD, &t.D},
		{RoleBox1, &t.Box1},
		{RoleBox2, &t.Box2},
		{roleLAN, &lan},
		{roleWAN, &wan},
	} {
		ns, err := t.Namespace(n.role)
		if err != nil {
			return err
		}
		*n.ns = ns
		// Neighbour discovery's chatter would only blur a 256 kbit/s link.
		if err := ns.Sysctl("net/ipv6/conf/default/disable_ipv6", "1"); err != nil && !netns.IsAbsent(err) {
			return err
		}
	}
	if err := t.cables(lan, wan); err != nil {
		return err
	}
	join := t.routes
	if t.bridged {
		join = t.bridges
	}
	if err := join(); err != nil {
		return err
	}
	cfg.NS, cfg.A, cfg.B = wan, wanLeft, wanRight
	var err error
	t.WAN, err = t.Wire(cfg)
	return err
}

func (t *Topology) cables(lan, wan *netns.NetNS) error {
	on := func(a netip.Addr) []netip.Prefix { return []netip.Prefix{netip.PrefixFrom(a, 24)} }
	box := on
	if t.bridged {
		on = func(a netip.Addr) []netip.Prefix { return []netip.Prefix{netip.PrefixFrom(a, everywhere)} }
		box = func(netip.Addr) []netip.Prefix { return nil }
	}
	box1 := netns.End{NS: t.Box1, Name: WANIface, Addrs: box(AddrBox1WAN), Wire: true}
	box2 := netns.End{NS: t.Box2, Name: WANIface, Addrs: box(AddrBox2WAN), Wire: true}
	hostD := netns.End{NS: t.D, Name: HostIface, Addrs: on(AddrD), Wire: true}
	for _, pair := range [][2]netns.End{
		{{NS: t.A, Name: HostIface, Addrs: on(AddrA)}, {NS: lan, Name: RoleHostA}},
		{{NS: t.C, Name: HostIface, Addrs: on(AddrC)}, {NS: lan, Name: RoleHostC}},
		{{NS: t.Box1, Name: LANIface, Addrs: box(AddrBox1LAN)}, {NS: lan, Name: RoleBox1}},
		{box1, {NS: wan, Name: wanLeft, Wire: true}},
		{{NS: wan, Name: wanRight, Wire: true}, {NS: wan, Name: wanSwitch, Wire: true}},
		{box2, {NS: wan, Name: wanBox2, Wire: true}},
		{hostD, {NS: wan, Name: wanHostD, Wire: true}},
		{{NS: t.Box2, Name: LANIface, Addrs: box(AddrBox2LAN)}, {NS: t.B, Name: HostIface, Addrs: on(AddrB)}},
	} {
		if err := netns.Veth(pair[0], pair[1]); err != nil {
			return err
		}
	}
	// ARP would stand in the WAN's queue for seconds, which no real WAN does to
	// it, and fail.
	if !t.bridged {
		for _, far := range []netns.End{box2, hostD} {
			if err := netns.Neighbour(box1, far); err != nil {
				return err
			}
		}
	}
	if err := lan.Bridge("br0", RoleHostA, RoleHostC, RoleBox1); err != nil {
		return err
	}
	return wan.Bridge("br0", wanSwitch, wanBox2, wanHostD)
}

func (t *Topology) routes() error {
	for _, box := range []*netns.NetNS{t.Box1, t.Box2} {
		if err := box.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
			return err
		}
	}
	all := netip.MustParsePrefix("0.0.0.0/0")
	for _, route := range []struct {
		ns  *netns.NetNS
		dst netip.Prefix
		via netip.Addr
	}{
		{t.A, all, AddrBox1LAN},
		{t.C, all, AddrBox1LAN},
		{t.B, all, AddrBox2LAN},
		{t.Box1, netB, AddrBox2WAN},
		{t.Box2, netA, AddrBox1WAN},
		{t.D, netA, AddrBox1WAN},
		{t.D, netB, AddrBox2WAN},
	} {
		if err := route.ns.Route(route.dst, route.via); err != nil {
			return err
		}
	}
	return nil
}

// bridges joins the boxes' two interfaces, and has the hosts remember each other's
// Ethernet addresses longer than any scenario lasts.
func (t *Topology) bridges() error {
	for _, box := range []*netns.NetNS{t.Box1, t.Box2} {
		if err := box.Bridge(BoxBridge, LANIface, WANIface); err != nil {
			return err
		}
	}
	for _, ns := range []*netns.NetNS{t.A, t.B, t.C, t.D} {
		const hour = "3600000"
		if err := ns.Sysctl("net/ipv4/neigh/"+HostIface+"/base_reachable_time_ms", hour); err != nil {
			return err
		}
	}
	return nil
}
