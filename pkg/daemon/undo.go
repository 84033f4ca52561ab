package daemon

import (
	"context"
	"slices"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// before is what a flow was before it was programmed.
type before struct {
	r     *reservation // nil: it had none, and then the rest counts
	m     *member
	put   plan.Treatment // in the kernel
	there bool
	// adopted: that is of an earlier process, and nobody had claimed it.
	adopted bool
	row     flow
	known   bool // there was a row
}

// before notes what a flow is now. t.mu is held.
func (t *trafficControl) before(now *reservation, key packet.FlowKey) before {
	was := before{r: t.byKey[place(now.iface, key)]}
	if was.r != nil {
		was.m = was.r.members[key]
		return was
	}
	was.put, was.there = t.kernel.Treatment(now.iface, key)
	was.adopted = t.kernel.IsAdopted(now.iface, key)
	was.row, _, was.known = t.flows.getOn(key, int(now.ask.Out))
	return was
}

// undo takes back what program did for the senders that it had done.
func (t *trafficControl) undo(ctx context.Context, now *reservation, done []before, old *reservation) {
	restored := false
	for i, was := range slices.Backward(done) {
		key := now.keys[i]
		if was.m == nil {
			t.unmake(ctx, key, was, now)
			continue
		}
		restored = restored || was.r == old
		t.putBack(ctx, key, was, now)
	}
	if old == nil {
		if _, err := t.admit.Release(admissionID(now.id)); err != nil {
			t.log.Error("ledger not brought back", zap.Uint64("reservation", now.id), zap.Error(err))
		}
		return
	}
	// The old reservation stands, in the ledger too. The kernel still has it for
	// the senders that were not done; what they share is put back with one of them.
	if err := t.admit.Hold(old.request(old.flow)); err != nil {
		t.log.Error("ledger not brought back", zap.Uint64("reservation", old.id), zap.Error(err))
	}
	if len(done) > 0 && !restored && len(old.keys) > 0 {
		key := old.keys[0]
		t.putBack(ctx, key, before{r: old, m: old.members[key]}, now)
	}
}

// unmake brings back to what it was a sender that had no reservation.
func (t *trafficControl) unmake(ctx context.Context, key packet.FlowKey, was before, now *reservation) {
	out := int(now.ask.Out)
	delete(t.byKey, place(now.iface, key))
	shard := -1
	t.flows.updateOn(key, out, func(c *conn, f *flow) {
		shard = c.engine(key)
		if was.known {
			f.state, f.reason, f.treated, f.class = was.row.state, was.row.reason, was.row.treated, was.row.class
			f.dscp, f.marked, f.rate, f.reserved = was.row.dscp, was.row.marked, was.row.rate, was.row.reserved
		}
	})
	if shard >= 0 {
		t.cheat.stop(shard, key)
	}
	if !was.known {
		// Its first packet, if there will be one, decides about it.
		t.flows.removeOn(key, out)
	}
	back := debt{Treatment: was.put, none: !was.there, adopted: was.adopted}
	back.Key, back.Interface = key, now.iface
	t.bring(ctx, back)
}

// putBack brings one sender back to what it was.
func (t *trafficControl) putBack(ctx context.Context, key packet.FlowKey, was before, now *reservation) {
	if was.r.iface != now.iface {
		t.take(ctx, now.iface, key)
	}
	delete(t.byKey, place(now.iface, key))
	t.byKey[place(was.r.iface, key)] = was.r
	t.bring(ctx, debt{Treatment: was.m.put})
	_, shard, _ := t.flows.get(key)
	t.pace(key, was.r, t.flows.policyOf(key), shard)
	t.note(key, was.r, t.flows.policyOf(key))
}
