package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// group runs goroutines that end together. An error of one of them is told at
// once on failed, and again by stop.
type group struct {
	ctx    context.Context
	cancel context.CancelFunc
	failed chan<- error
	wg     sync.WaitGroup
	mu     sync.Mutex
	errs   []error
}

func newGroup(ctx context.Context, failed chan<- error) *group {
	g := &group{failed: failed}
	g.ctx, g.cancel = context.WithCancel(ctx)
	return g
}

func (g *group) start(name string, run func(context.Context) error) {
	g.wg.Go(func() {
		err := run(g.ctx)
		if err == nil {
			return
		}
		err = fmt.Errorf("%s: %w", name, err)
		g.mu.Lock()
		g.errs = append(g.errs, err)
		g.mu.Unlock()
		select {
		case g.failed <- err:
		default: // the daemon is stopping already
		}
	})
}

// stop ends the goroutines and waits for them.
func (g *group) stop() error {
	g.cancel()
	g.wg.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	return errors.Join(g.errs...)
}
