package daemon

import (
	"context"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/heap"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper"
)

const (
	// sweepEvery reads the kernel's counters and looks for idle flows.
	sweepEvery = 2 * time.Second
	// idleUDP and idleTCP are how long a flow without packets keeps its
	// reservation; idleCheated is the same for a connection whose engine has
	// nothing in hand.
	idleUDP     = 60 * time.Second
	idleTCP     = 5 * time.Minute
	idleCheated = 5 * time.Minute
	// recovery and neighborRefresh: see recoveryTime.
	recovery        = 5.25
	neighborRefresh = 30 * time.Second
)

// janitor does what the workers must not wait for: it moves connections between
// the kernel's sets, reads counters and ends idle flows.
func (d *Daemon) janitor(ctx context.Context) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	reconcile := time.After(recoveryTime(d.cfg.Load()))
	orphans := map[shaper.FlowID]bool{}
	var tuner heap.Tuner
	tuner.Tune()
	for {
		select {
		case <-ctx.Done():
			return
		case <-reconcile:
			d.reconcile(ctx)
		case <-d.news.ring:
			list, ended := d.news.take()
			for _, e := range list {
				d.cheatEvent(ctx, e)
			}
			for _, key := range ended {
				d.forget(ctx, key)
			}
			groups := d.news.regrouped()
			d.lookForBranches(groups)
			d.tc.regroup(groups)
		case now := <-t.C:
			tuner.Tune()
			orphans = d.sweep(ctx, now, orphans)
			d.lookForMoving()
			d.hands.sweep(ctx, time.Now().Round(0)) // their ends are told by the wall clock
		}
	}
}

// forget ends all that was made for a flow: its queueing, its reservation and
// its treatment.
func (d *Daemon) forget(ctx context.Context, key packet.FlowKey) {
	// The sender goes first: a packet that comes in between finds the row still
	// there. A row without its sender would never be asked for again.
	d.removeSenders(key)
	for _, c := range d.flows.remove(key) {
		d.forgotten(ctx, key, &c)
	}
}

// lookForBranches has the flows to groups whose routes have changed seen again:
// by an interface that is new they have not been, and the kernel does not queue
// what is settled.
func (d *Daemon) lookForBranches(groups []netip.Prefix) {
	keys := d.flows.toGroups(groups)
	t := d.table.Load()
	if len(keys) == 0 || t == nil {
		return
	}
	if err := t.Unsettle(keys...); err != nil {
		d.log.Warn("new branches are seen only after the settled timeout", zap.Error(err))
	}
}

// forgetOn is forget for a branch of a flow to a group. The sender is spoken for
// as long as there is another.
func (d *Daemon) forgetOn(ctx context.Context, key packet.FlowKey, out int) {
	if !toGroup(key) || d.flows.lastBranch(key) {
		d.forget(ctx, key)
		return
	}
	if c, ok := d.flows.removeOn(key, out); ok {
		d.forgotten(ctx, key, &c)
	}
}

// forgotten ends what was made for a connection that has left the flow table.
func (d *Daemon) forgotten(ctx context.Context, key packet.FlowKey, c *conn) {
	d.unqueue(c.shard, key)
	for i := range c.dirs {
		f := &c.dirs[i]
		if iface := d.links.Load().name(f.out); f.treated && iface != "" {
			d.tc.uncount(ctx, f.key, iface)
		}
		if d.flows.hand.policy(f.key) != nil {
			// What was reserved by hand outlives the connection: it is policed again.
			d.tc.reprogram(ctx, f.key)
		}
	}
}

// removeSenders ends the reservations that were asked for on behalf of a
// connection's senders.
func (d *Daemon) removeSenders(key packet.FlowKey) {
	for _, k := range bothWays(key) {
		if _, ok := d.flows.sender(k); !ok {
			continue
		}
		session, filter := sessionOf(k)
		if err := d.signal.RemoveSender(session, filter); err != nil {
			d.log.Debug("sender not removed", zap.Stringer("flow", k), zap.Error(err))
		}
	}
}

// retire is forget for a flow that may be cheated: bytes in hand are delivered
// first, and the engine's last word brings the end.
func (d *Daemon) retire(ctx context.Context, key packet.FlowKey) {
	shard := -1
	d.flows.update(key, func(c *conn, _ *flow) { c.retire, shard = true, c.shard })
	if shard < 0 {
		d.forget(ctx, key)
		return
	}
	d.removeSenders(key)
	d.cheat.release(shard, key)
}

// sweep reads what the kernel counted, and ends flows that fell idle. It
// returns the treatments that belong to nobody: those that were found so twice
// are removed.
func (d *Daemon) sweep(ctx context.Context, now time.Time, before map[shaper.FlowID]bool) map[shaper.FlowID]bool {
	all, err := d.shape.AllCounters()
	if err != nil {
		d.log.Warn("the kernel's counters could not be read", zap.Error(err))
		return before
	}
	d.tc.settleDebts(ctx)
	l := d.links.Load()
	var idle []connKey
	busy := renewal{by: d.flows.current()}
	d.flows.updateAll(func(c *conn) {
		last, held := c.seen, c.shard >= 0
		for i := range c.dirs {
			f := &c.dirs[i]
			id := shaper.FlowID{Interface: l.name(f.out), Key: f.key}
			if got, ok := all[id]; ok && f.present {
				busy.add(now, c, f, got.Packets)
				f.counts.update(now, got.Packets, got.Bytes, got.Conform, got.Exceed, got.Dropped)
				if f.counts.lastMove.After(last) {
					last = f.counts.lastMove
				}
				delete(all, id)
			}
			held = held || f.held()
		}
		if !held && now.Sub(last) > c.idle(last) {
			idle = append(idle, connKey{c.dirs[0].key, c.dirs[0].out})
		}
	})
	if t := d.table.Load(); t != nil {
		if err := d.first.renew(t, &busy); err != nil {
			d.log.Warn("busy flows are looked at again", zap.Error(err))
		}
	}
	for _, k := range idle {
		d.forgetOn(ctx, k.FlowKey, k.out)
	}
	orphans := map[shaper.FlowID]bool{}
	for id := range all {
		switch {
		case d.tc.reserves(id) || d.shape.IsAdopted(id.Interface, id.Key):
		case before[id]:
			d.tc.uncount(ctx, id.Key, id.Interface)
		default:
			orphans[id] = true
		}
	}
	return orphans
}
