package integration

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// RFC 2998 section 4.2: the edges of a region whose routers do not speak RSVP tell
// in ADSPEC what it adds, so that guaranteed service works across it. Without
// that the TTL shows a hop without RSVP, and nothing can be promised.
func TestGuaranteedAcrossARegionRFC2998Section4_2(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		region string
		state  string
		says   string
	}{
		"known":      {", region: {hops: 1, latency: 1ms, c: 1500B, d: 12ms, bandwidth: 15mbit, mtu: 1400}", console.SessionReserved, ""},
		"not known":  {"", console.SessionRejected, "a router that does not speak RSVP is on the path"},
		"no C and D": {", region: {hops: 1}", console.SessionRejected, "does not offer guaranteed service"},
		"too slow":   {", region: {hops: 1, c: 1500B, d: 45ms}", console.SessionRejected, "a delay of 50ms cannot be promised"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 3, nil)
			acrossTheRegion(t, l)
			for _, i := range []int{0, 2} { // the one between them is a router and nothing else
				edge := l.edge(i, guaranteedPolicies, "")
				edge.secured = c.region
				l.boxes[i].start(t, edge.String())
			}
			call := traffic.StreamConfig{
				From: l.a, To: l.b, Remote: at(addrB, portCall), Payload: 172, Interval: 10 * time.Millisecond, Duration: 3 * time.Second,
			}
			done := make(chan error, 1)
			go func() { _, err := traffic.Stream(within(t, 60*time.Second), call); done <- err }()
			far := l.boxes[2].waitSession(t, portCall, c.state)
			if !strings.Contains(far.Error, c.says) {
				t.Errorf("error %q, want %q", far.Error, c.says)
			}
			if c.state == console.SessionReserved {
				near := l.boxes[0].waitSession(t, portCall, c.state)
				// b = 2000 in 50 ms would need 40,000 bytes/s; what the region takes of the
				// time makes it more.
				if near.FlowSpec == nil || near.FlowSpec.Rate < 60_000 || near.FlowSpec.Rate > 200_000 {
					t.Errorf("R %+v", near.FlowSpec)
				}
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// acrossTheRegion has the edges reach each other's addresses, as what is sent from
// hop to hop needs.
func acrossTheRegion(t *testing.T, l *lab) {
	t.Helper()
	for _, f := range []family{ipv4, ipv6} {
		near, far := f.hop(0, 1), f.hop(1, 2)
		if err := errors.Join(
			l.boxes[0].ns.Route(netip.PrefixFrom(far, far.BitLen()), f.hop(0, 2)), l.boxes[2].ns.Route(netip.PrefixFrom(near, near.BitLen()), f.hop(1, 1)),
		); err != nil {
			t.Fatal(err)
		}
	}
}
