package rsvpproxy

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/aggregate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// delivered is what is known of a message that has waited.
func delivered(now time.Time, rx softstate.Received) captured {
	c := captured{at: now, iface: int(rx.Iface), src: rx.Src, dst: rx.Dst, ttl: rx.TTL, alert: rx.RouterAlert, hidden: rx.Hidden}
	c.from.Iface, c.from.Addr = c.iface, rx.Src
	if h := rx.Msg.Hop; h != nil {
		c.from.Addr = h.Addr
	}
	return c
}

// reserve hands a wish on that no aggregate holds.
func (p *Proxy) reserve(e softstate.Reserve) {
	held, out := p.tunnels.Reserve(time.Now(), e)
	if !held {
		p.control.add(e)
	}
	p.tunnelEffects(out)
}

// within is what a router inside of a region tells of guaranteed service for an
// aggregate: on an interface that is shaped there is no bound on delays in the class of
// a DSCP, and so nothing is to be promised to those who ride in it.
func (p *Proxy) within(s *softstate.Send) {
	m := s.Msg
	if m.Type != wire.Path || s.From == 0 || !aggregate.IsAggregate(m.Session) || m.AdSpec == nil || m.AdSpec.Guaranteed == nil ||
		p.ifaces.Load().byIndex[int(s.Out)].Bandwidth == 0 {
		return
	}
	out, a := *m, m.AdSpec.Clone()
	a.Guaranteed.Break = true
	out.AdSpec, s.Msg = &a, &out
}

// result answers a wish. What the aggregate had room for is given back before the
// machine asks for something else.
func (p *Proxy) result(now time.Time, id uint64, refusal *softstate.Refusal) {
	p.aggregateEffects(p.aggregates.Result(now, id, refusal == nil))
	p.perform(p.node.ReserveResult(now, id, refusal))
}

// DSCP is the mapping policy of aggregates.
func (e *environment) DSCP(s wire.Session, f wire.Filter, service intserv.Service) uint8 {
	if e.p.hooks.DSCP == nil {
		return 0
	}
	return e.p.hooks.DSCP(s, f, service)
}

// Priority is what policy grants a reservation in an aggregate.
func (e *environment) Priority(r softstate.Reserve) softstate.Priority {
	if e.p.hooks.Priority == nil {
		return r.Priority
	}
	return e.p.hooks.Priority(r)
}

// Riding is a sender and the aggregate that its reservation is in.
type Riding struct {
	Session wire.Session
	Sender  wire.Filter
}

// riding finds the aggregates of sessions.
func (p *Proxy) riding(list []softstate.SessionView) map[Riding]Riding {
	var out map[Riding]Riding
	for i := range list {
		s, f := list[i].Session, list[i].Sender
		if session, sender, ok := p.aggregates.Riding(s, f); ok {
			if out == nil {
				out = map[Riding]Riding{}
			}
			out[Riding{s, f}] = Riding{session, sender}
		}
	}
	return out
}
