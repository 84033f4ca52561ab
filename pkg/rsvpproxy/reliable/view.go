package reliable

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// NeighborView is what RFC 2961 knows of a neighbour.
type NeighborView struct {
	Iface   softstate.IfIndex
	Addr    netip.Addr
	Heard   bool      // ever
	Seen    time.Time // last
	Capable bool      // it has said that it takes summaries and bundles (section 2)
	Acks    bool      // it acknowledges
	Refused bool      // it has answered MESSAGE_ID with an error (section 4.8)
	RTT     time.Duration
	Kept    int // messages of its that a summary can refresh
	Flying  int // messages of ours that it has not acknowledged
}

// Neighbors lists them by interface and address.
func (l *Layer) Neighbors() []NeighborView {
	flying := map[*neighbor]int{}
	for _, e := range l.byID {
		if e.flying() {
			flying[e.nb]++
		}
	}
	out := make([]NeighborView, 0, len(l.neighbors))
	for k, nb := range l.neighbors {
		out = append(out, NeighborView{
			Iface: k.iface, Addr: k.addr, Heard: nb.heard, Seen: nb.seen, Capable: nb.capable, Acks: nb.acks, Refused: nb.refused,
			RTT: nb.rtt, Kept: len(nb.kept), Flying: flying[nb],
		})
	}
	slices.SortFunc(out, func(a, b NeighborView) int {
		return cmp.Or(cmp.Compare(a.Iface, b.Iface), a.Addr.Compare(b.Addr))
	})
	return out
}
