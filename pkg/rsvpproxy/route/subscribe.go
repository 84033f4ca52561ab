package route

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// settle is how long changes are collected: a routing protocol changes many
	// routes at once.
	settle = 100 * time.Millisecond
	// maxChanges is how many destinations are told apart; more are told as
	// "everything".
	maxChanges = 64
)

// Subscribe tells of destinations whose route has changed in this thread's
// network namespace, collected over a tenth of a second. An interface that goes
// up or down changes everything: the kernel takes IPv4 routes away with it and
// tells nobody. The channel is closed when ctx ends, or when the kernel ends the
// subscription. A slow reader gets more at once.
func Subscribe(ctx context.Context) (<-chan []netip.Prefix, error) {
	updates, done := make(chan netlink.RouteUpdate, 64), make(chan struct{})
	// An error means that the kernel has dropped changes. It closes the channel,
	// and collect says that everything may have changed.
	if err := netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{}); err != nil {
		return nil, fmt.Errorf("route changes: %w", err)
	}
	links := make(chan netlink.LinkUpdate, 64)
	if err := netlink.LinkSubscribe(links, done); err != nil {
		close(done)
		drain(updates)
		return nil, fmt.Errorf("interface changes: %w", err)
	}
	out := make(chan []netip.Prefix)
	go func() {
		defer close(out)
		collect(ctx, updates, links, out)
		close(done)
		drain(updates)
		drain(links)
	}()
	return out, nil
}

// drain lets a channel's sender end.
func drain[T any](c <-chan T) {
	for range c { // until its sender has closed it
	}
}

func collect(ctx context.Context, updates <-chan netlink.RouteUpdate, links <-chan netlink.LinkUpdate, out chan<- []netip.Prefix) {
	var (
		known = carriers{}
		list  []netip.Prefix
		ready <-chan time.Time
		to    chan<- []netip.Prefix // nil until list has settled
	)
	for {
		select {
		case <-ctx.Done():
			return
		case u, open := <-updates:
			if !open {
				select {
				case out <- everything(): // what was missed
				case <-ctx.Done():
				}
				return
			}
			list = add(list, destination(u.Route))
		case u, open := <-links:
			switch {
			case !open:
				select {
				case out <- everything(): // what was missed
				case <-ctx.Done():
				}
				return
			case known.changed(u):
				list = everything()
			}
		case <-ready:
			ready, to = nil, out
		case to <- list:
			list, to = nil, nil
		}
		if len(list) > 0 && ready == nil && to == nil {
			ready = time.After(settle)
		}
	}
}

// carriers are the interfaces that carry packets, by index.
type carriers map[int32]bool

// changed tells whether a message is about an interface that began or ceased to
// carry packets; there are many others. Of an interface that was not heard of
// before, only the end is news: its routes are told as they are made.
func (c carriers) changed(u netlink.LinkUpdate) bool {
	up := u.Header.Type != unix.RTM_DELLINK && u.Flags&unix.IFF_UP != 0 && u.Flags&unix.IFF_RUNNING != 0
	was, known := c[u.Index]
	if u.Header.Type == unix.RTM_DELLINK {
		delete(c, u.Index)
	} else {
		c[u.Index] = up
	}
	return known && was != up || !known && !up
}

func everything() []netip.Prefix {
	return []netip.Prefix{
		netip.PrefixFrom(netip.IPv4Unspecified(), 0),
		netip.PrefixFrom(netip.IPv6Unspecified(), 0),
	}
}

func add(list []netip.Prefix, p netip.Prefix) []netip.Prefix {
	switch {
	case slices.Contains(list, p):
		return list
	case len(list) >= maxChanges:
		return everything()
	default:
		return append(list, p)
	}
}

// destination of a route; a default route has none in older kernels' messages.
func destination(r netlink.Route) netip.Prefix {
	if r.Dst != nil {
		if a, ok := netip.AddrFromSlice(r.Dst.IP); ok {
			ones, _ := r.Dst.Mask.Size()
			return netip.PrefixFrom(a.Unmap(), ones)
		}
	}
	if r.Family == netlink.FAMILY_V6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}
