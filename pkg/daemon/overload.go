package daemon

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/nfq"
	"github.com/qosproxy/qosproxy/pkg/shed"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// lookEvery is how often it is looked whether the cheat queues keep up. A queue
// takes some 100 ms at least to fill.
const lookEvery = 20 * time.Millisecond

// countEvery is how often packets are counted anew while a queue holds some.
const countEvery = 200 * time.Millisecond

// overload lets connections go whose queue cannot keep up, and keeps new ones from
// it.
type overload struct {
	queues  []*crowd // of the cheat queues, by shard
	log     *zap.Logger
	shed    counter // connections let go
	refused counter // new ones that were not taken
}

// crowd is one queue.
type crowd struct {
	policy  shed.Policy
	backlog func() (nfq.Backlog, bool)
	handler *cheatHandler
	asked   atomic.Bool // the worker has not answered yet
	counted time.Time
	pressed atomic.Bool
	closed  atomic.Bool
}

func newOverload(log *zap.Logger) *overload { return &overload{log: log} }

func (o *overload) add(h *cheatHandler, backlog func() (nfq.Backlog, bool)) {
	o.queues = append(o.queues, &crowd{handler: h, backlog: backlog})
}

// run watches the queues until ctx ends.
func (o *overload) run(ctx context.Context) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			for i, q := range o.queues {
				o.look(now, i, q)
			}
		}
	}
}

func (o *overload) look(now time.Time, shard int, q *crowd) {
	b, ok := q.backlog()
	if !ok {
		return
	}
	was, asked := q.policy.Pressed(), q.asked.Load()
	n := q.policy.Look(now, shed.Reading{
		Waiting: b.Waiting, Fill: b.Fill, Lost: b.Lost, Handled: b.Handled, Flows: int(q.handler.flows.Load()),
		Asked: asked,
	})
	if is := q.policy.Pressed(); is != was {
		q.pressed.Store(is)
		o.log.Warn("a cheat queue cannot keep up: connections are let go until it can", zap.Int("queue", queueCheat+shard), zap.Bool("overloaded", is),
			zap.Uint64("waiting", b.Waiting), zap.Uint64("lost", b.Lost), zap.Uint64("let_go", o.shed.get()))
	}
	q.closed.Store(!q.policy.Open(now))
	if asked || n == 0 && (!q.policy.Watch() || now.Sub(q.counted) < countEvery) {
		return
	}
	q.asked.Store(true) // nobody else does
	q.counted = now
	q.handler.post(func(now time.Time, e *tcpcheat.Engine) {
		defer q.asked.Store(false)
		// Without any to be let go it counts anew, for what is of late to tell.
		for _, key := range e.Busiest(n) {
			e.Shed(now, key)
			o.shed.add()
		}
	})
}

// full tells whether a queue takes no new connections, and counts that one was not
// taken.
func (o *overload) full(shard int) bool {
	if shard >= len(o.queues) || !o.queues[shard].closed.Load() {
		return false
	}
	o.refused.add()
	return true
}

func (o *overload) pressed(shard int) bool {
	return shard >= 0 && shard < len(o.queues) && o.queues[shard].pressed.Load()
}
