package config

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// The model: a tiny address space, in which each set can be listed.
func TestCoversAgainstListing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(0, 15).Draw(t, "address"))})
			return netip.PrefixFrom(a, rapid.IntRange(28, 32).Draw(t, "bits")).Masked()
		})
		draw := func(name string) []netip.Prefix { return rapid.SliceOfN(prefix, 1, 6).Draw(t, name) }
		list, q := draw("list"), draw("q")
		contains := func(l []netip.Prefix, a netip.Addr) bool {
			for _, p := range l {
				if p.Contains(a) {
					return true
				}
			}
			return false
		}
		want := true
		for i := range byte(16) {
			a := netip.AddrFrom4([4]byte{10, 0, 0, i})
			if contains(q, a) && !contains(list, a) {
				want = false
			}
		}
		if got := coversAll(byVersion(list)[0], byVersion(q)[0]); got != want {
			t.Errorf("%v covers %v: got %v, want %v", list, q, got, want)
		}
	})
}

func TestCoversPortsAgainstListing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ports := rapid.Custom(func(t *rapid.T) [2]uint16 {
			a, b := rapid.Uint16Range(1, 12).Draw(t, "a"), rapid.Uint16Range(1, 12).Draw(t, "b")
			return [2]uint16{min(a, b), max(a, b)}
		})
		list, q := rapid.SliceOfN(ports, 1, 4).Draw(t, "list"), rapid.SliceOfN(ports, 1, 4).Draw(t, "q")
		contains := func(l [][2]uint16, p uint16) bool {
			for _, r := range l {
				if r[0] <= p && p <= r[1] {
					return true
				}
			}
			return false
		}
		want := true
		for p := uint16(1); p <= 12; p++ {
			if contains(q, p) && !contains(list, p) {
				want = false
			}
		}
		if got := coversPorts(mergePorts(list), mergePorts(q)); got != want {
			t.Errorf("%v covers %v: got %v, want %v", list, q, got, want)
		}
	})
}

func TestReach(t *testing.T) {
	for name, tt := range map[string]struct {
		first, second string
		covered       bool
	}{
		"same":                    {"protocol: udp", "protocol: udp", true},
		"any protocol":            {"from: 10.0.0.0/8", "protocol: udp, from: 10.1.0.0/16", true},
		"to any from one":         {"protocol: udp", "from: 10.0.0.0/8", false},
		"two halves":              {"from: [10.0.0.0/9, 10.128.0.0/9]", "from: 10.0.0.0/8", true},
		"one half":                {"from: 10.0.0.0/9", "from: 10.0.0.0/8", false},
		"all of IPv4 only":        {"from: 0.0.0.0/0", "protocol: tcp", false},
		"all of IPv4 and IPv6":    {`from: [0.0.0.0/0, "::/0"]`, "protocol: tcp", true},
		"all of IPv4, IPv4 asked": {"from: 0.0.0.0/0", "to: 10.0.0.0/8", true}, // a packet has one version
		"other side":              {"from: 10.0.0.0/8", "to: 10.0.0.0/8", false},
		"port ranges that touch":  {"protocol: tcp, to_port: [1-99, 100-200]", "protocol: tcp, to_port: 50-150", true},
		"port ranges with a gap":  {"protocol: tcp, to_port: [1-99, 101-200]", "protocol: tcp, to_port: 50-150", false},
		"ports of one direction":  {"protocol: tcp, to_port: 80", "protocol: tcp, from_port: 80", false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("f", []byte(goodIfaces+"policies:\n  - {name: a, match: {"+tt.first+"}}\n  - {name: b, match: {"+tt.second+"}}\n"))
			if (err != nil) != tt.covered {
				t.Errorf("error %v, want one: %v", err, tt.covered)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	data := examples(b)["full.yaml"]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("full.yaml", data); err != nil {
			b.Fatal(err)
		}
	}
}
