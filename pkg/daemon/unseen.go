package daemon

import (
	"hash/fnv"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// rsvpNode is what the configuration makes of the box in RSVP.
func rsvpNode(c *config.Config, l *links) softstate.Config {
	transparent := c.RSVP.Hop == config.HopTransparent
	neighbors := c.Limits.Neighbors
	if transparent { // which are called as the hosts behind them
		neighbors = max(neighbors, c.Limits.Sessions)
	}
	return softstate.Config{
		Refresh: c.RSVP.Refresh, IPv6: true,
		Limits:      softstate.Limits{Sessions: c.Limits.Sessions, Neighbors: neighbors, PerSession: c.Limits.Sessions},
		Transparent: transparent, Bridge: bridged(c), Handle: l.handle(),
	}
}

// handle tells this box's logical interface handles from other boxes': it is made of
// an Ethernet address, so that it is the same after a restart and nobody else's on
// the link.
func (l *links) handle() uint32 {
	macs := make([]string, 0, len(l.list))
	for i := range l.list {
		if mac := l.list[i].MAC; mac != "" {
			macs = append(macs, mac)
		}
	}
	h := fnv.New32a()
	if len(macs) > 0 {
		_, _ = h.Write([]byte(slices.Min(macs))) // which never fails
	}
	return h.Sum32()
}
