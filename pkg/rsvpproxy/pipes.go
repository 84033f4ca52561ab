package rsvpproxy

import (
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/aggregate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/tunnel"
)

// setPipes tells which of the interfaces are tunnels (RFC 2746), and which lead into
// an aggregation region (RFC 3175).
func (p *Proxy) setPipes(list []Interface) {
	var tunnels []tunnel.Tunnel
	var interior []aggregate.Interior
	for _, i := range list {
		if i.Tunnel != nil {
			tunnels = append(tunnels, *i.Tunnel)
		}
		if i.Interior != nil {
			interior = append(interior, *i.Interior)
		}
	}
	// An error says that the proxy has stopped.
	_ = p.do(func(now time.Time, _ *softstate.Node) []softstate.Effect {
		p.tunnelEffects(p.tunnels.Set(now, tunnels))
		p.aggregateEffects(p.aggregates.Set(now, interior))
		return nil
	})
}

// tunnelEffects carries out what the tunnels want, which stand in front of traffic
// control.
func (p *Proxy) tunnelEffects(list []pipe.Effect) {
	p.pipeEffects(list, func(r softstate.Reserve) { p.control.add(r) }, p.result)
}

// aggregateEffects does it for the aggregates, which stand in front of the tunnels.
func (p *Proxy) aggregateEffects(list []pipe.Effect) {
	p.pipeEffects(list, p.reserve, func(now time.Time, id uint64, why *softstate.Refusal) {
		p.perform(p.node.ReserveResult(now, id, why))
	})
}

// pipeEffects does it: a wish that is granted goes on to the next, and a refusal back
// to the one before.
func (p *Proxy) pipeEffects(list []pipe.Effect, next func(softstate.Reserve), back func(time.Time, uint64, *softstate.Refusal)) {
	now := time.Now()
	for _, e := range list {
		effects, mine, err := pipe.Drive(p.node, now, e)
		if err != nil {
			p.hooks.Log.Warn("a session of a tunnel or an aggregate does not begin", zap.Error(err))
		}
		if mine {
			p.perform(effects)
			continue
		}
		switch e := e.(type) {
		case pipe.Grant:
			next(e.Reserve)
		case pipe.Refuse:
			back(now, e.ID, &e.Why)
		case pipe.Deliver:
			p.machine(delivered(now, e.Received), e.Received)
		case pipe.Send:
			p.sendLayered(e.Send)
		}
	}
}
