package admission

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// Request asks for a reservation on one link.
type Request struct {
	ID   ID
	Link string
	// FlowSpec is what the receivers ask for.
	FlowSpec intserv.FlowSpec
	// Senders is the sum of what the senders announce (RFC 2205 section 2.2); the
	// zero TSpec means that it is not known.
	Senders intserv.TSpec
	// Level is the service level that the link gives it: the DSCP that its packets
	// are marked with.
	Level uint8
	// Levels are more of them, where the senders that share the reservation are not
	// marked alike: any of them may send all that is reserved.
	Levels []uint8
	// Delay, if not zero, is the queueing delay that guaranteed service has to
	// keep over a path with the error terms Ctot (bytes) and Dtot (microseconds).
	Delay      time.Duration
	Ctot, Dtot uint32
	// Replaces names entries whose place this one takes, see [Control.Hold]. They
	// go if it is admitted, and stay if not.
	Replaces []ID
	Priority Priority
	// Carried: an aggregate carries it over the link, in whose reservation it is
	// counted (RFC 3175 section 2.8). Of the link it takes nothing; policy is asked,
	// and its user's account charged, as ever.
	Carried bool
	// User is whose account it counts in too, "" nobody's. Where there is an Asker,
	// policy says so, and whether Priority is granted.
	User string
	// Asker is who asks; nil: policy is not asked.
	Asker *Asker
}

// Control is admission control. It may be used by several goroutines.
type Control struct {
	ledger Ledger
	limit  int // reservations

	deciding sync.Mutex // from a look at the ledger to the entry in it

	mu     sync.RWMutex
	links  map[string]Link
	policy *Policy
}

// New returns admission control over links that keeps its account in ledger and
// takes at most maxReservations.
func New(ledger Ledger, maxReservations int, links ...Link) *Control {
	c := &Control{ledger: ledger, limit: maxReservations}
	c.setLinks(links)
	return c
}

// SetLinks replaces the links. Reservations stay, even on a link that now has
// less to give than it gave: those are not taken back, but none grows. They are
// counted as a new one would be from now on.
func (c *Control) SetLinks(links ...Link) error {
	c.deciding.Lock()
	defer c.deciding.Unlock()
	c.setLinks(links)
	var errs []error
	for _, l := range links {
		list, err := c.ledger.Entries(l.Name)
		errs = append(errs, err)
		for _, e := range list {
			now, _ := c.rules().entry(l, e.Request)
			if now.Burst != e.Burst || !slices.Equal(now.Shares, e.Shares) {
				errs = append(errs, c.putBack([]Entry{now}))
			}
		}
	}
	return errors.Join(errs...)
}

func (c *Control) setLinks(links []Link) {
	m := make(map[string]Link, len(links))
	for _, l := range links {
		m[l.Name] = l
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.links = m
}

// SetLevels replaces what the network behind a link carries: it depends on the
// time of day. What was granted stays when a level shrinks, and none of it grows.
func (c *Control) SetLevels(link string, levels []Level) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l, ok := c.links[link]; ok {
		l.Levels = levels
		c.links[link] = l
	}
}

// Admit decides on a request and, if it is admitted, counts it. The same request
// may come again. With the ID of an earlier one it replaces that: only the
// difference is counted, less is never refused (RFC 2211 section 5, RFC 2212),
// and a refusal leaves the earlier one in place.
func (c *Control) Admit(r Request) Decision { return c.AdmitOver(r, nil) }

// AdmitOver is Admit that makes room where there is none: it takes reservations
// of lower priority (RFC 3181), if takes lets it. The decision has them; they are
// not in the ledger any more. A caller that cannot take their place is to release
// this one and to put them back, see [Control.PutBack], and to let nobody else in
// meanwhile ([Control.Together]).
func (c *Control) AdmitOver(r Request, takes func(ID) bool) Decision {
	c.deciding.Lock()
	defer c.deciding.Unlock()
	defer c.Together()()
	old, had, err := c.ledger.Entry(r.ID)
	if err != nil {
		return Decision{Code: CodeTCSystem, Value: ValueLedger, Reason: "ledger: " + err.Error()}
	}
	replaced, err := c.setAside(r.Replaces)
	if err != nil {
		return Decision{Code: CodeTCSystem, Value: ValueLedger, Reason: "ledger: " + err.Error()}
	}
	r.Replaces = nil
	d := c.admit(r, old, had, takes)
	d.InPlace = had && !d.Admitted
	if !d.Admitted {
		if err := c.putBack(replaced); err != nil {
			d.Reason += "; ledger: " + err.Error()
		}
	}
	return d
}

func (c *Control) admit(r Request, old Entry, had bool, takes func(ID) bool) Decision {
	r, link, less, no := c.entitled(r, old, had)
	if no != nil {
		return *no
	}
	return c.commit(r, link, old, less, takes)
}

// entitled refuses what has nothing to do with how much is free; else it says as
// whose the request counts, and with which priority. less: it is no more than old,
// which is there if had.
func (c *Control) entitled(r Request, old Entry, had bool) (_ Request, link Link, less bool, no *Decision) {
	not := func(d Decision) (Request, Link, bool, *Decision) { return r, link, less, &d }
	link, ok := c.link(r.Link)
	if !ok {
		return not(refuse(CodeTCSystem, ValueNoLink, "link %q is not configured", r.Link))
	}
	if err := r.FlowSpec.Validate(); err != nil {
		if errors.Is(err, intserv.ErrService) {
			return not(refuse(CodeTrafficControl, ValueUnsupported, "%v", err))
		}
		return not(refuse(CodeTrafficControl, ValueBadFlowSpec, "bad flowspec: %v", err))
	}
	less = had && old.Link == r.Link && old.Request.FlowSpec.Covers(r.FlowSpec)
	if d, refused := checkFlow(r, link); refused && !less {
		return not(d)
	}
	if !had && c.ledger.Len() >= c.limit {
		return not(refuse(CodeTCSystem, ValueFull, "all %d reservations are in use", c.limit))
	}
	if r.Asker != nil {
		v := c.rules().judge(r.Asker, link.installed(r), r.Priority)
		switch {
		case v.no == nil:
			r.User, r.Priority = v.user, v.priority
		case less && v.user == old.Request.User && r.Priority.Setup <= old.Request.Priority.Setup && r.Priority.Hold <= old.Request.Priority.Hold:
			r.User = v.user // rules that are stricter by now do not end what is in place
		default:
			return not(*v.no)
		}
		r.Asker = nil
	}
	return r, link, less, nil
}

// checkFlow refuses what no amount of free bandwidth would help.
func checkFlow(r Request, l Link) (d Decision, refused bool) {
	f := r.FlowSpec
	if l.MTU != 0 && f.TSpec.MaxPacket > l.MTU {
		return refuse(CodeAdmission, ValueMTU, "packets of %d bytes do not fit the %d bytes MTU of %s",
			f.TSpec.MaxPacket, l.MTU, l.Name), true
	}
	if need := l.queued(r); l.Queue > 0 && need > l.Queue {
		return refuse(CodeAdmission, ValueBandwidth, "a burst of %.0f bytes is %.0f with headers, and the queue of a class on %s can hold %.0f",
			r.FlowSpec.TSpec.Bucket, need, l.Name, l.Queue), true
	}
	if r.Delay <= 0 || f.Service != intserv.Guaranteed {
		return Decision{}, false
	}
	bound, err := intserv.DelayBound(f.TSpec, f.RSpec.Rate, r.Ctot, r.Dtot)
	switch {
	case err != nil:
		return refuse(CodeAdmission, ValueDelay, "%v", err), true
	case bound > r.Delay:
		return refuse(CodeAdmission, ValueDelay, "%.0f bytes/s keep the delay within %v, asked for is %v",
			f.RSpec.Rate, bound, r.Delay), true
	}
	return Decision{}, false
}

// commit counts what is to be installed. less: it is no more than old.
func (c *Control) commit(r Request, l Link, old Entry, less bool, takes func(ID) bool) Decision {
	e, claims := c.rules().entry(l, r)
	if less && old.Request.User == "" {
		// A user who was not known then is not in the way now.
		for i := range claims {
			if claims[i].user != "" {
				claims[i].total = math.Inf(1)
			}
		}
	}
	d := Decision{Admitted: true, Installed: l.installed(r), Bandwidth: e.Bandwidth(), User: r.User, Priority: r.Priority}
	no, err := c.record(e, claims, l, old, less)
	switch {
	case err != nil:
		return refuse(CodeTCSystem, ValueLedger, "ledger: %v", err)
	case no == nil:
		return d
	}
	preempted, ok, err := c.preempt(e, limitsOf(claims), l, old, less, takes)
	switch {
	case err != nil:
		return refuse(CodeTCSystem, ValueLedger, "ledger: %v", err)
	case !ok:
		no.Crowded = true
		return *no
	}
	d.Preempted = preempted
	return d
}

func limitsOf(claims []claim) []int64 {
	limits := make([]int64, len(claims))
	for i := range claims {
		limits[i] = claims[i].limit()
	}
	return limits
}

// record commits an entry if there is room for it; else it says what was short.
func (c *Control) record(e Entry, claims []claim, l Link, old Entry, less bool) (*Decision, error) {
	u, err := c.ledger.Usage(l.Name)
	if err != nil {
		return nil, err
	}
	if d, refused := checkBursts(e, l, old, u); refused && !less {
		return &d, nil
	}
	short, ok, err := c.ledger.Commit(e, limitsOf(claims))
	if err != nil || ok {
		return nil, err
	}
	no := refuse(CodeAdmission, ValueBandwidth, "%s has no room", short.Account)
	for _, c := range claims {
		if c.Account == short.Account {
			no = c.refusal(l, short.Used)
		}
	}
	return &no, nil
}

// checkBursts refuses what would break the delay bounds that guaranteed flows on
// the link were promised: its own, or theirs. One reservation alone delays nobody.
// u is what the link has granted.
func checkBursts(e Entry, l Link, old Entry, u Usage) (d Decision, refused bool) {
	if !l.Managed() || l.Bursts <= 0 {
		return Decision{}, false
	}
	if old.Link == l.Name && old.ID == e.ID {
		if e.Burst <= old.Burst && e.guaranteed() == old.guaranteed() {
			return Decision{}, false
		}
		u = u.plus(old, -1)
	}
	u = u.plus(e, 1)
	if u.Guaranteed == 0 || u.Reservations < 2 || float64(u.Burst) <= l.Bursts {
		return Decision{}, false
	}
	return refuse(CodeAdmission, ValueDelay,
		"%d reservations on %s could send %d bytes at once, and the delay bounds of guaranteed service there leave room for %.0f",
		u.Reservations, l.Name, u.Burst, l.Bursts), true
}

// Release ends a reservation; false means that there was none.
func (c *Control) Release(id ID) (bool, error) {
	_, ok, err := c.ledger.Remove(id)
	return ok, err
}

// Reservations returns what is granted on a link.
func (c *Control) Reservations(link string) ([]Entry, error) { return c.ledger.Entries(link) }

// Sum returns what an account holds.
func (c *Control) Sum(a Account) (int64, error) { return c.ledger.Sum(a) }

func refuse(code uint8, value uint16, format string, args ...any) Decision {
	return Decision{Code: code, Value: value, Reason: fmt.Sprintf(format, args...)}
}
