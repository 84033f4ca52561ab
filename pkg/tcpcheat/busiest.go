package tcpcheat

import (
	"cmp"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Busiest returns up to n connections that can be let go, those with most packets
// since the call before first. With n = 0 it counts anew and no more.
func (e *Engine) Busiest(n int) []packet.FlowKey {
	type busy struct {
		key     packet.FlowKey
		packets uint64
	}
	var all []busy
	for _, c := range e.conns {
		packets := c.handled - c.counted
		c.counted = c.handled
		if n == 0 {
			continue
		}
		switch c.state {
		case Opening, Watched, Cheated:
			all = append(all, busy{c.key, packets})
		case Expected, Draining, LeftAlone, Closed, Recalled:
		}
	}
	slices.SortFunc(all, func(a, b busy) int { return cmp.Compare(b.packets, a.packets) })
	var keys []packet.FlowKey
	for _, b := range all[:min(n, len(all))] {
		keys = append(keys, b.key)
	}
	return keys
}

// Shed lets a connection alone that is too much for the box. What is in hand is
// delivered, and for that the receiver's segments are still wanted; the source's need
// not come here any more from now on.
func (e *Engine) Shed(now time.Time, key packet.FlowKey) {
	e.Leave(now, key, ErrOverload)
	if c := e.find(key); c != nil && c.state == Draining {
		c.blind = true
	}
}

// Len is how many connections are in the table.
func (e *Engine) Len() int { return len(e.conns) }
