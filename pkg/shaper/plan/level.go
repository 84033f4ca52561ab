package plan

import (
	"cmp"
	"math"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// Level is one service level of an interface: what becomes of packets by their
// DSCP alone, a behaviour aggregate of RFC 2475. It is a row of the SLS (RFC 2998
// section 4.1): what may leave, or what may arrive.
// It is for packets that no reservation covers. What reservations send with the
// DSCP uses the level up, too, and before them.
type Level struct {
	DSCP uint8
	// Rate (bytes/s) and Burst (bytes) are of IP packets. Free levels are not
	// policed, and Rate is of their class alone; without a Rate nothing conforms.
	Rate, Burst uint64
	Free        bool
	// What exceeds is dropped; else it is best effort with the DSCP Excess.
	Drop   bool
	Excess uint8
	// Queue names the level whose class this one shares; 0: it has its own. The
	// class of the default DSCP is always that of best effort.
	Queue uint8
	// RealTime levels go before other provisioned traffic, in a short queue.
	RealTime bool
}

// levels are those in force: of an interface that is classified by DSCP alone
// every DSCP that is reserved for is one, and has what is reserved at least (RFC
// 2998 section 4.2: the PHB's share follows what is admitted).
func (itf Interface) levels(reserved Sums) []Level {
	list := itf.queued(slices.Clone(itf.Levels))
	if !itf.ByDSCP {
		return list
	}
	for code, sum := range reserved {
		i := slices.IndexFunc(list, func(l Level) bool { return l.DSCP == code })
		if i < 0 {
			list = append(list, Level{DSCP: code, Rate: sum.Rate, Burst: max(sum.Bucket, leastBurst), RealTime: sum.RealTimeFlows > 0})
			continue
		}
		l := &list[i]
		l.Rate, l.Burst = max(l.Rate, sum.Rate), max(l.Burst, sum.Bucket)
	}
	slices.SortFunc(list, func(a, b Level) int { return cmp.Compare(a.DSCP, b.DSCP) })
	return itf.queued(list)
}

// queue is the DSCP that names the level's class.
func (l Level) queue() uint8 {
	if l.Queue != 0 {
		return l.Queue
	}
	return l.DSCP
}

// Class is the level's class on an interface that is shaped.
func (l Level) Class() ClassID {
	if l.queue() == dscp.Default {
		return BestEffort
	}
	return LevelClass(l.queue())
}

// LevelClasses are the classes of an interface's levels, with what is reserved on
// it. A level whose flows have classes of their own has what they leave of it: the
// rates below the root are never counted twice.
func LevelClasses(itf Interface, f Facts, reserved Sums) []Class {
	if itf.Capacity == 0 {
		return nil
	}
	var list []Class
	limits := map[ClassID]float64{}
	for _, l := range itf.levels(reserved) {
		id := l.Class()
		if id == BestEffort {
			continue
		}
		rate, bucket := itf.left(l, reserved[l.DSCP])
		i := slices.IndexFunc(list, func(c Class) bool { return c.ID == id })
		if i < 0 {
			i = len(list)
			list = append(list, Class{ID: id, Parent: RootClass, Prio: prioProvisioned})
		}
		c := &list[i]
		c.Rate += rate // of IP packets, until all are added
		limit := 2*float64(bucket) + realTimeHeadroom
		if l.RealTime {
			c.Prio = itf.realTimePrio(l)
		} else {
			limit = max(limit, reservedLimit)
		}
		limits[id] += limit
	}
	itf.joined(list, limits, reserved)
	for i := range list {
		c := &list[i]
		c.Rate = f.HTBRate(float64(c.Rate), 0)
		c.Ceil = max(c.Rate, f.HTBRate(float64(itf.Capacity), 0))
		limit := limits[c.ID]
		if itf.ByDSCP {
			// Room for more: to change a queue costs the kernel ten times what it
			// does to change a rate.
			limit = math.Exp2(math.Ceil(math.Log2(limit)))
		}
		c.Leaf = f.leaf(itf, limit)
		*c = f.timed(*c)
	}
	slices.SortFunc(list, func(a, b Class) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Rows are what the kernel's table of code points has for an interface.
func Rows(itf Interface, reserved Sums) []Row {
	var rows []Row
	for _, l := range itf.levels(reserved) {
		r := Row{DSCP: l.DSCP}
		if itf.Capacity > 0 {
			r.Class = l.Class()
		}
		l.police(&r)
		if r.Policed && !r.Drop && itf.Capacity > 0 {
			r.ExcessClass = BestEffort
		}
		rows = append(rows, r)
	}
	if itf.Policed {
		for _, l := range itf.Arriving {
			r := Row{DSCP: l.DSCP, Arriving: true}
			l.police(&r)
			rows = append(rows, r)
		}
	}
	sortRows(rows)
	return rows
}

// provisioned is the rate that a level has in any case.
func (itf Interface) provisioned(code uint8) uint64 {
	i := slices.IndexFunc(itf.Levels, func(l Level) bool { return l.DSCP == code })
	if i < 0 {
		return 0
	}
	return itf.Levels[i].Rate
}

func (l Level) police(r *Row) {
	if l.Free {
		return
	}
	r.Policed, r.Rate, r.Burst, r.Drop = true, l.Rate, l.Burst, l.Drop
	if !l.Drop {
		r.Excess = l.Excess
	}
}

// BestEffortShare is the share of capacity that best effort always has.
func (itf Interface) BestEffortShare() float64 {
	if itf.BestEffort != 0 {
		return itf.BestEffort
	}
	return bestEffortShare
}
