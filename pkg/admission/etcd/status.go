package etcd

import (
	"cmp"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/admission"
)

// State is how the box and etcd stand to each other.
type State string

// The states.
const (
	Starting    State = "registering"  // not registered, or not any more
	Connected   State = "connected"    // decisions are made together
	Unreachable State = "out of reach" // new ones are refused, or taken from the quota
	Taken       State = "name taken"   // another process is this box
	Closed      State = "closed"
)

// Counters only grow.
type Counters struct {
	Granted     uint64 // increases of shared accounts that etcd was asked for
	Refused     uint64 // of these, for want of room
	Failed      uint64 // of these, because etcd did not answer
	ByQuota     uint64 // granted without etcd
	Conflicts   uint64 // transactions that came too late and were tried again
	Registered  uint64
	Lost        uint64 // leases that ended although the box lived
	Over        uint64 // times that an account held more than it has through what this box told
	WatchErrors uint64
}

// Status is what there is to show.
type Status struct {
	State    State
	Reason   string
	Since    time.Time
	Box      string
	Accounts []AccountStatus // by name
	Counters Counters
}

// AccountStatus is one shared account as this box knows it.
type AccountStatus struct {
	Name     string
	Accounts []admission.Account // of this box, that count in it
	Limit    int64               // bytes/s, as this box takes it
	Held     int64               // bytes/s, by all boxes
	Own      int64               // of these, by this box
	Boxes    []BoxStatus         // those that hold something, by name
}

// BoxStatus is what one box holds.
type BoxStatus struct {
	Box   string
	Sum   int64 // bytes/s
	Limit int64 // bytes/s, as that box takes it; it should be the same for all
}

// Status returns what there is to show.
func (l *Ledger) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{State: l.state, Reason: l.reason, Since: l.since, Box: l.opts.Box, Counters: l.counters}
	for _, p := range l.pots {
		if len(p.accounts) == 0 {
			continue
		}
		a := AccountStatus{Name: p.name, Accounts: slices.Clone(p.accounts), Limit: p.limit, Own: l.own(p)}
		a.Held = p.others(l.opts.Box) + a.Own
		if a.Own > 0 {
			a.Boxes = append(a.Boxes, BoxStatus{l.opts.Box, a.Own, p.limit})
		}
		for box, t := range p.boxes {
			if box != l.opts.Box && !t.gone {
				a.Boxes = append(a.Boxes, BoxStatus{box, t.Sum, t.Limit})
			}
		}
		slices.SortFunc(a.Boxes, func(a, b BoxStatus) int { return cmp.Compare(a.Box, b.Box) })
		s.Accounts = append(s.Accounts, a)
	}
	slices.SortFunc(s.Accounts, func(a, b AccountStatus) int { return cmp.Compare(a.Name, b.Name) })
	return s
}
