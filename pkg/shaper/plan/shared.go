package plan

// Where all pooled classes are in use, further flows of controlled load share one
// class of their PHB, and each keeps its policer: so the class has what conforms of
// all of them, and needs no more than the sum of their rates and queues. The class
// of a guaranteed flow cannot be shared: its delay bound counts on a queue in which
// nobody else's burst is (RFC 2212); nor can that of a cheated one, which it shapes.

// FirstShared is the first class that flows share; DSCP and priority tell them apart.
const FirstShared ClassID = 0x1fe00

// sharedClasses is how many there can be.
const sharedClasses = 2 << 6

// SharedBy tells whether the class is one that flows share for want of others.
func (id ClassID) SharedBy() bool { return id >= FirstShared && id < FirstShared+sharedClasses }

// SharedClassOf is the class that a treatment shares if it cannot have its own;
// false if it cannot do with that.
func SharedClassOf(t Treatment) (ClassID, bool) {
	id := FirstShared | ClassID(t.DSCP)
	if t.RealTime {
		id |= sharedClasses / 2
	}
	return id, !t.Cheated && t.Share == 0 && t.Buffer == 0
}

// Load is what flows have of a class that they share.
type Load struct {
	Flows       int
	Rate, Limit uint64
	// Queued is what their buckets would take in its queue, all at once: more than
	// MostQueued cannot be kept (RFC 2211 section 4).
	Queued uint64
}

// LoadOf is what a treatment would have for itself.
func LoadOf(itf Interface, f Facts, t Treatment) Load {
	c := FlowClass(itf, f, t, FirstShared)
	queued := t.Bucket * float64(t.smallest()+f.Header) / float64(t.smallest())
	return Load{Flows: 1, Rate: c.Rate, Limit: uint64(c.Leaf.Limit), Queued: whole(queued)}
}

// Plus adds two loads.
func (l Load) Plus(o Load) Load {
	return Load{Flows: l.Flows + o.Flows, Rate: l.Rate + o.Rate, Limit: l.Limit + o.Limit, Queued: l.Queued + o.Queued}
}

// Minus takes one off.
func (l Load) Minus(o Load) Load {
	return Load{Flows: l.Flows - o.Flows, Rate: l.Rate - o.Rate, Limit: l.Limit - o.Limit, Queued: l.Queued - o.Queued}
}

// SharedClass is the class for a load.
func SharedClass(itf Interface, f Facts, id ClassID, l Load) Class {
	c := Class{ID: id, Parent: RootClass, Prio: prioReserved, Rate: max(l.Rate, minRate)}
	if id >= FirstShared+sharedClasses/2 {
		c.Prio = prioRealTime
	}
	c.Ceil = max(c.Rate, f.HTBRate(float64(itf.Capacity), 0))
	c.Leaf = f.leaf(itf, float64(l.Limit))
	return f.timed(c)
}
