package admission

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// ID names a reservation; it is the caller's.
type ID string

// Entry is one line of the account.
type Entry struct {
	ID        ID
	Link      string
	Bandwidth int64 // bytes/s counted against the link
	Burst     int64 // bytes that it may send at once, see [Link]
	Request   Request
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
	u.Bandwidth += int64(sign) * e.Bandwidth
	u.Burst += int64(sign) * e.Burst
	if e.guaranteed() {
		u.Guaranteed += sign
	}
	return u
}

func (e *Entry) guaranteed() bool { return e.Request.FlowSpec.Service == intserv.Guaranteed }

// Ledger keeps the account of all links. Commit must be atomic: with a ledger
// that several boxes share, two of them may ask for the last of a link at once.
type Ledger interface {
	// Commit records e in place of the entry with its ID, unless the link's sum
	// would pass limit. An entry that does not grow on its link is always
	// recorded. used is the link's sum without the earlier entry.
	Commit(e Entry, limit int64) (used int64, ok bool, err error)
	// Remove deletes an entry; ok is false when there was none.
	Remove(id ID) (e Entry, ok bool, err error)
	// Entry returns an entry.
	Entry(id ID) (e Entry, ok bool, err error)
	// Entries returns a link's entries in the order of their IDs.
	Entries(link string) ([]Entry, error)
	// Usage returns a link's sum.
	Usage(link string) (Usage, error)
	// Len returns how many entries there are.
	Len() int
}

// Memory is a Ledger of this process alone. It may be used by several goroutines.
type Memory struct {
	mu      sync.Mutex
	entries map[ID]Entry
	links   map[string]Usage
}

// NewMemory returns an empty ledger.
func NewMemory() *Memory {
	return &Memory{entries: map[ID]Entry{}, links: map[string]Usage{}}
}

// Commit implements [Ledger].
func (m *Memory) Commit(e Entry, limit int64) (used int64, ok bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, had := m.entries[e.ID]
	used = m.links[e.Link].Bandwidth
	grows := true
	if had && old.Link == e.Link {
		used -= old.Bandwidth
		grows = e.Bandwidth > old.Bandwidth
	}
	if grows && e.Bandwidth > limit-used {
		return used, false, nil
	}
	if had {
		m.count(old, -1)
	}
	m.entries[e.ID] = e
	m.count(e, 1)
	return used, true, nil
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

// Usage implements [Ledger].
func (m *Memory) Usage(link string) (Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.links[link], nil
}

// Len implements [Ledger].
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries)
}

// count adds e to its link's sum, or takes it away; m.mu is held.
func (m *Memory) count(e Entry, sign int) {
	u := m.links[e.Link].plus(e, sign)
	if u.Reservations == 0 {
		delete(m.links, e.Link)
		return
	}
	m.links[e.Link] = u
}
