package daemon

import (
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
	for _, f := range list {
		f(now, h.engine)
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
	switch h.engine.Handle(now, v, tcpcheat.Meta{CsumNotReady: p.CsumNotReady, GSO: p.GSO}) {
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

// snapshot asks the worker for all its connections.
func (h *cheatHandler) snapshot(timeout time.Duration) (list []flowStats, totals tcpcheat.Totals, err error) {
	type answer struct {
		list   []flowStats
		totals tcpcheat.Totals
	}
	reply := make(chan answer, 1)
	h.post(func(_ time.Time, e *tcpcheat.Engine) {
		a := answer{totals: e.Totals()}
		e.Each(func(key packet.FlowKey, s tcpcheat.Stats) { a.list = append(a.list, flowStats{key, s}) })
		reply <- a
	})
	select {
	case a := <-reply:
		return a.list, a.totals, nil
	case <-time.After(timeout):
		return nil, tcpcheat.Totals{}, errSilent
	}
}

// cheatWorkers are all cheat queues.
type cheatWorkers struct {
	handlers []*cheatHandler
	first    uint16 // number of the first queue
	failed   func(key packet.FlowKey, err error)
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
	if w.draining.Load() {
		return
	}
	w.handlers[shard].post(func(now time.Time, e *tcpcheat.Engine) {
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
		if s, ok := e.Flow(key); ok && s.State != tcpcheat.Draining && s.State != tcpcheat.Cheated {
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

// abort resets the connections that still have bytes in hand, and waits for the
// workers to have sent it.
func (w *cheatWorkers) abort() {
	for _, h := range w.handlers {
		h.post(func(now time.Time, e *tcpcheat.Engine) { e.Abort(now) })
		_, _, _ = h.snapshot(time.Second) // answered after the resets were sent
	}
}

// busy counts the connections that are still cheated or draining.
func (w *cheatWorkers) busy() int {
	n := 0
	for _, h := range w.handlers {
		list, _, err := h.snapshot(time.Second)
		if err != nil {
			n++
			continue
		}
		for i := range list {
			if s := list[i].stats.State; s == tcpcheat.Cheated || s == tcpcheat.Draining {
				n++
			}
		}
	}
	return n
}
