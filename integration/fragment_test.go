package integration

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
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

// fragment names a part of an IPv4 or IPv6 packet.
type fragment struct {
	v6     bool
	id     uint32
	offset uint16
}

func fragmentOf(f []byte) (fragment, bool) {
	switch {
	case isIPv4(f) && f[ethernet+9] == 17:
		where := binary.BigEndian.Uint16(f[ethernet+6:])
		return fragment{id: uint32(binary.BigEndian.Uint16(f[ethernet+4:])), offset: where & 0x1fff}, where&0x3fff != 0
	case isIPv6(f) && f[ethernet+6] == 44 && len(f) >= ethernet+48:
		return fragment{v6: true, id: binary.BigEndian.Uint32(f[ethernet+44:]), offset: binary.BigEndian.Uint16(f[ethernet+42:]) >> 3}, true
	}
	return fragment{}, false
}

// A reserved flow of packets that are larger than the MTU: all their fragments have
// its mark on the wire and its class, so that a flood costs none of them.
func TestFragmentsOfAReservedFlow(t *testing.T) {
	t.Parallel()
	roottest.Need(t)
	// What the wire is given no box can change any more: where the frames of a capture
	// share memory with what the next box puts together, it writes new headers there.
	var mu sync.Mutex
	frames := map[fragment]byte{} // their marks
	record := func(dir wire.Direction, f []byte) (pass emulator.Verdict) {
		if part, ok := fragmentOf(f); ok && dir == wire.AB {
			mu.Lock()
			defer mu.Unlock()
			frames[part] = dscpOf(f)
		}
		return pass
	}
	l := newLab(t, 2, &wire.Config{AB: emulator.Params{Queue: 1 << 20}, BA: emulator.Params{Queue: 1 << 20}, Script: record})
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

	mu.Lock()
	defer mu.Unlock()
	later := map[bool]int{}
	for part, mark := range frames {
		if part.offset == 0 {
			continue
		}
		first := part
		first.offset = 0
		was, seen := frames[first]
		switch {
		case !seen: // an ordinary packet, whose first one was lost in the flood
			if mark != 0 {
				t.Errorf("%+v is marked, and its first fragment did not come", part)
			}
		case was != mark:
			t.Errorf("%+v has the mark %d, its first fragment %d", part, mark, was)
		case was == dscp.AF31:
			later[part.v6]++
		}
	}
	for v6, name := range map[bool]string{false: "IPv4", true: "IPv6"} {
		if later[v6] < 2*int(got[name].Sent) {
			t.Errorf("%s: %d later fragments came marked, two of each of %d packets should", name, later[v6], got[name].Sent)
		}
	}
	whole := func(r console.FlowRow) bool {
		return r.ConformPackets >= 3*uint64(got["IPv4"].Sent) && r.DroppedPackets == 0
	}
	l.boxes[0].waitFlow(t, portFragments, "counted with all fragments", whole)
	l.boxes[0].waitFlowFrom(t, addrA6, portFragments6, "counted with all fragments", whole)
}
