package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
)

// watchAgain is the pause before interfaces are watched again after the kernel
// has ended it.
const watchAgain = time.Second

// watchLinks follows the addresses and the state of the interfaces while the box
// runs.
func (d *Daemon) watchLinks(ctx context.Context) {
	for {
		changes, err := route.SubscribeLinks(ctx)
		if err != nil {
			d.log.Warn("changes of interfaces are not noticed", zap.Error(err))
			return
		}
		d.linksChanged() // what was missed meanwhile
		for range changes {
			d.linksChanged()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchAgain):
		}
	}
}

// linksChanged reads the interfaces again and tells everybody who works with
// them.
func (d *Daemon) linksChanged() {
	d.reloadMu.Lock()
	defer d.reloadMu.Unlock()
	c, old := d.cfg.Load(), d.links.Load()
	l, err := rereadLinks(c, old)
	if err != nil {
		d.log.Warn("interfaces could not be read: what was known of them stays", zap.Error(err))
		return
	}
	if l.same(old) {
		return
	}
	for i := range l.list {
		k := &l.list[i]
		if was := old.named(k.Name); was != nil && !sameLink(was, k) {
			d.log.Info("interface has changed", zap.String("interface", k.Name), zap.Bool("up", k.Up), zap.Int("mtu", k.MTU),
				zap.Stringer("ipv4", addrText(k.Addr4)), zap.Stringer("ipv6", addrText(k.Addr6)))
		}
	}
	if remade(old, l) {
		d.repair(c)
	}
	d.links.Store(l)
	d.flows.configure(c.File, d.flows.current(), l.zones())
	d.setLinks(l)
	d.rsvp.SetInterfaces(l.rsvp())
}

// remade tells whether an interface is another one of the same name, which has none
// of our queues and programs, or has another MTU, by which queues are made.
func remade(old, l *links) bool {
	for i := range l.list {
		if was := old.named(l.list[i].Name); was != nil && (was.Index != l.list[i].Index || was.MTU != l.list[i].MTU) {
			return true
		}
	}
	return false
}

// repair has the shaper look at the interfaces again: what it finds missing it makes,
// treatments included. reloadMu is held.
func (d *Daemon) repair(c *config.Config) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*kernelTimeout)
	defer cancel()
	if err := d.setPlan(ctx, wanted(c, d.flows.current(), len(d.cheat.handlers), time.Now())); err != nil {
		d.log.Error("an interface that has changed is not shaped as configured: it is tried again within a minute", zap.Error(err))
	}
}

// addrText is an address for the log, which may be none.
type addrText netip.Addr

// String is empty for no address.
func (a addrText) String() string {
	if !netip.Addr(a).IsValid() {
		return ""
	}
	return netip.Addr(a).String()
}

// rereadLinks is readLinks while the box runs: an interface that is gone stays in
// the list without addresses, until it comes again.
func rereadLinks(c *config.Config, old *links) (*links, error) {
	list := make([]link, 0, len(c.Interfaces))
	for i := range c.Interfaces {
		cfg := c.Interfaces[i]
		got, err := route.ByName(cfg.Name)
		was := old.named(cfg.Name)
		switch {
		case was == nil:
			return nil, fmt.Errorf("interface %s is new", cfg.Name) // a reload has read it
		case errors.Is(err, route.ErrNoLink):
			got = route.Link{Index: was.Index, Name: was.Name, MTU: was.MTU}
		case err != nil:
			return nil, err
		default:
			got = got.Since(&was.Link)
		}
		list = append(list, link{Link: got, cfg: cfg, security: was.security})
	}
	return newLinks(list), nil
}

func (l *links) same(o *links) bool {
	if len(l.list) != len(o.list) {
		return false
	}
	for i := range l.list {
		if !sameLink(&l.list[i], &o.list[i]) {
			return false
		}
	}
	return true
}

func sameLink(a, b *link) bool {
	return a.Index == b.Index && a.Name == b.Name && a.MTU == b.MTU && a.Up == b.Up && a.Addr4 == b.Addr4 && a.Addr6 == b.Addr6 &&
		slices.Equal(a.Addrs, b.Addrs) && slices.Equal(a.Own, b.Own)
}
