package daemon

import (
	"net/netip"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/promise"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
)

// On a bridge the kernel's routes say nothing of where a host is: a recalled connection's
// ports are those of the record, or of the frames that were seen, or they are not known.
func TestRecalledSidesOnABridge(t *testing.T) {
	key := testKey(0)
	l := &links{list: []link{{}, {}, {}}, byIndex: map[int]*link{}}
	for i := range l.list {
		l.list[i].Index = 3 + i
		l.byIndex[3+i] = &l.list[i]
	}
	seen := learned{key.PairKey(): {Port: 3}, key.Reverse().PairKey(): {Port: 5}}
	for name, tc := range map[string]struct {
		in, out         uint32
		frames          learned
		wantIn, wantOut int
	}{
		"of the record":          {4, 5, learned{}, 4, 5},
		"a port that has gone":   {9, 8, seen, 3, 5},
		"half of the record":     {4, 0, seen, 4, 5},
		"nobody has said a word": {0, 0, learned{}, 0, 0},
	} {
		d := &Daemon{flows: &flowTable{frames: frames{learned: tc.frames}}}
		d.links.Store(l)
		k := promise.Kept{Fixed: promise.Fixed{Key: key, In: tc.in, Out: tc.out}}
		if in, out := sidesOf(l, d.placer(), &k); in != tc.wantIn || out != tc.wantOut {
			t.Errorf("%s: %d to %d, want %d to %d", name, in, out, tc.wantIn, tc.wantOut)
		}
	}
}

// A router asks for the way to each host.
func TestRecalledSidesOfARouter(t *testing.T) {
	key := testKey(0)
	place := func(host, peer netip.Addr) (route.Hop, error) {
		if host == key.DstAddr() && peer == key.SrcAddr() {
			return route.Hop{Index: 7}, nil
		}
		return route.Hop{Index: 6}, nil
	}
	k := promise.Kept{Fixed: promise.Fixed{Key: key}}
	if in, out := sidesOf(&links{}, place, &k); in != 6 || out != 7 {
		t.Errorf("%d to %d", in, out)
	}
}
