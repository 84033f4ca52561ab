package admission

import (
	"errors"
	"fmt"
	"slices"
)

// Hold counts a reservation that is in force already, whatever its link has
// left: what an earlier process granted must not be granted again while its
// neighbours may still claim it.
func (c *Control) Hold(r Request) error {
	c.deciding.Lock()
	defer c.deciding.Unlock()
	link, ok := c.link(r.Link)
	if !ok {
		return fmt.Errorf("link %q is not configured", r.Link)
	}
	e, _ := c.rules().entry(link, r)
	return c.putBack([]Entry{e})
}

// setAside takes entries out of the account while a decision is made.
func (c *Control) setAside(list []ID) (out []Entry, err error) {
	for _, id := range list {
		e, ok, err := c.ledger.Remove(id)
		if err != nil {
			return nil, errors.Join(err, c.putBack(out))
		}
		if ok {
			out = append(out, e)
		}
	}
	return out, nil
}

// PutBack counts again what was preempted, for a reservation that cannot be made.
func (c *Control) PutBack(list []Entry) error {
	c.deciding.Lock()
	defer c.deciding.Unlock()
	return c.putBack(list)
}

// putBack counts entries whatever their links have left.
func (c *Control) putBack(list []Entry) error {
	var errs []error
	for _, e := range list {
		limits := slices.Repeat([]int64{noLimit}, len(e.Shares))
		if _, _, err := c.ledger.Commit(e, limits); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
