package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
)

// errUnplaced tells that a bridge does not know where a host is.
var errUnplaced = errors.New("nothing that the two have sent to each other has crossed the bridge, so it is not known on which side of it they are: reserve when one has sent a packet to the other, or name the side (--side)")

// placer finds where packets to a host leave that a peer has sent.
type placer func(host, peer netip.Addr) (route.Hop, error)

// placer is that of this box: a router asks its routes, and a bridge, of which no route
// of the kernel knows anything, the frames that it has seen. It is for one caller at a
// time.
func (d *Daemon) placer() placer {
	routes := route.NewTable()
	return func(host, peer netip.Addr) (route.Hop, error) {
		if learned := d.flows.frames.learned; learned != nil {
			return placeOf(route.Bridge{Frames: learned, Stations: d.stations.Port, Unlisted: d.unlisted}, d.links.Load(), host, peer)
		}
		return routes.Lookup(time.Now(), host)
	}
}

// placeOf finds the port of a bridge behind which a host is, by the frames between it
// and another one.
func placeOf(b route.Bridge, l *links, host, peer netip.Addr) (route.Hop, error) {
	out, ok := b.Onward(host, peer, 0, l.ports())
	if !ok {
		return route.Hop{}, fmt.Errorf("%s and %s: %w", host, peer, errUnplaced)
	}
	return route.Hop{Index: out}, nil
}

// onlyHosts is the interface of zone hosts if there is one of them, and else 0.
func (l *links) onlyHosts() (index int) {
	for i := range l.list {
		if l.list[i].cfg.Zone != config.ZoneHosts {
			continue
		}
		if index != 0 {
			return 0
		}
		index = l.list[i].Index
	}
	return index
}
