package etcd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/admission"
)

// Ledger is an [admission.Ledger] some of whose accounts several boxes share. It
// may be used by several goroutines.
type Ledger struct {
	opts Options
	keys keys
	self owner
	mem  *admission.Memory

	committing sync.Mutex    // one commit at a time
	writing    chan struct{} // a token: one transaction that writes at a time
	wake       chan struct{} // something is to be told
	tries      tries

	mu       sync.Mutex // never held while etcd is asked
	client   *clientv3.Client
	pots     map[string]*pot
	of       map[admission.Account]*pot
	state    State
	reason   string // why it is in that state
	since    time.Time
	lease    clientv3.LeaseID // 0: there is none
	until    time.Time        // the lease has not ended before
	marker   int64            // revision that made our marker
	together int              // nothing that was given back is told
	counters Counters

	stop context.CancelFunc
	done sync.WaitGroup
}

var _ admission.Ledger = (*Ledger)(nil)

// New returns a ledger. Until [Ledger.Start] it counts in memory alone, and grants
// nothing of shared accounts; what is committed without a limit is told then.
func New(o Options) (*Ledger, error) {
	if err := CheckName(o.Box); err != nil {
		return nil, fmt.Errorf("box %q: %w", o.Box, err)
	}
	if o.TTL < time.Second || o.Timeout <= 0 {
		return nil, errors.New("the lease lives for at least a second, and a decision needs some time")
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	l := &Ledger{
		opts: o, keys: keys{o.Prefix, o.Box}, mem: admission.NewMemory(),
		self:    owner{Instance: rand.Text(), Home: o.Home, Host: o.Host},
		writing: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		pots: map[string]*pot{}, of: map[admission.Account]*pot{},
		state: Starting, reason: "not registered yet", since: time.Now(), stop: func() {},
	}
	if _, err := o.tls(); err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	return l, nil
}

// SetShared says which accounts count in which shared ones. Entries stay: what
// they take of an account that is shared now is registered whatever its limit is.
func (l *Ledger) SetShared(m map[admission.Account]Shared) error {
	for a, s := range m {
		if err := CheckName(s.Name); err != nil {
			return fmt.Errorf("account %s is shared as %q: %w", a, s.Name, err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of = make(map[admission.Account]*pot, len(m))
	for _, p := range l.pots {
		p.accounts = nil
	}
	for a, s := range m {
		p := l.pots[s.key()]
		if p == nil {
			// Another process of this box may have a line there: nothing is sure.
			p = &pot{name: s.key(), boxes: map[string]told{}, unsure: true}
			l.pots[s.key()] = p
		}
		p.quota = s.Quota
		if p.limit != s.Limit {
			p.limit, p.unsure = s.Limit, true // to be written anew
		}
		p.accounts = append(p.accounts, a)
		l.of[a] = p
	}
	for _, p := range l.pots {
		slices.Sort(p.accounts)
	}
	l.nudge()
	return nil
}

// nudge has the shell look for what is to be told.
func (l *Ledger) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// own is what this box's entries take of a shared account. l.mu is held.
func (l *Ledger) own(p *pot) (sum int64) {
	for _, a := range p.accounts {
		n, err := l.mem.Sum(a)
		if err != nil { // memory has no way to fail
			panic(err)
		}
		sum += n
	}
	return sum
}

// ask is what an entry wants of one shared account.
type ask struct {
	pot     *pot
	account admission.Account // the entry's first that counts in it
	was     int64             // what the earlier entry with its ID takes
	amount  int64             // what the entry takes
	need    int64             // what this box then takes
	limit   int64
}

// Commit implements [admission.Ledger]. Where the entry takes more of a shared
// account than etcd has of this box, etcd is asked, for at most Options.Timeout.
// What is to be asked for in no shared account does not wait for those who ask.
func (l *Ledger) Commit(e admission.Entry, limits []int64) (admission.Short, bool, error) {
	if short, ok, done, err := l.unasked(e, limits); done {
		return short, ok, err
	}
	l.committing.Lock()
	defer l.committing.Unlock()
	l.mu.Lock()
	asks, local, err := l.asks(&e, limits)
	l.mu.Unlock()
	if err != nil {
		return admission.Short{}, false, err
	}
	if short, ok, err := l.mem.Fits(e, local); err != nil || !ok {
		return short, false, err
	}
	if short, ok, err := l.obtain(asks); err != nil || !ok {
		l.settled(asks)
		return short, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.record(e, local, asks)
}

// unasked commits an entry of which nothing is to be asked for; done: it is one, or
// there is an error.
func (l *Ledger) unasked(e admission.Entry, limits []int64) (short admission.Short, ok, done bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	asks, local, err := l.asks(&e, limits)
	if err != nil || len(asks) > 0 {
		return short, false, err != nil, err
	}
	short, ok, err = l.record(e, local, nil)
	return short, ok, true, err
}

// record commits what needs not be asked for any more. l.mu is held.
func (l *Ledger) record(e admission.Entry, local []int64, asks []ask) (admission.Short, bool, error) {
	short, ok, err := l.mem.Commit(e, local)
	for _, a := range asks {
		a.pot.claim = 0
	}
	l.nudge()
	return short, ok, err
}

// asks sorts an entry's shares into those of shared accounts in which it grows,
// and the limits of all others. l.mu is held: nothing is removed meanwhile.
func (l *Ledger) asks(e *admission.Entry, limits []int64) (list []ask, local []int64, err error) {
	local = slices.Clone(limits)
	old, _, err := l.mem.Entry(e.ID)
	if err != nil {
		return nil, nil, err
	}
	was := map[*pot]int64{}
	for _, s := range old.Shares {
		if p := l.of[s.Account]; p != nil {
			was[p] += s.Amount
		}
	}
	for i, s := range e.Shares {
		p := l.of[s.Account]
		if p == nil || i >= len(limits) {
			continue
		}
		local[i] = math.MaxInt64 // the shared account's is checked instead
		n := slices.IndexFunc(list, func(a ask) bool { return a.pot == p })
		if n < 0 {
			n = len(list)
			list = append(list, ask{pot: p, account: s.Account, was: was[p], limit: limits[i]})
		}
		list[n].amount += s.Amount
		list[n].limit = min(list[n].limit, limits[i])
	}
	for i, a := range list {
		list[i].need = l.own(a.pot) - a.was + a.amount
	}
	list = slices.DeleteFunc(list, func(a ask) bool { return a.amount <= a.was || a.limit == math.MaxInt64 })
	return list, local, nil
}

// settled ends the claims of a commit that came to nothing.
func (l *Ledger) settled(asks []ask) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range asks {
		a.pot.claim = 0
	}
	l.nudge()
}

// Remove implements [admission.Ledger]. It never waits: the other boxes learn of
// it a moment later, or when etcd is back.
func (l *Ledger) Remove(id admission.ID) (admission.Entry, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok, err := l.mem.Remove(id)
	if ok {
		l.nudge()
	}
	return e, ok, err
}

// Together has what is given back from now on kept from the other boxes until end
// is called, so that it can be put back without asking anybody.
func (l *Ledger) Together() (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.together++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.together--
		l.nudge()
	})
}

// Prepare asks etcd for what an entry will need, so that its commit need not. It
// holds no lock meanwhile but that of other commits, and its success is no
// promise. Within [Ledger.Together] what it got stays, and what it found no room for
// is not asked for again.
func (l *Ledger) Prepare(e admission.Entry, limits []int64) {
	l.committing.Lock()
	defer l.committing.Unlock()
	l.mu.Lock()
	asks, local, err := l.asks(&e, limits)
	l.mu.Unlock()
	if err != nil {
		return // Commit tells it
	}
	l.vain(asks, false)
	if _, ok, err := l.mem.Fits(e, local); err == nil && ok {
		_, ok, err := l.obtain(asks) // Commit finds the same, and tells it
		l.vain(asks, err == nil && !ok)
	}
	l.settled(asks)
}

// vain notes whether there was no room for what was asked for.
func (l *Ledger) vain(asks []ask, no bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range asks {
		if a.pot.vain = 0; no {
			a.pot.vain, a.pot.vainEnds = a.need, time.Now().Add(l.opts.Timeout)
		}
	}
}

// inVain tells whether Prepare has just asked for as much, and nothing that has been
// seen since makes room for it.
func (l *Ledger) inVain(asks []ask) (admission.Short, bool) {
	l.mu.Lock()
	now := time.Now()
	no := l.together > 0 && !slices.ContainsFunc(asks, func(a ask) bool {
		return a.pot.vain == 0 || a.need < a.pot.vain || now.After(a.pot.vainEnds)
	})
	l.mu.Unlock()
	if !no {
		return admission.Short{}, false
	}
	short, r := l.fits(asks)
	return short, r == full || r == crowded
}

// Entry implements [admission.Ledger].
func (l *Ledger) Entry(id admission.ID) (admission.Entry, bool, error) { return l.mem.Entry(id) }

// Entries implements [admission.Ledger]; they are this box's.
func (l *Ledger) Entries(link string) ([]admission.Entry, error) { return l.mem.Entries(link) }

// Below implements [admission.Ledger], of this box's entries.
func (l *Ledger) Below(link string, hold uint16) ([]admission.Entry, error) {
	return l.mem.Below(link, hold)
}

// Usage implements [admission.Ledger]; it is this box's.
func (l *Ledger) Usage(link string) (admission.Usage, error) { return l.mem.Usage(link) }

// Len implements [admission.Ledger].
func (l *Ledger) Len() int { return l.mem.Len() }

// Sum implements [admission.Ledger]: of a shared account, what all boxes hold, as
// far as this one knows.
func (l *Ledger) Sum(a admission.Account) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.of[a]; p != nil {
		hold, _ := p.others(l.opts.Box)
		return hold + l.own(p), nil
	}
	return l.mem.Sum(a)
}
