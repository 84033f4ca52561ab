package daemon

import (
	"fmt"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
)

// links is one reading of the configured interfaces. It is immutable.
type links struct {
	list    []link
	byIndex map[int]*link
}

type link struct {
	route.Link
	cfg      config.Interface
	security *rsvpproxy.Security // nil: RSVP is not signed
}

// readLinks asks the kernel for each interface of the configuration, and reads
// its keys. was is what was known before: addresses that the box is known by stay;
// nil: nothing.
func readLinks(c *config.Config, was *links) (*links, error) {
	list := make([]link, 0, len(c.Interfaces))
	for i := range c.Interfaces {
		cfg := c.Interfaces[i]
		got, err := route.ByName(cfg.Name)
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
	return newLinks(list), nil
}

func newLinks(list []link) *links {
	l := &links{byIndex: map[int]*link{}, list: list}
	for i := range l.list {
		l.byIndex[l.list[i].Index] = &l.list[i]
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
