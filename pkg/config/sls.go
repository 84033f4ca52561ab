package config

import (
	"fmt"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// ServiceLevel is one row of an SLS table: what the network behind the interface
// carries with one DSCP, all day or between two times of day. Outside of the rows
// of a class it has nothing.
type ServiceLevel struct {
	Class uint8  // DSCP
	Rate  uint64 // bytes/s
	Burst uint64 // bytes, of all flows together
	// Excess is what becomes of packets beyond that, which no reservation covers.
	Excess Excess
	// From and Until are times of day by the clock on the box's wall, since
	// midnight. From is in, Until is out, and may come before From: over midnight.
	From, Until time.Duration
	// Shared is the name under which other boxes draw from the level too, of all
	// rows of the class; empty: none do.
	Shared string
	Line   int
}

// day is the Until of a row that names no times.
const day = 24 * time.Hour

// At tells whether the row is in force at a time of day.
func (s ServiceLevel) At(t time.Duration) bool {
	if s.From < s.Until {
		return s.From <= t && t < s.Until
	}
	return s.From <= t || t < s.Until
}

// Times is the row's time of day as the file has it; "" is all day.
func (s ServiceLevel) Times() string {
	if s.From == 0 && s.Until == day {
		return ""
	}
	return clock(s.From) + "-" + clock(s.Until)
}

func clock(t time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(t.Hours()), int(t.Minutes())%60)
}

type rawLevel struct {
	block
	class       opt[uint8]
	rate, burst opt[uint64]
	excess      opt[Excess]
	from, until opt[time.Duration]
	shared      opt[string]
}

const maxLevels = 256 // rows: four of each class

func (i *rawInterface) slsRow(d *decoder, n ast.Node, what string) {
	var l rawLevel
	l.block = d.mapping(n, what, map[string]field{
		"class":  phb(&l.class),
		"rate":   quantityOf(&l.rate, ParseRate, minRate, maxRate, rateWords),
		"burst":  size(&l.burst, 1, maxBurst, sizeWords+" up to 1024MiB"),
		"excess": excess(&l.excess),
		"from":   timeOfDay(&l.from, day-time.Minute),
		"until":  timeOfDay(&l.until, day),
		"shared": text(&l.shared, "a name"),
	})
	i.sls = append(i.sls, l)
}

// timeOfDay is a field that takes hours and minutes.
func timeOfDay(o *opt[time.Duration], last time.Duration) field {
	want := fmt.Sprintf("a time of day from 00:00 to %s, such as 08:00", clock(last))
	return func(d *decoder, n ast.Node, key string) {
		s, ok := d.scalar(n, key, want)
		if !ok {
			return
		}
		t, ok := parseClock(s)
		if !ok || t > last {
			d.errorf(at(n), "%s: %s is not %s", key, quote(s), want)
			return
		}
		o.put(t, n)
	}
}

func parseClock(s string) (time.Duration, bool) {
	if len(s) != 5 || s[2] != ':' {
		return 0, false
	}
	h, errH := decimal("1" + s[:2]) // which may begin with 0
	m, errM := decimal("1" + s[3:])
	if errH != nil || errM != nil || h-100 > 24 || m-100 > 59 {
		return 0, false
	}
	return time.Duration(h-100)*time.Hour + time.Duration(m-100)*time.Minute, true
}

// levels checks the SLS table of an interface by itself; nil: there is none.
func (d *decoder) levels(i *rawInterface) []ServiceLevel {
	if len(i.sls) == 0 {
		return nil
	}
	if i.zone.set && i.zone.v != ZoneNetwork && i.trust.v != TrustPoliced && (i.trust.set || i.missing("trust")) {
		d.errorf(i.slsAt, "sls is what the network behind an interface carries for this box, with zone: network, or what hosts may mark, with trust: policed")
	}
	before := len(d.errs)
	defer func() { i.slsBroken = len(d.errs) > before }()
	list := make([]ServiceLevel, 0, len(i.sls))
	for _, l := range i.sls {
		for _, key := range []string{"class", "rate", "burst"} {
			if l.missing(key) {
				d.errorf(l.at, "this row has no %s: write for example {class: af31, rate: 8mbit, burst: 64kB}", key)
			}
		}
		row := ServiceLevel{Class: l.class.v, Rate: l.rate.v, Burst: l.burst.v, Excess: l.excess.or(defaultExcess(l.class.v)), From: l.from.or(0), Until: l.until.or(day), Shared: l.shared.v, Line: l.at.line}
		switch {
		case l.from.set != l.until.set && l.missing("from") != l.missing("until"):
			d.errorf(l.at, "this row has one of from and until: give both, or none for all day")
		case l.from.set && l.until.set && row.From == row.Until:
			d.errorf(l.until.at, "until is the same as from: leave both out for all day")
		}
		if l.class.set {
			d.levelOnce(&l, &row, list)
		}
		list = append(list, row)
	}
	for n := range list {
		d.excessOutside(i.sls[n].excess, list)
		d.excessOfEF(&i.sls[n])
	}
	return list
}

// levelOnce refuses a row whose class has another one at the same time.
func (d *decoder) levelOnce(l *rawLevel, row *ServiceLevel, earlier []ServiceLevel) {
	for _, e := range earlier {
		if e.Class != row.Class || !e.At(row.From) && !row.At(e.From) {
			continue
		}
		if e.Times() == "" && row.Times() == "" {
			d.errorf(l.class.at, "%s has a row already, in line %d: remove one, or give both times (from, until)", dscp.Name(row.Class), e.Line)
		} else {
			d.errorf(l.class.at, "%s has another row at the same time, in line %d: change from and until so that only one is in force", dscp.Name(row.Class), e.Line)
		}
		return
	}
}

// levelsFit refuses a table that promises more than the interface can send, or
// more to reservations than it may reserve: the first to run short would be
// another one than the table says. reserved tells which DSCPs reservations have.
func (d *decoder) levelsFit(i *rawInterface, out *Interface, reserved func(uint8) bool) {
	if out.Capacity == 0 || i.slsBroken || out.SLS == nil {
		return
	}
	for _, part := range []struct {
		limit  uint64
		counts func(uint8) bool
		what   string
		remedy string
	}{
		{
			out.forLevels(), func(uint8) bool { return true },
			"the interface's capacity without best_effort and 2% for control traffic", "raise capacity if the link has more",
		},
		{out.Reservable, reserved, "what may be reserved on the interface, capacity times reservable", "raise reservable"},
	} {
		for n, l := range i.sls {
			sum, rows := most(out.SLS[:n+1], part.counts)
			if sum <= part.limit || !part.counts(out.SLS[n].Class) || !l.rate.set {
				continue
			}
			if rows == 1 {
				d.errorf(l.rate.at, "rate is more than %s (%s): lower it, or %s", part.what, formatRate(part.limit), part.remedy)
			} else {
				d.errorf(l.rate.at, "with this row the levels at the same time have %s, more than %s (%s): lower a rate, or %s",
					formatRate(sum), part.what, formatRate(part.limit), part.remedy)
			}
			return
		}
	}
}

// most is the largest sum of rates that the last of some rows is part of at any
// time, and of how many rows it is: that begins when one of them does.
func most(list []ServiceLevel, counts func(uint8) bool) (sum uint64, rows int) {
	last := list[len(list)-1]
	for _, begin := range list {
		if !last.At(begin.From) {
			continue
		}
		s, n := uint64(0), 0
		for _, l := range list {
			if l.At(begin.From) && counts(l.Class) {
				s, n = s+l.Rate, n+1
			}
		}
		if s > sum {
			sum, rows = s, n
		}
	}
	return sum, rows
}

// level returns the row of a class with the largest rate and the largest burst
// that it ever has; nil: there is no row.
func (i *Interface) level(class uint8) (rate, burst *ServiceLevel) {
	for n := range i.SLS {
		s := &i.SLS[n]
		if s.Class != class {
			continue
		}
		if rate == nil || s.Rate > rate.Rate {
			rate = s
		}
		if burst == nil || s.Burst > burst.Burst {
			burst = s
		}
	}
	return rate, burst
}

// levelFloor is what a level's class keeps, in bytes/s, even if all of its rate is
// reserved by flows with classes of their own.
const levelFloor = 500

// forLevels is what the levels of an interface can have together.
func (i *Interface) forLevels() uint64 {
	seen := map[uint8]bool{}
	for _, s := range i.SLS {
		seen[s.Class] = true
	}
	kept := i.BestEffort + i.Capacity*controlShare/10000 + levelFloor*uint64(len(seen))
	return i.Capacity - min(kept, i.Capacity)
}

// defaultExcess: a queue that goes before others has to have an end, and what exceeds
// EF is discarded (RFC 3246 section 2.10). VOICE-ADMIT is an EF PHB, too (RFC 5865).
func defaultExcess(code uint8) Excess {
	if code == dscp.EF || code == dscp.VoiceAdmit {
		return ExcessDrop
	}
	return ExcessBestEffort
}

func (d *decoder) excessOfEF(l *rawLevel) {
	if l.class.set && l.excess.set && defaultExcess(l.class.v) == ExcessDrop && l.excess.v != ExcessDrop {
		d.errorf(l.excess.at, "excess: %s: what exceeds the rate of %s is discarded (RFC 3246 section 2.10): write drop, or leave excess out", l.excess.v, dscp.Name(l.class.v))
	}
}
