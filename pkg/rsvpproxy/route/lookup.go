package route

import (
	"fmt"
	"net/netip"
	"time"
)

const (
	// fresh is how long an answer serves for the next question about the same
	// destination: a session asks several times while it is set up.
	fresh = time.Second
	// followed is the same while the kernel's changes are followed and end in
	// Forget: each refresh of each session asks.
	followed = time.Minute
	// maxAnswers bounds the answers that are kept, some 100 bytes each.
	maxAnswers = 1 << 17
)

// Hop is the answer to a route lookup.
type Hop struct {
	Index   int        // outgoing interface
	Gateway netip.Addr // invalid if the destination is on the link
	Local   bool       // the destination is this machine
}

// Table asks the kernel for routes over one socket, which is opened by the
// first question in the network namespace of the thread that asks. It is not
// safe for concurrent use.
type Table struct {
	kernel  asker
	answers map[netip.Addr]answer
	fresh   time.Duration
}

type answer struct {
	hop Hop
	at  time.Time
}

// NewTable returns a Table that has not asked yet.
func NewTable() *Table {
	return &Table{kernel: asker{fd: -1}, answers: map[netip.Addr]answer{}, fresh: fresh}
}

// Lookup asks for the route to dst.
func (t *Table) Lookup(now time.Time, dst netip.Addr) (Hop, error) {
	if a, ok := t.answers[dst]; ok && now.Sub(a.at) < t.fresh {
		return a.hop, nil
	}
	h, err := t.kernel.ask(dst)
	if err != nil {
		delete(t.answers, dst)
		return Hop{}, fmt.Errorf("route to %s: %w", dst, err)
	}
	if len(t.answers) >= maxAnswers {
		clear(t.answers)
	}
	t.answers[dst] = answer{h, now}
	return h, nil
}

// Follow says whether somebody calls Forget when routes change.
func (t *Table) Follow(yes bool) {
	t.fresh = fresh
	if yes {
		t.fresh = followed
	}
	t.Forget()
}

// Forget has everything asked anew: routes have changed.
func (t *Table) Forget() { clear(t.answers) }

// Close closes the socket; a later question opens another.
func (t *Table) Close() { t.kernel.close() }
