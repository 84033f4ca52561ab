package intserv

// Covers says whether t is a substitute for o, "as good or better than"
// (RFC 2211 section 8, RFC 2212 Ordering and Merging).
func (t TSpec) Covers(o TSpec) bool {
	return t.Rate >= o.Rate && t.Bucket >= o.Bucket && t.Peak >= o.Peak &&
		t.MinUnit <= o.MinUnit && maxPacket(t.MaxPacket, o.MaxPacket) == t.MaxPacket
}

// Compare orders t relative to o: Greater when t is the better of the two.
func (t TSpec) Compare(o TSpec) Order { return order(t.Covers(o), o.Covers(t)) }

// Merge returns the merged TSpec of RFC 2211 section 8: what RSVP passes
// upstream for several receivers. M is the *smallest*, so that a sender learns
// what every branch can carry: the result need not cover both.
func (t TSpec) Merge(o TSpec) TSpec {
	return TSpec{
		Rate: max(t.Rate, o.Rate), Bucket: max(t.Bucket, o.Bucket), Peak: max(t.Peak, o.Peak),
		MinUnit: min(t.MinUnit, o.MinUnit), MaxPacket: minPacket(t.MaxPacket, o.MaxPacket),
	}
}

// LeastCommon returns the least common TSpec of RFC 2211 section 8, which
// describes the traffic of either flow. It is never sent.
func (t TSpec) LeastCommon(o TSpec) TSpec {
	l := t.Merge(o)
	l.MaxPacket = maxPacket(t.MaxPacket, o.MaxPacket)
	return l
}

// Add returns the sum of RFC 2211 section 8: both flows at once (the Path_Te of
// RFC 2205 section 3.11.2).
func (t TSpec) Add(o TSpec) TSpec {
	return TSpec{
		Rate: t.Rate + o.Rate, Bucket: t.Bucket + o.Bucket, Peak: t.Peak + o.Peak,
		MinUnit: min(t.MinUnit, o.MinUnit), MaxPacket: maxPacket(t.MaxPacket, o.MaxPacket),
	}
}

// Min returns the minimum of RFC 2211 section 8: the smaller of two ordered
// TSpecs. For unordered ones the bucket is the *larger*: a lower rate needs
// more of it for the same traffic.
func (t TSpec) Min(o TSpec) TSpec {
	switch t.Compare(o) {
	case Less, Equal:
		return t
	case Greater:
		return o
	default:
		return TSpec{
			Rate: min(t.Rate, o.Rate), Bucket: max(t.Bucket, o.Bucket), Peak: min(t.Peak, o.Peak),
			MinUnit: min(t.MinUnit, o.MinUnit), MaxPacket: minPacket(t.MaxPacket, o.MaxPacket),
		}
	}
}

// GLB returns the greatest lower bound: the largest TSpec that both cover. It is
// what RFC 2205 section 3.5 merges blockaded requests to.
func (t TSpec) GLB(o TSpec) TSpec {
	return TSpec{
		Rate: min(t.Rate, o.Rate), Bucket: min(t.Bucket, o.Bucket), Peak: min(t.Peak, o.Peak),
		MinUnit: max(t.MinUnit, o.MinUnit), MaxPacket: minPacket(t.MaxPacket, o.MaxPacket),
	}
}

// Sum adds up TSpecs; none give the zero TSpec.
func Sum(ts ...TSpec) TSpec {
	if len(ts) == 0 {
		return TSpec{}
	}
	sum := ts[0]
	for _, t := range ts[1:] {
		sum = sum.Add(t)
	}
	return sum
}
