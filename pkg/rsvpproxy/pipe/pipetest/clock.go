package pipetest

import (
	"slices"
	"time"
)

// Clock is the time of all boxes, and what is on its way between them.
type Clock struct {
	Now time.Time

	boxes []*Box
	wire  []arrival
}

type arrival struct {
	at time.Time
	do func()
}

// Later has something done after a while.
func (c *Clock) Later(d time.Duration, do func()) {
	c.wire = append(c.wire, arrival{c.Now.Add(d), do})
	slices.SortStableFunc(c.wire, func(a, b arrival) int { return a.at.Compare(b.at) })
}

// Run lets time pass.
func (c *Clock) Run(d time.Duration) {
	end := c.Now.Add(d)
	for {
		if next := c.next(end); next.After(c.Now) {
			c.Now = next
		}
		if !c.Now.Before(end) {
			return
		}
		for len(c.wire) > 0 && !c.wire[0].at.After(c.Now) {
			a := c.wire[0]
			c.wire = c.wire[1:]
			a.do()
		}
		for _, b := range c.boxes {
			b.Perform(b.Node.Advance(c.Now))
			if table := b.Table(); table != nil {
				b.Effects(table.Advance(c.Now))
			}
			b.Check()
		}
	}
}

// next is when something is due, at most end.
func (c *Clock) next(end time.Time) time.Time {
	next := end
	earlier := func(at time.Time, ok bool) {
		if ok && at.Before(next) {
			next = at
		}
	}
	if len(c.wire) > 0 {
		earlier(c.wire[0].at, true)
	}
	for _, b := range c.boxes {
		earlier(b.Node.NextDeadline())
		if table := b.Table(); table != nil {
			earlier(table.NextDeadline())
		}
	}
	return next
}
