package daemon

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// This file tells admission what the links have to give: their capacity, and what
// the networks behind them have sold, which depends on the time of day.

// admission is what each link has to give at a time.
func (l *links) admission(now time.Time) []admission.Link {
	out := make([]admission.Link, 0, len(l.list))
	for i := range l.list {
		k := &l.list[i]
		c := &k.cfg
		p, _ := k.promise()
		a := admission.Link{
			Name: k.Name, Capacity: float64(c.Capacity), Reservable: float64(c.Reservable),
			// No overhead: capacity and reservations both count IP bytes; the
			// link layer's headers are added in one place, plan.HTBRate.
			MTU: uint32(max(k.MTU, 0)), Bursts: p.Bursts, Lead: p.Lead, LeadTime: p.LeadTime,
			Services: map[intserv.Service]admission.Service{
				intserv.Guaranteed:     {Ceiling: float64(c.Ceilings.Guaranteed)},
				intserv.ControlledLoad: {Ceiling: float64(c.Ceilings.ControlledLoad), Overbooking: c.Overbooking},
			},
			Contract: len(c.SLS) > 0, Levels: levelsAt(c.SLS, timeOfDay(now)),
		}
		if c.Capacity > 0 {
			a.Queue, a.Header = plan.MostQueued, plan.EthernetHeader
			a.ByLevel = c.Classify == config.ClassifyDSCP
		}
		out = append(out, a)
	}
	return out
}

// timeOfDay is the time since midnight by the clock on the wall: contracts with
// people say when the day begins by that, in the time zone of the box. On a day
// with a change of the clock an hour of it is there twice, or missing.
func timeOfDay(now time.Time) time.Duration {
	h, m, s := now.Local().Clock()
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second + time.Duration(now.Nanosecond())
}

// levelsAt is what an SLS table has at a time of day, each class once.
func levelsAt(sls []config.ServiceLevel, t time.Duration) (list []admission.Level) {
	for _, s := range sls {
		level := admission.Level{DSCP: s.Class, Closed: true}
		if s.At(t) {
			level = admission.Level{DSCP: s.Class, Rate: float64(s.Rate), Burst: float64(s.Burst)}
		}
		i := slices.IndexFunc(list, func(v admission.Level) bool { return v.DSCP == s.Class })
		switch {
		case i < 0:
			list = append(list, level)
		case !level.Closed:
			list[i] = level
		}
	}
	return list
}

// lookAgain is after what time the clock on the wall is looked at at the latest:
// somebody may have set it.
const lookAgain = time.Minute

// nextChange is how long after a time of day a table may say something else.
func nextChange(sls []config.ServiceLevel, t time.Duration) time.Duration {
	next := lookAgain
	for _, s := range sls {
		for _, at := range []time.Duration{s.From, s.Until} {
			if at > t {
				next = min(next, at-t)
			}
		}
	}
	return next
}

// followClock has admission and the kernel follow the contracts' times of day.
func (d *Daemon) followClock(ctx context.Context) {
	for {
		d.setLevels(time.Now())
		d.followContracts(ctx, time.Now())
		d.linksChanged() // as with each change that is told, and if something of it has failed
		now, next := timeOfDay(time.Now()), lookAgain
		for _, i := range d.cfg.Load().Interfaces {
			next = min(next, nextChange(i.SLS, now), nextChange(i.Arriving, now))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
	}
}

// setLevels tells admission what the networks carry now.
func (d *Daemon) setLevels(now time.Time) {
	d.reloadMu.Lock()
	defer d.reloadMu.Unlock()
	list := d.links.Load().admission(now)
	for _, l := range list {
		was, ok, err := d.admit.Usage(l.Name)
		if err != nil || !ok || slices.Equal(was.Levels, l.Levels) {
			continue
		}
		d.share(d.cfg.Load(), list)
		d.admit.SetLevels(l.Name, l.Levels)
		d.log.Info("the time of day has changed what the network behind an interface carries", zap.String("interface", l.Name))
	}
}

// setLinks tells admission what the links have now, with what was granted before
// counted by that.
func (d *Daemon) setLinks(l *links) {
	list := l.admission(time.Now())
	d.share(d.cfg.Load(), list)
	if err := d.admit.SetLinks(list...); err != nil {
		d.log.Error("ledger not counted anew", zap.Error(err))
	}
}
