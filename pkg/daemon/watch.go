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
// has ended it, or refused.
const watchAgain = time.Second

// watchLinks follows the addresses and the state of the interfaces while the box
// runs. What it is not told of, followClock finds.
func (d *Daemon) watchLinks(ctx context.Context) {
	follow(ctx, route.SubscribeLinks, d.linksChanged, func(err error) {
		switch before := d.unwatched.Swap(&err); {
		case err != nil && (before == nil || *before == nil):
			d.log.Warn("the kernel does not tell changes of interfaces: they are looked for each minute", zap.Error(err))
		case err == nil && before != nil && *before != nil:
			d.log.Info("the kernel tells changes of interfaces again")
		}
	})
}

// follow calls changed whenever a subscription tells something, and when there is a new
// one, for what was missed meanwhile. Each attempt at one is told how it went.
func follow(ctx context.Context, subscribe func(context.Context) (<-chan struct{}, error), changed func(), tried func(error)) {
	for {
		changes, err := subscribe(ctx)
		tried(err)
		if err == nil {
			changed()
			for range changes {
				changed()
			}
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
	d.repairBridge()
	c, old := d.cfg.Load(), d.links.Load()
	var unlisted []int
	if d.bridge != nil {
		unlisted = d.bridge.Unlisted()
	}
	l, err := rereadLinks(c, old, unlisted)
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
		d.repair(c, l)
	}
	d.useLinks(l)
	d.flows.configure(c.File, d.flows.current(), l.zones())
	d.setLinks(l)
	d.rsvp.SetInterfaces(l.rsvp())
	d.claimFound()
}

// claimFound does for flows whose interfaces have become known what is done with a first
// packet.
func (d *Daemon) claimFound() {
	list := d.flows.found()
	d.first.treat(list)
	for i := range list {
		if list[i].role == roleSender {
			d.first.ask(list[i])
		}
	}
}

// home tells whether the interfaces by which packets enter and leave are known.
func (t *flowTable) home(in, out int) bool {
	_, from := t.zones[in]
	_, to := t.zones[out]
	return from && to
}

// found has flows claimed again whose interfaces were not known when they began, and are
// now: packets pass by an interface that has come back before anybody here is told. It
// returns them. What becomes of their packets is done by the kernel, so that these
// need not come here again.
func (t *flowTable) found() (list []flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.conns {
		again := false
		for i := range c.dirs {
			f := &c.dirs[i]
			if !f.present || !f.astray || !t.home(f.in, f.out) {
				continue
			}
			if f.policy != nil && !isByHand(f.policy) {
				t.matched[f.policy.Name]-- // it was counted
			}
			t.reclaim(f)
			list, again = append(list, *f), true
		}
		if again && c.shard < 0 {
			c.avoid("; not cheated: it began before its interface was known")
		}
	}
	return list
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
// treatments included. l is how they were when it was called; reloadMu is held.
func (d *Daemon) repair(c *config.Config, l *links) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*kernelTimeout)
	defer cancel()
	err := d.setPlan(ctx, wanted(c, d.flows.current(), len(d.cheat.handlers), time.Now()))
	if err == nil {
		return
	}
	if now, readErr := rereadLinks(c, l, l.unlisted); readErr == nil && !now.same(l) {
		d.log.Info("interfaces have changed again while they were shaped: they are looked at anew", zap.Error(err))
		return
	}
	d.log.Error("an interface that has changed is not shaped as configured: it is tried again within a minute", zap.Error(err))
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
func rereadLinks(c *config.Config, old *links, unlisted []int) (*links, error) {
	list := make([]link, 0, len(c.Interfaces))
	for i := range c.Interfaces {
		cfg := c.Interfaces[i]
		got, err := linkOf(c, cfg.Name)
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
	l := newLinks(list)
	l.unlisted = unlisted
	return l, nil
}

func (l *links) same(o *links) bool {
	if len(l.list) != len(o.list) || !slices.Equal(l.unlisted, o.unlisted) {
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
