package softstate

import (
	"net/netip"
	"time"
)

// complaints is how many neighbours have a limit of their own. Others share
// one: the table cannot grow.
const complaints = 256

// bucket is a token bucket of error messages.
type bucket struct {
	tokens float64
	last   time.Time
}

// mayComplain limits the PathErr and ResvErr messages that start here, for each
// neighbour: one that sends nothing but nonsense gets [Config.ErrorRate] answers
// a second and costs the others nothing.
func (n *Node) mayComplain(to netip.Addr) bool {
	if n.cfg.ErrorRate < 0 {
		return true
	}
	rate := float64(n.cfg.ErrorRate)
	b := &n.complaints[slot(to)]
	if b.last.IsZero() {
		b.tokens = rate
	} else {
		b.tokens = min(rate, b.tokens+n.now.Sub(b.last).Seconds()*rate)
	}
	b.last = n.now
	if b.tokens < 1 {
		n.count.limited++
		return false
	}
	b.tokens--
	return true
}

func slot(a netip.Addr) (i uint8) {
	for _, x := range a.As16() {
		i = i*31 + x
	}
	return i
}
