package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// chain is one measurement: its own namespaces and processes.
type chain struct {
	name     string
	sessions int
	reliable bool          // RFC 2961
	treat    bool          // X has the kernel treat each flow
	window   int           // set-ups under way at once
	settle   time.Duration // between the last set-up and that
	hold     time.Duration // how long refreshes are watched; 0: not at all
	refresh  time.Duration
	profile  string // file for a processor profile of X
}

// settleFor is how long the quick refreshes that follow a set-up last, and the
// acknowledgments of them.
const settleFor = 8 * time.Second

// paced is the rate, in set-ups a second, at which latency is taken: far below
// what the chain can do, so that it is no queue's length.
const paced = 500

// pacedShare of the sessions are set up at that rate, the others as fast as the
// chain can.
const pacedShare = 20

func (c chain) measure(ctx context.Context) (r row, err error) {
	g, x, s, closeAll, err := c.build(ctx)
	if err != nil {
		return row{}, err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	r = row{Name: c.name, Sessions: c.sessions}

	empty, err := x.ask(ctx, request{Verb: verbFigures})
	if err != nil {
		return r, err
	}
	slow := c.sessions / pacedShare
	calm, err := g.ask(ctx, request{Verb: verbAdd, Count: slow, Rate: paced})
	if err != nil {
		return r, err
	}
	before, err := x.ask(ctx, request{Verb: verbFigures})
	if err != nil {
		return r, err
	}
	rush, err := g.ask(ctx, request{Verb: verbAdd, First: slow, Count: c.sessions - slow, Window: c.window})
	if err != nil {
		return r, err
	}
	after, err := x.ask(ctx, request{Verb: verbFigures})
	if err != nil {
		return r, err
	}
	r.setUps(c.sessions-slow, calm, rush, before.Figures, after.Figures)
	if err := pause(ctx, c.settle); err != nil {
		return r, err
	}
	full, err := x.ask(ctx, request{Verb: verbFigures})
	if err != nil {
		return r, err
	}
	if n := full.Figures.Reservations; n != c.sessions {
		return r, fmt.Errorf("%d of %d reservations are in place at X: %s", n, c.sessions, full.Figures.Why)
	}
	r.memory(c.sessions, empty.Figures, full.Figures)
	if c.hold > 0 {
		if err := pause(ctx, c.hold); err != nil {
			return r, err
		}
		held, err := x.ask(ctx, request{Verb: verbFigures})
		if err != nil {
			return r, err
		}
		r.refreshes(full.Figures, held.Figures)
		if n := held.Figures.Reservations; n != c.sessions {
			return r, fmt.Errorf("%d of %d reservations were left after %s: %s", n, c.sessions, c.hold, held.Figures.Why)
		}
	}
	for _, n := range []*peer{g, x, s} {
		got, err := n.ask(ctx, request{Verb: verbFigures})
		if err != nil {
			return r, err
		}
		r.Lost += got.Figures.Lost
	}
	for _, n := range []*peer{g, x, s} {
		if _, err := n.ask(ctx, request{Verb: verbEnd}); err != nil {
			return r, err
		}
		select {
		case <-n.proc.Exited():
		case <-ctx.Done():
			return r, ctx.Err()
		}
		if err := n.proc.Err(); err != nil {
			return r, fmt.Errorf("%s: %w: %s", n.name, err, n.proc.Stderr())
		}
	}
	return r, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// build makes the namespaces and starts the three processes.
func (c chain) build(ctx context.Context) (g, x, s *peer, closeAll func() error, err error) {
	r, err := rig.New()
	if err != nil {
		return nil, nil, nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	ns := map[string]*netns.NetNS{}
	for _, name := range []string{"a", "g", "x", "s", "b"} {
		if ns[name], err = r.Namespace(name); err != nil {
			return nil, nil, nil, nil, err
		}
	}
	end := func(name, iface, addr string) netns.End {
		return netns.End{NS: ns[name], Name: iface, Addrs: []netip.Prefix{netip.MustParsePrefix(addr)}}
	}
	err = errors.Join(
		netns.Veth(end("a", "eth0", "10.1.0.2/16"), end("g", "lan0", "10.1.0.1/16")),
		netns.Veth(end("g", "wan0", "10.9.1.1/24"), end("x", "left0", "10.9.1.2/24")),
		netns.Veth(end("x", "right0", "10.9.2.1/24"), end("s", "wan0", "10.9.2.2/24")),
		netns.Veth(end("s", "lan0", "10.3.0.1/24"), end("b", "eth0", "10.3.0.2/24")),
	)
	for _, w := range []struct{ name, dst, via string }{
		{"g", "10.2.0.0/16", "10.9.1.2"},
		{"x", "10.2.0.0/16", "10.9.2.2"},
		{"s", "10.2.0.0/16", "10.3.0.2"}, // the receivers are behind B, which drops the PATH that comes there
		{"x", "10.1.0.0/16", "10.9.1.1"},
		{"s", "10.1.0.0/16", "10.9.2.1"},
	} {
		err = errors.Join(err, ns[w.name].Route(netip.MustParsePrefix(w.dst), netip.MustParseAddr(w.via)))
	}
	for _, name := range []string{"g", "x", "s"} {
		err = errors.Join(err, ns[name].Sysctl("net/ipv4/ip_forward", "1"))
	}
	if err != nil {
		return nil, nil, nil, nil, err
	}
	setup := nodeSetup{Sessions: c.sessions, Reliable: c.reliable, Refresh: c.refresh}
	start := func(name string, change func(*nodeSetup)) (*peer, error) {
		n := setup
		change(&n)
		return startPeer(ctx, r, ns[name], n)
	}
	if g, err = start("g", func(n *nodeSetup) { n.Hosts, n.Network = "lan0", []string{"wan0"} }); err != nil {
		return nil, nil, nil, nil, err
	}
	if x, err = start("x", func(n *nodeSetup) {
		n.Network, n.Treat = []string{"left0", "right0"}, c.treat
		n.Profile = c.profile
	}); err != nil {
		return nil, nil, nil, nil, err
	}
	if s, err = start("s", func(n *nodeSetup) { n.Hosts, n.Network = "lan0", []string{"wan0"} }); err != nil {
		return nil, nil, nil, nil, err
	}
	return g, x, s, r.Close, nil
}
