package softstate

import (
	"math/rand/v2"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Period is the R that a message announces, as far as that is believed; otherwise,
// that of one which does not tell.
func Period(tv *wire.TimeValues, otherwise time.Duration) time.Duration {
	if tv != nil {
		otherwise = tv.Period()
	}
	return bounded(otherwise)
}

// Lifetime is the L of state that was announced with R, of which K-1 refreshes in a
// row may be lost (RFC 2205 section 3.7 (2)).
func Lifetime(r time.Duration, k int) time.Duration {
	return time.Duration((float64(k) + 0.5) * 1.5 * float64(r))
}

// Jitter spreads a refresh over [0.5R, 1.5R] (RFC 2205 section 3.7 (1)).
func Jitter(rng *rand.Rand, r time.Duration) time.Duration {
	return time.Duration((0.5 + rng.Float64()) * float64(r))
}

// SetRefresh changes R. A larger one is approached step by step.
func (n *Node) SetRefresh(r time.Duration) { n.cfg.Refresh = bounded(r) }

// SetInterfaceRefresh gives an interface an R of its own (RFC 2205 section 3.7:
// it should be configurable for each); 0: that of the node.
func (n *Node) SetInterfaceRefresh(i IfIndex, r time.Duration) {
	if r <= 0 {
		delete(n.own, i)
		return
	}
	if n.own == nil {
		n.own = map[IfIndex]time.Duration{}
	}
	n.own[i] = bounded(r)
}

func bounded(r time.Duration) time.Duration { return min(max(r, minRefresh), maxRefresh) }

// refreshOn is the R of an interface.
func (n *Node) refreshOn(i IfIndex) time.Duration {
	if r, ok := n.own[i]; ok {
		return r
	}
	return n.cfg.Refresh
}

// refreshOf is the R of p's PATH, which goes out of all its interfaces at once:
// the shortest of theirs.
func (n *Node) refreshOf(p *psb) time.Duration {
	if len(p.outs) == 0 || len(n.own) == 0 {
		return n.cfg.Refresh
	}
	r := n.refreshOn(p.outs[0].out)
	for _, b := range p.outs[1:] {
		r = min(r, n.refreshOn(b.out))
	}
	return r
}

// slew returns the R to announce next, on the way from the last to want: it may
// grow by 30 % only (RFC 2205 section 3.7 (5)).
func slew(last, want time.Duration) time.Duration {
	if last == 0 {
		return want
	}
	return min(want, time.Duration(float64(last)*(1+slewMax)))
}
