package frames

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func testPath() Path {
	return Path{
		Src: MAC{2, 0, 0, 0, 0, 0xa}, Dst: MAC{2, 0, 0, 0, 0, 0xb}, SrcPort: 4000, DstPort: 5000, MTU: 9000, Seed: 1,
		Src4: netip.MustParseAddr("10.1.0.2"), Dst4: netip.MustParseAddr("10.1.0.3"),
		Src6: netip.MustParseAddr("fd00:1::2"), Dst6: netip.MustParseAddr("fd00:1::3"),
	}
}

func flip(frame []byte, bit int) []byte {
	out := slices.Clone(frame)
	out[bit/8] ^= 0x80 >> (bit % 8)
	return out
}

// Fields cover a frame to its end, one behind the other: no bit is without a name.
func TestFieldsCoverFrames(t *testing.T) {
	cases := Cases(testPath(), Bridge{Filter: true})
	for _, c := range cases {
		s := shapeOf(part(c.Data).rest)
		at := 0
		for _, f := range s.fields {
			if f.At != at || f.Bits <= 0 {
				t.Fatalf("%s: field %+v begins not at %d", c.Name, f, at)
			}
			at += f.Bits
		}
		if at != 8*s.end {
			t.Fatalf("%s: %d bits have names, of %d", c.Name, at, 8*s.end)
		}
	}
	t.Logf("%d frames", len(cases))
}

// named are the fields of a whole frame, counted from its first bit.
func named(frame []byte) (fields []Field, end int) {
	p := part(frame)
	fields = []Field{{"Ethernet destination", 0, 48}, {"Ethernet source", 48, 48}}
	for i := range p.tags {
		for _, f := range tagFields {
			fields = append(fields, Field{fmt.Sprintf("%s of VLAN tag %d", f.Name, i+1), 96 + 32*i + f.At, f.Bits})
		}
	}
	s := shapeOf(p.rest)
	head := len(frame) - len(p.rest)
	for _, f := range s.fields {
		fields = append(fields, Field{f.Name, 8*head + f.At, f.Bits})
	}
	return fields, head + s.end
}

// Whatever bit of a frame is turned over, one field is told, and it is the one that
// has the bit; in padding, none is.
func TestEveryFieldIsCompared(t *testing.T) {
	for _, c := range Cases(testPath(), Bridge{}) {
		fields, end := named(c.Data)
		for _, f := range fields {
			for _, bit := range []int{f.At, f.At + f.Bits/2, f.At + f.Bits - 1} {
				changes, _ := Compare(c.Data, flip(c.Data, bit))
				if len(changes) != 1 || changes[0].Field != f.Name && !strings.HasPrefix(f.Name, "TPID") {
					t.Fatalf("%s: bit %d is of %s, and told as %v", c.Name, bit, f.Name, changes)
				}
			}
		}
		for bit := 8 * end; bit < 8*len(c.Data); bit++ {
			if changes, pad := Compare(c.Data, flip(c.Data, bit)); len(changes) != 0 || pad.Same {
				t.Fatalf("%s: bit %d of padding: %v, %+v", c.Name, bit, changes, pad)
			}
		}
	}
}

// find returns the frame of a name.
func find(t *testing.T, list []Sent, name string) []byte {
	t.Helper()
	i := slices.IndexFunc(list, func(s Sent) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("no frame is called %q", name)
	}
	return list[i].Data
}

func TestCompareNamesTheField(t *testing.T) {
	list := Cases(testPath(), Bridge{})
	set := func(at int, with ...byte) func([]byte) []byte {
		return func(b []byte) []byte {
			for i, v := range with {
				b[at+i] ^= v
			}
			return b
		}
	}
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:len(b)-n] } }
	longer := func(b []byte) []byte { return append(b, 0, 0) }
	const ip, ip1 = 14, 18 // behind no tag, behind one
	for _, c := range []struct {
		frame, field string
		mutate       func([]byte) []byte
	}{
		{"UDP, untagged", "Ethernet destination", set(5, 1)},
		{"UDP, untagged", "Ethernet source", set(6, 2)},
		{"UDP, untagged", "EtherType", set(12, 0x80)},
		{"UDP, 802.1Q", "TPID of VLAN tag 1", func(b []byte) []byte { b[12], b[13] = 0x88, 0xa8; return b }},
		{"UDP, 802.1Q", "PCP of VLAN tag 1", set(14, 0x20)},
		{"UDP, 802.1Q", "DEI of VLAN tag 1", set(14, 0x10)},
		{"UDP, 802.1Q", "VID of VLAN tag 1", set(15, 1)},
		{"UDP, 88a8+8100", "PCP of VLAN tag 2", set(18, 0x80)},
		{"UDP, 88a8+8100", "VID of VLAN tag 2", set(18, 1)},
		{"UDP, 802.1Q", "VLAN tags", func(b []byte) []byte { return slices.Delete(b, 12, 16) }},
		{"UDP, 88a8+8100", "VLAN tags", func(b []byte) []byte { return slices.Delete(b, 12, 16) }},
		{"UDP, untagged", "VLAN tags", func(b []byte) []byte { return slices.Insert(b, 12, 0x81, 0, 0, 5) }},
		{"UDP, untagged", "DSCP", set(ip+1, 4)},
		{"UDP, untagged", "ECN", set(ip+1, 1)},
		{"UDP, untagged", "IPv4 identification", set(ip+5, 1)},
		{"UDP, untagged", "IPv4 flags", set(ip+6, 0x40)},
		{"fragment 1 of 3, sent in the order [0 1 2], untagged", "IPv4 fragment offset", set(ip+7, 1)},
		{"UDP, 802.1Q", "TTL", set(ip1+8, 1)},
		{"UDP, untagged", "IPv4 protocol", set(ip+9, 1)},
		{"UDP, untagged", "IPv4 header checksum", set(ip+10, 1)},
		{"UDP, untagged", "IPv4 total length", set(ip+3, 1)},
		{"UDP, untagged", "IP source address", set(ip+13, 1)},
		{"UDP, untagged", "IP destination address", set(ip+19, 1)},
		{"UDP, untagged", "source port", set(ip+20, 1)},
		{"UDP, untagged", "destination port", set(ip+23, 1)},
		{"UDP, untagged", "UDP checksum", set(ip+27, 1)},
		{"UDP, untagged", "UDP payload", set(ip+60, 1)},
		{"option record route, untagged", "IPv4 option record route", set(ip+22, 4)},
		{"option timestamps, untagged", "IPv4 option timestamp", set(ip+24, 4)},
		{"option router alert, untagged", "IPv4 option router alert", set(ip+23, 4)},
		{"TCP SYN, untagged", "TCP sequence number", set(ip+24, 1)},
		{"TCP SYN, untagged", "TCP acknowledgment number", set(ip+28, 1)},
		{"TCP SYN, untagged", "TCP flags", set(ip+33, 0x40)},
		{"TCP reserved bits, untagged", "TCP flags", set(ip+32, 0x08)},
		{"TCP SYN, untagged", "TCP window", set(ip+35, 1)},
		{"TCP SYN, untagged", "TCP checksum", set(ip+36, 1)},
		{"TCP urgent data, untagged", "TCP urgent pointer", set(ip+39, 1)},
		{"TCP SYN, untagged", "TCP option MSS", set(ip+43, 1)},
		{"TCP SYN, untagged", "TCP option timestamps", set(ip+50, 1)},
		{"TCP SYN, untagged", "TCP option window scale", set(ip+59, 1)},
		{"TCP data, untagged", "TCP payload", set(ip+60, 1)},
		{"UDP over IPv6, untagged", "IPv6 flow label", set(ip+3, 1)},
		{"UDP over IPv6, untagged", "DSCP", set(ip, 1)},
		{"UDP over IPv6, untagged", "ECN", set(ip+1, 0x10)},
		{"UDP over IPv6, untagged", "TTL", set(ip+7, 1)},
		{"UDP over IPv6, untagged", "IPv6 next header", set(ip+6, 1)},
		{"hop-by-hop router alert, untagged", "hop-by-hop options", set(ip+44, 1)},
		{"all of them, untagged", "routing header", set(ip+40+16+4, 1)},
		{"destination options, untagged", "destination options", set(ip+44, 1)},
		{"atomic fragment, untagged", "fragment header: identification", set(ip+45, 1)},
		{"IPv6 fragment 1 of 3, sent in the order [0 1 2], untagged", "fragment header: offset", set(ip+43, 8)},
		{"IPv6 fragment 1 of 3, sent in the order [0 1 2], untagged", "fragment's payload", set(ip+60, 8)},
		{"authentication header, untagged", "authentication header", set(ip+44, 1)},
		{"ESP, untagged", "ESP sequence number", set(ip+24, 1)},
		{"GRE, untagged", "GRE payload", set(ip+30, 1)},
		{"SCTP INIT, untagged", "SCTP checksum", set(ip+28, 1)},
		{"echo request, untagged", "ICMP checksum", set(ip+22, 1)},
		{"frag needed, untagged", "ICMP body", set(ip+27, 1)},
		{"ARP request, untagged", "ARP sender hardware address", set(ip+8, 1)},
		{"ARP request, untagged", "padding of ARP", set(50, 1)},
		{"LLDP, untagged", "payload", set(20, 1)},
		{"STP, untagged", "802.3 payload", set(20, 1)},
		{"STP, 802.1Q", "802.3 length", set(17, 1)},
		{"STP, untagged", "length", cut(1)},
		{"LLDP, untagged", "length", cut(1)},
		{"LLDP, untagged", "length", longer},
		{"UDP, untagged", "length", cut(1)},
		{"UDP over IPv6, 8100+8100", "length", cut(3)},
	} {
		sent := find(t, list, c.frame)
		changes, _ := Compare(sent, c.mutate(slices.Clone(sent)))
		if len(changes) == 0 || changes[0].Field != c.field {
			t.Errorf("%s: %s was changed, and this is told: %v", c.frame, c.field, changes)
		}
	}
	padded := find(t, list, "short UDP padded with 0xee, untagged")
	for _, got := range [][]byte{padded[:46], append(slices.Clone(padded[:46]), make([]byte, 14)...), padded} {
		changes, pad := Compare(padded, got)
		if want := (Padding{Sent: 14, Got: len(got) - 46, Same: len(got) == 60 && got[59] == 0xee}); len(changes) != 0 || pad != want {
			t.Errorf("padding: %v, %+v; want %+v", changes, pad, want)
		}
	}
}

func TestMatch(t *testing.T) {
	list := []Sent{{Name: "one"}, {Name: "two"}, {Name: "three"}, {Name: "four", Dropped: "it has to"}}
	all := Cases(testPath(), Bridge{})
	for i := range list {
		list[i].Data = all[i].Data
	}
	as := func(order ...int) (got [][]byte) {
		for _, i := range order {
			got = append(got, list[i].Data)
		}
		return got
	}
	foreign := find(t, all, "MLDv2 report, untagged")
	for _, c := range []struct {
		name string
		got  [][]byte
		want string
	}{
		{"as sent", as(0, 1, 2), ""},
		{"loss", as(0, 2), "lost: two"},
		{"what passes", as(0, 1, 2, 3), "passed: four (it has to)"},
		{"order", as(1, 0, 2), "out of order: one after two"},
		{"a double", as(0, 1, 1, 2), "doubled: two"},
		{"a change", [][]byte{list[0].Data, flip(list[1].Data, 8*22), list[2].Data}, "changed: two: TTL: 40 became c0"},
		{"a change out of order", [][]byte{list[1].Data, flip(list[0].Data, 8*22), list[2].Data}, "out of order: one after two"},
		{"one too many", append(as(0, 1, 2), foreign), "sent by nobody: "},
		{"one of another's in place of one", append(as(0, 1), foreign), "lost: three"},
	} {
		problems := Match(list, c.got, nil).Problems()
		if (len(problems) == 0) != (c.want == "") || !strings.Contains(strings.Join(problems, "\n"), c.want) {
			t.Errorf("%s: %q; want %q", c.name, problems, c.want)
		}
	}
	byFirst := func(frame []byte) string { return string(frame[:20]) + string(frame[40:]) }
	if p := Match(list, as(1, 0, 2), byFirst).Problems(); len(p) != 0 {
		t.Errorf("streams of their own may overtake each other: %q", p)
	}
	if p := Match(append(list, list[0]), as(0, 1, 2), nil).Problems(); len(p) == 0 {
		t.Error("two equal frames go unnoticed")
	}
}

// No two frames are the same, so that each can be told from the others.
func TestCasesDiffer(t *testing.T) {
	here, there := Cases(testPath(), Bridge{}), Cases(testPath().Back(), Bridge{})
	keys, names := map[string]string{}, map[string]bool{}
	for _, s := range slices.Concat(here, there) {
		if other, ok := keys[key(s.Data)]; ok {
			t.Errorf("%q and %q are the same", s.Name, other)
		}
		keys[key(s.Data)] = s.Name
	}
	for _, s := range here {
		if names[s.Name] {
			t.Errorf("two frames are called %q", s.Name)
		}
		names[s.Name] = true
	}
}
