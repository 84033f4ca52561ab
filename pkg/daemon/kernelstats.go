package daemon

import (
	"context"
	"slices"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

func (d *Daemon) injectStats() console.InjectStats {
	c := d.sender.Counters()
	return console.InjectStats{
		Packets: c.Packets, Bytes: c.Bytes, Errors: c.Errors,
		TooLong: c.TooLong, NoBuffers: c.NoBuffers, NoFrame: c.NoFrame, NoPort: c.NoPort,
	}
}

func (d *Daemon) shaperStats() console.ShaperStats {
	var s console.ShaperStats
	s.Installs, s.Removes, s.Failures = d.kernel.installs.get(), d.kernel.removes.get(), d.kernel.failures.get()
	c, now, err := d.shape.Totals()
	if err != nil {
		d.log.Warn("the kernel's counters could not be read", zap.Error(err))
	}
	s.Treatments = now
	s.ConformPackets, s.ConformBytes = c.Conform, c.ConformBytes
	s.ExceedPackets, s.ExceedBytes = c.Exceed, c.ExceedBytes
	s.DroppedPackets, s.DroppedBytes = c.Dropped, c.DroppedBytes
	for _, classes := range d.classes() {
		for _, c := range classes {
			if c.ID.Pooled() {
				s.ClassesUsed++
			}
		}
	}
	s.ClassesPool, s.Owed = plan.DefaultPool, d.tc.debts()
	return s
}

func (d *Daemon) classes() map[string][]shaper.ClassStats {
	ctx, cancel := context.WithTimeout(context.Background(), kernelTimeout)
	defer cancel()
	all, err := d.shape.Classes(ctx)
	if err != nil {
		d.log.Warn("the HTB classes could not be read", zap.Error(err))
	}
	return all
}

// classRows lists the HTB classes of each interface.
func (d *Daemon) classRows() map[string][]console.ClassRow {
	out := map[string][]console.ClassRow{}
	for name, classes := range d.classes() {
		for _, c := range classes {
			out[name] = append(out[name], console.ClassRow{
				Class: c.ID.String(), Kind: classKind(c.ID), RateBPS: c.Rate * 8, CeilBPS: c.Ceil * 8,
				Packets: c.Packets, Bytes: c.Bytes, Drops: c.Drops, Overlimits: c.Overlimits,
				BacklogPkts: c.Queue, Backlog: c.Backlog,
			})
		}
	}
	return out
}

func classKind(id plan.ClassID) string {
	switch id {
	case plan.RootClass:
		return "root"
	case plan.Control:
		return "control"
	case plan.BestEffort:
		return "best-effort"
	default:
		if _, ok := id.Level(); ok {
			return "phb"
		}
		return "reserved"
	}
}

// dscpRows lists what is done to packets by their DSCP, of each interface.
func (d *Daemon) dscpRows() map[string][]console.DSCPRow {
	all, err := d.shape.Levels()
	if err != nil {
		d.log.Warn("the table of code points could not be read", zap.Error(err))
	}
	out := map[string][]console.DSCPRow{}
	for name, levels := range all {
		slices.SortFunc(levels, func(a, b shaper.Level) int { return a.Row.Compare(b.Row) })
		for i := range levels {
			out[name] = append(out[name], dscpRow(&levels[i]))
		}
	}
	return out
}

func dscpRow(l *shaper.Level) console.DSCPRow {
	r, c := l.Row, l.Counters
	out := console.DSCPRow{
		Direction: "leaving", DSCP: r.DSCP, PHB: dscp.Name(r.DSCP), Class: r.Class.String(), Policed: r.Policed, RateBPS: r.Rate * 8, Burst: r.Burst,
		DSCPCounts: console.DSCPCounts{
			ConformPackets: c.Conform, ConformBytes: c.ConformBytes, ExceedPackets: c.Exceed, ExceedBytes: c.ExceedBytes,
			DroppedPackets: c.Dropped, DroppedBytes: c.DroppedBytes,
		},
	}
	if r.Arriving {
		out.Direction = "arriving"
	}
	if r.Policed {
		out.Excess = config.Excess(r.Excess).String()
		if r.Drop {
			out.Excess = config.ExcessDrop.String()
		}
	}
	return out
}
