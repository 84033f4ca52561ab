package rsvpproxy

import (
	"context"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/reliable"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// lastWords bounds how long a stopping node repeats its tears until they are
// acknowledged.
const lastWords = time.Second

// bound has RFC 2961 keep as much as the machine, which may have larger limits
// than it has by itself: of each session a PATH and a RESV on both sides.
func bound(l *reliable.Limits, n softstate.Limits) {
	if l.Neighbors == 0 {
		l.Neighbors = n.Neighbors
	}
	if l.Sent == 0 {
		l.Sent = max(reliable.DefaultMessages, 5*n.Sessions)
	}
	if l.Received == 0 {
		l.Received = max(reliable.DefaultMessages, 5*n.Sessions)
	}
}

// deadline is when the machine, the tunnels, RFC 2961 or the handshakes have to be called,
// whichever is first.
func (p *Proxy) deadline() (time.Time, bool) {
	at, ok := p.node.NextDeadline()
	if t, set := p.tunnels.NextDeadline(); set && (!ok || t.Before(at)) {
		at, ok = t, true
	}
	if t, set := p.aggregates.NextDeadline(); set && (!ok || t.Before(at)) {
		at, ok = t, true
	}
	if t, set := p.partsDeadline(); set && (!ok || t.Before(at)) {
		at, ok = t, true
	}
	if t, set := p.guardDeadline(); set && (!ok || t.Before(at)) {
		at, ok = t, true
	}
	if p.layer == nil {
		return at, ok
	}
	if t, set := p.layer.NextDeadline(); set && (!ok || t.Before(at)) {
		return t, true
	}
	return at, ok
}

func (p *Proxy) advanceLayer(now time.Time) {
	if p.layer != nil {
		p.sendAll(p.layer.Advance(now))
	}
}

func (p *Proxy) sendAll(list []softstate.Send) {
	for _, s := range list {
		p.send(s)
	}
}

// receiveLayer hands on what RFC 2961 makes of a message: nothing, itself, or
// all that a Bundle or a Srefresh stands for.
func (p *Proxy) receiveLayer(c captured) {
	for _, rx := range p.throughLayer(c) {
		p.handle(c, rx)
	}
}

func (p *Proxy) throughLayer(c captured) []softstate.Received {
	in, out := p.layer.Receive(c.at, reliable.Packet{
		Iface: softstate.IfIndex(c.iface), Src: c.src, Dst: c.dst, TTL: c.ttl, RouterAlert: c.alert, Hidden: c.hidden, Payload: c.message,
	})
	p.sendAll(out)
	return in
}

// settleLayer has the tears of a node that stops acknowledged, if that can be
// had soon.
func (p *Proxy) settleLayer() {
	if p.layer == nil {
		return
	}
	p.sendAll(p.layer.Flush(time.Now()))
	end := time.NewTimer(lastWords)
	defer end.Stop()
	for p.layer.Waiting() {
		next := time.Hour
		if at, ok := p.layer.NextDeadline(); ok {
			next = max(0, time.Until(at))
		}
		select {
		case <-end.C:
			return
		case c := <-p.in:
			if p.authentic(&c) {
				p.throughLayer(c) // for the acknowledgments: the machine is gone
			}
		case now := <-time.After(next):
			p.advanceLayer(now)
		}
	}
}

// followRoutes subscribes to the kernel's route changes; the channel is nil if
// that is not wanted or not possible.
func (p *Proxy) followRoutes(ctx context.Context) <-chan []netip.Prefix {
	if !p.cfg.FollowRoutes || p.bridged() != nil {
		return nil
	}
	routes, err := route.Subscribe(ctx)
	p.env.routes.Follow(err == nil)
	p.ways.do(func(t *route.Table) { t.Follow(err == nil) })
	if err != nil {
		p.hooks.Log.Warn("route changes are noticed with the next refresh only", zap.Error(err))
		return nil
	}
	return routes
}

// forgetRoutes has routing asked anew.
func (p *Proxy) forgetRoutes() {
	p.env.routes.Forget()
	p.ways.do((*route.Table).Forget)
}

// followGroups does the same for the multicast forwarding cache. Its first copy is
// there when this returns.
func (p *Proxy) followGroups(ctx context.Context) <-chan []netip.Prefix {
	if !p.cfg.FollowRoutes || p.bridged() != nil {
		return nil
	}
	groups, changes, err := route.FollowMulticast(ctx)
	if err != nil {
		p.hooks.Log.Warn("sessions of multicast groups are refused", zap.Error(err))
		return nil
	}
	p.env.groups = groups
	p.groups.Store(groups)
	return changes
}
