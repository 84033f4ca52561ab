package daemon

import (
	"context"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// countedKernel counts what traffic control and the first packets ask of the
// shaper.
type countedKernel struct {
	treater
	installs, removes, failures counter
}

// Install counts and passes on.
func (k *countedKernel) Install(ctx context.Context, t plan.Treatment) (plan.ClassID, error) {
	k.installs.add()
	id, err := k.treater.Install(ctx, t)
	if err != nil {
		k.failures.add()
	}
	return id, err
}

// Take counts and passes on.
func (k *countedKernel) Take(ctx context.Context, iface string, key packet.FlowKey) (shaper.Counters, error) {
	k.removes.add()
	c, err := k.treater.Take(ctx, iface, key)
	if err != nil {
		k.failures.add()
	}
	return c, err
}
