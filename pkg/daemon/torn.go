package daemon

import (
	"time"

	"go.uber.org/zap"
)

// RSVP has no message that changes the style of a reservation: it is torn down,
// and RESV asks for another one at once (RFC 2205 section 2.4 has styles not mix).
// So what a next hop has taken back keeps its treatment for a moment, in which
// a new reservation for the same flows takes it over: in the kernel without a
// gap, in the ledger without being counted twice, and without the end of a
// connection's cheating. If another reservation needs the room, it goes at once.

// tornTime is that moment: a RESV that was lost on the way is sent again within
// it (RFC 2961 section 6, or the quick refreshes of RFC 2205 section 3.7).
const tornTime = time.Second

// Torn is Release of what a next hop has taken back.
func (t *trafficControl) Torn(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.held[id]
	delete(t.held, id)
	if r == nil || len(r.keys) == 0 { // nothing is treated that could be taken over
		t.end(id, r, whyTorn)
		return
	}
	t.torn[id] = r
	r.expire = time.AfterFunc(tornTime, func() { t.expireTorn(id) })
}

// expireTorn ends what nobody has taken over.
func (t *trafficControl) expireTorn(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.torn[id]; r != nil {
		t.dropTorn(r)
	}
}

func (t *trafficControl) dropTorn(r *reservation) {
	r.expire.Stop()
	delete(t.torn, r.id)
	t.end(r.id, r, whyTorn)
}

// succeeds lists the reservations on the interface that were taken back and
// whose flows now has.
func (t *trafficControl) succeeds(now *reservation) (list []*reservation) {
	seen := map[uint64]bool{}
	for _, key := range now.keys {
		r := t.byKey[place(now.iface, key)]
		if r != nil && t.torn[r.id] == r && r.iface == now.iface && !seen[r.id] {
			seen[r.id] = true
			list = append(list, r)
		}
	}
	return list
}

// succeeded follows the answer to a reservation that would take the place of
// these in the ledger, where they are not any more. One whose place was taken
// before, and not by this one, has none to come back to.
func (t *trafficControl) succeeded(list []*reservation, granted bool) {
	for _, r := range list {
		if !granted {
			if r.spent {
				continue
			}
			if err := t.admit.Hold(r.request(r.flow)); err != nil {
				t.log.Error("ledger not brought back", zap.Uint64("reservation", r.id), zap.Error(err))
			}
			continue
		}
		r.spent = true
		rest := false
		for _, key := range r.keys {
			rest = rest || t.byKey[place(r.iface, key)] == r
		}
		if !rest {
			t.dropTorn(r)
		}
	}
}

// endTorn makes room on an interface: what was taken back there goes at once, but
// for what is to be taken over. False: there was nothing.
func (t *trafficControl) endTorn(iface string, but []*reservation) (ended bool) {
	for _, r := range t.torn {
		spared := r.iface != iface
		for _, b := range but {
			spared = spared || b == r
		}
		if !spared {
			t.dropTorn(r)
			ended = true
		}
	}
	return ended
}

// close ends what was taken back a moment ago, or leaves it to the next process.
func (t *trafficControl) close(keep bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for id, r := range t.torn {
		if !keep {
			t.dropTorn(r)
			continue
		}
		r.expire.Stop()
		delete(t.torn, id)
	}
}
