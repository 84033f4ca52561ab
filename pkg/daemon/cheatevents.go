package daemon

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// cheatEvent acts on what an engine tells of a connection.
func (d *Daemon) cheatEvent(ctx context.Context, e tcpcheat.Event) {
	var shard int
	var retire bool
	known := d.flows.update(e.Key, func(c *conn, _ *flow) { shard, retire = c.shard, c.retire })
	if !known || shard < 0 {
		d.lastWords(ctx, e)
		return
	}
	switch e.Kind {
	case tcpcheat.EventStarted:
		d.ended.started.add()
		d.flows.update(e.Key, func(_ *conn, f *flow) { f.state, f.reason, f.caveat = stateCheated, "reserved", "" })
	case tcpcheat.EventDraining:
		d.flows.update(e.Key, func(_ *conn, f *flow) { f.caveat = "; draining: " + e.Reason })
		if e.Reason == tcpcheat.ErrOverload.Error() {
			d.unqueueSource(shard, e.Key)
		}
	case tcpcheat.EventLeftAlone:
		switch {
		case e.Healed:
			d.promises.count.healed.add()
			d.log.Info("its receiver has got what an earlier process promised", zap.Stringer("flow", e.Key))
		case e.Recalled:
			d.promises.count.lost.add()
			d.log.Info("what an earlier process promised is not known to be missing: nobody is reset", zap.Stringer("flow", e.Key), zap.String("reason", e.Reason))
		}
		d.ended.leftAlone.add()
		d.reasons.add(e.Reason)
		if f, _, _ := d.flows.get(e.Key); retire || e.Recalled && (f.in == 0 || f.out == 0) {
			d.cheat.forget(shard, e.Key)
			d.forget(ctx, e.Key) // its next packet tells where it goes, and makes its row anew
			return
		}
		d.keep(e)
		d.uncheat(ctx, e.Key, "; not cheated: "+e.Reason)
	case tcpcheat.EventDrained:
		d.ended.ended.add()
		d.drained(ctx, e, retire)
	case tcpcheat.EventReplaced:
		// The ports are used anew; the worker follows the new handshake.
		d.flows.update(e.Key, func(_ *conn, f *flow) { f.state, f.caveat = f.uncheated(), "" })
		d.tc.restart(e.Key)
	case tcpcheat.EventReset, tcpcheat.EventEnded:
		d.ended.ended.add()
		if e.Recalled && e.Kind == tcpcheat.EventReset {
			d.promises.count.reset.add()
		}
		d.log.Info("connection ended", zap.Stringer("flow", e.Key), zap.String("reason", e.Reason),
			zap.Uint64("fake_acks", e.Final.FakeAcks), zap.Uint64("retransmits", e.Final.Retransmits),
			zap.Uint64("undelivered_bytes", e.Final.Undelivered), zap.Uint64("filled_bytes", e.Final.FilledBytes))
		if e.Final.FilledBytes > 0 {
			d.log.Info("bytes of its stream were made up", zap.Stringer("flow", e.Key), zap.Any("ranges", pairs(e.Final.FilledRanges)),
				zap.Uint64("more_ranges", e.Final.FilledMore))
		}
		d.forget(ctx, e.Key)
	}
}

// lastWords hears an engine's last words on a connection that it no longer has: the
// FINs that passed by it are not seen again.
func (d *Daemon) lastWords(ctx context.Context, e tcpcheat.Event) {
	if e.Kind != tcpcheat.EventEnded {
		return
	}
	over := false
	d.flows.update(e.Key, func(c *conn, f *flow) {
		if c.shard >= 0 {
			return // an engine has it again
		}
		back := c.dir(e.Key.Reverse())
		f.fin, back.fin = f.fin || e.Fins[0], back.fin || e.Fins[1]
		over = f.fin && back.fin
	})
	if over {
		d.forget(ctx, e.Key)
	}
}

// drained deals with a connection that speaks for itself again. It stays in its
// worker, so that it can be cheated when its reservation comes again.
func (d *Daemon) drained(ctx context.Context, e tcpcheat.Event, retire bool) {
	switch {
	case retire:
		d.forget(ctx, e.Key)
	case e.Final.State == tcpcheat.LeftAlone:
		d.reasons.add(e.Reason)
		d.keep(e)
		d.uncheat(ctx, e.Key, "; not cheated: "+e.Reason)
	default:
		d.flows.update(e.Key, func(_ *conn, f *flow) { f.state, f.caveat = f.uncheated(), "; given back: "+e.Reason })
		d.tc.restart(e.Key)
	}
}

// keep has the row of a connection that its engine is about to forget tell what
// was done to it.
func (d *Daemon) keep(e tcpcheat.Event) {
	final := e.Final
	final.Reason = "" // it is the row's
	d.flows.update(e.Key, func(_ *conn, f *flow) { f.last = &final })
}

// uncheat lets a connection's packets pass by the cheat queue from now on. Its
// reservation stays, and from now on it is policed like others.
func (d *Daemon) uncheat(ctx context.Context, key packet.FlowKey, caveat string) {
	shard := -1
	d.flows.update(key, func(c *conn, f *flow) {
		shard, c.shard = c.shard, -1
		f.state, f.caveat = f.uncheated(), caveat
	})
	d.unqueue(shard, key)
	d.cheat.forget(shard, key)
	d.tc.reprogram(ctx, key)
}

// uncheated is the state of a flow that is not cheated.
func (f *flow) uncheated() flowState {
	if f.reserved.IsZero() {
		return stateWatched
	}
	return stateManaged
}

// unqueue has the kernel pass a connection's packets.
func (d *Daemon) unqueue(shard int, key packet.FlowKey) {
	t := d.table.Load()
	if shard < 0 || t == nil {
		return
	}
	if err := t.RemoveCheated(shard, bothWays(key)...); err != nil {
		d.log.Warn("connection still queued", zap.Stringer("flow", key), zap.Error(err))
	}
}

// unqueueSource has the kernel pass what the source of a connection sends, which
// overtakes what of it is still queued: a queue that cannot keep up is relieved at
// once, and not when the receiver has everything.
func (d *Daemon) unqueueSource(shard int, key packet.FlowKey) {
	if t := d.table.Load(); t != nil {
		// Settled first: as a first packet it would be sent to its worker again.
		if err := errors.Join(t.Settle(key), t.RemoveCheated(shard, key)); err != nil {
			d.log.Warn("connection still queued", zap.Stringer("flow", key), zap.Error(err))
		}
	}
}

// cheatFailed is told by a worker that a connection cannot be watched or
// cheated.
func (d *Daemon) cheatFailed(key packet.FlowKey, err error) {
	d.news.add([]tcpcheat.Event{{Key: key, Kind: tcpcheat.EventLeftAlone, Reason: err.Error()}})
}
