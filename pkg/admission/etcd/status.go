package etcd

import (
	"cmp"
	"slices"
	"strings"
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
	Crowded     uint64 // asked for in vain, since others asked for the same
	Conflicts   uint64 // writes that found this box's line to be another one
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
	Burst    bool                // bytes of bursts; else bytes/s
	Accounts []admission.Account // of this box, that count in it
	Limit    int64               // as this box takes it
	Held     int64               // by all boxes
	Own      int64               // of these, by this box
	Over     bool                // more than the limit
	Boxes    []BoxStatus         // those that hold something, by name
}

// BoxStatus is what one box holds.
type BoxStatus struct {
	Box   string
	Sum   int64
	Limit int64 // as that box takes it; it should be the same for all
}

func order(burst bool) int {
	if burst {
		return 1
	}
	return 0
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
		name, burst := strings.CutSuffix(p.name, burstSuffix)
		a := AccountStatus{Name: name, Burst: burst, Accounts: slices.Clone(p.accounts), Limit: p.limit, Own: l.own(p)}
		hold, _ := p.others(l.opts.Box)
		a.Held = hold + a.Own
		a.Over = p.exceeded(a.Held)
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
	slices.SortFunc(s.Accounts, func(a, b AccountStatus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), order(a.Burst)-order(b.Burst))
	})
	return s
}
