package integration

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

const (
	portFragments     = 5060
	portFragments6    = 5061
	fragmentsPolicies = `
  - name: large
    match: {protocol: udp, to_port: 5060-5061}
    reserve: {role: both, service: controlled-load, tspec: {rate: 2mbit, burst: 64kB, max_packet: 1500B}}
    mark: af31
    excess: drop
`
)

// fragment tells what an IPv4 or IPv6 frame is a part of.
type fragment struct {
	v6    bool
	id    uint32
	first bool
	mark  byte
}

func fragmentOf(f []byte) (fragment, bool) {
	switch ip := f[ethernet:]; {
	case isIPv4(f) && ip[9] == 17:
		where := binary.BigEndian.Uint16(ip[6:]) & 0x3fff
		return fragment{id: uint32(binary.BigEndian.Uint16(ip[4:])), first: where == 0x2000, mark: dscpOf(f)}, where != 0
	case isIPv6(f) && ip[6] == 44 && len(ip) >= 48:
		where := binary.BigEndian.Uint16(ip[42:])
		return fragment{v6: true, id: binary.BigEndian.Uint32(ip[44:]), first: where == 1, mark: dscpOf(f)}, true
	}
	return fragment{}, false
}

// A reserved flow of packets that are larger than the MTU: all their fragments have
// its mark on the wire and its class, so that a flood costs none of them.
func TestFragmentsOfAReservedFlow(t *testing.T) {
	roottest.Need(t)
	l := newLab(t, 2, nil)
	wire := capture(t, l.boxes[1].ns, leftWAN, func(f []byte) bool { _, ok := fragmentOf(f); return ok })
	l.startAll(t, l.edge(0, fragmentsPolicies, "").String(), l.edge(1, fragmentsPolicies, "").String())

	const warmup, length = 2 * time.Second, 6 * time.Second
	large := func(to netip.AddrPort) traffic.StreamConfig {
		return traffic.StreamConfig{Remote: to, Payload: 4000, Interval: 25 * time.Millisecond, Duration: length, Warmup: warmup}
	}
	flood := traffic.Flood(nil, nil, at(addrB, portOther), 30_000_000, length)
	got := l.atOnce(t, map[string]traffic.StreamConfig{
		"IPv4": large(at(addrB, portFragments)), "IPv6": large(at(addrB6, portFragments6)),
		"ordinary": large(at(addrB, portOther+1)), "flood": flood,
	})
	for _, name := range []string{"IPv4", "IPv6"} {
		if r := got[name]; r.Sent < 100 || r.Lost > 0 {
			t.Errorf("%s: %d of %d packets lost", name, r.Lost, r.Sent)
		}
	}
	if got["ordinary"].Lost == 0 || got["flood"].Lost == 0 {
		t.Error("nothing was lost without a reservation: nothing is proved")
	}

	frames, omitted := wire.Frames()
	if omitted > 0 {
		t.Fatalf("%d frames were not captured", omitted)
	}
	// Two processors that empty the queues may turn the order on the wire around, so
	// that the first fragments are looked for before the others.
	marked := map[fragment]byte{} // packets by what their first fragment has
	for _, f := range frames {
		if part, ok := fragmentOf(f.Data); ok && part.first && !f.Outgoing {
			marked[fragment{v6: part.v6, id: part.id}] = part.mark
		}
	}
	later := map[bool]int{}
	for _, f := range frames {
		part, ok := fragmentOf(f.Data)
		if !ok || part.first || f.Outgoing {
			continue
		}
		first, seen := marked[fragment{v6: part.v6, id: part.id}]
		switch {
		case !seen: // an ordinary packet, whose first one was lost in the flood
			if part.mark != 0 {
				t.Errorf("%+v is marked, and its first fragment did not come", part)
			}
		case first != part.mark:
			t.Errorf("%+v: its first fragment has the mark %d", part, first)
		case first == dscp.AF31:
			later[part.v6]++
		}
	}
	if later[false] < 2*int(got["IPv4"].Sent) || later[true] < 2*int(got["IPv6"].Sent) {
		t.Errorf("%d and %d later fragments came marked, two of each packet should", later[false], later[true])
	}
	for _, port := range []uint16{portFragments, portFragments6} {
		l.boxes[0].waitFlow(t, port, "counted with all fragments", func(r console.FlowRow) bool {
			return r.ConformPackets >= 3*uint64(got["IPv4"].Sent) && r.DroppedPackets == 0
		})
	}
}
