package admission

import (
	"cmp"
	"errors"
	"slices"
)

// wanting is an entry that there is no room for: the sums that it would be part
// of, and their limits.
type wanting struct {
	entry  Entry
	limits []int64 // parallel to the entry's shares
	sums   []int64 // of these accounts, without the entry that it replaces
	was    Entry   // that one; zero: none
	// bursts says whether the link bears what could be sent at once, when entries
	// of so many bytes in all, of which so many are of guaranteed service, have gone.
	bursts func(without Usage) bool
}

// fits says whether there is room once the sums are smaller by freed, and the
// link's usage by gone.
func (w *wanting) fits(freed []int64, gone Usage) bool {
	for i, s := range w.entry.Shares {
		if s.Amount > w.was.of(s.Account) && s.Amount > w.limits[i]-(w.sums[i]-freed[i]) {
			return false
		}
	}
	return w.bursts(gone)
}

// victims chooses which of the candidates make room for w (RFC 3181): only those
// whose hold priority is below its setup priority, the lowest first, and of equals
// the largest, then the newest. None that is not needed is among them; nil: not
// even all of them would make room.
func (w *wanting) victims(candidates []Entry) []Entry {
	list := make([]*Entry, 0, len(candidates))
	for i := range candidates {
		if e := &candidates[i]; e.ID != w.entry.ID && e.Request.Priority.Hold < w.entry.Request.Priority.Setup {
			list = append(list, e)
		}
	}
	freed, gone := make([]int64, len(w.entry.Shares)), Usage{}
	count := func(e *Entry, sign int) {
		for i, s := range w.entry.Shares {
			freed[i] += int64(sign) * e.of(s.Account)
		}
		if e.Link == w.entry.Link {
			gone = gone.plus(*e, sign)
		}
	}
	for _, e := range list {
		count(e, 1)
	}
	if !w.fits(freed, gone) {
		return nil
	}
	clear(freed)
	gone = Usage{}
	slices.SortFunc(list, func(a, b *Entry) int {
		return cmp.Or(
			cmp.Compare(a.Request.Priority.Hold, b.Request.Priority.Hold), cmp.Compare(b.Bandwidth(), a.Bandwidth()),
			cmp.Compare(len(b.ID), len(a.ID)), cmp.Compare(b.ID, a.ID), // ids count up
		)
	})
	n := 0
	for ; !w.fits(freed, gone); n++ { // all of them do
		count(list[n], 1)
	}
	var out []Entry
	for _, e := range slices.Backward(list[:n]) { // the most important may stay first of all
		count(e, -1)
		if !w.fits(freed, gone) {
			count(e, 1)
			out = append(out, *e)
		}
	}
	slices.Reverse(out)
	return out
}

// preempt finds room for an entry that was refused for want of it, at the cost of
// those that may be taken. The entry is recorded, and theirs are not any more.
// false: there is none, and nobody is disturbed.
func (c *Control) preempt(e Entry, limits []int64, l Link, old Entry, less bool, takes func(ID) bool) ([]Entry, bool, error) {
	if takes == nil || e.Request.Priority.Setup == 0 || c.rules().Stay {
		return nil, false, nil
	}
	w := wanting{entry: e, limits: limits, was: old}
	for _, s := range e.Shares {
		sum, err := c.ledger.Sum(s.Account)
		if err != nil {
			return nil, false, err
		}
		w.sums = append(w.sums, sum-old.of(s.Account))
	}
	usage, err := c.ledger.Usage(l.Name)
	if err != nil {
		return nil, false, err
	}
	w.bursts = func(gone Usage) bool {
		u := usage
		u.Reservations, u.Burst, u.Guaranteed = u.Reservations-gone.Reservations, u.Burst-gone.Burst, u.Guaranteed-gone.Guaranteed
		_, refused := checkBursts(e, l, old, u)
		return !refused || less
	}
	candidates, err := c.candidates(&w, takes)
	if err != nil {
		return nil, false, err
	}
	victims := w.victims(candidates)
	if len(victims) == 0 {
		return nil, false, nil
	}
	ids := make([]ID, 0, len(victims))
	for i := range victims {
		ids = append(ids, victims[i].ID)
	}
	gone, err := c.setAside(ids)
	if err != nil {
		return nil, false, err
	}
	_, ok, err := c.ledger.Commit(e, limits)
	if err != nil || !ok { // others who share an account were faster
		return nil, false, errors.Join(err, c.putBack(gone))
	}
	return gone, true, nil
}

// candidates are the entries that could make room: those on the same link and,
// where a user has no room, the user's on all links.
func (c *Control) candidates(w *wanting, takes func(ID) bool) (list []Entry, err error) {
	links := []string{w.entry.Link}
	var user Account
	if u := w.entry.Request.User; u != "" {
		user = UserAccount(u)
		c.mu.RLock()
		for name := range c.links {
			if name != w.entry.Link {
				links = append(links, name)
			}
		}
		c.mu.RUnlock()
	}
	for i, link := range links {
		entries, err := c.ledger.Below(link, w.entry.Request.Priority.Setup)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if takes(e.ID) && (i == 0 && !e.Request.Carried || e.of(user) > 0) {
				list = append(list, e)
			}
		}
	}
	return list, nil
}
