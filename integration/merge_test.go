package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/mroute"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// orchard is a tree with one sending host and twenty receivers that speak RSVP:
//
//	A -- box1 -- box2 -- box3 -- a segment with ten of them
//	               |
//	              box4 -- ten links with one each
//
// The test plays the multicast routing daemons.
type orchard struct {
	*lab
	family
	group     netip.Addr
	receivers []*listener
}

const (
	perLeaf    = 10
	branch3    = "br3" // of box 2, towards box 3
	branch4    = "br4"
	portFixed  = 5004
	portShare  = 5005 // wildcard, two senders
	unitRate   = 1000 // bytes/s: receiver i asks for i+1 of them
	treePolicy = `
  - name: tree
    match: {protocol: udp, to_port: 5004-5005}
    reserve: {role: sender, service: controlled-load, tspec: {rate: 12mbit, burst: 64kB, max_packet: 1400B}}
    mark: af31
`
)

// listener is a host that asks for its own amount.
type listener struct {
	*traffic.Raw
	addr, router netip.Addr
	heard        *traffic.Capture

	mu   sync.Mutex
	says map[uint16][]byte // by port, what it refreshes
}

func newOrchard(t *testing.T, f family) *orchard {
	t.Helper()
	o := &orchard{lab: newLab(t, 2, nil), family: f, group: netip.MustParseAddr("239.9.8.7")}
	if f.v6 {
		o.group = netip.MustParseAddr("ff3e::239:9")
	}
	for i := 2; i < 4; i++ {
		ns, err := o.Namespace(fmt.Sprintf("box%d", i+1))
		if err == nil {
			err = errors.Join(ns.Sysctl("net/ipv4/ip_forward", "1"), ns.Sysctl("net/ipv6/conf/all/forwarding", "1"))
		}
		if err != nil {
			t.Fatal(err)
		}
		o.boxes = append(o.boxes, newBox(t, o.lab, ns, i))
	}
	segment, err := o.Namespace("segment")
	if err != nil {
		t.Fatal(err)
	}
	root, third, fourth := o.boxes[1].ns, o.boxes[2].ns, o.boxes[3].ns
	err = errors.Join(
		netns.Veth(netns.End{NS: root, Name: branch3, Addrs: both(3, 1)}, netns.End{NS: third, Name: leftWAN, Addrs: both(3, 2)}),
		netns.Veth(netns.End{NS: root, Name: branch4, Addrs: both(4, 1)}, netns.End{NS: fourth, Name: leftWAN, Addrs: both(4, 2)}),
		netns.Veth(netns.End{NS: third, Name: "leaf", Addrs: on("10.20.0.1/24", "fd00:20:0::1/64")}, netns.End{NS: segment, Name: "box"}),
		third.Route(f.link(f.src), f.added(3, 1)), fourth.Route(f.link(f.src), f.added(4, 1)), root.Reroute(f.link(f.src), f.hop(0, 1)),
	)
	if err != nil {
		t.Fatal(err)
	}
	ports := []string{"box"}
	for i := range 2 * perLeaf {
		r, err := o.plant(i, segment)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		if r.heard, err = traffic.StartCapture(o.Lookup(fmt.Sprintf("r%d", i)), hostIface, f.isRSVP()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.heard.Close() })
		o.receivers = append(o.receivers, r)
		if i < perLeaf {
			ports = append(ports, fmt.Sprintf("p%d", i))
		}
	}
	if err := segment.Bridge("br0", ports...); err != nil {
		t.Fatal(err)
	}
	o.route(t)
	return o
}

// plant makes a receiver: the first ten on the segment, the others on a link of
// their own to the fourth box.
func (o *orchard) plant(i int, segment *netns.NetNS) (*listener, error) {
	ns, err := o.Namespace(fmt.Sprintf("r%d", i))
	if err != nil {
		return nil, err
	}
	r := &listener{says: map[uint16][]byte{}}
	far := netns.End{NS: segment, Name: fmt.Sprintf("p%d", i)}
	r.addr, r.router = o.leaf(0, 10+i), o.leaf(0, 1)
	if i >= perLeaf {
		r.addr, r.router = o.leaf(i, 2), o.leaf(i, 1)
		far = netns.End{NS: o.boxes[3].ns, Name: leafName(i), Addrs: []netip.Prefix{netip.PrefixFrom(r.router, o.link(r.router).Bits())}}
	}
	near := netns.End{NS: ns, Name: hostIface, Addrs: []netip.Prefix{netip.PrefixFrom(r.addr, o.link(r.addr).Bits())}}
	if err := netns.Veth(near, far); err != nil {
		return nil, err
	}
	r.Raw, err = traffic.OpenRaw(ns)
	return r, err
}

// leaf is an address of a link with receivers; 0 is the segment with ten of them.
func (f family) leaf(link, end int) netip.Addr {
	if f.v6 {
		return netip.MustParseAddr(fmt.Sprintf("fd00:20:%x::%x", link, end))
	}
	return netip.AddrFrom4([4]byte{10, 20, byte(link), byte(end)})
}

func leafName(i int) string { return fmt.Sprintf("leaf%d", i) }

// route has the group forwarded to all branches.
func (o *orchard) route(t *testing.T) {
	t.Helper()
	leaves := []string{}
	for i := range perLeaf {
		leaves = append(leaves, leafName(perLeaf+i))
	}
	for i, r := range []struct {
		in   string
		outs []string
	}{{lanIface, []string{rightWAN}}, {leftWAN, []string{branch3, branch4}}, {leftWAN, []string{"leaf"}}, {leftWAN, leaves}} {
		router, err := mroute.New(o.boxes[i].ns, o.v6, 1, append([]string{r.in}, r.outs...)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := router.Close(); err != nil {
				t.Error(err)
			}
		})
		if err := router.Set(mroute.Route{Source: o.src, Group: o.group, In: r.in, Out: r.outs}); err != nil {
			t.Fatal(err)
		}
	}
}

// start runs the boxes. Only the first one's link is too small for all that the
// sender announces: 80% of 10 Mbit/s.
func (o *orchard) start(t *testing.T) {
	t.Helper()
	configs := []config{
		{hosts: []string{lanIface}, network: []string{rightWAN}, capacity: "10mbit", policies: treePolicy},
		{network: []string{leftWAN, branch3, branch4}, capacity: "100mbit", policies: "  []\n"},
		{network: []string{leftWAN, "leaf"}, capacity: "100mbit", policies: "  []\n"},
		{network: []string{leftWAN}, capacity: "100mbit", policies: "  []\n"},
	}
	for i := range perLeaf {
		configs[3].network = append(configs[3].network, leafName(perLeaf+i))
	}
	var texts []string
	for _, c := range configs {
		c.reliable = true
		texts = append(texts, c.String())
	}
	// Beside the small link there is a large one, or the policy itself would be
	// refused.
	texts[0] = strings.Replace(texts[0], "policies:", "  - {name: spare0, zone: network, capacity: 100mbit}\npolicies:", 1)
	if err := netns.Veth(netns.End{NS: o.boxes[0].ns, Name: "spare0", Addrs: on("10.9.99.1/24")}, netns.End{NS: o.Lookup("segment"), Name: "spare0"}); err != nil {
		t.Fatal(err)
	}
	o.watch(t, rightWAN, leftWAN, branch3, branch4)
	o.startAll(t, texts...)
	t.Cleanup(func() {
		for _, b := range o.boxes {
			b.kill(t)
		}
	})
}

// speak sends from A to the group until the test ends.
func (o *orchard) speak(t *testing.T, port uint16) {
	t.Helper()
	c := dialUDP(t, o.a, at(o.group, port))
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	level, option := unix.IPPROTO_IP, unix.IP_MULTICAST_TTL
	if o.v6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS
	}
	var set error
	if err := errors.Join(raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), level, option, 9)
	}), set, c.SetDeadline(time.Time{})); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				_, _ = c.Write(make([]byte, 100)) // what is lost is not missed
			}
		}
	}()
}

// ask has a receiver ask for a rate, and go on asking; zero ends that.
func (o *orchard) ask(t *testing.T, r *listener, port uint16, style wire.Style, rate float64) {
	t.Helper()
	var path *wire.Message
	_, err := r.heard.Wait(within(t, 10*time.Second), func(f traffic.Frame) bool {
		m, err := wire.Options{RefreshReduction: true}.Parse(payloadOf(f.Data))
		if err != nil || m.Type != wire.Path || m.Session.DstPort != port {
			return false
		}
		path = m
		return true
	})
	if err != nil {
		t.Fatalf("%s hears no PATH to port %d: %v", r.addr, port, err)
	}
	m := &wire.Message{
		Type: wire.Resv, Session: path.Session, Hop: &wire.Hop{Addr: r.addr, LIH: path.Hop.LIH},
		TimeValues: &wire.TimeValues{Refresh: 1000}, Style: style,
	}
	fd := wire.FlowDescriptor{FlowSpec: &intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: intserv.TSpec{
		Rate: max(rate, 1), Bucket: 3000, Peak: 2e6, MinUnit: 64, MaxPacket: 1400,
	}}}
	if style == wire.FF {
		fd.Filters = []wire.Filter{*path.SenderTemplate}
	}
	m.Flows = []wire.FlowDescriptor{fd}
	if rate == 0 {
		m.Type, m.TimeValues = wire.ResvTear, nil
	}
	b := packetOf(t, m, r.addr, r.router)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.says[port] = b; rate == 0 {
		delete(r.says, port)
	}
	if err := r.Send(b); err != nil {
		t.Fatal(err)
	}
}

// refresh repeats what all receivers say, twice in R, until the test ends.
func (o *orchard) refresh(t *testing.T) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(done); <-ended })
	go func() {
		defer close(ended)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			for _, r := range o.receivers {
				r.mu.Lock()
				for _, b := range r.says {
					_ = r.Send(b) // the test looks at what the boxes have
				}
				r.mu.Unlock()
			}
		}
	}()
}

// wantMerged waits until the first box has reserved a rate for a port, in all,
// and the second box no more than a rate by each branch.
func (o *orchard) wantMerged(t *testing.T, what string, port uint16, rows int, rate, by3, by4 float64) {
	t.Helper()
	eventually(t, 15*time.Second, what, func() error {
		list, err := o.boxes[0].Sessions(t.Context())
		if err != nil {
			return err
		}
		n := 0
		for _, r := range list {
			if r.Dport != port {
				continue
			}
			if r.State != console.SessionReserved || r.FlowSpec == nil || r.FlowSpec.R != rate {
				return fmt.Errorf("box 1 has %s %+v %s", r.State, r.FlowSpec, r.Error)
			}
			n++
		}
		if n != rows {
			return fmt.Errorf("box 1 has %d rows of port %d, want %d", n, port, rows)
		}
		links, err := o.boxes[1].Links(t.Context())
		if err != nil {
			return err
		}
		for name, want := range map[string]float64{branch3: by3, branch4: by4} {
			if got := linkRow(links, name); got.ReservedBPS != uint64(8*want) {
				return fmt.Errorf("box 2 has %d bit/s by %s, want %.0f", got.ReservedBPS, name, 8*want)
			}
		}
		return nil
	})
}

// Twenty receivers of a group ask for different amounts, from one segment and
// from links of their own. Upstream of each merging point there is one RESV for
// the largest (RFC 2205 section 2.2), those that leave are merged out again, and
// one that asks for more than there is takes nothing from the others (section
// 3.5): in fixed filter style, and in wildcard style with two senders.
func TestTwentyReceiversMerge(t *testing.T) { overBoth(t, twentyReceiversMerge) }

func twentyReceiversMerge(t *testing.T, f family) {
	o := newOrchard(t, f)
	resvs := capture(t, o.boxes[0].ns, rightWAN, f.isRSVP())
	o.start(t)
	o.speak(t, portFixed)
	for i, r := range o.receivers {
		o.ask(t, r, portFixed, wire.FF, float64(unitRate*(i+1)))
	}
	o.refresh(t)
	o.wantMerged(t, "twenty merged", portFixed, 1, 20*unitRate, 10*unitRate, 20*unitRate)

	// One RESV of a kind goes up for twenty that come: with RFC 2961 not even that
	// for each refresh.
	time.Sleep(2 * time.Second)
	frames := captured(t, resvs)
	up := 0
	for _, f := range frames {
		if m, err := (wire.Options{RefreshReduction: true}).Parse(payloadOf(f.Data)); err == nil && m.Type == wire.Resv {
			up++
		}
	}
	if up == 0 || up > 40 {
		t.Errorf("%d RESVs came to box 1, where some 20 raised the merge at most", up)
	}

	// The killer: box 1 has no room, and what is in place stays there.
	killer := o.receivers[19]
	o.ask(t, killer, portFixed, wire.FF, 1.4e6)
	_, err := killer.heard.Wait(within(t, 10*time.Second), func(f traffic.Frame) bool {
		m, err := wire.Options{RefreshReduction: true}.Parse(payloadOf(f.Data))
		return err == nil && m.Type == wire.ResvErr && m.ErrorSpec.Code == wire.ErrAdmission
	})
	if err != nil {
		t.Errorf("the killer is not told: %v", err)
	}
	// Another one raises its own amount: the blockade lets it through.
	o.ask(t, o.receivers[4], portFixed, wire.FF, 50*unitRate)
	eventually(t, 10*time.Second, "the blockade lets the others through", func() error {
		row, err := o.boxes[0].session(t, portFixed)
		if err == nil && (row.State != console.SessionReserved || row.FlowSpec == nil || row.FlowSpec.R != 50*unitRate) {
			err = fmt.Errorf("box 1 has %s %+v %s", row.State, row.FlowSpec, row.Error)
		}
		return err
	})
	// The killer gives in, and half of them leave.
	for i, r := range o.receivers {
		if i >= perLeaf || i == 4 {
			o.ask(t, r, portFixed, wire.FF, 0)
		}
	}
	o.wantMerged(t, "those who stayed", portFixed, 1, 10*unitRate, 10*unitRate, 0)
	for i := range perLeaf {
		o.ask(t, o.receivers[i], portFixed, wire.FF, 0)
	}
	eventually(t, 10*time.Second, "all have left", func() error {
		row, err := o.boxes[0].session(t, portFixed)
		if err != nil {
			return err
		}
		if row.State != console.SessionPath {
			return fmt.Errorf("box 1 has %+v", row)
		}
		return nil
	})

	// Wildcard: one reservation for both senders on every link.
	o.speak(t, portShare)
	o.speak(t, portShare)
	for i, r := range o.receivers {
		o.ask(t, r, portShare, wire.WF, float64(unitRate*(i+1)))
	}
	o.wantMerged(t, "twenty merged, wildcard", portShare, 2, 20*unitRate, 10*unitRate, 20*unitRate)
	if links, err := o.boxes[0].Links(t.Context()); err != nil || linkRow(links, rightWAN).ReservedBPS != 8*20*unitRate {
		t.Errorf("box 1 has reserved %+v, %v: want one reservation for both senders", linkRow(links, rightWAN), err)
	}
	for i := perLeaf; i < 2*perLeaf; i++ {
		o.ask(t, o.receivers[i], portShare, wire.WF, 0)
	}
	o.wantMerged(t, "those who stayed, wildcard", portShare, 2, 10*unitRate, 10*unitRate, 0)
}
