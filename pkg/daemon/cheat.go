package daemon

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qosproxy/qosproxy/pkg/nfq"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// injector sends packets of our own making.
type injector interface {
	Send(pkt []byte) error
}

// cheatHandler answers one queue of cheated connections. The engine belongs to
// the queue's worker; everybody else writes letters to it.
type cheatHandler struct {
	pulse
	engine *tcpcheat.Engine
	inject injector
	events func([]tcpcheat.Event) // takes a copy; must not block
	wake   func()                 // of the queue
	ask    func(tcpcheat.Echo)    // wants the round trip to a source; must not block
	port   func(index int) int    // tells the ports of a bridge apart; nil: a router's are of no matter

	flows atomic.Int64 // that the engine has

	mu      sync.Mutex
	letters []func(now time.Time, e *tcpcheat.Engine)
	mail    atomic.Bool
	count   struct{ unparsed, fragments, injectErrors counter }
}

// post has f run by the worker. It never blocks.
func (h *cheatHandler) post(f func(now time.Time, e *tcpcheat.Engine)) {
	h.mu.Lock()
	h.letters = append(h.letters, f)
	h.mail.Store(true)
	h.mu.Unlock()
	h.wake()
}

// open runs the letters. It is looked for before each packet: a connection
// must be known before its handed-on SYN arrives.
func (h *cheatHandler) open(now time.Time) {
	if !h.mail.Load() {
		return
	}
	h.mu.Lock()
	list := h.letters
	h.letters = nil
	h.mail.Store(false)
	h.mu.Unlock()
	done := 0
	defer func() {
		if done == len(list) {
			return
		}
		// That one has panicked, which the queue reports and survives. What is behind it
		// is not lost.
		h.mu.Lock()
		h.letters = append(list[done+1:len(list):len(list)], h.letters...)
		h.mail.Store(true)
		h.mu.Unlock()
	}()
	for ; done < len(list); done++ {
		list[done](now, h.engine)
	}
}

// Handle gives the packet to the engine.
func (h *cheatHandler) Handle(now time.Time, p *nfq.Packet) nfq.Verdict {
	h.open(now)
	v, err := packet.Parse(p.Data)
	if err != nil {
		h.count.unparsed.add()
		return nfq.Accept
	}
	if v.Fragment() {
		h.count.fragments.add()
	}
	if p.Truncated {
		// The engine would take the piece for the whole.
		h.count.unparsed.add()
		return nfq.Accept
	}
	meta := tcpcheat.Meta{CsumNotReady: p.CsumNotReady, GSO: p.GSO}
	if h.port != nil {
		meta.In = h.port(p.InIndex)
	}
	switch h.engine.Handle(now, v, meta) {
	case tcpcheat.Drop:
		return nfq.Drop
	case tcpcheat.Modified:
		return nfq.AcceptModified
	case tcpcheat.Accept:
	}
	return nfq.Accept
}

// NextDeadline is the engine's.
func (h *cheatHandler) NextDeadline() (time.Time, bool) { return h.engine.NextDeadline() }

// Advance runs the engine's timers.
func (h *cheatHandler) Advance(now time.Time) { h.engine.Advance(now) }

// Wake opens the letters.
func (h *cheatHandler) Wake(now time.Time) {
	h.beat()
	h.open(now)
}

// BatchEnd sends what the engine made, and tells what happened.
func (h *cheatHandler) BatchEnd(time.Time) {
	h.flows.Store(int64(h.engine.Len()))
	for _, s := range h.engine.TakeInjected() {
		if err := h.inject.Send(s.Packet); err != nil {
			h.count.injectErrors.add() // as if it were lost on the way
		}
	}
	for _, q := range h.engine.TakeEchoes() {
		h.ask(q)
	}
	if ev := h.engine.TakeEvents(); len(ev) > 0 {
		h.events(ev)
	}
}

// errSilent is returned when a worker does not answer.
var errSilent = errors.New("the cheat worker did not answer")

// flowStats is the engine's view of a connection.
type flowStats struct {
	key   packet.FlowKey
	stats tcpcheat.Stats
}

// snapshot is what a worker says of all its connections.
type snapshot struct {
	list   []flowStats
	totals tcpcheat.Totals
	err    error // it has not answered, and the rest is empty
}

// look asks the worker for it.
func (h *cheatHandler) look() <-chan snapshot {
	reply := make(chan snapshot, 1)
	h.post(func(_ time.Time, e *tcpcheat.Engine) {
		a := snapshot{totals: e.Totals()}
		e.Each(func(key packet.FlowKey, s tcpcheat.Stats) { a.list = append(a.list, flowStats{key, s}) })
		reply <- a
	})
	return reply
}

// cheatWorkers are all cheat queues.
type cheatWorkers struct {
	handlers []*cheatHandler
	first    uint16 // number of the first queue
	failed   func(key packet.FlowKey, err error)
	frames   frames // what a bridge knows of them
	draining atomic.Bool
	stripECN atomic.Bool
}

func (w *cheatWorkers) queue(shard int) uint16 { return w.first + uint16(shard) }

// watch has a connection followed from its SYN on; a plain one, which will not be
// cheated, also from later. Its data is looked at only if its policy has holes
// filled.
func (w *cheatWorkers) watch(shard int, data packet.FlowKey, plain, fill bool) {
	w.handlers[shard].post(func(now time.Time, e *tcpcheat.Engine) {
		e.StripECN(w.stripECN.Load())
		watch := e.Watch
		if plain {
			watch = e.WatchNear
		}
		if err := watch(now, data); err != nil {
			w.failed(data, err)
		} else if !fill {
			e.NoFill(data)
		}
	})
}

// start begins to cheat: the reservation is in place.
func (w *cheatWorkers) start(shard int, key packet.FlowKey, p tcpcheat.Params) {
	w.handlers[shard].post(func(now time.Time, e *tcpcheat.Engine) {
		if w.draining.Load() { // and the letter that drains may have come before this one
			return
		}
		if s, ok := e.Flow(key); ok && s.State != tcpcheat.Cheated && s.State != tcpcheat.Draining {
			if err := w.frames.servable(key); err != nil {
				e.Leave(now, key, err)
				return
			}
		}
		switch err := e.Start(now, key, p); {
		case err == nil:
		case errors.Is(err, tcpcheat.ErrDraining), errors.Is(err, tcpcheat.ErrClosing):
			// It is asked again when the engine has given the connection back;
			// and one that closes needs no help any more.
		case errors.Is(err, tcpcheat.ErrUnknownFlow):
			// The reservation was faster than the letter that has the connection
			// followed: who writes that one has it asked again.
		default:
			w.failed(key, err)
		}
	})
}

// stop ends the cheating of a connection; what is in hand is delivered.
func (w *cheatWorkers) stop(shard int, key packet.FlowKey) {
	w.handlers[shard].post(func(now time.Time, e *tcpcheat.Engine) { e.Stop(now, key) })
}

// release is stop for good: the engine forgets the connection when nothing is
// in hand, and tells so by an event.
func (w *cheatWorkers) release(shard int, key packet.FlowKey) {
	w.handlers[shard].post(func(now time.Time, e *tcpcheat.Engine) {
		e.Stop(now, key)
		if s, ok := e.Flow(key); ok && s.State != tcpcheat.Draining && s.State != tcpcheat.Cheated && s.State != tcpcheat.Recalled {
			e.Forget(key)
		}
	})
}

// forget has the engine forget a connection that it does not cheat.
func (w *cheatWorkers) forget(shard int, key packet.FlowKey) {
	if shard >= 0 {
		w.handlers[shard].post(func(_ time.Time, e *tcpcheat.Engine) { e.Forget(key) })
	}
}

// drain ends the cheating of all connections, and begins no more.
func (w *cheatWorkers) drain() {
	w.draining.Store(true)
	for _, h := range w.handlers {
		h.post(func(now time.Time, e *tcpcheat.Engine) { e.Drain(now) })
	}
}

// snapshots asks all workers at once, and waits for them no longer than for one.
func (w *cheatWorkers) snapshots(timeout time.Duration) []snapshot {
	var replies []<-chan snapshot
	for _, h := range w.handlers {
		replies = append(replies, h.look())
	}
	list := make([]snapshot, len(replies))
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for i, reply := range replies {
		select {
		case list[i] = <-reply:
		case <-ctx.Done():
			select { // one that has answered by now is heard
			case list[i] = <-reply:
			default:
				list[i].err = errSilent
			}
		}
	}
	return list
}

// abort resets the connections that still have bytes in hand, and waits for the
// workers to have sent it.
func (w *cheatWorkers) abort() {
	for _, h := range w.handlers {
		h.post(func(now time.Time, e *tcpcheat.Engine) { e.Abort(now) })
	}
	w.snapshots(workerTimeout) // answered after the resets were sent
}

// busy counts the connections that are still cheated or draining, and those of an
// earlier process that are looked after.
func (w *cheatWorkers) busy() (own, recalled int) {
	for _, worker := range w.snapshots(workerTimeout) {
		if worker.err != nil {
			own++
			continue
		}
		for i := range worker.list {
			if s := worker.list[i].stats.State; s == tcpcheat.Recalled {
				recalled++
			} else if s == tcpcheat.Cheated || s == tcpcheat.Draining {
				own++
			}
		}
	}
	return own, recalled
}
