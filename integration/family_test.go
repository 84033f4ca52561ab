package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// family is the IP version of a scenario, and what a lab has of it.
type family struct {
	v6       bool
	src, dst netip.Addr // of A and B
}

var (
	ipv4 = family{src: addrA, dst: addrB}
	ipv6 = family{v6: true, src: addrA6, dst: addrB6}
)

// overBoth runs a scenario over IPv4 and over IPv6.
func overBoth(t *testing.T, scenario func(t *testing.T, f family)) {
	t.Helper()
	over(t, []family{ipv4, ipv6}, scenario)
}

// overBothInSoak is overBoth in a soak, and over IPv4 alone else.
func overBothInSoak(t *testing.T, scenario func(t *testing.T, f family)) {
	t.Helper()
	over(t, inSoak(), scenario)
}

// inSoak are both families in a soak, and IPv4 alone else.
func inSoak() []family {
	list := []family{ipv4, ipv6}
	return list[:soak(1, 2)]
}

func over(t *testing.T, families []family, scenario func(t *testing.T, f family)) {
	t.Helper()
	t.Parallel()
	for _, f := range families {
		t.Run(f.String(), func(t *testing.T) {
			if len(families) > 1 { // one alone would only wait until all others have begun
				t.Parallel()
			}
			scenario(t, f)
		})
	}
}

// String names the family.
func (f family) String() string {
	if f.v6 {
		return "IPv6"
	}
	return "IPv4"
}

// hop is hop's address of the family.
func (f family) hop(i, end int) netip.Addr {
	v4, v6 := hop(i, end)
	if f.v6 {
		return v6
	}
	return v4
}

// isRSVP accepts the family's messages.
func (f family) isRSVP() func([]byte) bool {
	if f.v6 {
		return isRSVP6
	}
	return isRSVP
}

// link is the network of an address of the lab's links.
func (f family) link(a netip.Addr) netip.Prefix {
	bits := 24
	if f.v6 {
		bits = 64
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// both are an address of each family on a link that a scenario adds.
func both(n, end int) []netip.Prefix {
	return on(fmt.Sprintf("10.9.%d.%d/24", n, end), fmt.Sprintf("fd00:9:%x::%d/64", n, end))
}

// added is both's of the family.
func (f family) added(n, end int) netip.Addr {
	if f.v6 {
		return both(n, end)[1].Addr()
	}
	return both(n, end)[0].Addr()
}

// policies has the voice policy for the packets of the family: IPv6's header is
// 20 bytes longer, 208 bytes every 20 ms.
func (f family) policies(text string) string {
	if !f.v6 {
		return text
	}
	text = strings.ReplaceAll(text, "10.0.0.0/8", "fd00::/16")
	return strings.ReplaceAll(text, "rate: 80kbit", fmt.Sprintf("rate: %dkbit", f.voiceRate()/1000))
}

// voiceRate is what a call reserves, in bit/s.
func (f family) voiceRate() uint64 {
	if f.v6 {
		return 88_000
	}
	return 80_000
}

// callOver starts a voice stream from A to B.
func (l *lab) callOver(t *testing.T, f family, port uint16, most time.Duration) (end func() call) {
	t.Helper()
	return l.talkTo(t, at(f.dst, port), most)
}
