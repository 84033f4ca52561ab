package admission

import (
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// LinkUsage is a link and what it granted.
type LinkUsage struct {
	Link
	Usage
	Free float64 // bytes/s that can still be granted; +Inf on an unmanaged link
}

// Usage returns a link's state; false means that it is not configured.
func (c *Control) Usage(link string) (LinkUsage, bool, error) {
	l, ok := c.link(link)
	if !ok {
		return LinkUsage{}, false, nil
	}
	u, err := c.ledger.Usage(link)
	if err != nil {
		return LinkUsage{}, true, err
	}
	held, err := c.ledger.Sum(LinkAccount(link)) // of all boxes, if several share it
	return LinkUsage{Link: l, Usage: u, Free: max(0, l.grants()-float64(held))}, true, err
}

func (c *Control) link(name string) (Link, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	l, ok := c.links[name]
	return l, ok
}

// Balance is what an account holds and may hold, in the account's units.
type Balance struct {
	Granted int64
	Limit   float64 // +Inf: none of its own
}

// Free is what the account has left; +Inf: it has no limit.
func (b Balance) Free() float64 { return max(0, b.Limit-float64(b.Granted)) }

func (c *Control) balance(a Account, limit float64) (Balance, error) {
	n, err := c.ledger.Sum(a)
	return Balance{n, limit}, err
}

// ServiceUsage is what a link granted to one service, in bytes/s.
type ServiceUsage struct {
	Service intserv.Service
	Balance
}

// Services returns what a link granted to each service.
func (c *Control) Services(link string) (list []ServiceUsage, err error) {
	l, ok := c.link(link)
	if !ok {
		return nil, nil
	}
	for _, s := range []intserv.Service{intserv.Guaranteed, intserv.ControlledLoad} {
		b, err := c.balance(ServiceAccount(link, s), min(l.ceiling(s), l.grants()*l.overbooking(s)))
		if err != nil {
			return nil, err
		}
		list = append(list, ServiceUsage{s, b})
	}
	return list, nil
}

// LevelUsage is what a link granted of one service level.
type LevelUsage struct {
	DSCP        uint8
	Rate, Burst Balance // bytes/s, bytes
	Sold        bool    // the contract has it; or there is no contract
	Closed      bool    // not at this time of day
}

// Levels returns the service levels of a link, by DSCP: those that it can grant and
// those that it has granted.
func (c *Control) Levels(link string) (list []LevelUsage, err error) {
	l, ok := c.link(link)
	if !ok {
		return nil, nil
	}
	for code := range uint8(dscp.Max + 1) {
		v, none := l.level(code)
		u := LevelUsage{DSCP: code, Sold: none == "" || v.Closed, Closed: v.Closed}
		if u.Rate, err = c.balance(LevelAccount(link, code), v.Rate); err != nil {
			return nil, err
		}
		if u.Burst, err = c.balance(BurstAccount(link, code), v.Burst); err != nil {
			return nil, err
		}
		if l.Contract && u.Sold || u.Rate.Granted > 0 || u.Burst.Granted > 0 {
			list = append(list, u)
		}
	}
	return list, nil
}

// Rest is what a new reservation of a service could get of a link at most, whatever
// its level is, in bytes/s; +Inf where nothing limits it.
func (c *Control) Rest(link string, s intserv.Service) (float64, error) {
	u, ok, err := c.Usage(link)
	if !ok || err != nil {
		return 0, err
	}
	b, err := c.balance(ServiceAccount(link, s), u.ceiling(s))
	if err != nil {
		return 0, err
	}
	rest := min(u.Free*u.overbooking(s), b.Free())
	if !u.Contract {
		return rest, nil
	}
	level := 0.0
	for _, v := range u.Levels {
		if v.Closed {
			continue
		}
		b, err := c.balance(LevelAccount(link, v.DSCP), v.Rate)
		if err != nil {
			return 0, err
		}
		level = max(level, b.Free())
	}
	return min(rest, level), nil
}
