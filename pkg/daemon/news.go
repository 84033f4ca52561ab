package daemon

import (
	"maps"
	"sync"

	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// news carries the engines' events from the workers, which must not wait for
// the kernel, to the janitor, which does. An engine bounds what it tells to a
// few events for each connection.
type news struct {
	mu   sync.Mutex
	list []tcpcheat.Event
	ring chan struct{}
}

func newNews() news { return news{ring: make(chan struct{}, 1)} }

// add copies events in.
func (n *news) add(ev []tcpcheat.Event) {
	n.mu.Lock()
	n.list = append(n.list, ev...)
	n.mu.Unlock()
	select {
	case n.ring <- struct{}{}:
	default: // the janitor is called already
	}
}

// take empties the list.
func (n *news) take() []tcpcheat.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.list
	n.list = nil
	return list
}

// maxReasons bounds the reasons counted apart: an engine has some thirty.
const maxReasons = 100

// reasons counts flows that were left alone, by reason.
type reasons struct {
	mu sync.Mutex
	n  map[string]uint64
}

func (r *reasons) add(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == nil {
		r.n = map[string]uint64{}
	}
	if _, known := r.n[why]; !known && len(r.n) >= maxReasons {
		why = "other"
	}
	r.n[why]++
}

func (r *reasons) all() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == nil {
		return map[string]uint64{}
	}
	return maps.Clone(r.n)
}
