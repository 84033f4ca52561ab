package daemon

import (
	"context"

	"github.com/qosproxy/qosproxy/pkg/packet"
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

// Remove counts and passes on.
func (k *countedKernel) Remove(ctx context.Context, iface string, key packet.FlowKey) error {
	k.removes.add()
	err := k.treater.Remove(ctx, iface, key)
	if err != nil {
		k.failures.add()
	}
	return err
}
