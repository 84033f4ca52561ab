package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPoliciesThatTakeAllTogether(t *testing.T) {
	for name, tt := range map[string]struct {
		matches []string // the last is that of policy pN
		by      string
	}{
		"two halves":        {[]string{"from: 10.0.0.0/9", "from: 10.128.0.0/9", "from: 10.0.0.0/8, protocol: udp"}, "p0 (line 3), p1 (line 4)"},
		"two port ranges":   {[]string{"protocol: tcp, to_port: 1-99", "protocol: tcp, to_port: 100-200", "protocol: tcp, to_port: 50-150"}, "p0 (line 3), p1 (line 4)"},
		"three quarters":    {[]string{"from: 10.0.0.0/9", "from: 10.128.0.0/10", "from: 10.0.0.0/8"}, ""},
		"crosswise":         {[]string{"from: 10.0.0.0/9", "to: 10.0.0.0/9", "from: 10.0.0.0/8, to: 10.0.0.0/8"}, ""},
		"crosswise, closed": {[]string{"from: 10.0.0.0/9", "to: 10.0.0.0/9", "protocol: tcp", "from: 10.128.0.0/9, to: 10.128.0.0/9", "from: 10.0.0.0/8, to: 10.0.0.0/8"}, "p0 (line 3), p1 (line 4), p3 (line 6)"},
		"one of them idle":  {[]string{"protocol: tcp", "from: 10.0.0.0/9", "from: 10.128.0.0/9", "from: 10.0.0.0/8, protocol: udp"}, "p1 (line 4), p2 (line 5)"},
		"both versions":     {[]string{"from: 0.0.0.0/0", "from: '::/0'", "protocol: tcp"}, "p0 (line 3), p1 (line 4)"},
		"one version":       {[]string{"from: 0.0.0.0/0", "from: '2001:db8::/32'", "protocol: tcp"}, ""},
		"two protocols":     {[]string{"protocol: tcp", "protocol: udp", "from: 10.0.0.0/8"}, ""},
		"IPv6 halves":       {[]string{"from: '2001:db8::/33'", "from: '2001:db8:8000::/33'", "from: '2001:db8::/32', protocol: udp"}, "p0 (line 3), p1 (line 4)"},
	} {
		var s strings.Builder
		for i, m := range tt.matches {
			fmt.Fprintf(&s, "  - {name: p%d, match: {%s}}\n", i, m)
		}
		_, err := Parse("f", []byte(goodIfaces+"policies:\n"+s.String()))
		last := len(tt.matches) - 1
		switch want := fmt.Sprintf("f:%d:5: policy p%d can never match: policies %s come first and match all of its traffic together", last+3, last, tt.by); {
		case tt.by == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.by != "" && (err == nil || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%s: got %v\nwant %s", name, err, want)
		}
	}
}

// The model: a space so small that each packet in it can be listed.
func TestTogetherAgainstListing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(0, 3).Draw(t, "address"))})
			return netip.PrefixFrom(a, rapid.IntRange(30, 32).Draw(t, "bits")).Masked()
		})
		ports := rapid.Custom(func(t *rapid.T) [2]uint16 {
			a, b := rapid.Uint16Range(1, 3).Draw(t, "a"), rapid.Uint16Range(1, 3).Draw(t, "b")
			return [2]uint16{min(a, b), max(a, b)}
		})
		draw := func() (reach, Match) {
			m := Match{
				Protocol: rapid.SampledFrom([]uint8{6, 17}).Draw(t, "protocol"), From: rapid.SliceOfN(prefix, 1, 2).Draw(t, "from"),
				To: rapid.SliceOfN(prefix, 1, 2).Draw(t, "to"), ToPort: rapid.SliceOfN(ports, 1, 2).Draw(t, "to_port"),
			}
			return makeReach(&rawPolicy{}, &m), m
		}
		has := func(m *Match, proto uint8, from, to netip.Addr, port uint16) bool {
			in := func(list []netip.Prefix, a netip.Addr) bool {
				for _, p := range list {
					if p.Contains(a) {
						return true
					}
				}
				return false
			}
			inPorts := false
			for _, p := range m.ToPort {
				inPorts = inPorts || p[0] <= port && port <= p[1]
			}
			return m.Protocol == proto && in(m.From, from) && in(m.To, to) && inPorts
		}
		var earlier []reach
		var matches []Match
		for range rapid.IntRange(1, 6).Draw(t, "earlier") {
			r, m := draw()
			earlier, matches = append(earlier, r), append(matches, m)
		}
		r, m := draw()
		want := true
		for i := range 2 * 4 * 4 * 3 {
			proto, port := []uint8{6, 17}[i%2], uint16(i/2%3+1)
			from, to := netip.AddrFrom4([4]byte{10, 0, 0, byte(i / 6 % 4)}), netip.AddrFrom4([4]byte{10, 0, 0, byte(i / 24)})
			if !has(&m, proto, from, to, port) {
				continue
			}
			found := false
			for j := range matches {
				found = found || has(&matches[j], proto, from, to, port)
			}
			want = want && found
		}
		list := make([]*reach, len(earlier))
		for i := range earlier {
			list[i] = &earlier[i]
		}
		if got := r.coveredByAll(list); got != want {
			t.Fatalf("%+v by %+v: %v, want %v", m, matches, got, want)
		}
	})
}

// However the policies lie, the check ends soon.
func TestTogetherIsBounded(t *testing.T) {
	var s strings.Builder
	for i := range 60 {
		fmt.Fprintf(&s, "  - {name: p%d, match: {protocol: udp, from: 10.%d.0.0/16, to_port: %d-%d}}\n", i, i, 100+i, 65535-i)
	}
	for i := range 200 {
		fmt.Fprintf(&s, "  - {name: q%d, match: {protocol: udp, from: 10.0.0.0/8, to: 10.9.%d.0/24}}\n", i, i)
	}
	mustParse(t, goodIfaces+"policies:\n"+s.String())
}
