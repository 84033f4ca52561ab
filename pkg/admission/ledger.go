package admission

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// ID names a reservation; it is the caller's.
type ID string

// Entry is one line of the ledger.
type Entry struct {
	ID   ID
	Link string
	// Shares are what it takes of each account, none of which is named twice. The
	// first is the link's.
	Shares  []Share
	Burst   int64 // bytes that it may send at once, see [Link]
	Request Request
}

// Bandwidth is what the entry takes of its link, in bytes/s.
func (e *Entry) Bandwidth() int64 {
	if len(e.Shares) == 0 {
		return 0
	}
	return e.Shares[0].Amount
}

// of is what the entry takes of an account.
func (e *Entry) of(a Account) int64 {
	for _, s := range e.Shares {
		if s.Account == a {
			return s.Amount
		}
	}
	return 0
}

// check tells what a ledger cannot count.
func (e *Entry) check(limits []int64) error {
	if len(limits) != len(e.Shares) {
		return fmt.Errorf("entry %s: %d limits for %d accounts", e.ID, len(limits), len(e.Shares))
	}
	for i, s := range e.Shares {
		if s.Amount < 0 || s.Amount > maxUnits {
			return fmt.Errorf("entry %s: %d is no share of %s", e.ID, s.Amount, s.Account)
		}
		for _, o := range e.Shares[:i] {
			if o.Account == s.Account {
				return fmt.Errorf("entry %s: %s is named twice", e.ID, s.Account)
			}
		}
	}
	return nil
}

// Usage is what a link has granted.
type Usage struct {
	Reservations int
	Bandwidth    int64 // bytes/s
	Burst        int64 // bytes that all of them may send at once
	Guaranteed   int   // reservations of guaranteed service
}

// plus returns u with an entry more (sign 1) or less (-1).
func (u Usage) plus(e Entry, sign int) Usage {
	u.Reservations += sign
	u.Bandwidth += int64(sign) * e.Bandwidth()
	u.Burst += int64(sign) * e.Burst
	if e.guaranteed() {
		u.Guaranteed += sign
	}
	return u
}

func (e *Entry) guaranteed() bool {
	return e.Request.FlowSpec.Service == intserv.Guaranteed && !e.Request.Carried
}

// noLimit is the limit of an account that has none.
const noLimit = math.MaxInt64

// Ledger keeps all accounts. Commit must be atomic: with a ledger that several
// boxes share, two of them may ask for the last of an account at once.
type Ledger interface {
	// Commit records e in place of the entry with its ID, whatever accounts that
	// was counted in, unless the sum of one of e's accounts would pass its limit:
	// then short names the first of them, and nothing is changed. limits are
	// parallel to e.Shares; math.MaxInt64 is none. An account in which e does not
	// take more than the earlier entry is never in the way.
	Commit(e Entry, limits []int64) (short Short, ok bool, err error)
	// Remove deletes an entry; ok is false when there was none.
	Remove(id ID) (e Entry, ok bool, err error)
	// Entry returns an entry.
	Entry(id ID) (e Entry, ok bool, err error)
	// Entries returns a link's entries in the order of their IDs.
	Entries(link string) ([]Entry, error)
	// Below returns a link's entries whose hold priority is below one, in any order.
	Below(link string, hold uint16) ([]Entry, error)
	// Usage returns what the entries of a link sum up to.
	Usage(link string) (Usage, error)
	// Sum returns what an account holds.
	Sum(a Account) (int64, error)
	// Len returns how many entries there are.
	Len() int
}

// Memory is a Ledger of this process alone. It may be used by several goroutines.
type Memory struct {
	mu       sync.Mutex
	entries  map[ID]Entry
	links    map[string]Usage
	accounts map[Account]int64 // without those that hold nothing
	// holds counts the entries of a link by their hold priority.
	holds map[string]map[uint16]int
}

// NewMemory returns an empty ledger.
func NewMemory() *Memory {
	return &Memory{entries: map[ID]Entry{}, links: map[string]Usage{}, accounts: map[Account]int64{}, holds: map[string]map[uint16]int{}}
}

// Commit implements [Ledger].
func (m *Memory) Commit(e Entry, limits []int64) (Short, bool, error) {
	if err := e.check(limits); err != nil {
		return Short{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if short, ok := m.fits(&e, limits); !ok {
		return short, false, nil
	}
	old, had := m.entries[e.ID]
	if had {
		m.count(old, -1)
	}
	m.entries[e.ID] = e
	m.count(e, 1)
	return Short{}, true, nil
}

// Fits tells what Commit would say, and changes nothing.
func (m *Memory) Fits(e Entry, limits []int64) (Short, bool, error) {
	if err := e.check(limits); err != nil {
		return Short{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	short, ok := m.fits(&e, limits)
	return short, ok, nil
}

// fits looks for the first account that has no room; m.mu is held.
func (m *Memory) fits(e *Entry, limits []int64) (Short, bool) {
	old := m.entries[e.ID]
	for i, s := range e.Shares {
		was := old.of(s.Account)
		used := m.accounts[s.Account] - was
		if s.Amount > was && s.Amount > limits[i]-used {
			return Short{s.Account, used}, false
		}
	}
	return Short{}, true
}

// Remove implements [Ledger].
func (m *Memory) Remove(id ID) (Entry, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[id]
	if ok {
		delete(m.entries, id)
		m.count(e, -1)
	}
	return e, ok, nil
}

// Entry implements [Ledger].
func (m *Memory) Entry(id ID) (Entry, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[id]
	return e, ok, nil
}

// Entries implements [Ledger].
func (m *Memory) Entries(link string) ([]Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var es []Entry
	for e := range maps.Values(m.entries) {
		if e.Link == link {
			es = append(es, e)
		}
	}
	slices.SortFunc(es, func(a, b Entry) int { return cmp.Compare(a.ID, b.ID) })
	return es, nil
}

// Below implements [Ledger].
func (m *Memory) Below(link string, hold uint16) ([]Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for h, count := range m.holds[link] {
		if h < hold {
			n += count
		}
	}
	if n == 0 { // as a rule, and then there is nothing to look through
		return nil, nil
	}
	es := make([]Entry, 0, n)
	for _, e := range m.entries {
		if e.Link == link && e.Request.Priority.Hold < hold {
			es = append(es, e)
		}
	}
	return es, nil
}

// Usage implements [Ledger].
func (m *Memory) Usage(link string) (Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.links[link], nil
}

// Sum implements [Ledger].
func (m *Memory) Sum(a Account) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.accounts[a], nil
}

// Len implements [Ledger].
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries)
}

// count adds e to the sums that it is part of, or takes it away; m.mu is held.
func (m *Memory) count(e Entry, sign int) {
	if u := m.links[e.Link].plus(e, sign); u.Reservations == 0 {
		delete(m.links, e.Link)
	} else {
		m.links[e.Link] = u
	}
	m.countHold(e.Link, e.Request.Priority.Hold, sign)
	for _, s := range e.Shares {
		if sum := m.accounts[s.Account] + int64(sign)*s.Amount; sum == 0 {
			delete(m.accounts, s.Account)
		} else {
			m.accounts[s.Account] = sum
		}
	}
}

func (m *Memory) countHold(link string, hold uint16, sign int) {
	h := m.holds[link]
	if h == nil {
		h = map[uint16]int{}
		m.holds[link] = h
	}
	if h[hold] += sign; h[hold] == 0 {
		delete(h, hold)
	}
	if len(h) == 0 {
		delete(m.holds, link)
	}
}
