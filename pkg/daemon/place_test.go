package daemon

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
)

// seenFrames is a bridge's memory by pairs of addresses: the port.
type seenFrames map[[2]netip.Addr]int

func (s seenFrames) Frame(k *packet.FlowKey, f *packet.Frame) bool {
	port, ok := s[[2]netip.Addr{k.SrcAddr(), k.DstAddr()}]
	f.Port = port
	return ok
}

// A bridge knows where hosts are once one of them has sent to the other, and has no
// other opinion; the kernel's routes are not asked.
func TestPlaceOfHostsOnABridge(t *testing.T) {
	a, b := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.2.0.2")
	l := newLinks([]link{
		{Link: route.Link{Index: 4, Name: "lan0"}, cfg: config.Interface{Name: "lan0", Zone: config.ZoneHosts}},
		{Link: route.Link{Index: 7, Name: "wan0"}, cfg: config.Interface{Name: "wan0", Zone: config.ZoneNetwork}},
	})
	for _, c := range []struct {
		name   string
		seen   seenFrames
		atA    int
		atB    int
		placed bool
	}{
		{"nothing", nil, 0, 0, false},
		{"from A", seenFrames{{a, b}: 4}, 4, 7, true},
		{"from B", seenFrames{{b, a}: 7}, 4, 7, true},
		{"both", seenFrames{{a, b}: 4, {b, a}: 7}, 4, 7, true},
		{"A in the network", seenFrames{{a, b}: 7, {b, a}: 4}, 7, 4, true},
	} {
		hopA, errA := placeOf(route.Bridge{Frames: c.seen}, l, a, b)
		hopB, errB := placeOf(route.Bridge{Frames: c.seen}, l, b, a)
		if hopA.Index != c.atA || hopB.Index != c.atB || errors.Is(errA, errUnplaced) == c.placed || errors.Is(errB, errUnplaced) == c.placed {
			t.Errorf("%s: A at %d, %v; B at %d, %v", c.name, hopA.Index, errA, hopB.Index, errB)
		}
	}
	if l.onlyHosts() != 4 {
		t.Errorf("the hosts' port is %d", l.onlyHosts())
	}
	l.list[1].cfg.Zone = config.ZoneHosts
	if l.onlyHosts() != 0 {
		t.Error("two ports of hosts, and one is chosen")
	}
}

// Whoever names the side of a reservation knows where its host is, if there is one port
// where it can be.
func TestHandOnABridgeNamesTheSide(t *testing.T) {
	r := testHands(t, t.TempDir())
	r.route = func(_, _ netip.Addr) (route.Hop, error) { return route.Hop{}, errUnplaced }
	a, b := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.2.0.2")
	if _, err := r.behind(a, b, false); !errors.Is(err, errUnplaced) {
		t.Errorf("not named: %v", err)
	}
	if index, err := r.behind(a, b, true); err != nil || index != lan {
		t.Errorf("named: %d, %v", index, err)
	}
}
