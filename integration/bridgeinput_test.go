package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/roottest"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// A bridge that cannot be made says in one sentence why and what to do, and leaves all
// as it was: a path that was open stays open.
func TestBadBridge(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		form    form
		arrange []string // commands of iproute2
		change  []string // words of the configuration, and what stands there instead
		words   []string
	}{
		"missing": {
			form: bridged, change: []string{"name: lan0", "name: nope7"},
			words: []string{"box.yaml:", "interface nope7", "create it or correct its name"},
		},
		"somebody else's": {
			form: bridged, arrange: []string{"link add br9 type bridge", "link set lan0 master br9"},
			words: []string{"lan0 is already in the bridge br9", "ip link set lan0 nomaster", "bridge: {name: br9}"},
		},
		"one port more": {
			form: adopted, arrange: []string{"link add tap0 type veth peer name tap1", "link set tap0 master br0"},
			words: []string{"br0 has the port tap0, which is not listed", "ip link set tap0 nomaster"},
		},
		"STP": {
			form: adopted, arrange: []string{"link set br0 type bridge stp_state 1"},
			words: []string{"br0 speaks STP", "stp_state 0"},
		},
		"an address on a port": {
			form: bridged, arrange: []string{"addr add 192.0.2.9/24 dev wan1"},
			words: []string{"wan1 has the address 192.0.2.9/24", "ip addr del 192.0.2.9/24 dev wan1"},
		},
		"an address on the bridge": {
			form: adopted, arrange: []string{"addr add 192.0.2.9/24 dev br0"},
			words: []string{"br0 has the address 192.0.2.9/24", "ip addr del 192.0.2.9/24 dev br0"},
		},
		"its name": {
			form: bridged, change: []string{"mode: bridge", "mode: bridge\nbridge: {name: lo}"},
			words: []string{"lo already, which is no bridge", "another name"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newMixedLab(t, []form{tt.form}, nil)
			b := l.boxes[0]
			for _, command := range tt.arrange {
				b.ip(t, command)
			}
			b.write(t, strings.NewReplacer(tt.change...).Replace(l.edge(0, usualPolicies, "").String()))
			if tt.form == adopted {
				ping(t, l.a, addrB)
			}
			before := l.kernel(t)
			code, stderr := b.runToEnd(t, nil, "run", "-c", b.config(), "-s", b.socket())
			checkRefusal(t, code, stderr, tt.words...)
			after := l.kernel(t)
			if added, gone := before.Added(after), after.Added(before); len(added)+len(gone) > 0 {
				t.Errorf("left in the kernel: %q, gone: %q", added, gone)
			}
			if _, err := os.Stat(filepath.Join(b.state(), "bridge.json")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("left in state_dir: %v", err)
			}
			if tt.form == adopted {
				ping(t, l.a, addrB)
			}
		})
	}
}

// Without br_netfilter nothing of a bridge can be queued. Here it cannot be taken out of
// the kernel, but its sysctls can be hidden from the box.
func TestBridgeWithoutNetfilter(t *testing.T) {
	t.Parallel()
	l := newMixedLab(t, []form{adopted}, nil)
	b := l.boxes[0]
	b.write(t, l.edge(0, usualPolicies, "").String())
	before := l.kernel(t)
	script := fmt.Sprintf("mount -t tmpfs none /proc/sys/net/bridge && exec %s run -c %s -s %s", program, b.config(), b.socket())
	code, stderr := b.toolToEnd(t, roottest.Tool(t, "unshare"), "-m", "sh", "-c", script)
	checkRefusal(t, code, stderr, "br_netfilter is not loaded", "modprobe br_netfilter")
	if added := before.Added(l.kernel(t)); len(added) > 0 {
		t.Errorf("left in the kernel: %q", added)
	}
	ping(t, l.a, addrB)
}

// ip runs a command of iproute2 in the box.
func (b *box) ip(t *testing.T, command string) {
	t.Helper()
	if code, stderr := b.toolToEnd(t, roottest.Tool(t, "ip"), strings.Fields(command)...); code != 0 {
		t.Fatalf("ip %s: %s", command, stderr)
	}
}

// says waits until the box has logged a sentence, and holds that it has done so as a
// warning and once, whatever happens until the end of the test.
func (b *box) says(t *testing.T, words ...string) (line string) {
	t.Helper()
	proc := b.proc
	said := func() (lines []string) {
		for line := range strings.Lines(proc.Stderr()) {
			if !hasNot(line, words) {
				lines = append(lines, line)
			}
		}
		return lines
	}
	eventually(t, 5*time.Second, fmt.Sprintf("%s says %q", b.name, words), func() error {
		lines := said()
		if len(lines) == 0 {
			return errors.New("it does not")
		}
		line = lines[0]
		return nil
	})
	if !strings.Contains(line, `"level":"warn"`) {
		t.Errorf("no warning: %q", line)
	}
	t.Cleanup(func() {
		if lines := said(); len(lines) != 1 {
			t.Errorf("%d times: %q", len(lines), lines)
		}
	})
	return line
}

func hasNot(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return true
		}
	}
	return false
}

// What happens to a bridge at work is told in one sentence, and the path stays open as
// far as it is the box's to say: an interface that goes and comes back, one that gets an
// address, one that gets another MTU, one more, and the bridge itself that is set down.
func TestBridgePortsChange(t *testing.T) {
	t.Parallel()
	l := newBridgedLab(t, 1, nil)
	b := l.boxes[0]
	b.start(t, l.edge(0, usualPolicies, "").String())
	ping(t, l.a, addrB)

	b.ip(t, "addr add 192.0.2.9/24 dev lan0")
	b.says(t, "lan0 has the address 192.0.2.9/24", "ip addr del 192.0.2.9/24 dev lan0")
	ping(t, l.a, addrB)

	b.ip(t, "link set wan1 mtu 1400")
	b.says(t, "wan1 has an MTU of 1400 and lan0 one of 1500", "ip link set wan1 mtu 1500")
	if st, err := b.Status(t.Context()); err != nil || len(st.Problems) != 2 || !strings.Contains(strings.Join(st.Problems, "\n"), "wan1 has an MTU of 1400") {
		t.Errorf("problems %q, %v", st.Problems, err)
	}
	ping(t, l.a, addrB)

	b.ip(t, "link add tap0 type veth peer name tap1")
	b.ip(t, "link set tap0 master qosproxy0")
	b.says(t, "qosproxy0 has the port tap0, which is not listed", "ip link set tap0 nomaster")
	b.ip(t, "link del tap0")
	b.ip(t, "link set qosproxy0 down")
	b.says(t, "the bridge qosproxy0 is down", "ip link set qosproxy0 up")
	b.ip(t, "link set qosproxy0 up")
	ping(t, l.a, addrB)

	// The host's card is pulled with the cable, and both are plugged in again.
	b.ip(t, "link del wan1")
	b.says(t, "interface wan1 is gone", "put back into the bridge")
	if err := netns.Veth(l.hostB(), l.rightEnd(0)); err != nil {
		t.Fatal(err)
	}
	for _, p := range on("10.1.0.0/24", "fd00:1::/64") {
		if err := l.b.OnLink(p, hostIface); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 5*time.Second, "the path is open again", func() error { return tryPing(l.b, addrA) }) // whose card is another one now
	ping(t, l.b, addrA6)
	source, sink := connect(t, l.a, l.b, at(addrB, portOther))
	send(source, sink, random(1, 1_000_000)).wait(t)
	eventually(t, 5*time.Second, "the port is shaped again", func() error {
		for line := range l.kernel(t) {
			if strings.HasPrefix(line, "qdisc "+b.ns.Name()+" wan1 htb") {
				return nil
			}
		}
		return errors.New("no HTB")
	})
	b.stop(t)
	if b.ns.Has("qosproxy0") {
		t.Error("the bridge is left")
	}
}

// A bridge outlives its box's death, and the next process takes it over without a packet
// lost; when that ends, all is as it was before the first.
func TestBridgeIsTakenOver(t *testing.T) {
	t.Parallel()
	for _, f := range []form{bridged, adopted} {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			l := newMixedLab(t, []form{f}, nil)
			b := l.boxes[0]
			config := l.edge(0, usualPolicies, "").String()
			before := l.kernel(t)
			b.start(t, config)
			ping(t, l.a, addrB)
			lost := l.probe(t)
			b.kill(t)
			time.Sleep(300 * time.Millisecond)
			b.start(t, config+"on_stop: keep\n")
			b.stop(t)
			b.start(t, config)
			if n, of := lost(); n > 0 || of < 50 {
				t.Errorf("%d of %d packets lost", n, of)
			}
			b.stop(t)
			after := l.kernel(t)
			if added, gone := before.Added(after), after.Added(before); len(added)+len(gone) > 0 {
				t.Errorf("left in the kernel: %q, gone: %q", added, gone)
			}
		})
	}
}

// What a bridge's box has left is taken down by the router that follows it.
func TestRouterUndoesBridge(t *testing.T) {
	t.Parallel()
	l := newBridgedLab(t, 1, nil)
	b := l.boxes[0]
	before := l.kernel(t)
	c := l.edge(0, usualPolicies, "")
	b.start(t, c.String())
	b.kill(t)
	if !b.ns.Has("qosproxy0") {
		t.Fatal("the bridge went with its box")
	}
	c.bridge = false
	b.start(t, "mode: router\n"+c.String())
	if b.ns.Has("qosproxy0") {
		t.Error("a router has the bridge")
	}
	b.stop(t)
	if added := before.Added(l.kernel(t)); len(added) > 0 {
		t.Errorf("left in the kernel: %q", added)
	}
}

// What a bridge is cannot change while it works: the reload is refused whole.
func TestBridgeReload(t *testing.T) {
	t.Parallel()
	l := newBridgedLab(t, 1, nil)
	b := l.boxes[0]
	good := l.edge(0, usualPolicies, "").String()
	b.start(t, good)
	before := l.kernel(t)
	for _, change := range [][2]string{
		{"mode: bridge", "mode: bridge\nbridge: {name: other0}"},
		{"mode: bridge", "mode: router"},
		{"interfaces:\n", "interfaces:\n  - {name: lo, zone: hosts}\n"},
	} {
		b.write(t, strings.Replace(good, change[0], change[1], 1))
		if _, err := b.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "needs a restart") {
			t.Errorf("%s: %v", change[1], err)
		}
	}
	after := l.kernel(t)
	if added, gone := before.Added(after), after.Added(before); len(added)+len(gone) > 0 {
		t.Errorf("changed: %q, gone: %q", added, gone)
	}
	b.write(t, good)
	if _, err := b.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	ping(t, l.a, addrB)
}

// probe sends a packet of a flow that no policy claims every 5 ms, until the caller
// asks how many did not arrive.
func (l *lab) probe(t *testing.T) func() (lost, sent int) {
	t.Helper()
	server, client := listenUDP(t, l.b, at(addrB, portOther)), dialUDP(t, l.a, at(addrB, portOther))
	stop, got := make(chan struct{}), make(chan int, 1)
	go func() {
		buf, n := make([]byte, 100), 0
		for {
			size, err := server.Read(buf)
			if err != nil || string(buf[:size]) == "end" {
				got <- n
				return
			}
			n++
		}
	}()
	sent := make(chan int, 1)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				sent <- n
				return
			case <-time.After(5 * time.Millisecond):
				if _, err := client.Write([]byte("x")); err == nil {
					n++
				}
			}
		}
	}()
	return func() (int, int) {
		close(stop)
		n := <-sent
		if _, err := client.Write([]byte("end")); err != nil {
			t.Error(err)
		}
		return n - <-got, n
	}
}

// tryPing sends one echo request and waits for its answer a short while.
func tryPing(ns *netns.NetNS, addr netip.Addr) error {
	var c net.Conn
	err := ns.Do(func() (err error) { c, err = net.Dial("ip4:icmp", addr.String()); return err })
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		return err
	}
	if _, err := c.Write([]byte{8, 0, 0xf7, 0xfe, 0, 0, 0, 1}); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 200))
	return err
}

// A firewall on the machine that drops what it does not know is told of, since through
// br_netfilter it is in the cable too. With the rules that are advised packets pass.
func TestBridgeAndFirewall(t *testing.T) {
	t.Parallel()
	l := newBridgedLab(t, 1, nil)
	b := l.boxes[0]
	chains := []firewallChain{
		{"inet firewall early", unix.NFPROTO_INET, unix.NF_INET_PRE_ROUTING},
		{"inet firewall forward", unix.NFPROTO_INET, unix.NF_INET_FORWARD},
		{"ip firewall late", unix.NFPROTO_IPV4, unix.NF_INET_POST_ROUTING},
		{"bridge firewall early", unix.NFPROTO_BRIDGE, unix.NF_INET_PRE_ROUTING},
		{"bridge firewall forward", unix.NFPROTO_BRIDGE, unix.NF_INET_FORWARD},
		{"bridge firewall late", unix.NFPROTO_BRIDGE, unix.NF_INET_POST_ROUTING},
	}
	inBox := func(do func() error) {
		t.Helper()
		if err := b.ns.Do(do); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range chains {
		inBox(c.drop)
	}
	b.start(t, l.edge(0, usualPolicies, "").String())
	for _, c := range chains {
		line := b.says(t, "what crosses the bridge passes the nftables chain "+c.name+" too")
		if err := tryPing(l.a, addrB); err == nil {
			t.Errorf("%s drops nothing: the test is blind", c.name)
		}
		_, rule, _ := strings.Cut(line, "accept it there (")
		rule, _, _ = strings.Cut(rule, ")")
		f := strings.Fields(strings.NewReplacer("{", "", "}", "", ",", " ").Replace(rule))
		key, known := map[string]uint32{"iifname": unix.NFT_META_IIFNAME, "oifname": unix.NFT_META_OIFNAME}[f[0]]
		if !known || len(f) < 3 || f[len(f)-1] != "accept" {
			t.Fatalf("%s: advice %q", c.name, rule)
		}
		for _, name := range f[1 : len(f)-1] {
			inBox(func() error { return c.accept(key, name) })
		}
	}
	eventually(t, 5*time.Second, "packets pass", func() error { return tryPing(l.a, addrB) })
	b.ip(t, "link set lan0 alias known") // has the box look again
	eventually(t, 5*time.Second, "the box is content", func() error {
		st, err := b.Status(t.Context())
		if err == nil && len(st.Problems) > 0 {
			err = fmt.Errorf("%q", st.Problems)
		}
		return err
	})
}

// firewallChain is one of somebody else, made by messages of the test's own: the library
// belongs to the product.
type firewallChain struct {
	name   string // family, table and chain
	family byte
	hook   uint32
}

// drop makes the chain, which drops everything.
func (c *firewallChain) drop() error {
	f := strings.Fields(c.name)
	return nfBatch(c.family, nfMessage{unix.NFT_MSG_NEWTABLE, func(ae *netlink.AttributeEncoder) { ae.String(unix.NFTA_TABLE_NAME, f[1]) }},
		nfMessage{unix.NFT_MSG_NEWCHAIN, func(ae *netlink.AttributeEncoder) {
			ae.String(unix.NFTA_CHAIN_TABLE, f[1])
			ae.String(unix.NFTA_CHAIN_NAME, f[2])
			ae.Nested(unix.NFTA_CHAIN_HOOK, func(ae *netlink.AttributeEncoder) error {
				ae.ByteOrder = binary.BigEndian
				ae.Uint32(unix.NFTA_HOOK_HOOKNUM, c.hook)
				ae.Uint32(unix.NFTA_HOOK_PRIORITY, 0)
				return nil
			})
			ae.Uint32(unix.NFTA_CHAIN_POLICY, 0) // NF_DROP
			ae.String(unix.NFTA_CHAIN_TYPE, "filter")
		}})
}

// accept adds a rule for packets of an interface.
func (c *firewallChain) accept(key uint32, iface string) error {
	f := strings.Fields(c.name)
	expression := func(ae *netlink.AttributeEncoder, name string, data func(*netlink.AttributeEncoder)) {
		ae.Nested(unix.NFTA_LIST_ELEM, func(ae *netlink.AttributeEncoder) error {
			ae.String(unix.NFTA_EXPR_NAME, name)
			ae.Nested(unix.NFTA_EXPR_DATA, func(ae *netlink.AttributeEncoder) error {
				ae.ByteOrder = binary.BigEndian
				data(ae)
				return nil
			})
			return nil
		})
	}
	return nfBatch(c.family, nfMessage{unix.NFT_MSG_NEWRULE, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_RULE_TABLE, f[1])
		ae.String(unix.NFTA_RULE_CHAIN, f[2])
		ae.Nested(unix.NFTA_RULE_EXPRESSIONS, func(ae *netlink.AttributeEncoder) error {
			expression(ae, "meta", func(ae *netlink.AttributeEncoder) {
				ae.Uint32(unix.NFTA_META_DREG, unix.NFT_REG_1)
				ae.Uint32(unix.NFTA_META_KEY, key)
			})
			expression(ae, "cmp", func(ae *netlink.AttributeEncoder) {
				ae.Uint32(unix.NFTA_CMP_SREG, unix.NFT_REG_1)
				ae.Uint32(unix.NFTA_CMP_OP, unix.NFT_CMP_EQ)
				ae.Nested(unix.NFTA_CMP_DATA, func(ae *netlink.AttributeEncoder) error {
					whole := make([]byte, unix.IFNAMSIZ)
					copy(whole, iface)
					ae.Bytes(unix.NFTA_DATA_VALUE, whole)
					return nil
				})
			})
			expression(ae, "immediate", func(ae *netlink.AttributeEncoder) {
				ae.Uint32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
				ae.Nested(unix.NFTA_IMMEDIATE_DATA, func(ae *netlink.AttributeEncoder) error {
					ae.Nested(unix.NFTA_DATA_VERDICT, func(ae *netlink.AttributeEncoder) error {
						ae.ByteOrder = binary.BigEndian
						ae.Uint32(unix.NFTA_VERDICT_CODE, 1) // NF_ACCEPT
						return nil
					})
					return nil
				})
			})
			return nil
		})
	}})
}

type nfMessage struct {
	kind  int
	attrs func(*netlink.AttributeEncoder)
}

// nfBatch sends messages to nf_tables, all of which must work.
func nfBatch(family byte, list ...nfMessage) (err error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	const subsystem = unix.NFNL_SUBSYS_NFTABLES
	limit := func(kind int) netlink.Message {
		return netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request}, Data: []byte{0, unix.NFNETLINK_V0, 0, subsystem}}
	}
	batch := []netlink.Message{limit(unix.NFNL_MSG_BATCH_BEGIN)}
	for _, m := range list {
		ae := netlink.NewAttributeEncoder()
		ae.ByteOrder = binary.BigEndian
		m.attrs(ae)
		body, err := ae.Encode()
		if err != nil {
			return err
		}
		batch = append(batch, netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(subsystem<<8 | m.kind), Flags: netlink.Request | netlink.Create | netlink.Acknowledge},
			Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, body...),
		})
	}
	if _, err := conn.SendMessages(append(batch, limit(unix.NFNL_MSG_BATCH_END))); err != nil {
		return err
	}
	for range list {
		if _, err := conn.Receive(); err != nil {
			return err
		}
	}
	return nil
}

// SIGTERM gives cheated connections back to their ends on a bridge too: where the bridge
// was there before they complete without the box, and everything is as it was found.
func TestBridgeStopLeavesNothing(t *testing.T) {
	t.Parallel()
	l := newMixedLab(t, []form{adopted, adopted}, nil)
	before := l.settledOf(t, l.wholeOwn)
	one := l.edge(0, usualPolicies, "")
	one.capacity = "30mbit" // room for both
	l.startAll(t, one.String(), l.edge(1, usualPolicies, "").String())
	transfers := l.cheatBoth(t)
	notBlind(t, before, l.wholeOwn(t))
	l.boxes[0].stop(t)
	l.boxes[1].stop(t)
	after := l.wholeOwn(t)
	if added, gone := before.Added(after), after.Added(before); len(added)+len(gone) != 0 {
		t.Errorf("left in the kernel: %q; taken away: %q", added, gone)
	}
	for _, tr := range transfers {
		tr.wait(t)
	}
}

// A port that somebody adds to the bridge, and that is not listed, has hosts behind it
// too: a PATH for one of them goes there as it came, and not by the other listed port.
func TestUnlistedPort(t *testing.T) {
	t.Parallel()
	l := newBridgedLab(t, 1, nil)
	b := l.boxes[0]
	b.start(t, l.edge(0, usualPolicies, "").String())
	c, err := l.Namespace("c")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		netns.Veth(netns.End{NS: c, Name: hostIface, Addrs: on("10.3.0.2/24")}, netns.End{NS: b.ns, Name: "eth5"}),
		c.OnLink(netip.MustParsePrefix("10.1.0.0/24"), hostIface), l.a.OnLink(netip.MustParsePrefix("10.3.0.0/24"), hostIface),
	); err != nil {
		t.Fatal(err)
	}
	b.ip(t, "link set eth5 master qosproxy0")
	b.says(t, "qosproxy0 has the port eth5, which is not listed")
	if _, err := b.Reload(t.Context()); err != nil { // and it is known to all, and stays so
		t.Error(err)
	}
	ping(t, l.a, addrC)
	atB, atC := capture(t, l.b, hostIface, isRSVP), capture(t, c, hostIface, isRSVP)
	raw, err := traffic.OpenRaw(l.a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	path := func(dst netip.Addr) wire.Session {
		s, hop := wire.Session{Dst: dst, Protocol: 17, DstPort: 9000}, &wire.Hop{Addr: addrA, LIH: 5}
		says(t, raw, addrA, dst, &wire.Message{
			Type: wire.Path, Session: s, Hop: hop, TimeValues: &wire.TimeValues{Refresh: 30_000},
			SenderTemplate: &wire.Filter{Src: addrA, SrcPort: 9001}, SenderTSpec: &intserv.TSpec{Rate: 10_000, Bucket: 800, Peak: 20_000, MinUnit: 64, MaxPacket: 400},
		})
		return s
	}
	if m := hears(t, atC, wire.Path, path(addrC)); m.Hop.LIH != 5 {
		t.Errorf("the box was a hop of it: %+v", m.Hop)
	}
	if m := hears(t, atB, wire.Path, path(addrB)); m.Hop.LIH == 5 { // of the listed ports it is one
		t.Errorf("the box was no hop of it: %+v", m.Hop)
	}
	frames := captured(t, atB)
	for _, f := range frames {
		if m, err := anyMessage(f.Data); err != nil || m.Session.Dst != addrB {
			t.Errorf("B has heard %+v, %v", m, err)
		}
	}
}
