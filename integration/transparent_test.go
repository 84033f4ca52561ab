package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/frames"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// The stations' own ports take more than the box's: a kernel counts a second tag.
const (
	jumboMTU   = 9000
	stationMTU = jumboMTU + 100
)

// cable is a box between two stations that say nothing by themselves:
//
//	left eth0 -- lan0 box wan0 -- eth0 right
type cable struct {
	*lab
	left, box, right *netns.NetNS
	ends             [2]*frames.Port // of left and right
}

func newCable(t *testing.T) *cable {
	t.Helper()
	c := &cable{lab: newEmptyLab(t, []form{bridged})}
	var err error
	for role, ns := range map[string]**netns.NetNS{"left": &c.left, "box": &c.box, "right": &c.right} {
		if *ns, err = c.Namespace(role); err != nil {
			t.Fatal(err)
		}
		if err := (*ns).Sysctl("net/ipv6/conf/default/disable_ipv6", "1"); err != nil && !netns.IsAbsent(err) {
			t.Fatal(err)
		}
	}
	for _, pair := range [][2]netns.End{
		{{NS: c.left, Name: hostIface, MTU: stationMTU}, {NS: c.box, Name: lanIface, MTU: jumboMTU}},
		{{NS: c.right, Name: hostIface, MTU: stationMTU}, {NS: c.box, Name: leftWAN, MTU: jumboMTU}},
	} {
		if err := netns.Veth(pair[0], pair[1]); err != nil {
			t.Fatal(err)
		}
	}
	for i, ns := range []*netns.NetNS{c.left, c.right} {
		if c.ends[i], err = frames.OpenPort(ns, hostIface); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.ends[i].Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return c
}

// start runs a box on the cable.
func (c *cable) start(t *testing.T, config string) *box {
	t.Helper()
	b := newBox(t, c.lab, c.box, 0)
	c.boxes = append(c.boxes, b)
	b.start(t, config)
	return b
}

// path is the way from left to right. The Ethernet addresses are of nobody, so that
// no kernel takes what arrives for its own.
func (c *cable) path(seed uint64) frames.Path {
	return frames.Path{
		Src: frames.MAC{2, 0, 0, 0, 1, 1}, Dst: frames.MAC{2, 0, 0, 0, 2, 2},
		Src4: addrA, Dst4: netip.MustParseAddr("10.1.0.3"), Src6: addrA6, Dst6: netip.MustParseAddr("fd00:1::3"),
		SrcPort: 4000, DstPort: portOther, MTU: jumboMTU, Seed: seed,
	}
}

// pass sends frames from both sides at once, and compares what comes out at the other
// one with what went in.
func (c *cable) pass(t *testing.T, lists [2][]frames.Sent, stream func([]byte) string) (reports [2]*frames.Report) {
	t.Helper()
	c.greet(t)
	errs := make(chan error, 2)
	for i, p := range c.ends {
		go func() { errs <- p.Send(lists[i], 100*time.Microsecond) }()
	}
	for range c.ends {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	defer c.ends[0].Forget()
	defer c.ends[1].Forget()
	for i := range c.ends {
		from, to := c.ends[i], c.ends[1-i]
		passing := 0
		for _, s := range lists[i] {
			if s.Dropped == "" {
				passing++
			}
		}
		to.Settle(t.Context(), passing, 10*time.Second, 300*time.Millisecond)
		sent, _, err := from.Frames()
		if err != nil {
			t.Fatal(err)
		}
		own := frames.Match(all(lists[i]), sent, nil)
		if p := own.Problems(); len(p) > 0 || len(own.Padding) > 0 {
			t.Errorf("%s: the station itself did not send what it should: %d problems, such as %q", ways[i], len(p), p[:min(len(p), 5)])
		}
		_, came, err := to.Frames()
		if err != nil {
			t.Fatal(err)
		}
		r := frames.Match(lists[i], came, stream)
		trimmed, other := r.Trimmed()
		t.Logf("%s: %d frames sent, %d as they were, %d of them without their padding; %d dropped for a reason", ways[i], len(sent), r.Passed, trimmed, len(sent)-passing)
		if len(other) > 0 {
			t.Errorf("%s: padding of %d frames was not cut off, but altered: %+v", ways[i], len(other), other[0])
		}
		reports[i] = r
	}
	return reports
}

// greet waits until frames pass both ways: an interface that has just come up drops
// what it is given for a moment.
func (c *cable) greet(t *testing.T) {
	t.Helper()
	for i, from := range c.ends {
		path := c.path(0)
		if i == 1 { // or the bridge would learn the stations at the wrong ports
			path = path.Back()
		}
		hello := []frames.Sent{{Name: "hello", Data: frames.Padded60(frames.Ethernet(path.Dst, path.Src, nil, 0x88b5, []byte{byte(i)}), 0)}}
		eventually(t, 10*time.Second, "frames pass "+ways[i], func() error {
			if err := from.Send(hello, 0); err != nil {
				return err
			}
			_, came, err := c.ends[1-i].Frames()
			if err == nil && len(came) == 0 {
				err = errors.New("none has come")
			}
			return err
		})
	}
	for _, p := range c.ends {
		p.Settle(t.Context(), 0, 0, 100*time.Millisecond)
	}
	for _, p := range c.ends {
		p.Forget()
	}
}

var ways = [2]string{"to the right", "to the left"}

// compare is pass for a box that shall change nothing: every frame comes, in its
// order, bit for bit.
func (c *cable) compare(t *testing.T, lists [2][]frames.Sent, stream func([]byte) string) {
	t.Helper()
	for i, r := range c.pass(t, lists, stream) {
		tell(t, ways[i], r.Problems())
	}
}

func tell(t *testing.T, way string, problems []string) {
	t.Helper()
	const most = 30
	for _, p := range problems[:min(most, len(problems))] {
		t.Errorf("%s: %s", way, p)
	}
	if len(problems) > most {
		t.Errorf("%s: and %d more", way, len(problems)-most)
	}
}

// all is a list of frames none of which may be missing.
func all(list []frames.Sent) []frames.Sent {
	out := make([]frames.Sent, len(list))
	for i, s := range list {
		out[i] = frames.Sent{Name: s.Name, Data: s.Data}
	}
	return out
}

func (c *cable) both(seed uint64, b frames.Bridge) [2][]frames.Sent {
	return [2][]frames.Sent{frames.Cases(c.path(seed), b), frames.Cases(c.path(seed).Back(), b)}
}

// What the kernel's bridge does by itself, without a qosproxy: nothing, but for what
// it keeps from its neighbours; and with br_netfilter it drops broken IP packets
// and cuts off what follows whole ones.
func TestTransparentKernelAlone(t *testing.T) {
	t.Parallel()
	for _, filter := range []bool{false, true} {
		name, on := "plain", "0"
		if filter {
			name, on = "br_netfilter", "1"
		}
		t.Run(name, func(t *testing.T) {
			c := newCable(t)
			if err := c.box.Bridge("br0", lanIface, leftWAN); err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-filter-vlan-tagged"} {
				if err := c.box.Sysctl("net/bridge/"+key, on); err != nil {
					t.Fatal(err)
				}
			}
			c.compare(t, c.both(1, frames.Bridge{Filter: filter}), nil)
		})
	}
}

// cableConfig is that of a box whose marks are not its own.
func cableConfig(capacity, policies string) string {
	if capacity != "" {
		capacity = ", capacity: " + capacity
	}
	return fmt.Sprintf(`mode: bridge
log: {level: info, format: json}
interfaces:
  - {name: lan0, zone: hosts, trust: dscp%s}
  - {name: wan0, zone: network, trust: dscp%s}
policies:%s`, capacity, capacity, policies)
}

// watchAll is a policy whose flows the box looks at and, since nobody asks it to
// reserve, does nothing about.
func watchAll(protocol, extra string) string {
	return fmt.Sprintf(`
  - name: all
    match: {protocol: %s, to_port: 1-65535}
    reserve: {role: receiver, service: controlled-load, tspec: {rate: 1mbit, burst: 64kB, min_unit: 64B, max_packet: 9000B}}
    mark: af31%s
`, protocol, extra)
}

// transparent is what passes a box.
var transparent = frames.Bridge{Filter: true, LACP: true, LinkLoc: true}

// A box in the cable changes no frame, loses none, overtakes none with another and
// adds none: without policies, beside policies for others' traffic, with interfaces
// that are shaped, in a bridge that was there, and where every flow of TCP or UDP is one
// that it watches. Those keep their order within the flow, once the box knows it, and
// not among all.
func TestTransparentBox(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		name, capacity, policies string
		adopted                  bool
		queued                   bool
	}{
		{name: "idle", policies: " []"},
		{name: "adopted", policies: " []", adopted: true},
		{name: "policies for others, shaped", capacity: "5gbit", policies: policyForNothing + voicePolicy},
		{name: "watched TCP", policies: watchAll("tcp", "\n    tcp: none"), queued: true},
		{name: "watched UDP", policies: watchAll("udp", ""), queued: true},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			c := newCable(t)
			if v.adopted {
				if err := c.box.Bridge(adoptedBridge, lanIface, leftWAN); err != nil {
					t.Fatal(err)
				}
			}
			b := c.start(t, cableConfig(v.capacity, v.policies))
			var stream func([]byte) string
			if v.queued {
				// Of a new flow the first packets, which are in user space, may be
				// overtaken by those behind them, which the kernel need not show any more.
				c.compare(t, c.both(4, transparent), func(frame []byte) string { return string(frame) })
				stream = frames.Stream
			}
			c.compare(t, c.both(2, transparent), stream)
			var n uint64
			for _, role := range b.queued(t) {
				n += role
			}
			if t.Logf("%d packets went through user space", n); (n > 0) != v.queued {
				t.Errorf("%d packets went through user space", n)
			}
			b.stop(t)
		})
	}
}

// Hosts whose marks are not trusted lose them, and nothing else: of what comes from
// their side the DSCP is 0, with the IPv4 checksum that goes with it.
func TestTransparentButForMarks(t *testing.T) {
	t.Parallel()
	c := newCable(t)
	c.start(t, strings.Replace(cableConfig("", " []"), "zone: hosts, trust: dscp", "zone: hosts, trust: none", 1))
	reports := c.pass(t, c.both(3, transparent), nil)
	tell(t, ways[1], reports[1].Problems())
	r := reports[0]
	marked := map[string]bool{}
	for _, a := range r.Changed {
		for _, change := range a.Changes {
			switch {
			case change.Field == "DSCP" && change.Got == "0x0":
				marked[a.Name] = true
			case change.Field == "IPv4 header checksum":
			default:
				t.Errorf("%s: %s", a.Name, change)
			}
		}
	}
	r.Changed = nil
	tell(t, ways[0], r.Problems())
	for _, tags := range []string{"untagged", "802.1Q", "priority-tagged", "88a8+8100", "8100+8100", "88a8"} {
		for _, name := range []string{"DSCP 46 ECN 1", "DSCP 48 ECN 2 over IPv6"} {
			if !marked[name+", "+tags] {
				t.Errorf("%s, %s: kept its mark", name, tags)
			}
		}
	}
}
