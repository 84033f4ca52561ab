package rsvpproxy

import (
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/tunnel"
)

// setTunnels tells which of the interfaces are tunnels (RFC 2746).
func (p *Proxy) setTunnels(list []Interface) {
	var tunnels []tunnel.Tunnel
	for _, i := range list {
		if i.Tunnel != nil {
			tunnels = append(tunnels, *i.Tunnel)
		}
	}
	// An error says that the proxy has stopped.
	_ = p.do(func(now time.Time, _ *softstate.Node) []softstate.Effect {
		p.tunnelEffects(p.tunnels.Set(now, tunnels))
		return nil
	})
}

// tunnelEffects carries out what the tunnels want.
func (p *Proxy) tunnelEffects(list []tunnel.Effect) {
	now := time.Now()
	for _, e := range list {
		switch e := e.(type) {
		case tunnel.Announce:
			effects, err := p.node.AddSender(now, e.Sender)
			if err != nil {
				p.hooks.Log.Warn("no tunnel session", zap.Stringer("session", e.Sender.Session), zap.Error(err))
			}
			p.perform(effects)
		case tunnel.Silence:
			p.perform(p.node.RemoveSender(now, e.Session, e.Sender))
		case tunnel.Refresh:
			p.perform(p.node.SendPath(now, e.Session, e.Sender))
		case tunnel.Grant:
			p.control.add(e.Reserve)
		case tunnel.Refuse:
			p.result(now, e.ID, &e.Why)
		case tunnel.Fail:
			p.perform(p.node.CrossingFailed(now, e.Session, e.Sender, e.Why))
		case tunnel.Send:
			p.sendLayered(e.Send)
		}
	}
}
