package rsvpproxy

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// farewell bounds how long Run waits at its end for traffic control to give
// back what was reserved.
const farewell = 5 * time.Second

// Run is the event loop. When ctx ends it tears down all state, waits until
// traffic control has released it, and returns; after Abandon it only returns.
func (p *Proxy) Run(ctx context.Context) error {
	go p.control.run()
	defer close(p.control.work)
	defer p.env.routes.Close()
	defer p.ways.do((*route.Table).Close)
	defer p.closeReplies()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	routes := p.followRoutes(ctx)
	groups := p.followGroups(ctx)
	for {
		p.arm(timer)
		select {
		case <-ctx.Done():
			p.stop()
			return nil
		case c := <-p.in:
			p.receive(c)
		case <-p.wake:
			p.runCommands()
		case answers := <-p.control.done:
			p.answered(answers)
		case list, open := <-routes:
			if !open { // the kernel dropped changes and told us so
				routes = p.followRoutes(ctx)
			}
			p.forgetRoutes()
			for _, dst := range list {
				p.node.RouteChanged(time.Now(), dst)
			}
		case list, open := <-groups:
			if !open {
				groups = nil // ctx has ended
			}
			for _, dst := range list {
				p.node.RouteChanged(time.Now(), dst)
			}
			if p.hooks.Groups != nil && len(list) > 0 {
				p.hooks.Groups(list)
			}
		case now := <-timer.C:
			p.perform(p.node.Advance(now))
			p.tunnelEffects(p.tunnels.Advance(now))
			p.aggregateEffects(p.aggregates.Advance(now))
			p.advanceLayer(now)
			p.tickGuards(now)
			p.tickParts(now)
		}
	}
}

func (p *Proxy) arm(timer *time.Timer) {
	d := time.Hour
	if at, ok := p.deadline(); ok {
		d = max(0, time.Until(at))
	}
	timer.Reset(d)
}

func (p *Proxy) receive(c captured) {
	if !p.authentic(&c) {
		return
	}
	p.tally.received(&c)
	if t := wire.MsgType(c.message[1]); t == wire.DiagRequest || t == wire.DiagReply {
		p.receiveDiag(c)
		return
	}
	if p.layer != nil {
		p.receiveLayer(c)
		return
	}
	msg, err := c.parsed, error(nil)
	if msg == nil {
		msg, err = wire.ParseWith(c.message, wire.AllFormats)
	}
	p.handle(c, softstate.Received{
		Iface: softstate.IfIndex(c.iface), Src: c.src, Dst: c.dst, TTL: c.ttl, RouterAlert: c.alert, Hidden: c.hidden, Msg: msg, Err: err,
	})
}

// heard notes who speaks RSVP. The sessions of a host that begins to are told
// before its message is looked at, which may be about one of them.
func (p *Proxy) heard(now time.Time, src netip.Addr, iface int) {
	if p.env.heard(now, src, iface) {
		p.perform(p.node.Rediscover(now, src))
	}
}

func (p *Proxy) runCommands() {
	p.mu.Lock()
	list := p.commands
	p.commands = nil
	p.mu.Unlock()
	for _, c := range list {
		p.perform(c(time.Now(), p.node))
	}
}

func (p *Proxy) answered(answers []answer) {
	p.control.finished()
	for _, a := range answers {
		now := time.Now()
		p.tunnelEffects(p.tunnels.Result(now, a.id, a.refusal == nil))
		p.result(now, a.id, a.refusal)
	}
}

// perform carries out what the machine wants, in its order: what comes of one
// effect is done after those that were there before.
func (p *Proxy) perform(effects []softstate.Effect) {
	p.queue = append(p.queue, effects...)
	if p.performing {
		return
	}
	p.performing = true
	for i := 0; i < len(p.queue); i++ { // which may grow
		p.performOne(p.queue[i])
	}
	clear(p.queue)
	p.queue, p.performing = p.queue[:0], false
}

func (p *Proxy) performOne(e softstate.Effect) {
	switch e := e.(type) {
	case softstate.Send:
		if p.aggregates.Outgoing(time.Now(), &e) {
			return
		}
		p.within(&e)
		p.tunnels.Outgoing(&e)
		p.sendLayered(e)
	case softstate.Reserve:
		held, out := p.aggregates.Reserve(time.Now(), e)
		if !held {
			p.reserve(e)
		}
		p.aggregateEffects(out)
	case softstate.Release:
		never, effects := p.aggregates.Release(time.Now(), e.ID)
		if !never {
			unknown, out := p.tunnels.Release(time.Now(), e.ID)
			if !unknown {
				p.control.add(e)
			}
			p.tunnelEffects(out)
		}
		p.aggregateEffects(effects)
	case softstate.Event:
		p.hooks.Event(e)
		p.tunnelEffects(p.tunnels.Event(time.Now(), e))
		p.aggregateEffects(p.aggregates.Event(time.Now(), e))
	}
}

// sendLayered sends a message by way of RFC 2961, if that is in use.
func (p *Proxy) sendLayered(s softstate.Send) {
	if p.layer != nil {
		p.sendAll(p.layer.Send(time.Now(), s))
		return
	}
	p.send(s)
}

// send transmits a message and counts it.
func (p *Proxy) send(s softstate.Send) {
	if !p.env.inScope(s) {
		p.sends.scoped.Add(1)
		return
	}
	if p.unseen != nil {
		p.unseen.sent(time.Now(), &s)
	}
	p.sent(s.Msg.Type.String(), s.Dst, p.transmit(s))
}

func (p *Proxy) sent(what string, to netip.Addr, err error) {
	if err != nil {
		p.sends.errors.Add(1)
		p.hooks.Log.Warn("rsvp message not sent", zap.String("type", what), zap.Stringer("to", to), zap.Error(err))
		return
	}
	p.sends.sent.Add(1)
}

// transmit sends a message as one IP datagram.
func (p *Proxy) transmit(s softstate.Send) error {
	msg, err := p.encode(s)
	if err != nil {
		return err
	}
	return p.emit(s, msg)
}

func (p *Proxy) emit(s softstate.Send, msg []byte) (err error) {
	p.ipID++
	d := datagram{
		src: s.Src, dst: s.Dst, ttl: s.TTL, tos: p.cfg.Control << 2, id: p.ipID,
		alert: s.RouterAlert, hidden: s.Hidden, payload: msg,
	}
	if p.buf, err = d.append(p.buf[:0]); err != nil {
		return err
	}
	if err = p.sendVia(&s); err == nil {
		p.tally.sent(int(s.Out), s.Dst, msg)
	}
	return err
}

// sendVia sends what is in the buffer.
func (p *Proxy) sendVia(s *softstate.Send) error {
	if l, ok := p.hooks.Send.(likeSender); ok && p.bridged() != nil && s.Msg != nil {
		return l.SendLike(p.buf, int(s.Out), like(s))
	}
	return p.hooks.Send.SendVia(p.buf, int(s.Out))
}

// stop tears down: the neighbours are told at once instead of after a timeout,
// and everything reserved is given back.
func (p *Proxy) stop() {
	p.endParts(time.Now())
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.runCommands()
	if p.abandoned.Load() {
		return
	}
	p.tunnelEffects(p.tunnels.Shutdown(time.Now()))
	p.perform(p.node.Shutdown(time.Now()))
	p.aggregateEffects(p.aggregates.Shutdown(time.Now()))
	p.settleLayer()
	deadline := time.After(farewell)
	for p.control.busy || len(p.control.waiting) > 0 {
		select {
		case <-p.control.done:
			p.control.finished()
		case <-deadline:
			p.hooks.Log.Error("reservations were not all given back", zap.Error(errors.New("traffic control is slow")),
				zap.Int("left", len(p.control.waiting)))
			return
		}
	}
}
