package daemon

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/nfq"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// steering is the part of the queue table that decides which packets come.
type steering interface {
	AddCheated(i int, keys ...packet.FlowKey) error
	RemoveCheated(i int, keys ...packet.FlowKey) error
	Settle(keys ...packet.FlowKey) error
}

// signaller asks the network for a reservation.
type signaller interface {
	AddSender(s softstate.Sender, refused func(error)) error
	RemoveSender(session wire.Session, sender wire.Filter) error
}

// watcher has a connection watched in its worker, from its handshake on.
type watcher interface {
	watch(shard int, data packet.FlowKey, plain, fill bool)
	queue(shard int) uint16
}

// accountant has the kernel count flows, without touching reserved ones.
type accountant interface {
	count(ctx context.Context, t plan.Treatment) error
	restart(key packet.FlowKey)
}

// firstHandler answers the queue of first packets: it decides once for each
// flow, and sees to it that the flow's next packets go where they belong.
type firstHandler struct {
	noTimers
	settler
	flows *flowTable
	steer func() steering // nil until the rules are in place
	tc    accountant
	ended func(packet.FlowKey) // forgets a flow; must not block
	rsvp  signaller
	cheat watcher
	links func() *links
	log   *zap.Logger
	// allowed is of the worker alone.
	allowed allowance
	count   struct{ packets, matched, unwanted, fragments, failed counter }
}

// Handle decides about one packet. Whatever fails, the packet passes: a flow in
// doubt is left alone.
func (h *firstHandler) Handle(now time.Time, p *nfq.Packet) nfq.Verdict {
	h.count.packets.add()
	h.handled++
	v, err := packet.Parse(p.Data)
	if err != nil {
		h.count.failed.add()
		return nfq.Accept
	}
	if v.Fragment() {
		h.count.fragments.add()
		return nfq.Accept
	}
	steer := h.steer()
	if steer == nil {
		return nfq.Accept
	}
	if h.flows.flooded(v.Key(), p.InIndex, p.OutIndex) {
		return h.pass(now, v)
	}
	d := h.flows.first(now, v, p.InIndex, p.OutIndex)
	switch {
	case d.known:
	case len(d.count) > 0:
		h.count.matched.add()
		h.treat(d.count)
	default:
		h.count.unwanted.add()
	}
	verdict := h.steerFlow(now, steer, &d, v.Key(), p)
	for i := range d.ask {
		h.ask(d.ask[i])
	}
	if d.ended {
		h.ended(v.Key())
	}
	return verdict
}

// steerFlow puts the flow into the set where it belongs.
func (h *firstHandler) steerFlow(now time.Time, steer steering, d *decision, key packet.FlowKey, p *nfq.Packet) nfq.Verdict {
	if d.shard >= 0 {
		if d.watch != (packet.FlowKey{}) {
			h.cheat.watch(d.shard, d.watch, d.plain, d.fill)
			// Its reservation may be in place already: by hand, by others, or since
			// PATH was faster than the first packet.
			h.tc.restart(d.watch)
		}
		err := steer.AddCheated(d.shard, bothWays(key)...)
		if err == nil {
			// The worker of that queue sees the handshake from this packet on.
			p.RequeueTo = h.cheat.queue(d.shard)
			return nfq.Requeue
		}
		h.count.failed.add()
		h.log.Warn("connection is not cheated: its packets cannot be queued", zap.Stringer("flow", key), zap.Error(err))
		h.flows.update(key, func(c *conn, _ *flow) {
			c.shard = -1
			for i := range c.dirs {
				if c.dirs[i].key == c.data {
					c.dirs[i].caveat = "; not cheated: " + err.Error()
				}
			}
		})
	}
	h.later(now, d)
	return nfq.Accept
}

// BatchEnd settles what was decided, now that it is answered.
func (h *firstHandler) BatchEnd(now time.Time) {
	if err := h.settle(now, h.steer()); err != nil {
		// The flows' packets come here again: slower, not wrong.
		h.count.failed.add()
	}
}

// treat has the kernel count each direction, and mark and police it where a policy
// says so without a reservation.
func (h *firstHandler) treat(list []flow) {
	ctx, cancel := context.WithTimeout(context.Background(), kernelTimeout)
	defer cancel()
	for i := range list {
		f := &list[i]
		iface := h.links().name(f.out)
		if iface == "" {
			continue
		}
		err := h.tc.count(ctx, static(f, iface))
		if err == nil {
			continue
		}
		h.count.failed.add()
		h.log.Warn("flow not counted", zap.Stringer("flow", f.key), zap.Error(err))
		h.flows.updateOn(f.key, f.out, func(_ *conn, g *flow) {
			if g.state == stateManaged {
				g.state = stateLeftAlone
			}
			g.caveat += "; the kernel does not count it: " + err.Error()
		})
	}
}

// pathTTL is what PATH for a flow leaves with, 0: as far as it can. To a group it
// goes as far as the data.
func pathTTL(f *flow) uint8 {
	if toGroup(f.key) {
		return f.ttl
	}
	return 0
}

// ask has RSVP speak for the sender of a flow.
func (h *firstHandler) ask(f flow) {
	refused := func(err error) {
		reason := "no reservation: " + err.Error()
		if errors.Is(err, softstate.ErrSpeaksRSVP) {
			// Only if it is not reserved on that sender's own behalf already.
			reason = reasonItself
			h.flows.update(f.key, func(_ *conn, g *flow) { g.itself = true })
		}
		h.flows.update(f.key, func(_ *conn, g *flow) {
			if g.reserved.IsZero() {
				g.state, g.reason = stateLeftAlone, reason
			}
		})
	}
	session, filter := sessionOf(f.key)
	err := h.rsvp.AddSender(softstate.Sender{
		Session: session, Filter: filter, TSpec: tspecOf(f.policy.Reserve.TSpec), In: softstate.IfIndex(f.in),
		TTL: pathTTL(&f), Priority: priorityOf(f.policy.Reserve),
	}, refused)
	if err != nil {
		refused(err)
	}
}
