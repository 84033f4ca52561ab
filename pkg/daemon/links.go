package daemon

import (
	"fmt"
	"net/netip"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
)

// links is one reading of the configured interfaces. It is immutable.
type links struct {
	list     []link
	byIndex  map[int]*link
	unlisted []int // ports of the bridge that are not in the configuration
}

type link struct {
	route.Link
	cfg      config.Interface
	security *rsvpproxy.Security // nil: RSVP is not signed
	number   int                 // by the order of the names, from 1
}

// readLinks asks the kernel for each interface of the configuration, and reads
// its keys. was is what was known before: addresses that the box is known by stay;
// nil: nothing.
func readLinks(c *config.Config, was *links) (*links, error) {
	list := make([]link, 0, len(c.Interfaces))
	for i := range c.Interfaces {
		cfg := c.Interfaces[i]
		got, err := linkOf(c, cfg.Name)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w: create it or correct its name", c.File, cfg.Line, err)
		}
		if was != nil && was.named(cfg.Name) != nil {
			got = got.Since(&was.named(cfg.Name).Link)
		}
		security, err := readSecurity(c, &cfg)
		if err != nil {
			return nil, err
		}
		list = append(list, link{Link: got, cfg: cfg, security: security})
	}
	l := newLinks(list)
	if was != nil {
		l.unlisted = was.unlisted
	}
	return l, nil
}

// linkOf is an interface as the kernel has it. A port of a bridge has no address that
// anything is said with: before the bridge stands, or until a port that has come back
// is in it, the kernel may have given it a link-local one.
func linkOf(c *config.Config, name string) (route.Link, error) {
	l, err := route.ByName(name)
	if bridged(c) {
		l.Addr4, l.Addr6, l.Addrs, l.Own = netip.Addr{}, netip.Addr{}, nil, nil
	}
	return l, err
}

func newLinks(list []link) *links {
	l := &links{byIndex: map[int]*link{}, list: list}
	for i := range l.list {
		k := &l.list[i]
		l.byIndex[k.Index], k.number = k, 1
		for j := range l.list {
			if l.list[j].Name < k.Name {
				k.number++
			}
		}
	}
	return l
}

func (l *links) zones() map[int]config.Zone {
	z := make(map[int]config.Zone, len(l.list))
	for i := range l.list {
		z[l.list[i].Index] = l.list[i].cfg.Zone
	}
	return z
}

// name of an interface; empty if it is not in the configuration.
func (l *links) name(index int) string {
	if k, ok := l.byIndex[index]; ok {
		return k.Name
	}
	return ""
}

func (l *links) rsvp() []rsvpproxy.Interface {
	out := make([]rsvpproxy.Interface, 0, len(l.list))
	for i := range l.list {
		k := &l.list[i]
		out = append(out, rsvpproxy.Interface{
			Link: k.Link, Hosts: k.cfg.Zone == config.ZoneHosts, Discover: k.cfg.Discover, Bandwidth: float64(k.cfg.Capacity), Guaranteed: k.guaranteed(),
			Security: k.security, Tunnel: k.tunnel(), Region: regionOf(k.cfg.Region), Interior: k.interior(),
		})
	}
	return out
}
