package daemon

import (
	"context"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

func (d *Daemon) injectStats() console.InjectStats {
	c := d.sender.Counters()
	return console.InjectStats{Packets: c.Packets, Bytes: c.Bytes, Errors: c.Errors}
}

func (d *Daemon) shaperStats() console.ShaperStats {
	var s console.ShaperStats
	s.Installs, s.Removes, s.Failures = d.kernel.installs.get(), d.kernel.removes.get(), d.kernel.failures.get()
	all, err := d.shape.AllCounters()
	if err != nil {
		d.log.Warn("the kernel's counters could not be read", zap.Error(err))
	}
	s.Treatments = len(all)
	for _, c := range all {
		s.ConformPackets += c.Conform
		s.ConformBytes += c.ConformBytes
		s.ExceedPackets += c.Exceed
		s.ExceedBytes += c.ExceedBytes
		s.DroppedPackets += c.Dropped
		s.DroppedBytes += c.DroppedBytes
	}
	for _, classes := range d.classes() {
		for _, c := range classes {
			if c.ID.Pooled() {
				s.ClassesUsed++
			}
		}
	}
	s.ClassesPool = plan.DefaultPool
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
		return "reserved"
	}
}
