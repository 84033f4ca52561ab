package route

import (
	"context"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

// SubscribeLinks tells that an interface or an address has changed in this
// thread's network namespace, once for the changes of a tenth of a second. The
// channel is closed when ctx ends, or when the kernel ends the subscription,
// which it does when it had to drop a change.
func SubscribeLinks(ctx context.Context) (<-chan struct{}, error) {
	links, addrs, done := make(chan netlink.LinkUpdate, 64), make(chan netlink.AddrUpdate, 64), make(chan struct{})
	if err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{}); err != nil {
		return nil, fmt.Errorf("interface changes: %w", err)
	}
	if err := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{}); err != nil {
		close(done)
		go func() {
			for range links { // so that their sender ends
			}
		}()
		return nil, fmt.Errorf("address changes: %w", err)
	}
	out := make(chan struct{}, 1)
	go func() {
		defer close(out)
		settleLinks(ctx, links, addrs, out)
		close(done)
		for range links { // so that their senders end
		}
		for range addrs {
		}
	}()
	return out, nil
}

func settleLinks(ctx context.Context, links <-chan netlink.LinkUpdate, addrs <-chan netlink.AddrUpdate, out chan<- struct{}) {
	var ready <-chan time.Time
	for {
		open := true
		select {
		case <-ctx.Done():
			return
		case _, open = <-links:
		case _, open = <-addrs:
		case <-ready:
			ready = nil
			select {
			case out <- struct{}{}:
			default: // the reader has one to take already
			}
			continue
		}
		if !open {
			return
		}
		if ready == nil {
			ready = time.After(settle)
		}
	}
}
