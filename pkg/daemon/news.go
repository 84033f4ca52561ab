package daemon

import (
	"maps"
	"net/netip"
	"sync"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// news carries what the workers have found to the janitor: they must not wait
// for the kernel, it does. An engine bounds what it tells to a few events for
// each connection.
type news struct {
	mu     sync.Mutex
	list   []tcpcheat.Event
	ended  []packet.FlowKey
	groups []netip.Prefix
	ring   chan struct{}
}

func newNews() news { return news{ring: make(chan struct{}, 1)} }

// add copies an engine's events in.
func (n *news) add(ev []tcpcheat.Event) {
	n.mu.Lock()
	n.list = append(n.list, ev...)
	n.mu.Unlock()
	n.call()
}

// end tells that a flow's last packet was seen.
func (n *news) end(key packet.FlowKey) {
	n.mu.Lock()
	n.ended = append(n.ended, key)
	n.mu.Unlock()
	n.call()
}

// maxRegrouped bounds the groups told apart; more are told as all.
const maxRegrouped = 256

// regroup tells that the routes of multicast groups have changed.
func (n *news) regroup(list []netip.Prefix) {
	n.mu.Lock()
	n.groups = append(n.groups, list...)
	if len(n.groups) > maxRegrouped {
		n.groups = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	}
	n.mu.Unlock()
	n.call()
}

// regrouped empties that list.
func (n *news) regrouped() []netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.groups
	n.groups = nil
	return list
}

func (n *news) call() {
	select {
	case n.ring <- struct{}{}:
	default: // the janitor is called already
	}
}

// take empties the lists.
func (n *news) take() (list []tcpcheat.Event, ended []packet.FlowKey) {
	n.mu.Lock()
	defer n.mu.Unlock()
	list, ended = n.list, n.ended
	n.list, n.ended = nil, nil
	return list, ended
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
