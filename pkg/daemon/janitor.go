package daemon

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

const (
	// beatEvery renews the guard of the queue rules, which lives for 1 s.
	beatEvery = 250 * time.Millisecond
	// sweepEvery reads the kernel's counters and looks for idle flows.
	sweepEvery = 2 * time.Second
	// recovery is how many refresh periods the reservations of an earlier
	// process have to come again, before their treatment goes: a neighbour's
	// refresh comes within one and a half (RFC 2205 section 3.7), and one may
	// be lost.
	recovery = 3
	// idleUDP and idleTCP are how long a flow without packets keeps its
	// reservation. A connection that is cheated ends when its engine says so.
	idleUDP = 60 * time.Second
	idleTCP = 5 * time.Minute
)

// heartbeat keeps the queue rules working for as long as the daemon does.
func (d *Daemon) heartbeat(ctx context.Context) {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := d.table.Load().Beat(); err != nil {
			d.beats.failed.add()
			d.log.Warn("the queue rules were not renewed: they open by themselves after a second", zap.Error(err))
			continue
		}
		d.beats.done.add()
	}
}

// janitor does what the workers must not wait for: it moves connections between
// the kernel's sets, reads counters and ends idle flows.
func (d *Daemon) janitor(ctx context.Context) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	reconcile := time.After(recovery * d.cfg.Load().RSVP.Refresh)
	for {
		select {
		case <-ctx.Done():
			return
		case <-reconcile:
			d.reconcile(ctx)
		case <-d.news.ring:
			for _, e := range d.news.take() {
				d.cheatEvent(ctx, e)
			}
		case now := <-t.C:
			d.sweep(ctx, now)
		}
	}
}

// reconcile removes the treatments of an earlier process that nobody has asked
// for again.
func (d *Daemon) reconcile(ctx context.Context) {
	left := len(d.shape.Adopted())
	if left == 0 {
		return
	}
	d.log.Info("removing what an earlier process left and nobody has claimed", zap.Int("treatments", left))
	if err := d.shape.Reconcile(ctx); err != nil {
		d.log.Warn("not all of it was removed", zap.Error(err))
	}
}

// cheatEvent acts on what an engine tells of a connection.
func (d *Daemon) cheatEvent(ctx context.Context, e tcpcheat.Event) {
	switch e.Kind {
	case tcpcheat.EventStarted:
		d.ended.started.add()
		d.flows.update(e.Key, func(_ *conn, f *flow) { f.state, f.reason = stateCheated, "reserved" })
	case tcpcheat.EventDraining:
		d.flows.update(e.Key, func(_ *conn, f *flow) { f.reason = "draining: " + e.Reason })
	case tcpcheat.EventLeftAlone:
		d.ended.leftAlone.add()
		d.reasons.add(e.Reason)
		d.uncheat(e.Key, "not cheated: "+e.Reason)
	case tcpcheat.EventDrained:
		d.ended.ended.add()
		d.uncheat(e.Key, "given back: "+e.Reason)
	case tcpcheat.EventReset, tcpcheat.EventEnded:
		d.ended.ended.add()
		d.log.Info("connection ended", zap.Stringer("flow", e.Key), zap.String("reason", e.Reason),
			zap.Uint64("fake_acks", e.Final.FakeAcks), zap.Uint64("retransmits", e.Final.Retransmits),
			zap.Uint64("undelivered_bytes", e.Final.Undelivered))
		d.forget(ctx, e.Key)
	}
}

// uncheat lets a connection's packets pass by the cheat queue from now on. Its
// reservation stays.
func (d *Daemon) uncheat(key packet.FlowKey, why string) {
	shard := -1
	d.flows.update(key, func(c *conn, f *flow) {
		shard, c.shard = c.shard, -1
		f.reason = why
		if f.state == stateCheated {
			f.state = stateWatched
			if !f.reserved.IsZero() {
				f.state = stateManaged
			}
		}
	})
	d.unqueue(shard, key)
}

func (d *Daemon) unqueue(shard int, key packet.FlowKey) {
	if shard < 0 {
		return
	}
	t := d.table.Load()
	if err := t.RemoveCheated(shard, bothWays(key)...); err != nil {
		d.log.Warn("connection still queued", zap.Stringer("flow", key), zap.Error(err))
	}
}

// forget ends all that was made for a flow: its queueing, its reservation and
// its treatment.
func (d *Daemon) forget(ctx context.Context, key packet.FlowKey) {
	c, ok := d.flows.remove(key)
	if !ok {
		return
	}
	d.unqueue(c.shard, key)
	for i := range c.dirs {
		f := &c.dirs[i]
		if f.role == roleSender {
			session, filter := sessionOf(f.key)
			if err := d.rsvp.RemoveSender(session, filter); err != nil {
				d.log.Debug("sender not removed", zap.Stringer("flow", f.key), zap.Error(err))
			}
		}
		// A reserved flow's treatment goes when RSVP releases the reservation.
		if iface := d.links.Load().name(f.out); f.treated && f.reserved.IsZero() && iface != "" {
			if err := d.kernel.Remove(ctx, iface, f.key); err != nil {
				d.log.Warn("treatment not removed", zap.Stringer("flow", f.key), zap.Error(err))
			}
		}
	}
}

// sweep reads what the kernel counted, and ends flows that fell idle.
func (d *Daemon) sweep(ctx context.Context, now time.Time) {
	all, err := d.shape.AllCounters()
	if err != nil {
		d.log.Warn("the kernel's counters could not be read", zap.Error(err))
		return
	}
	l := d.links.Load()
	var idle []packet.FlowKey
	d.flows.updateAll(func(c *conn) {
		last, held := c.seen, c.shard >= 0
		for i := range c.dirs {
			f := &c.dirs[i]
			if got, ok := all[shaper.FlowID{Interface: l.name(f.out), Key: f.key}]; ok {
				f.counts.update(now, got.Packets, got.Bytes, got.Conform, got.Exceed, got.Dropped)
				if f.counts.lastMove.After(last) {
					last = f.counts.lastMove
				}
			}
			// A receiver's reservation lives as long as its PATH is refreshed.
			held = held || f.role == roleReceiver && !f.reserved.IsZero()
		}
		limit := idleUDP
		if c.dirs[0].key.Proto == packet.ProtoTCP {
			limit = idleTCP
		}
		if !held && now.Sub(last) > limit {
			idle = append(idle, c.dirs[0].key)
		}
	})
	for _, key := range idle {
		d.forget(ctx, key)
	}
}
