package daemon

import (
	"fmt"
	"math"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// bits is a rate of the ledger for a view; what is not limited is 0.
func bits(bytes float64) uint64 { return 8 * octets(bytes) }

func octets(bytes float64) uint64 {
	if !(bytes > 0) || math.IsInf(bytes, 1) {
		return 0
	}
	return uint64(bytes)
}

// serviceRows lists what a link granted to each service.
func (d *Daemon) serviceRows(k *link) (rows []console.ServiceRow) {
	list, err := d.admit.Services(k.Name)
	if err != nil {
		d.log.Warn("the ledger does not tell what services have", zap.String("interface", k.Name), zap.Error(err))
		return nil
	}
	for _, s := range list {
		row := console.ServiceRow{
			Service: s.Service.String(), GrantedBPS: uint64(s.Granted) * 8, LimitBPS: bits(s.Limit), FreeBPS: bits(s.Free()), Overbooking: 1,
		}
		if s.Service == intserv.ControlledLoad {
			row.Overbooking = max(1, k.cfg.Overbooking)
		}
		rows = append(rows, row)
	}
	return rows
}

// levelRows lists the service levels that the network behind a link has sold, and
// what else was granted.
func (d *Daemon) levelRows(k *link) (rows []console.LevelRow) {
	list, err := d.admit.Levels(k.Name)
	if err != nil {
		d.log.Warn("the ledger does not tell what service levels have", zap.String("interface", k.Name), zap.Error(err))
		return nil
	}
	for _, v := range list {
		row := console.LevelRow{
			DSCP: v.DSCP, PHB: dscp.Name(v.DSCP), State: console.LevelOpen, Times: timesOf(k.cfg.SLS, v.DSCP),
			GrantedBPS: uint64(v.Rate.Granted) * 8, LimitBPS: bits(v.Rate.Limit), FreeBPS: bits(v.Rate.Free()),
			GrantedBurst: uint64(v.Burst.Granted), LimitBurst: octets(v.Burst.Limit), FreeBurst: octets(v.Burst.Free()),
		}
		switch {
		case !v.Sold:
			row.State = console.LevelUnsold
		case v.Closed:
			row.State = console.LevelClosed
		case math.IsInf(v.Rate.Limit, 1):
			row.State = console.LevelNoBounds
		}
		rows = append(rows, row)
	}
	return rows
}

// oversold says where more is reserved than the network behind a link carries: its
// levels have shrunk, by a reload or by the time of day, and what conforms may be
// lost there until some of it has ended.
func (d *Daemon) oversold() (out []string) {
	l := d.links.Load()
	for i := range l.list {
		k := &l.list[i]
		if len(k.cfg.SLS) == 0 {
			continue
		}
		list, err := d.admit.Levels(k.Name)
		if err != nil {
			out = append(out, fmt.Sprintf("the ledger does not tell what %s has granted: %v", k.Name, err))
		}
		for _, v := range list {
			if limit := v.Rate.Limit; float64(v.Rate.Granted) > limit*oversoldFrom {
				out = append(out, fmt.Sprintf("%d bytes/s are reserved in service level %s of %s, and the network behind it carries %.0f now: what conforms may be lost there until reservations end",
					v.Rate.Granted, dscp.Name(v.DSCP), k.Name, limit))
			}
		}
	}
	return out
}

const oversoldFrom = 1 + 1e-5 // rates on the wire are rounded

// timesOf lists when a class has a row; nothing: all day.
func timesOf(sls []config.ServiceLevel, class uint8) (times []string) {
	for _, s := range sls {
		if t := s.Times(); s.Class == class && t != "" {
			times = append(times, t)
		}
	}
	return times
}
