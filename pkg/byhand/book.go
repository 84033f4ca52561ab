package byhand

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Book holds the reservations by id. It has no lock.
type Book struct {
	limit int
	last  uint64 // id given out last; an id is never used twice
	byID  map[uint64]Reservation
	flows map[packet.FlowKey]uint64
}

// Reasons why a reservation is not taken, for errors.Is.
var (
	ErrFull  = errors.New("all reservations are in use")
	ErrTaken = errors.New("this flow has a reservation by hand already")
)

// New returns an empty book for so many reservations.
func New(limit int) *Book {
	return &Book{limit: limit, byID: map[uint64]Reservation{}, flows: map[packet.FlowKey]uint64{}}
}

// Add enters a reservation that Check finds nothing wrong with, and gives it an
// id. A flow has one reservation at most.
func (b *Book) Add(r Reservation) (Reservation, error) {
	if err := r.Check(); err != nil {
		return Reservation{}, err
	}
	if id, ok := b.flows[r.Flow]; ok {
		return Reservation{}, fmt.Errorf("%w: %d; release it first", ErrTaken, id)
	}
	if len(b.byID) >= b.limit {
		return Reservation{}, fmt.Errorf("%w (limits.sessions: %d)", ErrFull, b.limit)
	}
	b.last++
	r.ID = b.last
	b.put(r)
	return r, nil
}

func (b *Book) put(r Reservation) {
	b.byID[r.ID] = r
	b.flows[r.Flow] = r.ID
}

// Remove strikes a reservation out and returns it; false if there is none.
func (b *Book) Remove(id uint64) (Reservation, bool) {
	r, ok := b.byID[id]
	if ok {
		delete(b.byID, id)
		delete(b.flows, r.Flow)
	}
	return r, ok
}

// Restore puts back what Remove has struck out.
func (b *Book) Restore(r Reservation) { b.put(r) }

// Get finds a reservation by its id.
func (b *Book) Get(id uint64) (Reservation, bool) {
	r, ok := b.byID[id]
	return r, ok
}

// Of finds the reservation of a flow.
func (b *Book) Of(key packet.FlowKey) (Reservation, bool) { return b.Get(b.flows[key]) }

// Len returns how many there are.
func (b *Book) Len() int { return len(b.byID) }

// List returns all reservations, the oldest first.
func (b *Book) List() []Reservation { return sorted(slices.Collect(maps.Values(b.byID))) }

// Expired returns the reservations that are over, the oldest first.
func (b *Book) Expired(now time.Time) (list []Reservation) {
	for _, r := range b.byID {
		if r.Expired(now) {
			list = append(list, r)
		}
	}
	return sorted(list)
}

func sorted(list []Reservation) []Reservation {
	slices.SortFunc(list, func(a, b Reservation) int { return cmp.Compare(a.ID, b.ID) })
	return list
}
