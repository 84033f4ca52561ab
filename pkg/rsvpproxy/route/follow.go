package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// lookAgain is how often the whole cache is read again: an interface that
	// leaves it is not told of.
	lookAgain = 30 * time.Second
	// tries bounds how often a dump is begun again because the cache has changed
	// meanwhile; the changes are told anyway.
	tries = 3
	// mfcBuffer holds the changes that were not read yet, in bytes.
	mfcBuffer = 1 << 20
)

// FollowMulticast copies the multicast forwarding caches of this thread's network
// namespace, IPv4 and IPv6, and keeps the copy true until ctx ends. The groups
// whose entries change come by the channel, collected over a tenth of a second; it
// is closed when ctx ends. It is an error if the kernel routes no multicast at all
// (CONFIG_IP_MROUTE, CONFIG_IPV6_MROUTE).
func FollowMulticast(ctx context.Context) (*Multicast, <-chan []netip.Prefix, error) {
	news, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_MROUTE, unix.RTNLGRP_IPV6_MROUTE)
	if err != nil {
		return nil, nil, fmt.Errorf("multicast routes: %w", err)
	}
	_ = news.SetReceiveBufferSize(mfcBuffer, true) // a small buffer is only slower: the dump repairs
	asks, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		news.Close()
		return nil, nil, fmt.Errorf("multicast routes: %w", err)
	}
	f := &follower{m: newMulticast(), news: news, asks: asks, updates: make(chan told, 64)}
	if _, err := f.dump(); err != nil {
		news.Close()
		asks.Close()
		return nil, nil, err
	}
	out := make(chan []netip.Prefix)
	go f.read()
	go f.run(ctx, out)
	return f.m, out, nil
}

type follower struct {
	m          *Multicast
	news, asks *nl.NetlinkSocket
	updates    chan told
}

// told is what the kernel has told: an entry that is new, has changed or has
// gone, or that it has dropped news.
type told struct {
	e          entry
	gone, lost bool
}

// read hands on the kernel's notifications until the socket is closed.
func (f *follower) read() {
	defer close(f.updates)
	for {
		messages, _, err := f.news.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			f.updates <- told{lost: true}
			continue
		case err != nil:
			return
		}
		for _, m := range messages {
			e, err := parseMFC(m.Data)
			f.updates <- told{e, m.Header.Type == unix.RTM_DELROUTE, err != nil}
		}
	}
}

// run keeps the copy true and tells of changes. The copy is changed here alone,
// in the kernel's order: what was told before the cache was read is undone by
// what was told afterwards, never the other way round.
func (f *follower) run(ctx context.Context, out chan<- []netip.Prefix) {
	defer close(out)
	defer f.asks.Close()
	defer drain(f.updates)
	defer f.news.Close()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	var (
		updates <-chan told = f.updates
		list    []netip.Prefix
		ready   <-chan time.Time
		to      chan<- []netip.Prefix // nil until list has settled
	)
	for {
		select {
		case <-ctx.Done():
			return
		case u, open := <-updates:
			if !open { // the socket is broken: the cache is looked at from time to time
				updates = nil
				continue
			}
			list = f.apply(u, list)
		case <-again.C:
			list = f.apply(told{lost: true}, list)
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

// apply changes the copy and adds the groups concerned to list.
func (f *follower) apply(u told, list []netip.Prefix) []netip.Prefix {
	if u.lost {
		changed, err := f.dump()
		if err != nil {
			return list // it is tried again
		}
		for _, p := range changed {
			list = add(list, p)
		}
		return list
	}
	change := f.m.set
	if u.gone {
		change = f.m.remove
	}
	if p, ok := change(u.e); ok {
		list = add(list, p)
	}
	return list
}

// dump reads both caches.
func (f *follower) dump() (changed []netip.Prefix, err error) {
	var all []entry
	var failed []error
	for _, family := range []uint8{familyIPMR, familyIP6MR} {
		list, err := f.entries(family)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		all = append(all, list...)
	}
	if len(failed) == 2 {
		return nil, fmt.Errorf("multicast routes: %w", errors.Join(failed...))
	}
	return f.m.replace(all), nil
}

func (f *follower) entries(family uint8) (list []entry, err error) {
	for range tries {
		req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
		req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: family}})
		req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: f.asks}}
		bodies, got := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
		list, err = list[:0], got
		for _, b := range bodies {
			e, bad := parseMFC(b)
			if bad != nil {
				return nil, bad
			}
			list = append(list, e)
		}
		if !errors.Is(err, nl.ErrDumpInterrupted) {
			return list, err
		}
	}
	return list, nil // what changes meanwhile is told
}
