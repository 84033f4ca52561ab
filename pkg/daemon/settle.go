package daemon

import (
	"sync"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

const (
	// firstBatch is how many first packets are read at once: after so many there
	// are more, very likely.
	firstBatch = 32
	// settleLate bounds how long flows that are decided wait, under a flood of first
	// packets, for the queue to be empty, and settleMost how many do.
	settleLate = 5 * time.Millisecond
	settleMost = 512
)

// settler has the kernel pass the packets of flows that are decided.
//
// From the moment when a flow is settled its packets overtake those that still wait
// in the queue of first packets. So flows are settled after their packets were
// answered, when the queue was just read empty, and stay settled whatever a reload
// brings, unless it changes what becomes of them.
type settler struct {
	mu        sync.Mutex // held while the kernel's set changes, and by a reload
	current   func() *policies
	strangers strangers

	// Of the worker alone.
	pending []packet.FlowKey
	by      *policies // the generation that decided about them
	since   time.Time
	handled int
}

// later notes what a decision wants settled.
func (s *settler) later(now time.Time, d *decision) {
	if s.by != d.by {
		s.pending, s.by = s.pending[:0], d.by // the others come again: slower, not wrong
	}
	if len(s.pending) == 0 {
		s.since = now
	}
	s.pending = append(s.pending, d.settle...)
	if d.stranger {
		s.mu.Lock()
		s.strangers.add(now, d.settle)
		s.mu.Unlock()
	}
}

// settle tells the kernel, if it is time. A decision of policies that are gone does
// not count any more.
func (s *settler) settle(now time.Time, steer steering) error {
	more := s.handled >= firstBatch
	s.handled = 0
	if len(s.pending) == 0 || more && len(s.pending) < settleMost && now.Sub(s.since) < settleLate {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := s.pending
	s.pending = s.pending[:0]
	if steer == nil || s.current() != s.by {
		return nil
	}
	return steer.Settle(keys...)
}

// unsettler is the part of the queue table that a reload needs.
type unsettler interface {
	Unsettle(keys ...packet.FlowKey) error
	UnsettleAll() error
}

// anew has the next packets of flows decided by the policies in use: of those that
// are named, and of those that the earlier ones did not claim.
func (s *settler) anew(t unsettler, changed []packet.FlowKey) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, whole := s.strangers.take()
	if !whole {
		return t.UnsettleAll()
	}
	for _, key := range changed {
		list = append(list, bothWays(key)...)
	}
	return t.Unsettle(list...)
}

const (
	// renewEvery is how often a busy flow is settled anew, before the kernel takes it
	// for undecided; busyPackets is how many packets between two sweeps make one, and
	// mostRenewed bounds those that are renewed by one sweep.
	renewEvery  = 10 * time.Second
	busyPackets = 40
	mostRenewed = 4096
)

// renewal collects flows that are to stay settled.
type renewal struct {
	by   *policies
	keys []packet.FlowKey
}

// add takes a flow that has counted so many packets by now, unless it is too slow
// to overtake itself.
func (r *renewal) add(now time.Time, c *conn, f *flow, packets uint64) {
	if c.shard >= 0 || packets-f.counts.packets < busyPackets || packets < f.counts.packets || now.Sub(f.renewed) < renewEvery || len(r.keys) >= mostRenewed {
		return
	}
	f.renewed = now
	r.keys = append(r.keys, f.key)
}

// renewer is the part of the queue table that keeps flows settled.
type renewer interface {
	Renew(keys ...packet.FlowKey) error
}

// renew tells the kernel, unless other policies are in use since.
func (s *settler) renew(t renewer, r *renewal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(r.keys) == 0 || s.current() != r.by {
		return nil
	}
	return t.Renew(r.keys...)
}

const (
	// strangersFor is the longest that the kernel keeps a flow settled, and
	// maxStrangers how many of them are remembered.
	strangersFor = 30 * time.Second
	maxStrangers = 1 << 15
)

// strangers remembers the flows that were settled without being in the flow table,
// for as long as the kernel does.
type strangers struct {
	now, before map[packet.FlowKey]struct{}
	full        [2]bool // there were more of them: now, before
	turned      time.Time
}

func (s *strangers) add(now time.Time, keys []packet.FlowKey) {
	if now.Sub(s.turned) >= strangersFor {
		s.before, s.full[1] = s.now, s.full[0]
		if now.Sub(s.turned) >= 2*strangersFor {
			s.before, s.full[1] = nil, false
		}
		s.now, s.full[0], s.turned = nil, false, now
	}
	if s.now == nil {
		s.now = map[packet.FlowKey]struct{}{}
	}
	for _, k := range keys {
		if len(s.now) >= maxStrangers {
			s.full[0] = true
			return
		}
		s.now[k] = struct{}{}
	}
}

// take empties the list; false if it is not the whole of them.
func (s *strangers) take() (list []packet.FlowKey, whole bool) {
	whole = !s.full[0] && !s.full[1]
	for _, m := range []map[packet.FlowKey]struct{}{s.now, s.before} {
		for k := range m {
			list = append(list, k)
		}
	}
	*s = strangers{}
	return list, whole
}
