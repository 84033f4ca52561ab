package inject

import (
	"sync"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// memory has the last ways found at hand for a short time: to look for one in the
// kernel costs a quarter of what it costs to send a packet (1.3 us twice, and 9 us:
// BenchmarkReadFrame of pkg/shaper/bpf, and BenchmarkBridgeSend).
// The zero value remembers nothing.
type memory struct {
	keep  time.Duration
	slots []remembered
}

// memorySlots is a power of two. Flows that meet in a slot take turns.
const memorySlots = 1024

type remembered struct {
	mu    sync.Mutex
	key   packet.FlowKey
	until time.Duration
	ports *[]int // as they were
	port  int
	frame packet.Frame
}

func newMemory(keep time.Duration) memory {
	if keep <= 0 {
		return memory{}
	}
	return memory{keep: keep, slots: make([]remembered, memorySlots)}
}

// on tells whether anything is remembered.
func (m *memory) on() bool { return len(m.slots) > 0 }

// slot is the place of a direction of a flow.
func (m *memory) slot(key *packet.FlowKey) *remembered {
	i := 2 * key.Hash() // both directions have the same one
	if _, turned := key.Canonical(); turned {
		i++
	}
	return &m.slots[i%memorySlots]
}

// recall reads what was found for a flow, if that is recent and the ports are the same.
func (r *remembered) recall(now time.Duration, key *packet.FlowKey, ports *[]int, f *packet.Frame) (port int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now >= r.until || r.ports != ports || r.key != *key {
		return 0, false
	}
	*f = r.frame
	return r.port, true
}

// note keeps what was found for a flow.
func (r *remembered) note(until time.Duration, key *packet.FlowKey, ports *[]int, port int, f *packet.Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.key, r.until, r.ports, r.port, r.frame = *key, until, ports, port, *f
}
