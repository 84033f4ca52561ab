package fair

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// forget is how long a neighbour that gave no sign of life keeps its share:
	// longer than state of the default refresh period lives without one.
	forget = 5 * time.Minute
	// stale is how long a neighbour has to be silent before a new one may have
	// its place in a full table.
	stale = time.Minute
	// sweepEvery is how often those that are to be forgotten are looked for.
	sweepEvery = 10 * time.Second
)

// Key is a neighbour: an address as it is seen by an interface. What claims to
// be somebody known on another interface is somebody else.
type Key struct {
	Iface int
	Addr  netip.Addr
}

// Verdict is what becomes of a message.
type Verdict uint8

// The verdicts.
const (
	Own      Verdict = iota // within the neighbour's own share
	Borrowed                // beyond it, out of what others leave
	Over                    // refused
	Stranger                // refused, and from somebody who holds no state here
)

// Table is the rate of messages a second, shared out in two steps: every
// interface has the same share of it, and within that share every neighbour
// that holds state here, with one further share for all strangers together. What
// is not used is there for anybody. So one that floods takes what is left over,
// and never what another needs; and one that makes up addresses takes at most
// its interface's share. It may be used by several goroutines.
type Table struct {
	rate      float64
	mu        sync.Mutex
	ifaces    int
	common    float64 // tokens for anybody; below zero when own shares were used without
	last      time.Time
	swept     time.Time
	neighbors map[Key]*neighbor
	places    *Quota         // in neighbors
	groups    map[int]*group // by interface
}

type neighbor struct {
	bucket
	seen time.Time // when it last held state
}

// group is the neighbours of an interface.
type group struct {
	known     int
	strangers bucket
}

type bucket struct {
	tokens float64
	last   time.Time
}

// NewTable returns a table without neighbours. A rate of zero or less is no
// limit.
func NewTable(rate float64, neighbors int) *Table {
	return &Table{
		rate: rate, ifaces: 1, places: NewQuota(neighbors),
		neighbors: map[Key]*neighbor{}, groups: map[int]*group{},
	}
}

// SetInterfaces tells among which interfaces the rate, and the places for
// neighbours, are shared out.
func (t *Table) SetInterfaces(list ...int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ifaces = max(len(list), 1)
	t.places.SetInterfaces(list...)
}

// Allow takes a message of k into account.
func (t *Table) Allow(now time.Time, k Key) Verdict {
	if t.rate <= 0 {
		return Own
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fill(now)
	g := t.group(k.Iface)
	n, known := t.neighbors[k]
	b := &g.strangers
	if known {
		b = &n.bucket
	}
	switch {
	case b.take(now, t.share(g)):
		// A share holds even while others have used up what is common.
		t.common = max(t.common-1, -t.rate)
		return Own
	case t.common >= 1:
		t.common--
		return Borrowed
	case known:
		return Over
	default:
		return Stranger
	}
}

// Know tells that a neighbour holds state here, and so has a share of its own
// from now on. Where there is no place for it, it stays among the strangers.
func (t *Table) Know(now time.Time, k Key) {
	if t.rate <= 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.neighbors[k]; n != nil {
		n.seen = now
		return
	}
	if t.places.Take(k.Iface) || t.makeRoom(now, k.Iface) && t.places.Take(k.Iface) {
		t.neighbors[k] = &neighbor{seen: now}
		t.group(k.Iface).known++
	}
}

// Known is how many neighbours have a share of their own.
func (t *Table) Known() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.neighbors)
}

func (t *Table) group(iface int) *group {
	g := t.groups[iface]
	if g == nil {
		g = &group{}
		t.groups[iface] = g
	}
	return g
}

// share is the messages a second of one neighbour in g.
func (t *Table) share(g *group) float64 {
	return t.rate / float64(t.ifaces*(g.known+1))
}

// fill lets time pass.
func (t *Table) fill(now time.Time) {
	if t.last.IsZero() {
		t.common, t.swept = t.rate, now
	} else if d := now.Sub(t.last); d > 0 {
		t.common = min(t.rate, t.common+d.Seconds()*t.rate)
	}
	t.last = now
	if now.Sub(t.swept) >= sweepEvery {
		t.swept = now
		for k, n := range t.neighbors {
			if now.Sub(n.seen) > forget {
				t.remove(k)
			}
		}
	}
}

// makeRoom takes the place of the neighbour of an interface that has been silent
// longest, or of one of an interface that has more of them.
func (t *Table) makeRoom(now time.Time, iface int) bool {
	var (
		oldest Key
		found  bool
		at     = now.Add(-stale)
	)
	for k, n := range t.neighbors {
		if n.seen.Before(at) && (k.Iface == iface || t.places.Held(k.Iface) > t.places.Held(iface)) {
			oldest, at, found = k, n.seen, true
		}
	}
	if found {
		t.remove(oldest)
	}
	return found
}

func (t *Table) remove(k Key) {
	delete(t.neighbors, k)
	t.groups[k.Iface].known--
	t.places.Give(k.Iface, 1)
}

// take takes a token; the bucket holds what a second brings, and one at least.
func (b *bucket) take(now time.Time, rate float64) bool {
	most := max(rate, 1)
	if b.last.IsZero() {
		b.tokens = most
	} else if d := now.Sub(b.last); d > 0 {
		b.tokens += d.Seconds() * rate
	}
	b.tokens, b.last = min(b.tokens, most), now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
