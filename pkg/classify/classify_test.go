package classify

import (
	"net/netip"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func key(proto uint8, src, dst string) packet.FlowKey {
	return packet.MakeKey(proto, netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst))
}

func testTable() *Table {
	return New([]Rule{
		{
			Name: "imaging", Proto: packet.ProtoTCP, From: prefixes("10.1.0.0/16"), To: prefixes("10.2.0.0/16", "2001:db8:2::/48"),
			FromPorts: []Ports{{1024, 65535}}, ToPorts: []Ports{{104, 104}, {11112, 11113}},
		},
		{Name: "voice", Proto: packet.ProtoUDP, ToPorts: []Ports{{5004, 5020}}},
		{Name: "rest", Proto: packet.ProtoTCP},
		{Name: "esp", Proto: packet.ProtoESP},
		{Name: "any protocol", From: prefixes("192.0.2.0/24")},
	})
}

func TestMatch(t *testing.T) {
	tests := []struct {
		name string
		key  packet.FlowKey
		want int
	}{
		{"first of two that match", key(6, "10.1.2.3:4000", "10.2.0.9:104"), 0},
		{"second range of ports", key(6, "10.1.2.3:4000", "10.2.0.9:11113"), 0},
		{"source port below the range", key(6, "10.1.2.3:1023", "10.2.0.9:104"), 2},
		{"source outside the prefix", key(6, "10.3.2.3:4000", "10.2.0.9:104"), 2},
		{"the other direction is not the data's", key(6, "10.2.0.9:104", "10.1.2.3:4000"), 2},
		{"ipv6 in a mixed list needs its source too", key(6, "[2001:db8:1::1]:4000", "[2001:db8:2::1]:104"), 2},
		{"both ends of a range", key(17, "1.1.1.1:1", "2.2.2.2:5004"), 1},
		{"both ends of a range", key(17, "1.1.1.1:1", "2.2.2.2:5020"), 1},
		{"past a range", key(17, "1.1.1.1:1", "2.2.2.2:5021"), -1},
		{"empty lists match ipv6", key(17, "[::1]:1", "[::2]:5010"), 1},
		{"a protocol without ports", key(50, "1.1.1.1:0", "2.2.2.2:0"), 3},
		{"any protocol", key(132, "192.0.2.1:0", "2.2.2.2:0"), 4},
		{"an unknown protocol", key(132, "1.1.1.1:0", "2.2.2.2:0"), -1},
	}
	table := testTable()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := table.Match(tt.key); got != tt.want {
				t.Errorf("Match(%v) = %d, want %d", tt.key, got, tt.want)
			}
		})
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	table, k := testTable(), key(17, "1.1.1.1:1", "2.2.2.2:5004")
	if n := testing.AllocsPerRun(100, func() { table.Match(k) }); n != 0 {
		t.Errorf("Match allocates %v times", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	table, k := testTable(), key(132, "1.1.1.1:1", "2.2.2.2:5004")
	for b.Loop() {
		table.Match(k)
	}
}
