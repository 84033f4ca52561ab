package plan

import (
	"cmp"
	"slices"
)

// Assigned is a treatment with the class it was given, 0 if none.
type Assigned struct {
	Treatment
	Class ClassID
}

// Want is the state that a plan and the treatments in force ask for. Facts of
// interfaces that are missing are taken to be DefaultFacts.
func Want(p Plan, facts map[string]Facts, flows []Assigned) State {
	var s State
	for _, itf := range p.Interfaces {
		f, ok := facts[itf.Name]
		if !ok {
			f = DefaultFacts
		}
		port := Port{Name: itf.Name}
		port.Egress = Program{Attached: true, Current: true, Header: f.Header}
		port.Egress.ByDSCP = itf.ByDSCP || len(itf.Levels) > 0
		port.Egress.PCP = itf.PCP
		if itf.ResetDSCP || itf.Policed {
			port.Ingress = Program{Attached: true, Current: true, Header: f.Header, ByDSCP: itf.Policed}
		}
		if p.Frames > 0 && f.Ethernet {
			port.Learn = Program{Attached: true, Current: true, Header: f.Header}
		}
		reserved := Sums{}
		for _, flow := range flows {
			if flow.Interface == itf.Name {
				itf.Count(reserved, flow.Treatment, 1)
			}
		}
		port.Rows = Rows(itf, reserved)
		if itf.Capacity > 0 {
			port.Root = true
			port.Egress.Control = Control
			port.Classes = append(Base(itf, f), LevelClasses(itf, f, reserved)...)
			loads := map[ClassID]Load{}
			for _, flow := range flows {
				switch {
				case flow.Interface != itf.Name:
				case flow.Class.Pooled():
					port.Classes = append(port.Classes, FlowClass(itf, f, flow.Treatment, flow.Class))
				case flow.Class.SharedBy():
					loads[flow.Class] = loads[flow.Class].Plus(LoadOf(itf, f, flow.Treatment))
				}
			}
			for id, l := range loads {
				port.Classes = append(port.Classes, SharedClass(itf, f, id, l))
			}
		}
		s.Ports = append(s.Ports, port)
	}
	return s.sorted()
}

// Base are the classes that every shaped interface has.
func Base(itf Interface, f Facts) []Class {
	capacity := float64(itf.Capacity)
	root := f.HTBRate(capacity, 0)
	share := func(x float64) uint64 { return f.HTBRate(capacity*x, 0) }
	backlog := min(max(capacity*bestEffortDelay, minBestEffort), maxBestEffort)
	classes := []Class{
		{ID: RootClass, Parent: RootQdisc, Rate: root, Ceil: root},
		{ID: Control, Parent: RootClass, Prio: prioControl, Rate: share(controlShare), Ceil: share(controlCeil), Leaf: f.leaf(itf, controlLimit)},
		{ID: BestEffort, Parent: RootClass, Prio: prioBestEffort, Rate: share(itf.BestEffortShare()), Ceil: root, Leaf: f.leaf(itf, backlog)},
	}
	if f.FQCodel {
		classes[2].Leaf.Inner = "fq_codel"
	}
	for i := range classes {
		classes[i] = f.timed(classes[i])
	}
	return classes
}

// FlowClass is the class of a reserved flow. A policed flow may use the whole
// link when it is free, since what the policer lets through is its right and
// the bucket is to drain at once. A cheated flow is shaped to its rate.
func FlowClass(itf Interface, f Facts, t Treatment, id ClassID) Class {
	c := Class{ID: id, Parent: RootClass, Prio: prioReserved}
	c.Rate = f.HTBRate(t.Rate/max(1, itf.Overbooking), t.MaxPacket)
	if t.Share > 0 {
		c.Rate = f.HTBRate(t.Share, t.smallest())
	}
	c.Ceil = max(c.Rate, f.HTBRate(float64(itf.Capacity), 0))
	// What conforms is never more than b ahead of r; the headers, and the debt
	// of a super-packet, come on top.
	limit := max(2*t.Bucket+realTimeHeadroom, reservedLimit)
	if t.RealTime {
		c.Prio = prioRealTime
		limit = 2*t.Bucket + realTimeHeadroom
	}
	if t.Cheated {
		c.Ceil = max(c.Rate, f.HTBRate(t.Rate, t.MaxPacket))
		limit = max(2*t.Bucket, cheatedLimit)
	}
	if t.Buffer > 0 {
		// Of IP bytes; the queue counts headers too.
		limit = max(limit, t.Buffer*float64(t.smallest()+f.Header)/float64(t.smallest())+f.frame())
	}
	c.Leaf = f.leaf(itf, limit)
	return f.timed(c)
}

// Guaranteed is the sum of rates below the root class, and the root's rate:
// HTB keeps its promises only while the first is not above the second.
func Guaranteed(classes []Class) (sum, root uint64) {
	for _, c := range classes {
		if c.ID == RootClass {
			root = c.Rate
		} else {
			sum += c.Rate
		}
	}
	return sum, root
}

func (f Facts) timed(c Class) Class {
	late := burstTime
	if c.ID == RootClass {
		late = rootBurstTime
	}
	c.Burst = burst(c.Rate, f.frame()+float64(c.Rate)*late)
	c.Cburst = burst(c.Ceil, f.frame()+float64(c.Ceil)*late)
	c.Quantum = f.quantum(c.Rate)
	if c.ID == RootClass {
		c.Quantum = innerQuantum
	}
	return c
}

func (f Facts) leaf(itf Interface, limit float64) Leaf {
	l := Leaf{Kind: "bfifo", Limit: uint32(min(limit, maxLimit))}
	if itf.Capacity <= splitUpTo {
		l.Kind = "tbf"
		l.Rate = slowSplit
		if itf.Capacity > slowSplit/4 {
			l.Rate = fastSplit
		}
		// Room for a frame with two VLAN tags, and not for two frames.
		l.Burst = (f.MTU + 100 + splitUnit - 1) / splitUnit * splitUnit
	}
	return l
}

func (s State) sorted() State {
	slices.SortFunc(s.Ports, func(a, b Port) int { return cmp.Compare(a.Name, b.Name) })
	for i := range s.Ports {
		slices.SortFunc(s.Ports[i].Classes, func(a, b Class) int { return cmp.Compare(a.ID, b.ID) })
	}
	return s
}
