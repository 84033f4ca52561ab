package daemon

import (
	"context"
	"net/netip"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// realTime tells which marks are for traffic that cannot wait: telephony of
// RFC 4594 section 4.1 and RFC 5865.
func realTime(code uint8) bool { return code == dscp.EF || code == dscp.VoiceAdmit }

// count has the kernel count a flow, and mark and police it where a policy says so
// without a reservation. A reservation that came first, or that an earlier process
// left, is kept: the row learns of it.
func (t *trafficControl) count(ctx context.Context, tr plan.Treatment) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.byKey[place(tr.Interface, tr.Key)]; r != nil {
		t.note(tr.Key, r, nil)
		return nil
	}
	if id := (shaper.FlowID{Interface: tr.Interface, Key: tr.Key}); hasKey(t.demoted, id) {
		t.noteDemoted(id, t.links().index(tr.Interface))
		return nil
	}
	if left, ok := t.kernel.Treatment(tr.Interface, tr.Key); ok && left.Reserve && t.kernel.IsAdopted(tr.Interface, tr.Key) {
		t.flows.updateOn(tr.Key, t.links().index(tr.Interface), func(_ *conn, f *flow) { f.treated = true })
		return nil
	}
	_, err := t.kernel.Install(ctx, tr)
	if err == nil {
		t.paid(tr.Interface, tr.Key)
		t.flows.updateOn(tr.Key, t.links().index(tr.Interface), func(_ *conn, f *flow) { f.treated = true })
	}
	return err
}

// uncount removes the treatment of a flow that is gone, unless a reservation
// holds it: that one goes when RSVP releases it.
func (t *trafficControl) uncount(ctx context.Context, key packet.FlowKey, iface string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byKey[place(iface, key)] == nil && !hasKey(t.demoted, shaper.FlowID{Interface: iface, Key: key}) {
		t.take(ctx, iface, key)
	}
}

func hasKey[K comparable, V any](m map[K]V, k K) bool {
	_, ok := m[k]
	return ok
}

// reserves tells whether a reservation holds the flow's treatment, or the want of
// one on a branch to a group.
func (t *trafficControl) reserves(id shaper.FlowID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byKey[place(id.Interface, id.Key)] != nil || hasKey(t.demoted, id)
}

// reprogram brings a flow's treatment up to what its policy and its state say
// now: after a reload, and when it is cheated no more.
func (t *trafficControl) reprogram(ctx context.Context, key packet.FlowKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.of(key) {
		t.reprogramOne(ctx, key, r)
	}
}

// reprogramOne is reprogram for one branch. t.mu is held.
func (t *trafficControl) reprogramOne(ctx context.Context, key packet.FlowKey, r *reservation) {
	t.relevel(r)
	m, id := r.members[key], shaper.FlowID{Interface: r.iface, Key: key}
	tr, p, shard := t.treatment(key, r)
	m.started = m.started && shard >= 0
	m.engaged = t.engaged(key, r, shard)
	if tr == m.put {
		delete(t.stale, id)
		// Other queues may be in force, and it may be in another one now.
		if class := t.kernel.Class(r.iface, key); class != m.class {
			m.class = class
			t.note(key, r, p)
		}
		return
	}
	class, err := t.kernel.Install(ctx, tr)
	if err != nil {
		if !t.stale[id] {
			t.log.Warn("treatment not changed: the old one stays, and it is tried again", zap.Stringer("flow", key), zap.Error(err))
		}
		t.stale[id] = true
		return
	}
	delete(t.stale, id)
	if m.put.Cheated && !tr.Cheated && !m.engaged && m.started {
		// It is policed from now on: nothing more may be promised for the receiver.
		m.started = false
		t.cheat.stop(shard, key)
	}
	m.put, m.class = tr, class
	t.paid(r.iface, key)
	t.note(key, r, p)
}

// reprogramAll is reprogram for every reservation.
func (t *trafficControl) reprogramAll(ctx context.Context) {
	t.mu.Lock()
	keys := make(map[packet.FlowKey]bool, len(t.byKey))
	for id := range t.byKey {
		keys[id.Key] = true
	}
	t.mu.Unlock()
	for key := range keys {
		t.reprogram(ctx, key)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.balanceAll(func(netip.Addr) bool { return true })
}

// restart follows the end of a flow's cheating: its engine has given it back. It
// is cheated again if its reservation is in place again; where that is shared by
// now, the flow is policed like the others.
func (t *trafficControl) restart(key packet.FlowKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.byKey[place("", key)] // what is cheated is not to a group
	if r == nil {
		return
	}
	r.members[key].started = false
	ctx, cancel := context.WithTimeout(context.Background(), kernelTimeout)
	defer cancel()
	t.reprogramOne(ctx, key, r)
	_, shard, _ := t.flows.get(key)
	t.pace(key, r, t.flows.policyOf(key), shard)
}
