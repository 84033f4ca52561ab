package accounting

// Count is a number of packets and of their IP bytes, headers included.
type Count struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Usage is what the packets of a flow were found to be. None is in two of them.
type Usage struct {
	Conform Count `json:"conform"`
	Exceed  Count `json:"exceed"`  // above the reservation, and sent as best effort
	Dropped Count `json:"dropped"` // above it, and not sent
}

// Plus is the sum.
func (u Usage) Plus(o Usage) Usage {
	return Usage{u.Conform.plus(o.Conform), u.Exceed.plus(o.Exceed), u.Dropped.plus(o.Dropped)}
}

func (c Count) plus(o Count) Count { return Count{c.Packets + o.Packets, c.Bytes + o.Bytes} }

// Carried is what was sent on.
func (u Usage) Carried() Count { return u.Conform.plus(u.Exceed) }

// Seen is all of it.
func (u Usage) Seen() Count { return u.Carried().plus(u.Dropped) }

// since is what has come between two readings of one row. A row that shows less
// of anything than before was made anew meanwhile: all that it shows has come
// since.
func (u Usage) since(last Usage) Usage {
	if u.Conform.below(last.Conform) || u.Exceed.below(last.Exceed) || u.Dropped.below(last.Dropped) {
		return u
	}
	return Usage{u.Conform.minus(last.Conform), u.Exceed.minus(last.Exceed), u.Dropped.minus(last.Dropped)}
}

func (c Count) below(o Count) bool  { return c.Packets < o.Packets || c.Bytes < o.Bytes }
func (c Count) minus(o Count) Count { return Count{c.Packets - o.Packets, c.Bytes - o.Bytes} }
