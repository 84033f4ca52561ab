package config

import (
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Aggregate says that an interface leads into an aggregation region (RFC 3175), and how
// large the aggregates are made that come out of it.
type Aggregate struct {
	Step      uint64 // bytes/s: aggregates are multiples of it
	High, Low float64
	Hold      time.Duration // how long one is too large before it shrinks
	Most      uint64        // bytes/s that one which goes in may grow to
}

type rawAggregate struct {
	block
	step, most opt[uint64]
	high, low  opt[uint64] // hundredths of a per cent
	hold       opt[time.Duration]
}

// Defaults of an Aggregate.
const (
	defaultStep = 125_000 // 1 Mbit/s
	defaultHigh = 9000
	defaultLow  = 5000
	defaultHold = time.Minute
	// defaultMost is for interfaces without capacity.
	defaultMost = 10e9 / 8
	// apart is the most that the low mark may be of the high one.
	apart = 0.8
)

func (i *rawInterface) aggregateOf(d *decoder, n ast.Node, key string) {
	var a rawAggregate
	rate := "a bit rate from 8kbit to 1000gbit, such as 1mbit"
	a.block = d.mapping(n, key, map[string]field{
		"step": quantityOf(&a.step, ParseRate, minLink, maxRate, rate),
		"most": quantityOf(&a.most, ParseRate, minLink, maxRate, rate),
		"high": quantityOf(&a.high, ParseShare, 100, 10000, "a share of the aggregate from 1% to 100%, such as 90%"),
		"low":  quantityOf(&a.low, ParseShare, 100, 10000, "a share of the aggregate from 1% to 100%, such as 50%"),
		"hold": duration(&a.hold, time.Second, durationLimit, "a duration from 1s to 168h, such as 1m"),
	})
	i.aggregate.put(a, n)
}

// aggregateOn checks what is said of an interface as one into a region; nil: nothing.
func (d *decoder) aggregateOn(i *rawInterface) *Aggregate {
	if !i.aggregate.set {
		return nil
	}
	a := i.aggregate.v
	if i.zone.set && i.zone.v != ZoneNetwork {
		d.errorf(i.aggregate.at, "aggregate is for interfaces with zone: network: it says that routers of an aggregation region are there")
	}
	if i.tunnel.set {
		d.errorf(i.aggregate.at, "a tunnel carries all reservations in one already (RFC 2746): remove aggregate, or tunnel")
	}
	if i.region.set {
		d.errorf(i.aggregate.at, "region is for routers that do not speak RSVP, aggregate for such as do: remove one of the two")
	}
	if i.classify.set && i.classify.v == ClassifyDSCP {
		d.errorf(i.classify.at, "flows that go into an aggregation region are marked here, and with classify: dscp they are not: remove classify, it is for routers inside")
	}
	reservable := i.capacity.v * i.reservable.or(defaultReservable) / 10000
	out := &Aggregate{
		Step: a.step.or(defaultStep), Hold: a.hold.or(defaultHold),
		High: float64(a.high.or(defaultHigh)) / 10000, Low: float64(a.low.or(defaultLow)) / 10000,
		Most: a.most.or(reservable),
	}
	if !a.low.set && a.high.set {
		out.Low = min(out.Low, out.High*defaultLow/defaultHigh)
	}
	if out.Most == 0 && !i.capacity.set {
		out.Most = defaultMost
	}
	if !a.step.set {
		out.Step = min(out.Step, out.Most)
	}
	switch {
	case i.capacity.set && out.Most > reservable:
		d.errorf(a.most.at, "aggregates of more than reservable (%s) are never granted: lower most, or raise reservable", formatRate(reservable))
	case a.most.set && len(i.sls) > 0 && out.Most > largest(i.sls):
		d.errorf(a.most.at, "aggregates of more than the largest level in sls (%s) are never granted: lower most, or raise rate there if more was bought", formatRate(largest(i.sls)))
	case out.Step > out.Most:
		d.errorf(a.step.at, "a step of %s is more than an aggregate may have (%s): lower step", formatRate(out.Step), formatRate(out.Most))
	}
	if out.Low > out.High*apart {
		at := a.low.at
		if !a.low.set {
			at = a.high.at
		}
		d.errorf(at, "the low mark is too near to the high one: flows that come and go would change the aggregate all the time: low may be at most four fifths of high")
	}
	return out
}

func largest(rows []rawLevel) (rate uint64) {
	for _, l := range rows {
		if !l.rate.set {
			return maxRate // it has its own error
		}
		rate = max(rate, l.rate.v)
	}
	return rate
}

// interior refuses a region of which nothing is outside: its interior routers have
// nothing to do for it (RFC 3175 section 2.2).
func (d *decoder) interior(r *rawConfig) {
	for i := range r.interfaces {
		if !r.interfaces[i].aggregate.set {
			return
		}
	}
	if len(r.interfaces) > 0 {
		d.errorf(r.interfaces[0].aggregate.at, "all interfaces have aggregate, and a router inside of the region needs none: remove it from all, or from those that lead out of the region")
	}
}
