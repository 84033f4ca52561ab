package rsvpproxy

import (
	"maps"
	"net/netip"
	"time"
)

const (
	// restlessAt is how many moves between two looks are too many. A station that is
	// plugged in elsewhere, or a gateway that fails over, is one or two.
	restlessAt = 8
	lookEvery  = time.Second
	// lookFor is how long a count is remembered: in more time the moves of one now and
	// then add up.
	lookFor  = 5 * time.Minute
	maxLooks = 4096
)

// restless remembers how often the frames between two addresses have moved. Those that
// keep moving pass the bridge twice, by way of a router that sends them back in another
// VLAN or by another port: there is no side that PATH could be sent on to.
type restless struct {
	looks map[stations]moved
	swept time.Time
}

type stations struct{ src, dst netip.Addr }

type moved struct {
	moves uint32
	at    time.Time
	bad   bool
}

// look takes the count of two stations, and says whether it has grown too much since the
// last look.
func (r *restless) look(now time.Time, p stations, moves uint32) (bad bool) {
	was, known := r.looks[p]
	known = known && now.Sub(was.at) < lookFor
	if known && now.Sub(was.at) < lookEvery {
		return was.bad
	}
	if len(r.looks) >= maxLooks && now.Sub(r.swept) >= lookEvery { // not with each message
		maps.DeleteFunc(r.looks, func(_ stations, m moved) bool { return now.Sub(m.at) >= lookFor })
		r.swept = now
	}
	if _, there := r.looks[p]; !there && len(r.looks) >= maxLooks {
		return false
	}
	if r.looks == nil {
		r.looks = map[stations]moved{}
	}
	bad = known && moves >= was.moves && moves-was.moves >= restlessAt // less: the kernel has begun anew
	r.looks[p] = moved{moves, now, bad}
	return bad
}
