package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// tagging are the ways in which frames are tagged.
var tagging = map[string][]packet.Tag{
	"no tag": nil, "802.1Q": {dot1q(3<<13 | 1<<12 | 7)}, "802.1ad": {dot1ad(100)},
	"QinQ": {dot1ad(1<<13 | 100), dot1q(6<<13 | 7)}, "two of 802.1Q": {dot1q(100), dot1q(7)},
}

// as is a frame as it must come out: with its packet's DSCP changed.
func as(t testing.TB, plain []byte, code uint8, tags ...packet.Tag) []byte {
	t.Helper()
	out := bytes.Clone(plain)
	v, err := packet.Parse(out[14:])
	if err != nil {
		t.Fatal(err)
	}
	v.SetDSCP(code)
	return tagged(out, tags...)
}

// A tagged flow has its class, its mark, its policer and its counters as an untagged
// one, and nothing else of the frame changes.
func TestTaggedFlowsAreTreated(t *testing.T) {
	for name, tags := range tagging {
		h := newHarness(t)
		for _, k := range []packet.FlowKey{key4, key6} {
			h.put(plan.Treatment{Key: k, Rate: 1, Bucket: 1000, Police: true, Mark: true, DSCP: 46}, mine)
			for i, want := range []struct {
				class plan.ClassID
				code  uint8
			}{{mine, 46}, {mine, 46}, {plan.BestEffort, 0}} {
				in := frame(k, 10<<2|1, 500)
				r := h.send(tagged(in, tags...), 0)
				if r.verdict != next || r.priority != uint32(want.class) || !bytes.Equal(r.frame, as(t, in, want.code, tags...)) {
					t.Errorf("%s: %s: packet %d: verdict %d, priority %#x, frame\n% x", name, k, i, r.verdict, r.priority, r.frame)
				}
			}
			c, err := h.Counters(h.ifindex, k)
			if want := (Counters{Packets: 3, Bytes: 1500, Conform: 2, ConformBytes: 1000, Exceed: 1, ExceedBytes: 500}); err != nil || c != want {
				t.Errorf("%s: %s: counted %+v, %v", name, k, c, err)
			}
		}
	}
}

// All fragments of a tagged flow are its own.
func TestTaggedFragments(t *testing.T) {
	for name, tags := range tagging {
		h := newHarness(t)
		for _, k := range []packet.FlowKey{key4, key6} {
			h.put(plan.Treatment{Key: k, Mark: true, DSCP: 46}, mine)
			for i, part := range split(t, frame(k, 0, 4000), 5, 1448) {
				if r := h.send(tagged(part, tags...), 0); r.priority != uint32(mine) || !bytes.Equal(r.frame, as(t, part, 46, tags...)) {
					t.Errorf("%s: %s: fragment %d: priority %#x", name, k, i, r.priority)
				}
			}
		}
	}
}

// Whatever is between the tags and the ports: the flow is the one that user space sees.
func TestFindsTheSameTaggedFlowAsUserSpace(t *testing.T) {
	h := newHarness(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, k := range []packet.FlowKey{key4, key6} {
		h.put(plan.Treatment{Key: k}, mine)
	}
	for range 1000 {
		k := []packet.FlowKey{key4, key6}[rng.IntN(2)]
		b := extended(rng, k)
		v, err := packet.Parse(b[14:])
		if err != nil {
			t.Fatal(err)
		}
		want := uint32(0)
		if v.Key() == k {
			want = uint32(mine)
		}
		for name, tags := range tagging {
			in := tagged(b, tags...)
			if r := h.send(in, 0); r.priority != want || !bytes.Equal(r.frame, in) {
				t.Fatalf("%s: %s: priority %#x, want %#x\n% x", name, k, r.priority, want, b)
			}
		}
	}
}

// What hosts marked is taken off or kept within the contract, tagged or not.
func TestTaggedPacketsArrive(t *testing.T) {
	for name, tags := range tagging {
		h := newHarness(t)
		h.byDSCP(Ingress)
		h.putRow(plan.Row{Arriving: true, DSCP: af31, Policed: true, Rate: 1, Burst: 800})
		for i, want := range []uint8{af31, af31, 0} {
			in := frame([]packet.FlowKey{key4, key6}[i%2], af31<<2|1, 400)
			if r := h.send(tagged(in, tags...), 0); !bytes.Equal(r.frame, as(t, in, want, tags...)) {
				t.Errorf("%s: packet %d: % x", name, i, r.frame)
			}
		}
		in := frame(key6, ef<<2, 100)
		if r := h.send(tagged(in, tags...), 0); !bytes.Equal(r.frame, as(t, in, 0, tags...)) {
			t.Errorf("%s: a mark that nobody bought: % x", name, r.frame)
		}
	}
}

// What switches and hosts say to each other on the link goes by the small class of
// control traffic; all that is no IP passes as it is.
func TestLinkControl(t *testing.T) {
	h := newHarness(t)
	var priorities plan.PCP
	priorities.Set(0, 6)
	prog, err := h.loadFor(Egress, plan.Program{Header: 14, Control: plan.Control, PCP: priorities})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prog.Close() })
	h.prog = prog
	of := func(to string, typeOrLength uint16, rest ...byte) []byte {
		b := make([]byte, 60)
		if _, err := fmt.Sscanf(to, "%02x:%02x:%02x:%02x:%02x:%02x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]); err != nil {
			t.Fatal(err)
		}
		copy(b[6:], frameSrc[:])
		binary.BigEndian.PutUint16(b[12:], typeOrLength)
		copy(b[14:], rest)
		return b
	}
	for name, c := range map[string]struct {
		frame []byte
		want  plan.ClassID
	}{
		"ARP":                   {of("ff:ff:ff:ff:ff:ff", unix.ETH_P_ARP), plan.Control},
		"STP":                   {of("01:80:c2:00:00:00", 38, 0x42, 0x42, 3), plan.Control},
		"LACP":                  {of("01:80:c2:00:00:02", unix.ETH_P_SLOW, 1), plan.Control},
		"EAPOL":                 {of("01:80:c2:00:00:03", unix.ETH_P_PAE, 1), plan.Control},
		"EAPOL of one station":  {of("02:00:00:00:00:02", unix.ETH_P_PAE, 1), plan.Control},
		"LLDP":                  {of("01:80:c2:00:00:0e", 0x88cc, 2), plan.Control},
		"LLDP, another address": {of("02:00:00:00:00:02", 0x88cc, 2), plan.Control},
		"IS-IS":                 {of("01:80:c2:00:00:14", 1497, 0xfe, 0xfe, 3), plan.Control},
		"MVRP":                  {of("01:80:c2:00:00:21", 0x88f5), plan.Control},
		"CDP":                   {of("01:00:0c:cc:cc:cc", 40, 0xaa, 0xaa, 3), plan.Control},
		"PVST":                  {of("01:00:0c:cc:cc:cd", 50, 0xaa, 0xaa, 3), plan.Control},
		"PPPoE":                 {of("02:00:00:00:00:02", 0x8864, 0x11), 0},
		"MPLS":                  {of("02:00:00:00:00:02", unix.ETH_P_MPLS_UC), 0},
		"IPX":                   {of("ff:ff:ff:ff:ff:ff", 40, 0xe0, 0xe0, 3), 0},
		"another group":         {of("01:80:c2:00:01:00", 0x9000), 0},
		"of Cisco's, another":   {of("01:00:0c:cc:cc:ce", 0x9000), 0},
	} {
		for how, tags := range tagging {
			in := tagged(c.frame, tags...)
			if r := h.send(in, 0); r.verdict != next || r.priority != uint32(c.want) || !bytes.Equal(r.frame, in) {
				t.Errorf("%s, %s: verdict %d, priority %#x, want %#x; changed: %t", name, how, r.verdict, r.priority, uint32(c.want), !bytes.Equal(r.frame, in))
			}
		}
	}
	// Those of IP are told the same way.
	rsvp, nd := key4, key6
	rsvp.Proto, nd.Proto = 46, unix.IPPROTO_ICMPV6
	solicitation := frame(nd, 0, 72)
	solicitation[14+7], solicitation[14+40] = 255, 135
	for how, tags := range tagging {
		for name, b := range map[string][]byte{"RSVP": frame(rsvp, 0, 100), "ND": solicitation} {
			if r := h.send(tagged(b, tags...), 0); r.priority != uint32(plan.Control) {
				t.Errorf("%s, %s: priority %#x", name, how, r.priority)
			}
		}
	}
}

// More than two tags are nobody's flow here.
func TestThreeTagsAreLeftAlone(t *testing.T) {
	h := newHarness(t)
	h.put(plan.Treatment{Key: key4, Mark: true, DSCP: 46}, mine)
	in := tagged(frame(key4, 0, 100), dot1ad(1), dot1ad(2), dot1q(3))
	if r := h.send(in, 0); r.verdict != next || r.priority != 0 || !bytes.Equal(r.frame, in) {
		t.Errorf("verdict %d, priority %#x", r.verdict, r.priority)
	}
}

// The priority is that of the DSCP that the packet leaves with, in the outer tag; VLAN
// and DEI stay, and so do the inner tag and what is not listed.
func TestPriorityOfTags(t *testing.T) {
	h := newHarness(t)
	var p plan.PCP
	p.Set(46, 5)
	p.Set(10, 0)
	p.Set(0, 1)
	prog, err := h.loadFor(Egress, plan.Program{Header: 14, PCP: p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prog.Close() })
	h.prog = prog
	marked := key4
	marked.DstPort++
	h.put(plan.Treatment{Key: marked, Rate: 1, Bucket: 600, Police: true, Mark: true, DSCP: 46}, mine)
	for name, tags := range tagging {
		for _, c := range []struct {
			key      packet.FlowKey
			code     uint8
			priority int
		}{{key4, 46, 5}, {key6, 46, 5}, {key4, 10, 0}, {key6, 0, 1}, {key4, 26, -1}} {
			in := frame(c.key, c.code<<2, 100)
			if r := h.send(tagged(in, tags...), 0); !bytes.Equal(r.frame, as(t, in, c.code, outer(tags, c.priority)...)) {
				t.Errorf("%s: DSCP %d: % x", name, c.code, r.frame[:34])
			}
		}
	}
	// What it was marked with counts, and then what is left of it.
	tags := tagging["802.1Q"]
	for i, want := range []struct {
		code     uint8
		priority int
	}{{46, 5}, {0, 1}} {
		in := frame(marked, 0, 500)
		if r := h.send(tagged(in, tags...), 0); !bytes.Equal(r.frame, as(t, in, want.code, outer(tags, want.priority)...)) {
			t.Errorf("packet %d: % x", i, r.frame[:34])
		}
	}
}

// outer gives the outer tag a priority; -1 leaves it.
func outer(tags []packet.Tag, priority int) []packet.Tag {
	out := append([]packet.Tag{}, tags...)
	if len(out) > 0 && priority >= 0 {
		out[0].TCI = out[0].TCI&0x1fff | uint16(priority)<<13
	}
	return out
}

// The same on a bridge, where the outer tag is not in the frame while programs see it;
// and for frames that the box itself puts on the port, whatever it told the kernel.
func TestTaggedFramesOnABridge(t *testing.T) {
	p := newPassage(t)
	table := openTable(t, pinDir(t), 100)
	var priorities plan.PCP
	priorities.Set(46, 5)
	priorities.Set(26, 0)
	if err := table.Attach(Egress, p.out, plan.Program{Attached: true, Current: true, Header: 14, PCP: priorities}); err != nil {
		t.Fatal(err)
	}
	if err := table.Attach(Ingress, p.in, plan.Program{Attached: true, Current: true, Header: 14, ByDSCP: true}); err != nil {
		t.Fatal(err)
	}
	if err := table.PutRow(p.in, plan.Row{Arriving: true, DSCP: af31, Policed: true, Rate: 1 << 30, Burst: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	ways := map[string]func([]byte) []byte{"forwarded": p.through}
	for _, proto := range []uint16{0, unix.ETH_P_ALL, unix.ETH_P_IP, unix.ETH_P_IPV6, unix.ETH_P_8021Q} {
		port := openWire(t, "qp2")
		port.proto = proto
		ways[fmt.Sprintf("sent as %#04x", proto)] = func(b []byte) []byte { return p.sure(port, b) }
	}
	for _, k := range []packet.FlowKey{key4, key6} {
		reserved := k
		reserved.SrcPort++
		if err := table.Put(p.out, plan.Treatment{Key: reserved, Mark: true, DSCP: 46}, 0, 0, 0); err != nil {
			t.Fatal(err)
		}
		sent := uint64(0)
		for how, tags := range tagging {
			for way, cross := range ways {
				code := uint8(0) // what nobody bought is taken off where it arrives
				if way != "forwarded" {
					code = 34
				}
				for _, c := range []struct {
					key        packet.FlowKey
					is, leaves uint8
					priority   int
				}{{reserved, 34, 46, 5}, {k, af31, af31, 0}, {k, 34, code, -1}} {
					in := elsewhere(frame(c.key, c.is<<2|2, 300))
					want := as(t, in, c.leaves, outer(tags, c.priority)...)
					if got := cross(tagged(in, tags...)); !bytes.Equal(got, want) {
						t.Errorf("%s, %s: %s: DSCP %d:\n% x, want\n% x", how, way, c.key, c.is, head(got), head(want))
					}
				}
				sent++
				for i, part := range split(t, elsewhere(frame(reserved, 0, 2000)), uint32(sent), 1000) {
					want := as(t, part, 46, outer(tags, 5)...)
					if got := cross(tagged(part, tags...)); !bytes.Equal(got, want) {
						t.Errorf("%s, %s: %s: fragment %d:\n% x, want\n% x", how, way, k, i, head(got), head(want))
					}
					sent++
				}
			}
		}
		if c, err := table.Counters(p.out, reserved); err != nil || c.Packets != sent {
			t.Errorf("%s: %d packets are counted, want %d, %v", reserved, c.Packets, sent, err)
		}
	}
	// No IP, and a third tag: as they are.
	for name, b := range map[string][]byte{
		"ARP":        append(append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6}, make([]byte, 45)...), 1),
		"LLC":        append(append([]byte{1, 0x80, 0xc2, 0, 1, 0, 2, 0, 0, 0, 0, 9, 0, 40, 0xaa, 0xaa, 3}, make([]byte, 45)...), 1),
		"three tags": tagged(elsewhere(frame(key4, 34<<2, 100)), dot1q(3)),
	} {
		for how, tags := range tagging {
			if name == "three tags" && len(tags) < 2 {
				continue
			}
			in := tagged(b, tags...)
			for way, cross := range ways {
				// The kernel takes three tags for two behind the one that it has put aside.
				if name == "three tags" && way == "forwarded" {
					continue
				}
				if got := cross(in); !bytes.Equal(got, in) {
					t.Errorf("%s, %s, %s:\n% x, want\n% x", name, how, way, head(got), head(in))
				}
			}
		}
	}
}

// elsewhere gives a frame stations that are not on this bridge's own ports.
func elsewhere(b []byte) []byte {
	copy(b, []byte{2, 0, 0, 0, 2, 2, 2, 0, 0, 0, 2, 1})
	return b
}

func head(b []byte) []byte { return b[:min(len(b), 42)] }

// A super-packet counts as those that it becomes, each without its tags.
func TestTaggedSuperPackets(t *testing.T) {
	const payload, mss = 3000, 500
	for name, tags := range tagging {
		h := newHarness(t)
		for _, k := range []packet.FlowKey{tcp4, tcp6} {
			header := 20 + 32
			if !k.Is4() {
				header = 40 + 32
			}
			h.put(plan.Treatment{Key: k}, mine)
			h.send(tagged(frame(k, 0, header+payload), tags...), mss)
			c, err := h.Counters(h.ifindex, k)
			if want := uint64(payload + payload/mss*header); err != nil || c.Packets != payload/mss || c.Bytes != want {
				t.Errorf("%s: %s: counted %+v, %v; want %d bytes", name, k, c, err, want)
			}
		}
	}
}

// A super-packet comes out whole with its priority, and all of it is treated.
func TestPriorityOfSuperPackets(t *testing.T) {
	p := newPassage(t)
	table := openTable(t, pinDir(t), 100)
	var priorities plan.PCP
	priorities.Set(46, 5)
	if err := table.Attach(Egress, p.out, plan.Program{Attached: true, Current: true, Header: 14, PCP: priorities}); err != nil {
		t.Fatal(err)
	}
	const payload, mss = 14480, 1448
	port := uint16(5000)
	for how, tags := range tagging {
		port++
		for _, k := range []packet.FlowKey{tcp4, tcp6} {
			k.SrcPort = port
			if err := table.Put(p.out, plan.Treatment{Key: k, Mark: true, DSCP: 46}, 0, 0, 0); err != nil {
				t.Fatal(err)
			}
			header := 20
			if !k.Is4() {
				header = 40
			}
			plain := elsewhere(frame(k, 0, header+32+payload))
			for i := header + 14 + 32; i < len(plain); i++ {
				plain[i] = byte(i * 7)
			}
			in := tagged(plain, tags...)
			l3 := 14 + 4*len(tags)
			got := p.carry(p.near, in, func() { p.near.sendSuper(in, l3, l3+header, mss) })
			if want := as(t, plain, 46, outer(tags, 5)...); !bytes.Equal(got, want) {
				t.Errorf("%s: %s: %d bytes, want %d\n% x, want\n% x", how, k, len(got), len(want), head(got), head(want))
			}
			if c, err := table.Counters(p.out, k); err != nil || c.Packets != payload/mss || c.Bytes != uint64(payload+payload/mss*(header+32)) {
				t.Errorf("%s: %s: counted %+v, %v", how, k, c, err)
			}
		}
	}
}
