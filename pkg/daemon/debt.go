package daemon

import (
	"context"
	"errors"
	"maps"
	"slices"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// What is asked of the kernel on behalf of a requester may fail, and then the
// requester is told. What gives something back has nobody to tell: it is owed, and
// tried again until the kernel takes it, or until somebody wants something else of
// that flow.

// debt is what the kernel shall have of a flow.
type debt struct {
	plan.Treatment
	none    bool // nothing at all
	adopted bool // it is an earlier process's again
}

// bring has the kernel treat a flow as it should. t.mu is held.
func (t *trafficControl) bring(ctx context.Context, d debt) {
	id := shaper.FlowID{Interface: d.Interface, Key: d.Key}
	if err := t.tryBring(ctx, d); err != nil {
		t.owed[id] = d
		t.log.Error("treatment not brought back: it is tried again", zap.Stringer("flow", d.Key), zap.String("interface", d.Interface), zap.Error(err))
		return
	}
	delete(t.owed, id)
}

func (t *trafficControl) tryBring(ctx context.Context, d debt) error {
	if d.none {
		c, err := t.kernel.Take(ctx, d.Interface, d.Key)
		if errors.Is(err, shaper.ErrNoFlow) {
			// Another was faster: a flow's end is seen by its packets and by RSVP.
			err = nil
		}
		if err == nil {
			t.taken(d.Interface, d.Key, c)
		}
		return err
	}
	if _, err := t.kernel.Install(ctx, d.Treatment); err != nil {
		return err
	}
	if d.adopted {
		t.kernel.Unclaim(d.Interface, d.Key)
	}
	return nil
}

// paid: the kernel has just taken something else for a flow. t.mu is held.
func (t *trafficControl) paid(iface string, key packet.FlowKey) {
	delete(t.owed, shaper.FlowID{Interface: iface, Key: key})
}

// debts is how many there are.
func (t *trafficControl) debts() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.owed) + len(t.stale)
}

// settleDebts tries again what failed. Packets wait for the lock, so it is taken for
// each.
func (t *trafficControl) settleDebts(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, kernelTimeout)
	defer cancel()
	t.mu.Lock()
	owed, stale := slices.Collect(maps.Keys(t.owed)), slices.Collect(maps.Keys(t.stale))
	t.mu.Unlock()
	for _, id := range owed {
		t.settleOwed(ctx, id)
	}
	for _, id := range stale {
		t.settleStale(ctx, id)
	}
}

// settleOwed does it for one that is owed. An interface that is not there any more
// took its treatments along.
func (t *trafficControl) settleOwed(ctx context.Context, id shaper.FlowID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.owed[id]
	if !ok {
		return
	}
	err := t.tryBring(ctx, d)
	if err == nil || errors.Is(err, shaper.ErrNotManaged) {
		delete(t.owed, id)
		return
	}
	t.log.Debug("treatment still not brought back", zap.Stringer("flow", id.Key), zap.String("interface", id.Interface), zap.Error(err))
}

// settleStale does it for one that should be another.
func (t *trafficControl) settleStale(ctx context.Context, id shaper.FlowID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.byKey[place(id.Interface, id.Key)]
	switch {
	case !t.stale[id]:
	case r == nil || r.iface != id.Interface:
		delete(t.stale, id)
	default:
		t.reprogramOne(ctx, id.Key, r)
	}
}
